# SPDX-License-Identifier: GPL-3.0-or-later
"""Projection against a pinhole written out, point by point, and readings of a picture against a closed form."""

import math

import numpy as np
import pytest
import torch

from engine.capture import Intrinsics
from engine.geometry import SAME_SURFACE, Viewpoint, pixel_directions, project, sample, seen_from, to_pixels, unproject

from .conftest import ring

LENS = Intrinsics(26, 18, 31.0, 29.0, 11.7, 10.2)  # nothing in it is symmetric


def turned(pose, angle):
    """The pose rolled about its own axis, so that no axis of it is the world's."""
    c, s = math.cos(angle), math.sin(angle)
    roll = np.eye(4)
    roll[:2, :2] = [[c, -s], [s, c]]
    return pose @ roll


CAMERAS = [Viewpoint(turned(pose, 0.3 * k), LENS, f"v{k}") for k, pose in enumerate(ring(9))]


def pinhole(point, camera):
    """(column, row) in pixels and the distance of one point, in plain numbers; the distance negative behind."""
    i, pose = camera.intrinsics, camera.pose
    offset = [point[k] - pose[k, 3] for k in range(3)]
    right, up, back = (sum(pose[k, axis] * offset[k] for k in range(3)) for axis in range(3))
    away = math.sqrt(sum(x * x for x in offset))
    if back >= 0:
        return None, None, -away
    return i.cx + i.fx * right / -back, i.cy - i.fy * up / -back, away


def test_the_ray_of_a_pixel_goes_through_its_centre():
    rays = pixel_directions(LENS)
    assert rays.shape == (18, 26, 3) and rays.dtype == np.float64
    for y, x in ((0, 0), (4, 20), (17, 25)):
        expected = [(x + 0.5 - LENS.cx) / LENS.fx, (LENS.cy - y - 0.5) / LENS.fy, -1.0]
        np.testing.assert_allclose(rays[y, x], expected, rtol=1e-12)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_points_are_seen_where_a_pinhole_sees_them(kind):
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(4, 50, 3, generator=generator, dtype=kind) * 5
    camera = CAMERAS[4]
    place, distance = project(points, camera)
    assert place.shape == (4, 50, 2) and distance.shape == (4, 50) and place.dtype == distance.dtype == kind
    behind = 0
    for index in np.ndindex(4, 50):
        x, y, away = pinhole(points[index].tolist(), camera)
        assert float(distance[index]) == pytest.approx(away, rel=1e-5)
        if away < 0:
            behind += 1
            continue
        expected = (2 * x / LENS.width - 1, 2 * y / LENS.height - 1)
        assert place[index].tolist() == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert 5 < behind < 195


def test_unproject_is_the_inverse_of_project():
    generator = torch.Generator().manual_seed(1)
    depth = torch.rand(18, 26, generator=generator, dtype=torch.float64) * 9 + 0.1
    for camera in CAMERAS[:3]:
        points = unproject(depth, camera)
        assert points.shape == (18, 26, 3)
        place, distance = project(points, camera)
        torch.testing.assert_close(distance, depth)
        y, x = torch.meshgrid(torch.arange(18) + 0.5, torch.arange(26) + 0.5, indexing="ij")
        torch.testing.assert_close((place[..., 0] + 1) / 2 * 26, x.double())
        torch.testing.assert_close((place[..., 1] + 1) / 2 * 18, y.double())
        for row, column in ((0, 0), (9, 3), (17, 25)):  # by the pinhole, not by our own projection
            seen = pinhole(points[row, column].tolist(), camera)
            assert seen == pytest.approx((column + 0.5, row + 0.5, float(depth[row, column])))


def test_pixels_are_the_same_of_arrays_and_of_tensors():
    right, up, ahead = np.random.default_rng(0).uniform(0.5, 2, (3, 20))
    of_arrays = to_pixels(right, up, ahead, LENS)
    of_tensors = to_pixels(*map(torch.from_numpy, (right, up, ahead)), LENS)
    for one, other in zip(of_arrays, of_tensors, strict=True):
        np.testing.assert_allclose(one, other.numpy())
    assert to_pixels(0.0, 0.0, 3.0, LENS) == (LENS.cx, LENS.cy)


@pytest.mark.parametrize("tolerance", [None, 0.2])
@pytest.mark.parametrize("size", [(18, 26), (7, 9)])
def test_what_is_seen_agrees_with_one_point_after_another(size, tolerance):
    """Points of one camera in another, whose own depth map may be of any size; the room is a sphere of radius 6, and
    a part of the other's map says that something stands before it."""
    camera, other = CAMERAS[0], CAMERAS[1]

    def wall(one, height, width):
        lens = one.intrinsics.scaled_to(width, height)
        rays = pixel_directions(lens) @ one.pose[:3, :3].T
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        eye = one.pose[:3, 3]
        along = rays @ eye
        return np.sqrt(along**2 - (eye @ eye - 36)) - along

    depth = wall(other, *size)
    depth[:, : size[1] // 3] *= 0.5
    points = unproject(torch.from_numpy(wall(camera, 18, 26)), camera)
    behind = 2 * torch.from_numpy(other.pose[:3, 3]) - points
    points = torch.cat([points, points * 1.15, points * 0.9, behind])
    given = {} if tolerance is None else {"tolerance": tolerance}
    place, known = seen_from(points, other, torch.from_numpy(depth), **given)
    allowed = SAME_SURFACE if tolerance is None else tolerance
    torch.testing.assert_close(place, project(points, other)[0])
    assert known.shape == points.shape[:-1] and known.dtype == torch.bool
    expected = torch.zeros_like(known)
    for index in np.ndindex(*known.shape):
        x, y, away = pinhole(points[index].tolist(), other)
        if away > 0 and 0 < x < LENS.width and 0 < y < LENS.height:
            row, column = int(y / LENS.height * size[0]), int(x / LENS.width * size[1])
            expected[index] = bool(abs(depth[row, column] - away) < allowed * away)
    assert torch.equal(known, expected)
    assert 100 < int(known.sum()) < known.numel() - 100


def test_readings_are_linear_between_pixels_and_the_borders_beyond():
    """Of a ramp, whose values between pixels are a closed form; the outermost half pixel and beyond is the border's."""
    y, x = torch.meshgrid(torch.arange(18) + 0.5, torch.arange(26) + 0.5, indexing="ij")
    picture = torch.stack([2 * x + 3 * y, -x, y * 0.1 + 1, x * y], dim=-1).double()
    place = torch.rand(5, 40, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 2.4 - 1.2
    values = sample(picture, place)
    assert values.shape == (5, 40, 4)
    column = ((place[..., 0] + 1) * 13).clamp(0.5, 25.5)
    row = ((place[..., 1] + 1) * 9).clamp(0.5, 17.5)
    expected = torch.stack([2 * column + 3 * row, -column, row * 0.1 + 1, row * column], dim=-1)  # x·y is bilinear too
    torch.testing.assert_close(values, expected)

    nearest = sample(picture, place, "nearest")
    rows, columns = row.floor().long().clamp(max=17), column.floor().long().clamp(max=25)
    torch.testing.assert_close(nearest, picture[rows, columns])
