# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures behind the capture's cameras, and which of a view's four pictures is shown."""

from __future__ import annotations

from collections.abc import Callable

import bpy

from ..files import regular
from .cameras import ASPECT, SIZE, VIEW, cameras_of

PICTURE = "instruct_nerf_picture"  # on an image: it was loaded by this add-on


def loaded() -> dict[str, bpy.types.Image]:
    """The images that this add-on has loaded, by their file's absolute path."""
    return {bpy.path.abspath(image.filepath): image for image in bpy.data.images if image.get(PICTURE)}


def load(path: str, known: dict[str, bpy.types.Image]) -> bpy.types.Image | None:
    """The image of a file, loaded once and read again when the file has changed; None where it cannot be.

    ``known`` is :func:`loaded`, and is kept up to date. Decoding happens when an image is first drawn, so loading a
    thousand is cheap.
    """
    found = regular(path)  # a pipe would be waited for, and Blender with it
    if found is None:
        return None
    try:
        stamp = str(found.st_mtime_ns)
        image = known.get(path)
        if image is None:
            known[path] = image = bpy.data.images.load(path, check_existing=False)
        elif image[PICTURE] != stamp:
            image.reload()
    except RuntimeError:
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
    """Show one file as a camera's background, where the camera saw it; whether it could be loaded."""
    known = loaded() if known is None else known
    image = load(path, known) if path else None
    if image is None:
        return False
    backgrounds = camera.data.background_images
    slot = backgrounds[0] if len(backgrounds) else backgrounds.new()
    slot.image = image
    fit(camera)
    slot.alpha = opacity
    slot.display_depth = "FRONT" if in_front else "BACK"
    return True


def fit(camera: bpy.types.Object, scene: bpy.types.Scene | None = None) -> None:
    """Lay a view's picture where the view saw it, whatever size ``scene`` (the current one) renders at.

    A view's camera is fitted horizontally, so the picture is to be as wide as the frame, and as high as its own pixels
    make it. Of Blender's ways, *Crop* does so in a frame that is wider than the picture, *Fit* in one that is higher.
    """
    render = (scene or bpy.context.scene).render
    width, height = (int(v) for v in camera[SIZE])
    aspect = tuple(float(v) for v in camera[ASPECT])
    frame = render.resolution_x * render.pixel_aspect_x / (render.resolution_y * render.pixel_aspect_y)
    method = "CROP" if frame >= width * aspect[0] / (height * aspect[1]) else "FIT"
    for slot in camera.data.background_images:
        if slot.frame_method != method:
            slot.frame_method = method
        if slot.image is not None and tuple(slot.image.display_aspect) != aspect:
            slot.image.display_aspect = aspect


def fit_all(scene: bpy.types.Scene, root: bpy.types.Object) -> None:
    """Lay every view's picture where the view saw it, after the scene has got another size."""
    for camera in cameras_of(root):
        fit(camera, scene)


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
