# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh of a NeRF lies in Blender where the NeRF sees its surfaces: on real photographs, from the capture's own
cameras, rendered by Blender; and the measures that say so break where it does not.

Training takes minutes: INSTRUCT_NERF_FOX_WORKSPACE may name a workspace in which the fox is trained already (it is
copied, not written to). `pytest -m slow -rP` shows the values.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import bpy
import numpy as np
import pytest
from alignment import Alignment, Seen, measure, points, registration, render
from mathutils import Euler, Matrix, Vector
from scipy.ndimage import gaussian_filter, map_coordinates

from blender_addon import conversion, trajectories, wire
from blender_addon.conversion import Camera, Intrinsics
from blender_addon.scene import cameras, mesh
from blender_addon.trajectories import exhausted

FOX = Path(__file__).parents[3] / "shared" / "captures" / "fox"
TRAINED = os.environ.get("INSTRUCT_NERF_FOX_WORKSPACE", "")
VIEWS = ("0001", "0026", "0042")  # from the left; from the right, held out of training; from below
SUBJECT = 0.7  # of the capture's radius: what is nearer to its centre is the subject, a fox's head on a wall

# What a mesh must keep in each camera, of a scene trained as the preview preset does: to the end, since its learning
# rate falls all the way. Stopped at 600 of its 1000 steps, views disagree about the depth of the plain wall.
LEAST_OVERLAP = 0.93  # 0.947, of the three the worst: the wall stands where the subject ends; 0.924 after 600 steps
MOST_DISTANCE = 0.015  # 0.007 and 0.004; axes mistaken make more than a tenth
MOST_SHIFT = 0.25  # pixels, each way: half of the half pixel that must not pass; 0.07 and 0.13
MOST_ZOOM = 0.005  # 0.0017 and 0.0011; two per cent of scale make at least 0.018

pytestmark = [pytest.mark.usefixtures("empty"), pytest.mark.timeout(3600)]


def broken(found: Alignment) -> list[str]:
    """Names of the bounds that a measurement does not keep."""
    kept = {
        "overlap": found.overlap >= LEAST_OVERLAP,
        "distance": found.distance <= MOST_DISTANCE,
        "shift": max(map(abs, found.shift)) <= MOST_SHIFT,
        "zoom": abs(found.zoom) <= MOST_ZOOM,
    }
    return [name for name, keeps in kept.items() if not keeps]


# -- the measuring stick itself ----------------------------------------------------------------------------------


def test_blenders_distances_are_those_of_a_sphere(tmp_path: Path) -> None:
    """Rendered under a moved, turned and scaled root by an off-centre camera: distances are along the ray through
    each pixel's centre, in the capture's units, to a thousandth; half a pixel beside it they would not be."""
    k = Intrinsics(90, 120, 140.0, 141.0, 50.0, 57.0)
    camera = Camera(trajectories.looking_at((0.3, -4, 1), (0, 0, 0)), k)
    root = cameras.build(bpy.context.scene, "c", "/w", [("v", camera)], (0, 0, 1), (0, 0, 0), 4.0)
    bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=7, radius=1.0)
    ball = bpy.context.object
    ball.parent, ball.matrix_parent_inverse = root, Matrix()
    root.matrix_world = Matrix.LocRotScale(Vector((3, -1, 2)), Euler((0.3, -0.5, 1.1)), Vector((2.5, 2.5, 2.5)))
    seen = render(bpy.context.scene, cameras.camera_of(root, "v"), 2.5, tmp_path).distance

    def analytic(k: Intrinsics) -> np.ndarray:
        origin = np.array(camera.pose)[:3, 3]
        along = points(Camera(camera.pose, k), np.ones((k.height, k.width))) - origin
        half = along @ origin
        under = half**2 - (origin @ origin - 1)
        return np.where(under > 0, -half - np.sqrt(np.maximum(under, 0)), np.inf)

    expected, beside = analytic(k), analytic(replace(k, cx=k.cx + 0.5))
    both = np.isfinite(seen) & np.isfinite(expected)
    assert (np.isfinite(seen) != np.isfinite(expected)).sum() <= 5 and both.sum() > 3000
    error = np.abs(seen[both] - expected[both])
    assert np.median(error) < 2e-4 and np.percentile(error, 95) < 1e-3
    assert (np.isfinite(seen) != np.isfinite(beside)).sum() > 30


