# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Blender's own projection puts a point, against where the capture's cameras see it: one figure, in pixels.

Needs bpy and numpy alone, so that it runs in any Blender:

    python tests/blender/projection.py                         with the bpy module of any version
    blender --background --python tests/blender/projection.py  in an installed Blender

Prints Blender's version and the largest distance found; ends with status 1 where it is 0.05 px or more.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

import bpy
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Euler, Matrix, Vector

from blender_addon import trajectories
from blender_addon.conversion import Camera, Intrinsics
from blender_addon.scene import cameras

LIMIT = 0.05  # pixels
Point = tuple[float, float, float]


def random_camera(rng: random.Random) -> Camera:
    """Off-centre, with unequal focal lengths, portrait or landscape, up to 20 megapixels."""
    width, height = rng.randint(60, 5000), rng.randint(60, 5000)
    fx = width * rng.uniform(0.5, 3.0)
    k = Intrinsics(width, height, fx, fx * rng.uniform(0.6, 1.7), width * rng.uniform(0.2, 0.8),
                   height * rng.uniform(0.2, 0.8))  # fmt: skip
    place = (rng.uniform(-3, 3), rng.uniform(-3, 3), rng.uniform(1, 3))
    return Camera(trajectories.looking_at(place, (0.1, 0.2, 0.3)), k)


def textbook_pixel(camera: Camera, point: Point) -> tuple[float, float]:
    """Where a pinhole camera sees a point of the capture frame; pixels, y down, from the upper left corner."""
    pose, k = camera.pose, camera.intrinsics
    offset = [point[i] - pose[i][3] for i in range(3)]
    x, y, z = (sum(pose[i][column] * offset[i] for i in range(3)) for column in range(3))
    return k.cx + k.fx * x / -z, k.cy - k.fy * y / -z


def distances(
    root: bpy.types.Object, view: str, camera: Camera, seen: Iterable[tuple[Point, tuple[float, float]]]
) -> Iterable[float]:
    """For points of the capture frame and the pixels where they belong: how far off Blender's camera puts them."""
    scene, item = bpy.context.scene, cameras.camera_of(root, view)
    cameras.look_through(scene, item)
    bpy.context.view_layer.update()
    width, height = camera.intrinsics.width, camera.intrinsics.height
    for point, (x, y) in seen:
        found = world_to_camera_view(scene, item, root.matrix_world @ Vector(point))
        yield ((found.x * width - x) ** 2 + ((1 - found.y) * height - y) ** 2) ** 0.5


def build(items: list[tuple[str, Camera]]) -> bpy.types.Object:
    """The cameras under a capture root that an artist has moved, turned and scaled."""
    root = cameras.build(bpy.context.scene, "c", "/w", items, (0.0, 0.6, 0.8), (0.1, 0.2, 0.3), 3.0)
    root.matrix_world = Matrix.LocRotScale(Vector((3, -1, 2)), Euler((0.3, -0.5, 1.1)), Vector((1.7, 1.7, 1.7)))
    return root


def worst_of_random_cameras(count: int = 200, seed: int = 1) -> float:
    """The largest distance in pixels, over that many cameras and twenty points each."""
    rng = random.Random(seed)
    items = [(f"v{index}", random_camera(rng)) for index in range(count)]
    root = build(items)
    points = [(rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4)) for _ in range(20)]
    return max(
        distance
        for view, camera in items
        for distance in distances(root, view, camera, [(p, textbook_pixel(camera, p)) for p in points])
    )


if __name__ == "__main__":
    bpy.ops.wm.read_factory_settings(use_empty=True)
    found = worst_of_random_cameras()
    print(f"Blender {bpy.app.version_string}: 200 cameras, 4,000 points, at most {found:.5f} px off", flush=True)
    sys.exit(found >= LIMIT)
