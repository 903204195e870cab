# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes of bodies whose surface is known: vertices where it is, colours as it has them, nothing else.

A scale, axis or half-pixel error in what goes in must exceed the bounds that the right input keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from capture_on_disk import looking_at
from scipy.spatial import cKDTree

from engine.capture import Intrinsics
from engine.errors import BadInput
from engine.output import isosurface
from engine.output import mesh as meshes
from engine.output.fusing import BLOCK
from engine.output.mesh import DepthView, bounds_from_depth, disagreement, fuse, resolution_for, write_ply
from engine.output.volume import Volume

# Portrait, principal point off the middle, unequal focal lengths.
CAMERA = Intrinsics(90, 140, 150.0, 156.0, 38.0, 77.0)
CENTRE = np.array([0.3, -0.2, 0.5])
RADIUS = 0.8
HALF = np.array([0.5, 0.7, 0.4])

Body = Callable[[np.ndarray, np.ndarray], np.ndarray]


def cameras(count: int = 24) -> list[np.ndarray]:
    """Poses spread over a sphere around CENTRE (Fibonacci), upright up to a tilt: errors must not average out."""
    index = np.arange(count) + 0.5
    z, angle = 1 - 2 * index / count, np.pi * (1 + 5**0.5) * index
    outward = np.stack([np.sqrt(1 - z * z) * np.cos(angle), np.sqrt(1 - z * z) * np.sin(angle), z], axis=1)
    return [looking_at(CENTRE + 4 * direction, CENTRE, (0.3, 0.2, 1)) for direction in outward]


