# SPDX-License-Identifier: GPL-3.0-or-later
"""The capture in the scene: one root Empty, one camera a view under it, all in one collection.

Nothing here is kept between two calls, but for a second where links lead. The root is found by its custom property
``instruct_nerf_workspace``, a camera by ``instruct_nerf_view``; so objects may be renamed, moved and undone as the
artist likes.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import bpy
from mathutils import Matrix

from .. import conversion
from ..conversion import BlenderCamera, Camera, Vector

WORKSPACE = "instruct_nerf_workspace"  # on the root, and on the collection made for it
SOURCE = "instruct_nerf_source"  # on the root: what was opened, an absolute path
VIEW = "instruct_nerf_view"
NAME = "instruct_nerf_name"  # on a camera: the name it was made with, which a copy does not have
CHOSEN = "instruct_nerf_chosen"
SIZE = "instruct_nerf_size"  # width, height in pixels
ASPECT = "instruct_nerf_pixel_aspect"  # x, y
AT_ONCE = 8  # cameras that are made in one step
REMOVED = 32  # cameras that are removed in one step
RADIUS = "instruct_nerf_radius"  # on the root: mean distance of the cameras from the middle, in the capture frame
PART = "instruct_nerf_part"  # on a collection: what of the capture lies in it
CAMERAS = "Cameras"  # the part for the cameras
DISPLAY = 0.12  # size of a drawn camera as a share of the capture's radius, where there are few
CROWDED = 1.8  # of many, that share is this divided by the root of their number: they are as far apart as that
CHOSEN_SIZE, LEFT_SIZE = 1.3, 0.5  # of those that are chosen, and of the others beside them


def absolute(workspace: str) -> str:
    """A workspace as an absolute path without a trailing separator, so that two spellings compare equal."""
    return _resolved(bpy.path.abspath(workspace), int(time.monotonic())) if workspace else ""


@lru_cache(maxsize=64)
def _resolved(path: str, _second: int) -> str:
    """A path without links, looked up once a second: panels and polls ask fifty times a redraw, and each lookup asks
    the disk, or a network, for every folder on the way."""
    return os.path.realpath(path)  # not Path.resolve, which raises where links go round in circles


def scene_by_uid(uid: int) -> bpy.types.Scene | None:
    """The scene of this file with a ``session_uid``, which undo and renaming leave alone; None where it is gone."""
    return next((s for s in bpy.data.scenes if s.session_uid == uid and s.library is None), None)


def root_of(scene: bpy.types.Scene, workspace: str) -> bpy.types.Object | None:
    """The capture root of a workspace in a scene, or None. Roots linked from other files are not this file's."""
    wanted = absolute(workspace)
    for item in scene.objects:
        if item.type != "EMPTY" or WORKSPACE not in item or item.library is not None:
            continue
        if absolute(str(item[WORKSPACE])) == wanted:
            return item
    return None


def cameras_of(root: bpy.types.Object) -> list[bpy.types.Object]:
    """The capture's cameras under a root, in the order of their names."""
    found = [item for item in root.children if item.type == "CAMERA" and VIEW in item]
    return sorted(found, key=lambda item: str(item[VIEW]))


def camera_of(root: bpy.types.Object, view: str) -> bpy.types.Object | None:
    """The camera of one view, or None."""
    return next((item for item in root.children if item.get(VIEW) == view and item.type == "CAMERA"), None)


def is_view(item: bpy.types.Object | None) -> bool:
    """Whether an object is a capture's camera."""
    return item is not None and item.type == "CAMERA" and VIEW in item and item.parent is not None


def pose_of(camera: bpy.types.Object) -> conversion.Matrix:
    """The pose in the capture frame of a camera directly under its root, as it was built."""
    # Not matrix_local: that is worked out from world matrices, which are stale until the next update.
    return conversion.capture_pose_from_world(conversion.IDENTITY, conversion.matrix_from_rows(camera.matrix_basis))


