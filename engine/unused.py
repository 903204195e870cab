# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that our libraries load and we never call, answered by empty ones where they are not installed.

nerfstudio and stlpips-pytorch import, at the top of files that we need, a web viewer, TensorBoard and IPython. With
what those bring along, some of it without wheels, that would be a third of all packages. An installed one is always
taken before ours; whatever is called in ours says so.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

# Module: the names that are taken from it by a `from … import`.
UNUSED = {
    "viser": (),  # nerfstudio.data.scene_box: OrientedBox, a crop of its viewer
    "viser.transforms": (),
    "IPython": ("embed",),  # stlpips_pytorch.invariant_networks: a debugger left behind
}
# What programs ask of a module that is loaded, to see whether they run in a notebook; Ray does. None there is none.
ASKED = {"IPython": {"get_ipython": lambda: None}}
# nerfstudio.utils.writer: its training loop's log. torch has this module; what it imports is what may be missing.
WRITER = "torch.utils.tensorboard"


class NotInstalled:
    """Stands for something that is imported and never used; raises ``ImportError`` when it is used after all."""

    def __init__(self, *_: object, **__: object):
        raise ImportError("This part of a library is not installed with the engine (engine/unused.py).")


class _Unused(MetaPathFinder, Loader):
    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        if fullname in UNUSED:
            return ModuleSpec(fullname, self, is_package=fullname == "viser")
        return None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        for name in UNUSED[module.__name__]:
            setattr(module, name, NotInstalled)
        vars(module).update(ASKED.get(module.__name__, {}))


class _Writer(MetaPathFinder, Loader):
    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        if fullname == WRITER and find_spec("tensorboard") is None:
            return ModuleSpec(fullname, self)
        return None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.SummaryWriter = NotInstalled  # type: ignore[attr-defined]


def answer_unused_modules() -> None:
    """Let the imports above succeed where nothing else answers them. Calling it again changes nothing."""
    if not any(isinstance(finder, _Unused) for finder in sys.meta_path):
        sys.meta_path.append(_Unused())
        sys.meta_path.insert(0, _Writer())