def sphere(origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Distance along unit rays to the sphere; infinite where they miss."""
    away = origin - CENTRE
    b = rays @ away
    inside = b * b - (away @ away - RADIUS**2)
    return np.where(inside > 0, -b - np.sqrt(np.maximum(inside, 0)), np.inf)


def box(origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        one, two = ((CENTRE + side * HALF - origin) / rays for side in (-1, 1))
    enters, leaves = np.minimum(one, two).max(axis=-1), np.maximum(one, two).min(axis=-1)
    return np.where((enters < leaves) & (enters > 0), enters, np.inf)


def pixel_rays(camera: Intrinsics) -> np.ndarray:
    """(H, W, 3) through pixel centres, camera axes x right, y down, z forward (= 1)."""
    v, u = np.mgrid[: camera.height, : camera.width] + 0.5
    x, y = (u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy
    return np.stack([x, y, np.ones_like(x)], axis=-1)


def colour_at(points: np.ndarray) -> np.ndarray:
    return 0.5 + 0.4 * np.sin(2 * np.pi * points / 0.8)


def render(body: Body, pose: np.ndarray, camera: Intrinsics = CAMERA) -> DepthView:
    rays = pixel_rays(camera)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    rays = (rays * (1, -1, -1)) @ pose[:3, :3].T
    depth = body(pose[:3, 3], rays)
    hit = np.isfinite(depth)
    depth = np.where(hit, depth, 0.0)
    colour = np.where(hit[..., None], colour_at(pose[:3, 3] + rays * depth[..., None]), 1.0)
    return DepthView(pose, camera, depth.astype(np.float32), colour.astype(np.float32), hit.astype(np.float32))


def distance_to(body: Body, points: np.ndarray) -> np.ndarray:
    """Distances of points to the body's true surface."""
    away = points - CENTRE
    if body is sphere:
        return np.abs(np.linalg.norm(away, axis=1) - RADIUS)
    over = np.abs(away) - HALF
    return np.abs(np.linalg.norm(np.maximum(over, 0), axis=1) + np.minimum(over.max(axis=1), 0))


BOUNDS = (CENTRE - np.array([1.0, 1.1, 0.95]), CENTRE + np.array([1.0, 1.1, 1.05]))
RESOLUTION = 64
VOXEL = 2.2 / RESOLUTION


MEAN, WORST, COLOUR = 0.02, {sphere: 0.2, box: 0.8}, 1.5  # voxels, voxels, of 255


def errors(body: Body, mesh: trimesh.Trimesh) -> tuple[float, float, float]:
    """(mean, largest) distance of the vertices to the true surface, in voxels, and the mean error of their colour.

    The mean is without what lies beside the box's edges: there the surface has no one normal, and a grid rounds it.
    """
    error = distance_to(body, mesh.vertices) / VOXEL
    smooth = np.full(len(error), True)
    if body is box:
        smooth = np.sort(np.abs(mesh.vertices - CENTRE) - HALF, axis=1)[:, 1] < -3 * VOXEL
    off = np.abs(mesh.visual.vertex_colors[:, :3] - 255 * colour_at(mesh.vertices))
    return float(error[smooth].mean()), float(error.max()), float(off[smooth].mean())


@pytest.fixture(scope="module")
def renders() -> dict[Body, list[DepthView]]:
    return {body: [render(body, pose) for pose in cameras()] for body in (sphere, box)}


@pytest.mark.parametrize("body", [sphere, box])
def test_vertices_lie_on_the_surface(renders: dict[Body, list[DepthView]], body: Body) -> None:
    mesh = fuse(renders[body], BOUNDS, RESOLUTION)
    mean, worst, colour = errors(body, mesh)
    assert mean < MEAN and worst < WORST[body] and colour < COLOUR, f"{mean}, {worst}, {colour}"
    # No hole, one part, turned outward, and all of the body.
    true_area = (
        4 * np.pi * RADIUS**2 if body is sphere else 8 * (HALF[0] * HALF[1] + HALF[1] * HALF[2] + HALF[2] * HALF[0])
    )
    true_volume = 4 / 3 * np.pi * RADIUS**3 if body is sphere else 8 * HALF.prod()
    assert mesh.is_watertight and mesh.body_count == 1
    assert abs(mesh.area / true_area - 1) < 0.03
    assert abs(mesh.volume / true_volume - 1) < 0.01  # negative if it were turned inside out
    middle = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    assert np.abs(middle - CENTRE).max() < 0.1 * VOXEL


def _shifted(view: DepthView, du: float, dv: float) -> DepthView:
    camera = view.intrinsics
    return replace(view, intrinsics=replace(camera, cx=camera.cx + du, cy=camera.cy + dv))


def _moved(view: DepthView, matrix: np.ndarray) -> DepthView:
    return replace(view, pose=matrix @ view.pose)


PERTURBED: dict[str, Callable[[DepthView], DepthView]] = {
    "half a pixel across": lambda view: _shifted(view, 0.5, 0),
    "half a pixel down": lambda view: _shifted(view, 0, 0.5),
    "half a pixel both": lambda view: _shifted(view, -0.5, -0.5),
    "principal point in the middle": lambda view: _shifted(view, 45 - 38, 70 - 77),
    "depth 2% larger": lambda view: replace(view, depth=view.depth * 1.02),
    "focal length 2% longer": lambda view: replace(
        view, intrinsics=replace(view.intrinsics, fx=view.intrinsics.fx * 1.02, fy=view.intrinsics.fy * 1.02)),
    "equal focal lengths": lambda view: replace(view, intrinsics=replace(view.intrinsics, fy=view.intrinsics.fx)),
    "depth along z": lambda view: replace(
        view, depth=(view.depth / np.linalg.norm(pixel_rays(view.intrinsics), axis=-1)).astype(np.float32)),
    "shifted by half a voxel": lambda view: _moved(view, trimesh.transformations.translation_matrix([VOXEL / 2, 0, 0])),
    "axes swapped": lambda view: _moved(view, np.eye(4)[[1, 0, 2, 3]]),
    "camera axes of OpenCV": lambda view: replace(view, pose=view.pose @ np.diag([1.0, -1, -1, 1])),
    "upside down": lambda view: replace(view, depth=view.depth[::-1], opacity=view.opacity[::-1]),
}  # fmt: skip


@pytest.mark.parametrize("body", [sphere, box])
@pytest.mark.parametrize("what", PERTURBED)
def test_the_bounds_tell_wrong_from_right(renders: dict[Body, list[DepthView]], what: str, body: Body) -> None:
    try:
        mesh = fuse([PERTURBED[what](view) for view in renders[body]], BOUNDS, RESOLUTION)
    except BadInput:
        return  # no surface in the box at all
    mean, worst, colour = errors(body, mesh)
    # A shift across the picture slides a flat face along itself: there it is the colour that tells.
    assert mean > 2 * MEAN or worst > 2 * WORST[body] or colour > 1.5 * COLOUR, f"{mean}, {worst}, {colour}"


@pytest.mark.parametrize("body", [sphere, box])
def test_colours_are_the_surface_s(renders: dict[Body, list[DepthView]], body: Body) -> None:
    mesh = fuse(renders[body], BOUNDS, RESOLUTION)
    colours = mesh.visual.vertex_colors
    assert colours.dtype == np.uint8 and (colours[:, 3] == 255).all()
    off = np.abs(colours[:, :3] - 255 * colour_at(mesh.vertices))
    assert off.mean() < 2 and np.percentile(off, 99) < 15  # the box's edges included


def test_offset_and_shape_of_the_grid_do_not_matter(renders: dict[Body, list[DepthView]]) -> None:
    for shift in ((0.0, 0.0, 0.0), (0.013, -0.007, 0.02)):
        low, high = BOUNDS[0] - (0.3, 0, 0.1) + shift, BOUNDS[1] + (0.05, 0, 0) + shift
        mesh = fuse(renders[sphere], (low, high), 50)
        assert distance_to(sphere, mesh.vertices).mean() < MEAN * 2.35 / 50


def test_grid_points_are_where_they_are_said_to_be() -> None:
    volume = Volume(np.zeros(3), np.array([1.0, 2.0, 0.55]), 20)
    assert volume.shape == (10, 20, 6) and volume.spacing == 0.1
    assert np.allclose(volume.origin, (0.05, 0.05, 0.025))  # 0.6 of cells over 0.55 of box
    volume = Volume(BOUNDS[0], BOUNDS[1], RESOLUTION)
    inside = np.linalg.norm(np.stack(np.meshgrid(*[np.arange(n) for n in volume.shape], indexing="ij"), -1)
                            * volume.spacing + volume.origin - CENTRE, axis=-1) < RADIUS  # fmt: skip
    views = [render(sphere, pose) for pose in cameras()]
    for view in views:
        volume.near(view)
    for view in views:
        volume.add(view)
    distance, known = volume.distances()
    assert known.mean() > 0.2
    assert ((distance < 0) == inside)[known].mean() > 0.999


def test_blocks_without_a_surface_do_not_matter(renders: dict[Body, list[DepthView]]) -> None:
    sparse, dense = (Volume(CENTRE - 2.5, CENTRE + 2.5, 100) for _ in range(2))
    dense._wanted[:] = True
    for view in renders[box]:
        sparse.near(view)
    for view in renders[box]:
        sparse.add(view)
        dense.add(view)
    (distance, known), (everywhere, seen) = sparse.distances(), dense.distances()
    assert known.mean() < 0.2 < seen.mean()
    assert np.array_equal(known[known], seen[known])
    np.testing.assert_allclose(distance[known], everywhere[known], atol=1e-5)
    assert (everywhere[seen & ~known] == dense.truncation).all()  # nothing but empty space was left out
    vertices = fuse(renders[box], BOUNDS, RESOLUTION).vertices
    np.testing.assert_allclose(sparse.colours_at(vertices), dense.colours_at(vertices), atol=1e-4)


@pytest.mark.parametrize("body", [sphere, box])
def test_bricks_leave_no_seam(
    renders: dict[Body, list[DepthView]], body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fuse(renders[body], BOUNDS, RESOLUTION)
    monkeypatch.setattr(isosurface, "BRICK", 16)
    joined = fuse(renders[body], BOUNDS, RESOLUTION)
    assert joined.is_watertight and len(joined.faces) == pytest.approx(len(whole.faces), rel=1e-3)
    assert (joined.area, joined.volume) == pytest.approx((whole.area, whole.volume), rel=1e-5)
    for one, other in (
        (whole, joined),
        (joined, whole),
    ):  # vertices that nearly are one may be one beside a brick's end
        assert cKDTree(one.vertices).query(other.vertices)[0].max() < 1e-3 * VOXEL


def test_a_single_point_is_no_mesh_and_counting_takes_no_memory(renders: dict[Body, list[DepthView]]) -> None:
    volume = Volume(CENTRE - 1, CENTRE + 1, 20)
    volume._wanted[:] = True
    volume._keep()
    volume._weight[:] = 1
    volume._distance[:] = 1
    volume._distance[9 * BLOCK**3 + 77] = 0
    with pytest.raises(BadInput, match="no surface"):
        isosurface.surface_of(volume)
    counted = Volume(*BOUNDS, RESOLUTION)
    for view in renders[sphere]:
        counted.near(view)
        assert counted.points > 0 and counted._slots is None
    before = counted.points
    counted.add(renders[sphere][0])
    assert len(counted._weight) == before


def small_spheres(origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Beside the sphere one of a sixteenth and one of a fortieth of its size, that touch nothing."""
    found = [sphere(origin, rays)]
    for share, place in ((1 / 16, (0.95, 0, 0)), (1 / 40, (0, 0.95, 0))):
        found.append(share * sphere(CENTRE + (origin - CENTRE - place) / share, rays))
    return np.minimum.reduce(found)


def test_what_pictures_show_stays_though_it_is_small() -> None:
    camera = Intrinsics(300, 300, 450.0, 450.0, 150.0, 150.0)  # pixels of 0.009 there, 300 of which are 0.024
    mesh = fuse([render(small_spheres, pose, camera) for pose in cameras()], BOUNDS, 200)
    parts = sorted(mesh.split(only_watertight=False), key=lambda part: -part.area)
    assert [round(float(part.area / (4 * np.pi * RADIUS**2)), 3) for part in parts] == [
        pytest.approx(1, abs=0.01), pytest.approx(1 / 16**2, rel=0.1)
    ]  # fmt: skip


def test_a_mesh_is_as_fine_as_its_pictures_as_far_as_memory_reaches(
    renders: dict[Body, list[DepthView]], monkeypatch: pytest.MonkeyPatch
) -> None:
    longest, size = (BOUNDS[1] - BOUNDS[0]).max(), [(4 - RADIUS) / CAMERA.fy, 4 / CAMERA.fy]
    wanted = resolution_for(renders[sphere], BOUNDS)
    assert longest / size[1] < wanted < longest / size[0] + 1
    volume = Volume(*BOUNDS, wanted)
    for view in renders[sphere]:
        volume.near(view)
    monkeypatch.setattr(meshes, "MOST", volume.points // 3)
    less = Volume(*BOUNDS, resolution_for(renders[sphere], BOUNDS))
    for view in renders[sphere]:
        less.near(view)
    assert volume.points / 6 < less.points <= volume.points / 3
    assert resolution_for([], BOUNDS) == meshes.COARSEST


def test_floaters_go_and_the_background_does_not_close_in(renders: dict[Body, list[DepthView]]) -> None:
    spoilt = []
    for index, view in enumerate(renders[sphere]):
        depth, opacity = view.depth.copy(), view.opacity.copy()
        # A few pixels of haze in front of each camera, another place in each.
        depth[20 + index : 24 + index, 60:64], opacity[20 + index : 24 + index, 60:64] = 3.0, 1.0
        spoilt.append(replace(view, depth=depth, opacity=opacity))
    mesh = fuse(spoilt, BOUNDS, RESOLUTION)
    assert mesh.body_count == 1
    assert distance_to(sphere, mesh.vertices).max() < 1.5 * VOXEL
    # Seen from one side only, the body has one side only: no shell behind it, no wall at the edge of what is seen.
    half = [view for view in renders[sphere] if view.pose[2, 3] > CENTRE[2] + 2]
    front = fuse(half, BOUNDS, RESOLUTION)
    assert distance_to(sphere, front.vertices).max() < VOXEL and not front.is_watertight


@pytest.mark.parametrize("behind", [4.9, 7.0])
def test_before_a_background(renders: dict[Body, list[DepthView]], behind: float) -> None:
    """As photographs have it: every pixel shows something, here a wall beyond the box or just behind the body."""
    full = [replace(v, depth=np.where(v.opacity > 0, v.depth, behind).astype(np.float32),
                    opacity=np.ones_like(v.opacity)) for v in renders[sphere]]  # fmt: skip
    mesh = fuse(full, BOUNDS, RESOLUTION)
    body = mesh.submesh([np.linalg.norm(mesh.triangles_center - CENTRE, axis=1) < RADIUS + 1.5 * VOXEL], append=True)
    assert body.is_watertight
    mean, worst, colour = errors(sphere, body)
    assert mean < MEAN and worst < WORST[sphere] and colour < COLOUR, f"{mean}, {worst}, {colour}"


def test_noise_averages_out(renders: dict[Body, list[DepthView]]) -> None:
    rng = np.random.default_rng(0)
    noisy = [replace(v, depth=v.depth + rng.normal(0, 0.5 * VOXEL, v.depth.shape).astype(np.float32))
             for v in renders[sphere]]  # fmt: skip
    error = distance_to(sphere, fuse(noisy, BOUNDS, RESOLUTION).vertices) / VOXEL
    assert error.mean() < 0.3


def test_bounds_are_of_what_is_seen(renders: dict[Body, list[DepthView]]) -> None:
    low, high = bounds_from_depth(renders[box], CENTRE, 4.0)
    assert (low < CENTRE - HALF).all() and (high > CENTRE + HALF).all()
    assert np.abs(np.stack([CENTRE - low, high - CENTRE]) - HALF).max() < 0.2
    # A far background leaves the box as it is.
    far = [replace(v, depth=np.where(v.opacity > 0, v.depth, 80).astype(np.float32), opacity=np.ones_like(v.opacity))
           for v in renders[box]]  # fmt: skip
    assert np.allclose(bounds_from_depth(far, CENTRE, 4.0), (low, high), atol=0.05)
    with pytest.raises(BadInput, match="no surface"):
        bounds_from_depth([replace(v, opacity=v.opacity * 0) for v in renders[box]], CENTRE, 4.0)
    only_far = [replace(v, depth=v.depth * 0 + 80, opacity=np.ones_like(v.opacity)) for v in renders[box]]
    assert (np.array(bounds_from_depth(only_far, CENTRE, 4.0)[1]) > 20).all()


def test_nothing_there(renders: dict[Body, list[DepthView]]) -> None:
    for views in ([], [replace(v, opacity=v.opacity * 0) for v in renders[sphere]]):
        with pytest.raises(BadInput, match="no surface"):
            fuse(views, BOUNDS, 32)
    with pytest.raises(BadInput, match="resolution"):
        fuse([], BOUNDS, 4)
    with pytest.raises(BadInput, match="no size"):
        fuse([], (BOUNDS[0], BOUNDS[0]), 32)


def test_ply(renders: dict[Body, list[DepthView]], tmp_path: Path) -> None:
    mesh = fuse(renders[sphere], BOUNDS, 32)
    write_ply(mesh, tmp_path / "edit/mesh.ply")
    content = (tmp_path / "edit/mesh.ply").read_bytes()
    assert content.startswith(b"ply\nformat binary_little_endian") and b"property uchar red" in content[:500]
    again = trimesh.load(tmp_path / "edit/mesh.ply", process=False)
    assert np.allclose(again.vertices, mesh.vertices, atol=1e-5) and np.array_equal(again.faces, mesh.faces)
    assert np.array_equal(again.visual.vertex_colors, mesh.visual.vertex_colors)
    assert [path.name for path in (tmp_path / "edit").iterdir()] == ["mesh.ply"]
    with pytest.raises(BadInput, match="cannot be written"):
        write_ply(mesh, tmp_path / "edit/mesh.ply/below.ply")


def test_how_far_views_disagree_is_what_was_added(renders: dict[Body, list[DepthView]]) -> None:
    assert disagreement(renders[sphere], BOUNDS) < 0.5 * VOXEL  # pixels are not exactly above each other
    rng = np.random.default_rng(0)
    for noise in (0.05, 0.1):
        noisy = [replace(v, depth=v.depth + rng.normal(0, noise, v.depth.shape).astype(np.float32))
                 for v in renders[sphere]]  # fmt: skip
        # Half of the differences of two such depths are less than this; points beside the surface add to it.
        assert 0.95 < disagreement(noisy, BOUNDS) / (0.6745 * noise * 2**0.5) < 1.5
    assert disagreement([replace(v, opacity=0 * v.opacity) for v in renders[sphere]], BOUNDS) == 0