def build(
    scene: bpy.types.Scene,
    name: str,
    workspace: str,
    views: Sequence[tuple[str, Camera]],
    up: Vector,
    centre: Vector,
    radius: float,
    *,
    stand_upright: bool = True,
    source: str = "",
) -> bpy.types.Object:
    """Put a capture into a scene and return its root; see :func:`building`."""
    for _ in building(scene, name, workspace, views, up, centre, radius, stand_upright=stand_upright, source=source):
        pass
    root = root_of(scene, workspace)
    assert root is not None
    return root


def building(
    scene: bpy.types.Scene,
    name: str,
    workspace: str,
    views: Sequence[tuple[str, Camera]],
    up: Vector,
    centre: Vector,
    radius: float,
    *,
    stand_upright: bool = True,
    source: str = "",
) -> Iterator[float]:
    """Put a capture into a scene, a few cameras a step.

    A root that the workspace already has keeps its transform, and the choice of views is kept by name; its cameras
    are made anew. What hung on a root that was deleted hangs on the new one. ``stand_upright`` places a new root by the
    capture's own up and centre, otherwise the capture frame is Blender's world (as for a photographed Blender scene).
    """
    old = root_of(scene, workspace)
    bereft = None if old is not None else _bereft(scene, workspace)
    if old is not None:
        root = old
    else:
        root = bpy.data.objects.new(name, None)
        root.empty_display_type = "ARROWS"
        root[WORKSPACE] = workspace
        if bereft is not None:
            bereft.objects.link(root)
            for item in _rootless(bereft, {view for view, _ in views}):
                item.parent = root
        matrix = conversion.world_from_capture(up, centre, radius) if stand_upright else conversion.IDENTITY
        root.matrix_world = Matrix(matrix)
    there, chosen = cameras_of(root), set(chosen_views(root))
    for start in range(0, len(there), REMOVED):
        _remove(there[start : start + REMOVED])
        yield 0.0
    if source:
        root[SOURCE] = source
    collection = collection_of(root, scene)
    if collection is None:
        collection = bpy.data.collections.new(name)
        collection[WORKSPACE] = workspace
        scene.collection.children.link(collection)
        collection.objects.link(root)
    root[RADIUS], root.empty_display_size = radius, 0.25 * radius
    own = part_of(collection, CAMERAS)
    large, small = display_sizes(root, len(views), bool(chosen))
    reach = radius * _scale(root)
    for count, (view, camera) in enumerate(views, 1):
        item = _camera(view, camera, reach)
        item.data.display_size = large if view in chosen else small
        item.parent = root
        item.matrix_basis = Matrix(camera.pose)
        if view in chosen:
            item[CHOSEN] = True
        own.objects.link(item)
        if count % AT_ONCE == 0:
            yield count / len(views)
    yield 1.0


def _bereft(scene: bpy.types.Scene, workspace: str) -> bpy.types.Collection | None:
    """The collection that was made for a workspace's root, which was deleted; or None. View names do not tell captures
    apart: many hold a 0001.png."""
    wanted = absolute(workspace)
    for collection in scene.collection.children_recursive:
        if WORKSPACE not in collection or collection.library is not None:
            continue
        if absolute(str(collection[WORKSPACE])) == wanted and not any(WORKSPACE in item for item in collection.objects):
            return collection
    return None


def _rootless(collection: bpy.types.Collection, views: set[str]) -> list[bpy.types.Object]:
    """What lies in the parts of a capture's collection and hung on a root that was deleted; of cameras, which are made
    anew, those of ``views`` that still have the name they were made with: others may be the artist's copies."""
    return [
        item
        for part in collection.children
        if PART in part
        for item in part.objects
        if item.parent is None and item.library is None
        if item.type != "CAMERA"
        or (part[PART] == CAMERAS and str(item.get(VIEW)) in views and item.get(NAME) == item.name)
    ]