@pytest.mark.parametrize(("right", "down", "zoom"), [(0.0, 0.0, 0.0), (0.5, 0.0, 0.0), (-0.3, 0.4, 0.01)])
def test_a_known_shift_is_found(right: float, down: float, zoom: float) -> None:
    """Also where one picture is softer, paler and lit otherwise, as a mesh's is beside a NeRF's."""
    rng = np.random.default_rng(1)
    sharp = gaussian_filter(rng.random((160, 120)), 1.5)
    sharp = (sharp - sharp.min()) / np.ptp(sharp)
    rows, columns = np.indices(sharp.shape)
    y, x = (rows - 79.5 - down) / (1 + zoom) + 79.5, (columns - 59.5 - right) / (1 + zoom) + 59.5
    fixed = np.repeat(map_coordinates(sharp, [y, x], order=3, mode="reflect")[..., None], 3, axis=2)
    soft = 0.7 * gaussian_filter(sharp, 1.0) + 0.3 * columns / 120
    moving = np.repeat(soft[..., None], 3, axis=2)
    mask = (rows - 80) ** 2 + (columns - 60) ** 2 < 55**2
    shift, found = registration(moving, fixed, mask)
    np.testing.assert_allclose((*shift, 100 * found), (right, down, 100 * zoom), atol=0.05)


# -- real photographs --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fox:
    """A trained capture: as the add-on reads it, its mesh, and what the NeRF sees."""

    capture: wire.Capture
    mesh: Path
    half_a_pixel_off: Path  # a mesh made with every principal point half a pixel off
    nerf: dict[str, Seen]


@pytest.fixture(scope="module")
def fox(tmp_path_factory: pytest.TempPathFactory) -> Fox:
    """The engine's part: trained, a mesh made, and the NeRF rendered at each of VIEWS."""
    pytest.importorskip("torch", reason="the engine's packages are not installed")
    if not (FOX / "transforms.json").exists():
        pytest.skip("the fox capture is not here")
    import msgspec

    from engine import protocol
    from engine.jobs import output
    from engine.jobs.capture import load_opened, open_into_workspace, write_images
    from engine.jobs.scene import train_scene
    from engine.progress import Job
    from engine.scenes.registry import open_scene
    from engine.workspace import Workspace

    folder, job = tmp_path_factory.mktemp("fox") / "workspace", Job(log=print)
    if TRAINED:
        for part in ("capture", "scene"):
            shutil.copytree(Path(TRAINED) / part, folder / part)
    opened = open_into_workspace(protocol.OpenCapture(str(folder), str(FOX), "preview"))
    if not TRAINED:
        write_images(protocol.WriteImages(str(folder)), job)
        train_scene(protocol.TrainScene(str(folder), "preview", "cpu"), job)

    workspace, seen = Workspace(folder), {}
    scene = open_scene(workspace.checkpoint(None)).scene("cpu")
    for view in load_opened(workspace).views:
        if view.name in VIEWS:
            found = scene.render(view)
            distance = np.where(found.opacity.numpy() >= 0.5, found.depth.numpy(), np.inf)
            seen[view.name] = Seen(found.rgb.double().numpy(), distance)

    rendered, original = {}, type(scene).render

    def once(self: object, view: object, *rest: object) -> object:
        if view.name not in rendered:
            rendered[view.name] = original(self, view, *rest)
        return rendered[view.name]

    def off(pose: object, intrinsics: object, *rest: object) -> object:
        moved = replace(intrinsics, cx=intrinsics.cx + 0.5, cy=intrinsics.cy + 0.5)
        return depth_view(pose, moved, *rest)

    depth_view, request = output.DepthView, protocol.MakeMesh(str(folder), device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(scene), "render", once)
        path = Path(output.make_mesh(request, job).mesh)
        kept = path.replace(path.with_name("true.ply"))
        patch.setattr(output, "DepthView", off)
        wrong = Path(output.make_mesh(request, job).mesh)
    capture = wire.parse_capture(msgspec.json.decode(msgspec.json.encode(opened)))
    return Fox(capture, kept, wrong, seen)


def shown(fox: Fox, path: Path) -> tuple[bpy.types.Object, bpy.types.Object]:
    """The capture's root and a mesh in an empty scene, put there by the add-on."""
    capture, scene = fox.capture, bpy.context.scene
    views = [(view.name, view.camera) for view in capture.views]
    root = cameras.build(scene, "fox", capture.workspace, views, capture.up, capture.centre, capture.radius)
    return root, exhausted(mesh.importing(root, str(path), "fox before", ""))


