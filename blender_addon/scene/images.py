# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures behind the capture's cameras, and which of a view's four pictures is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import bpy

from .cameras import VIEW, cameras_of

PICTURE = "instruct_nerf_picture"  # on an image: it was loaded by this add-on


def load(path: str) -> bpy.types.Image | None:
    """The image of a file, loaded once and read again when the file has changed; None where it cannot be.

    Decoding happens when the image is first drawn, so loading a thousand is cheap.
    """
    try:
        stamp = str(Path(path).stat().st_mtime_ns)
        known = next((i for i in bpy.data.images if i.get(PICTURE) and bpy.path.abspath(i.filepath) == path), None)
        image = known or bpy.data.images.load(path, check_existing=False)
    except (OSError, RuntimeError):
        return None
    if known is not None and known[PICTURE] != stamp:
        known.reload()
    image[PICTURE] = stamp
    return image


def show(camera: bpy.types.Object, path: str, opacity: float, in_front: bool) -> bool:
    """Show one file as a camera's background, exactly filling its frame; whether it could be loaded."""
    image = load(path) if path else None
    if image is None:
        return False
    backgrounds = camera.data.background_images
    slot = backgrounds[0] if len(backgrounds) else backgrounds.new()
    old, slot.image = slot.image, image
    slot.frame_method = "STRETCH"  # the picture and the frame have the same sides, pixel aspect included
    slot.alpha = opacity
    slot.display_depth = "FRONT" if in_front else "BACK"
    if old is not None and old != image and old.get(PICTURE) and old.users == 0:
        bpy.data.images.remove(old)
    return True


def show_all(
    root: bpy.types.Object,
    path_of: Callable[[str], str],
    fallback: Callable[[str], str],
    opacity: float,
    in_front: bool,
) -> int:
    """Show ``path_of(view)`` behind every camera of a capture, or ``fallback(view)`` where there is none yet.

    Returns how many cameras show what was asked for.
    """
    count = 0
    for camera in cameras_of(root):
        view = str(camera[VIEW])
        if show(camera, path_of(view), opacity, in_front):
            count += 1
        else:
            show(camera, fallback(view), opacity, in_front)
    return count


def set_overlay(root: bpy.types.Object, opacity: float, in_front: bool) -> None:
    """Change how all shown pictures lie over the scene."""
    for camera in cameras_of(root):
        for slot in camera.data.background_images:
            slot.alpha, slot.display_depth = opacity, "FRONT" if in_front else "BACK"