def collection_of(root: bpy.types.Object, scene: bpy.types.Scene | None = None) -> bpy.types.Collection | None:
    """The collection that a root lies in, whatever it is called by now: one of ``scene`` (the current one), where it
    lies in several; None where it lies in none."""
    scene = scene or bpy.context.scene
    here = {scene.collection, *scene.collection.children_recursive}
    own = [collection for collection in root.users_collection if collection.library is None]
    return next((collection for collection in own if collection in here), own[0] if own else None)


def part_of(collection: bpy.types.Collection, name: str) -> bpy.types.Collection:
    """The collection inside a capture's for one kind of thing, made where there is none; it may be renamed."""
    found = next((child for child in collection.children if child.get(PART) == name), None)
    if found is None:
        found = bpy.data.collections.new(name)
        found[PART] = name
        collection.children.link(found)
    return found


def _scale(root: bpy.types.Object) -> float:
    # Not matrix_world, which is stale until the next update; a root that lies under something else is rare.
    own = root.matrix_world if root.parent is not None else root.matrix_basis
    return sum(map(abs, own.to_scale())) / 3.0 or 1.0


def display_size(root: bpy.types.Object, count: int) -> float:
    """How large to draw one of ``count`` cameras, in Blender's units: it follows the root's scale, which Blender does
    not apply to drawn cameras, and lets room between many."""
    radius = float(root.get(RADIUS, 4.0 * root.empty_display_size))
    return min(DISPLAY, CROWDED / math.sqrt(max(1, count))) * radius * _scale(root)


def display_sizes(root: bpy.types.Object, count: int, some: bool) -> tuple[float, float]:
    """How large to draw the chosen ones of ``count`` cameras, and the others, where ``some`` are chosen."""
    size = display_size(root, count)
    return (size * CHOSEN_SIZE, size * LEFT_SIZE) if some else (size, size)


def resizing(root: bpy.types.Object) -> Iterator[float]:
    """Draw all cameras as large as they should be now, a few dozen a step."""
    views = cameras_of(root)
    large, small = display_sizes(root, len(views), any(item.get(CHOSEN) for item in views))
    for count, item in enumerate(views, 1):
        item.data.display_size = large if item.get(CHOSEN) else small
        if count % REMOVED == 0:
            yield count / len(views)


def _camera(view: str, camera: Camera, reach: float) -> bpy.types.Object:
    """One camera; ``reach`` is the capture's radius in Blender's units."""
    settings = conversion.blender_from_intrinsics(camera.intrinsics)
    data = bpy.data.cameras.new(view)
    data.sensor_fit = settings.sensor_fit
    data.sensor_width, data.sensor_height = settings.sensor_width, settings.sensor_height
    data.lens = settings.lens
    data.shift_x, data.shift_y = settings.shift_x, settings.shift_y
    data.clip_start, data.clip_end = 0.005 * reach, 100.0 * reach
    data.show_background_images = True
    item = bpy.data.objects.new(view, data)
    item[VIEW], item[NAME] = view, item.name
    item[SIZE] = [settings.resolution_x, settings.resolution_y]
    item[ASPECT] = [settings.pixel_aspect_x, settings.pixel_aspect_y]
    return item


def _remove(items: Iterable[bpy.types.Object]) -> None:
    data = [item.data for item in items]
    bpy.data.batch_remove([*items, *data])


def remove(scene: bpy.types.Scene, workspace: str) -> None:
    """Take a capture's cameras, root and mesh out of a scene."""
    root = root_of(scene, workspace)
    if root is not None:
        collections = list(root.users_collection)
        bpy.data.batch_remove([*root.children_recursive, root])
        for collection in [*(child for c in collections for child in c.children if PART in child), *collections]:
            if not collection.all_objects and not collection.children and collection is not scene.collection:
                bpy.data.collections.remove(collection)


# -- choosing ----------------------------------------------------------------------------------------------------


def chosen_views(root: bpy.types.Object) -> list[str]:
    """Names of the chosen views; empty means all."""
    return [str(item[VIEW]) for item in cameras_of(root) if item.get(CHOSEN)]


