# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory a piece of work holds at most, on any device and of tensors without contents too."""

from __future__ import annotations

import weakref

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

_BLOCK = 512  # bytes: what PyTorch's allocator on a GPU rounds up to


class LiveBytes(TorchDispatchMode):
    """Counts, in bytes, what lives of all tensors that are made while inside: ``live`` now, ``peak`` at most. What a
    library takes within one operation, a GPU's context and fragmentation are not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = self.calls = 0
        self._known: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def hold(self, *tensors: Tensor) -> None:
        """Count these, which were there before, too."""
        for tensor in tensors:
            self._meet(tensor, new=True)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor):
                self._meet(value, new=False)
        out = func(*args, **kwargs)
        self.calls += 1
        for value in tree_leaves(out):
            if isinstance(value, Tensor):
                self._meet(value, new=True)
        return out

    def _meet(self, tensor: Tensor, new: bool) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self._known[storage] = True
        if new:
            size = -(-storage.nbytes() // _BLOCK) * _BLOCK
            weakref.finalize(storage, self._gone, size)
            self.live += size
            self.peak = max(self.peak, self.live)

    def _gone(self, size: int) -> None:
        self.live -= size
