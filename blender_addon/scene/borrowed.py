# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of Blender's that are changed for a moment and put back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import bpy

Change = tuple[Any, str, object]  # what is changed, the name of its attribute, the value for the moment


@contextlib.contextmanager
def borrowed(changes: Iterable[Change]) -> Iterator[None]:
    """Make the changes in their order, and put everything back at the end, however it ends.

    What this version of Blender does not have is passed over. All values are read before the first is changed, for one
    may change another (a file format its color depth), and put back in the same order.
    """
    changes = [change for change in changes if hasattr(change[0], change[1])]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            # What is gone, or was never among today's choices, must not keep the rest from being put back.
            with contextlib.suppress(ReferenceError, TypeError, AttributeError):
                setattr(owner, name, value)


def plain_output(scene: Any) -> list[Change]:
    """Changes with which a render gives the whole picture and nothing but the picture, whatever the scene has on:
    no region, no burned-in text, no second eye, no compositing or sequencer, at sRGB."""
    render, image = scene.render, scene.render.image_settings
    return [
        (render, "use_border", False),
        (render, "use_crop_to_border", False),
        (render, "use_stamp", False),
        (render, "use_multiview", False),
        (render, "use_compositing", False),
        (render, "use_sequencer", False),
        (render, "use_file_extension", True),
        (render, "use_overwrite", True),
        (render, "use_placeholder", False),
        (scene.display_settings, "display_device", "sRGB"),
        *_look_of_the_scene(scene, image),
    ]


LOOK = (
    "view_transform", "look", "exposure", "gamma", "use_curve_mapping", "use_white_balance",
    "white_balance_temperature", "white_balance_tint", "use_hdr_view",
)  # fmt: skip


def _look_of_the_scene(scene: Any, image: Any) -> list[Change]:
    """Changes with which files get the scene's own look where they have been given another. Blender forgets that other
    look when it is merely turned off, so it is what changes, and is put back."""
    if getattr(image, "color_management", "FOLLOW_SCENE") == "FOLLOW_SCENE":
        return []
    look = [
        (image.view_settings, name, getattr(scene.view_settings, name))
        for name in LOOK
        if hasattr(scene.view_settings, name)
    ]
    follow = [(image, "color_management", "FOLLOW_SCENE")] if scene.view_settings.use_curve_mapping else []
    return [*follow, (image.display_settings, "display_device", "sRGB"), *look]


def literal(path: str | Path) -> str:
    """A path that Blender's renders write to as it is: from 4.5 on they read braces as variables."""
    text = str(path)
    return text.replace("{", "{{").replace("}", "}}") if bpy.app.version >= (4, 5, 0) else text