def choose(root: bpy.types.Object, names: Iterable[str]) -> int:
    """Choose exactly these views; how many there were. Chosen cameras are drawn larger, the others smaller."""
    wanted = set(names)
    views = [(item, item[VIEW] in wanted) for item in cameras_of(root)]
    count = sum(is_chosen for _, is_chosen in views)
    large, small = display_sizes(root, len(views), count > 0)
    for item, is_chosen in views:
        data, shown = item.data, large if is_chosen else small
        if abs(data.display_size - shown) > 1e-6 * shown:  # what is written is drawn anew
            data.display_size = shown
        if is_chosen:
            item[CHOSEN] = True
        elif CHOSEN in item:
            del item[CHOSEN]
    return count


# -- looking through ---------------------------------------------------------------------------------------------


def look_through(scene: bpy.types.Scene, camera: bpy.types.Object) -> None:
    """Make a capture's camera the scene's, with its resolution and pixel aspect: Blender keeps those by scene, so a
    camera alone does not show what the picture shows."""
    scene.camera = camera
    width, height = (int(v) for v in camera[SIZE])
    aspect_x, aspect_y = (float(v) for v in camera[ASPECT])
    render = scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = width, height, 100
    render.pixel_aspect_x, render.pixel_aspect_y = aspect_x, aspect_y


def intrinsics_of(scene: bpy.types.Scene, data: bpy.types.Camera) -> conversion.Intrinsics:
    """The pinhole camera that Blender renders with at the scene's size.

    Raises ``ValueError`` for cameras that are no pinholes.
    """
    if data.type != "PERSP":
        raise ValueError(f"The camera “{data.name}” is not a perspective camera; set its type to Perspective.")
    return conversion.intrinsics_from_blender(_settings_of(scene, data))


def _settings_of(scene: bpy.types.Scene, data: bpy.types.Camera) -> BlenderCamera:
    width, height = size_of(scene)
    return BlenderCamera(
        data.lens, data.sensor_width, data.sensor_height, data.sensor_fit, data.shift_x, data.shift_y,
        width, height, scene.render.pixel_aspect_x, scene.render.pixel_aspect_y,
    )  # fmt: skip


def projection_of(scene: bpy.types.Scene, data: bpy.types.Camera, scale: float) -> tuple[str, conversion.Intrinsics]:
    """How a camera projects at the scene's size, and its intrinsics, of whatever type it is, under a capture root of
    that ``scale``. Raises ``ValueError`` for a panorama that is not equirectangular."""
    if data.type == "ORTHO":
        settings = _settings_of(scene, data)
        return "orthographic", conversion.intrinsics_of_orthographic(settings, data.ortho_scale, scale)
    if data.type == "PERSP":
        return "perspective", intrinsics_of(scene, data)
    # Cycles kept a panorama's settings to itself before 5.0.
    own = data if hasattr(data, "panorama_type") else getattr(data, "cycles", None)
    if data.type != "PANO" or getattr(own, "panorama_type", "") != "EQUIRECTANGULAR":
        raise ValueError(
            f"The camera “{data.name}” cannot be rendered: set its type to Perspective, Orthographic, or Panoramic and "
            "Equirectangular."
        )
    longitudes, latitudes = (
        (getattr(own, f"{name}_min"), getattr(own, f"{name}_max")) for name in ("longitude", "latitude")
    )
    return "equirectangular", conversion.intrinsics_of_equirectangular(*size_of(scene), longitudes, latitudes)


def size_of(scene: bpy.types.Scene) -> tuple[int, int]:
    """Width and height in pixels that Blender renders a scene at: its own whole-number arithmetic, where 29 % of 100
    are 29 (by floats 28)."""
    render = scene.render
    share = render.resolution_percentage
    return max(1, render.resolution_x * share // 100), max(1, render.resolution_y * share // 100)


def depsgraph_of(scene: bpy.types.Scene) -> bpy.types.Depsgraph:
    """The evaluated state of a scene, which need not be the one shown."""
    return bpy.context.evaluated_depsgraph_get() if bpy.context.scene == scene else scene.view_layers[0].depsgraph
