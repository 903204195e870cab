# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a view's picture lies in a viewport that looks through its camera, and the picture at the left of the wipe."""

from __future__ import annotations

from collections.abc import Iterator

import bpy
from bpy_extras.view3d_utils import location_3d_to_region_2d

from ..files import regular
from .cameras import ASPECT, SIZE, is_view

NAME = "Instruct NeRF wipe"
FILE = "instruct_nerf_wipe"  # on the image: the file that it shows, and when that was written

Frame = tuple[float, float, float, float]  # left, bottom, right, top in the region's pixels


def camera_seen(space: bpy.types.SpaceView3D) -> bpy.types.Object | None:
    """The capture's camera that a viewport looks through, or None."""
    if space is None or space.region_3d is None or space.region_3d.view_perspective != "CAMERA":
        return None
    camera = space.camera
    return camera if is_view(camera) else None


def frame_of(
    scene: bpy.types.Scene, camera: bpy.types.Object, region: bpy.types.Region, view: bpy.types.RegionView3D
) -> Frame | None:
    """Where a viewport that looks through a view's camera shows the view's picture, whatever size the scene renders at:
    as wide as the camera's frame and in its middle, as high as its own pixels make it. None where it is behind."""
    matrix = camera.matrix_world.normalized()
    corners = [
        location_3d_to_region_2d(region, view, matrix @ corner) for corner in camera.data.view_frame(scene=scene)
    ]
    if any(corner is None for corner in corners):
        return None
    left, right = min(c.x for c in corners), max(c.x for c in corners)
    middle = sum(c.y for c in corners) / 4.0
    (width, height), (x, y) = camera[SIZE], camera[ASPECT]
    half = 0.5 * (right - left) * (height * y) / (width * x)
    return left, middle - half, right, middle + half


def loaded(path: str) -> bpy.types.Image | None:
    """The picture at the left of the wipe, where it is the one of a file as that is now; None: it is to be read."""
    image, found = bpy.data.images.get(NAME), regular(path)
    if image is None or found is None or image.get(FILE) != f"{path}@{found.st_mtime_ns}":
        return None
    return image


def loading(path: str) -> Iterator[float]:
    """Read the picture of a file in the place of the one before. It is no one's: no file keeps it."""
    forget()
    found = regular(path)
    if found is None:
        return
    yield 0.3
    image = bpy.data.images.load(path, check_existing=False)
    image.name = NAME
    # The values as they stand in the file: the viewport shows what is drawn over it as it is.
    image.colorspace_settings.is_data = True
    image[FILE] = f"{path}@{found.st_mtime_ns}"
    yield 0.6
    tuple(image.size)  # asking for its size decodes it: not while something is drawn
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()
    yield 1.0


def forget() -> None:
    """Let go of the picture."""
    image = bpy.data.images.get(NAME)
    if image is not None and image.library is None and FILE in image:
        bpy.data.images.remove(image)