def measured(fox: Fox, root: bpy.types.Object, folder: Path, label: str) -> dict[str, Alignment]:
    """The alignment in each of VIEWS, also printed."""
    capture, found = fox.capture, {}
    bpy.context.view_layer.update()
    scale = conversion.scale_of_similarity(conversion.matrix_from_rows(root.matrix_world))
    for view in capture.views:
        if view.name in VIEWS:
            seen = render(bpy.context.scene, cameras.camera_of(root, view.name), scale, folder)
            centre, radius = np.array(capture.centre), SUBJECT * capture.radius
            found[view.name] = measure(view.camera, seen, fox.nerf[view.name], centre, radius)
            print(f"{label:32} {view.name}  {found[view.name]}  {' '.join(broken(found[view.name]))}")
    return found


MOVED = Matrix.LocRotScale(Vector((3, -1, 2)), Euler((0.3, -0.5, 1.1)), Vector((1.7, 1.7, 1.7)))


@pytest.mark.slow
def test_the_mesh_of_real_photos_lies_on_the_nerf(fox: Fox, tmp_path: Path) -> None:
    root, _ = shown(fox, fox.mesh)
    found = measured(fox, root, tmp_path, "as imported")
    assert list(found) == list(VIEWS)
    for name, alignment in found.items():
        assert not broken(alignment), f"{name}: {alignment}"
    root.matrix_world = MOVED @ root.matrix_world
    for name, moved in measured(fox, root, tmp_path, "root moved, turned and scaled").items():
        was = found[name]
        assert abs(moved.overlap - was.overlap) < 0.003 and abs(moved.distance - was.distance) < 0.0005
        assert np.allclose((*moved.shift, 100 * moved.zoom), (*was.shift, 100 * was.zoom), atol=0.03)


def _of_mesh(matrix: Matrix) -> Callable[[bpy.types.Object, bpy.types.Object], None]:
    return lambda root, item: setattr(item, "matrix_basis", matrix)


def _of_lens(right: float, down: float) -> Callable[[bpy.types.Object, bpy.types.Object], None]:
    """The principal points moved by so many pixels."""

    def move(root: bpy.types.Object, item: bpy.types.Object) -> None:
        for camera in cameras.cameras_of(root):
            width = camera[cameras.SIZE][0]
            camera.data.shift_x -= right / width
            camera.data.shift_y += down / width

    return move


def _centred(root: bpy.types.Object, item: bpy.types.Object) -> None:
    for camera in cameras.cameras_of(root):
        camera.data.shift_x = camera.data.shift_y = 0.0


def _beside_the_root(root: bpy.types.Object, item: bpy.types.Object) -> None:
    item.parent = None


def _beside_a_moved_root(root: bpy.types.Object, item: bpy.types.Object) -> None:
    item.parent = None
    item.matrix_basis = root.matrix_world.copy()
    root.matrix_world = Matrix.Translation((0.05, 0, 0)) @ root.matrix_world


ERRORS = {
    "2 % larger": _of_mesh(Matrix.Scale(1.02, 4)),
    "2 % smaller": _of_mesh(Matrix.Scale(0.98, 4)),
    "y up": _of_mesh(Matrix.Rotation(math.pi / 2, 4, "X")),
    "x and y swapped": _of_mesh(Matrix(((0, 1, 0, 0), (1, 0, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)))),
    "y flipped": _of_mesh(Matrix.Diagonal((1, -1, 1, 1))),
    "lens half a pixel right": _of_lens(0.5, 0),
    "lens half a pixel left": _of_lens(-0.5, 0),
    "lens half a pixel down": _of_lens(0, 0.5),
    "lens half a pixel up": _of_lens(0, -0.5),
    "lens in the picture's middle": _centred,
    "not under the root": _beside_the_root,
    "left behind by 1 % of the radius": _beside_a_moved_root,
}


@pytest.mark.slow
@pytest.mark.parametrize("error", ERRORS)
def test_misalignment_breaks_the_bounds_in_every_camera(fox: Fox, tmp_path: Path, error: str) -> None:
    root, item = shown(fox, fox.mesh)
    ERRORS[error](root, item)
    for name, alignment in measured(fox, root, tmp_path, error).items():
        assert broken(alignment), f"{name}: {alignment}"


@pytest.mark.slow
def test_a_mesh_made_half_a_pixel_off_breaks_the_bounds_in_every_camera(fox: Fox, tmp_path: Path) -> None:
    root, _ = shown(fox, fox.half_a_pixel_off)
    for name, alignment in measured(fox, root, tmp_path, "mesh made half a pixel off").items():
        assert "shift" in broken(alignment), f"{name}: {alignment}"
