# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures behind the capture's cameras, and which of a view's four pictures is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import bpy

from .cameras import VIEW, cameras_of

PICTURE = "instruct_nerf_picture"  # on an image: it was loaded by this add-on


def loaded() -> dict[str, bpy.types.Image]:
    """The images that this add-on has loaded, by their file's absolute path."""
    return {bpy.path.abspath(image.filepath): image for image in bpy.data.images if image.get(PICTURE)}


def load(path: str, known: dict[str, bpy.types.Image]) -> bpy.types.Image | None:
    """The image of a file, loaded once and read again when the file has changed; None where it cannot be.

    ``known`` is :func:`loaded`, and is kept up to date. Decoding happens when an image is first drawn, so loading a
    thousand is cheap.
    """
    try:
        stamp = str(Path(path).stat().st_mtime_ns)
        image = known.get(path)
        if image is None:
            known[path] = image = bpy.data.images.load(path, check_existing=False)
        elif image[PICTURE] != stamp:
            image.reload()
    except (OSError, RuntimeError):
        return None
    image[PICTURE] = stamp
    return image


def show(
    camera: bpy.types.Object,
    path: str,
    opacity: float,
    in_front: bool,
    known: dict[str, bpy.types.Image] | None = None,
) -> bool:
    """Show one file as a camera's background, exactly filling its frame; whether it could be loaded."""
    known = loaded() if known is None else known
    image = load(path, known) if path else None
    if image is None:
        return False
    backgrounds = camera.data.background_images
    slot = backgrounds[0] if len(backgrounds) else backgrounds.new()
    slot.image = image
    slot.frame_method = "STRETCH"  # the picture and the frame have the same sides, pixel aspect included
    slot.alpha = opacity
    slot.display_depth = "FRONT" if in_front else "BACK"
    return True


def remove_unused() -> None:
    """Let go of pictures that no camera shows any more: four a view would fill the memory."""
    bpy.data.batch_remove([image for image in bpy.data.images if image.get(PICTURE) and image.users == 0])


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
    count, known = 0, loaded()
    for camera in cameras_of(root):
        view = str(camera[VIEW])
        if show(camera, path_of(view), opacity, in_front, known):
            count += 1
        else:
            show(camera, fallback(view), opacity, in_front, known)
    remove_unused()
    return count
