# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures behind the capture's cameras, and which of a view's four pictures is shown.

What goes through all cameras is a generator that does a few of them a step (:mod:`chores`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import bpy

from ..files import regular
from .cameras import ASPECT, SIZE, VIEW

PICTURE = "instruct_nerf_picture"  # on an image: it was loaded by this add-on
AT_ONCE = 4  # cameras in one step: a picture that is new to Blender takes a quarter of a millisecond
LIGHT = 50  # cameras in one step, where no picture is looked for

Known = dict[str, bpy.types.Image]


def loaded() -> Known:
    """The images that this add-on has loaded, by their file's absolute path."""
    return {bpy.path.abspath(image.filepath): image for image in bpy.data.images if image.get(PICTURE)}


def load(path: str, known: Known) -> bpy.types.Image | None:
    """The image of a file, loaded once and read again when the file has changed; None where it cannot be.

    ``known`` is :func:`loaded`, and is kept up to date. Decoding happens when an image is first drawn, so loading a
    thousand is cheap.
    """
    found = regular(path)  # a pipe would be waited for, and Blender with it
    if found is None:
        return None
    try:
        stamp = str(found.st_mtime_ns)
        image = _alive(known.get(path))
        if image is None:
            known[path] = image = bpy.data.images.load(path, check_existing=False)
        elif image[PICTURE] != stamp:
            image.reload()
    except RuntimeError:
        return None
    image[PICTURE] = stamp
    return image


def _alive(image: bpy.types.Image | None) -> bpy.types.Image | None:
    """The image where Blender still has it: between two steps the artist may have thrown it away."""
    try:
        return image if image is not None and image.get(PICTURE) else None
    except ReferenceError:
        return None


def show(camera: bpy.types.Object, path: str, opacity: float, in_front: bool, known: Known | None = None) -> bool:
    """Show one file as a camera's background, where the camera saw it; whether it could be loaded."""
    if not path:
        return False
    backgrounds = camera.data.background_images
    if known is None:  # of one picture alone, the one that is there already is most often meant
        there = backgrounds[0].image if len(backgrounds) else None
        same = there is not None and there.get(PICTURE) and bpy.path.abspath(there.filepath) == path
        known = {path: there} if same else loaded()
    image = load(path, known)
    if image is None:
        return False
    slot = backgrounds[0] if len(backgrounds) else backgrounds.new()
    if slot.image != image:
        slot.image = image
    fit(camera)
    _dress(slot, opacity, in_front)
    return True


def _dress(slot: bpy.types.CameraBackgroundImage, opacity: float, in_front: bool) -> None:
    depth = "FRONT" if in_front else "BACK"
    if slot.alpha != opacity:
        slot.alpha = opacity
    if slot.display_depth != depth:
        slot.display_depth = depth


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


def _through(
    cameras: Sequence[bpy.types.Object], at_once: int, each: Callable[[bpy.types.Object], object]
) -> Iterator[float]:
    """Do something to each camera that is still there, ``at_once`` of them a step."""
    for count, camera in enumerate(cameras, 1):
        try:
            each(camera)
        except ReferenceError:
            continue
        if count % at_once == 0:
            yield count / len(cameras)
    yield 1.0


def fitting(scene: bpy.types.Scene, cameras: Sequence[bpy.types.Object]) -> Iterator[float]:
    """Lay every view's picture where the view saw it, after the scene has got another size."""
    return _through(cameras, LIGHT, lambda camera: fit(camera, scene))


def dressing(cameras: Sequence[bpy.types.Object], opacity: float, in_front: bool) -> Iterator[float]:
    """Draw the pictures that are there with an opacity, before or behind the scene."""

    def dress(camera: bpy.types.Object) -> None:
        for slot in camera.data.background_images:
            _dress(slot, opacity, in_front)

    return _through(cameras, LIGHT, dress)


def showing(
    cameras: Sequence[bpy.types.Object],
    path_of: Callable[[str], str],
    fallback: Callable[[str], str],
    opacity: float,
    in_front: bool,
) -> Iterator[float]:
    """Show ``path_of(view)`` behind every camera of a capture, or ``fallback(view)`` where there is none yet; then let
    go of pictures that no camera shows any more: four a view would fill the memory."""
    known = loaded()
    yield 0.0

    def one(camera: bpy.types.Object) -> None:
        view = str(camera[VIEW])
        if not show(camera, path_of(view), opacity, in_front, known):
            show(camera, fallback(view), opacity, in_front, known)

    yield from _through(cameras, AT_ONCE, one)
    unused = [image for image in bpy.data.images if image.get(PICTURE) and image.users == 0]
    for start in range(0, len(unused), LIGHT):
        bpy.data.batch_remove([image for image in unused[start : start + LIGHT] if _alive(image) and not image.users])
        yield 1.0
