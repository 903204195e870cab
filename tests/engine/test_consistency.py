# SPDX-License-Identifier: GPL-3.0-or-later
"""Warping by depth on a sphere in a room, whose colours and depths are closed forms; CLIP's formulas by hand."""

import math

import numpy as np
import pytest
import torch

from engine.capture import Intrinsics
from engine.geometry import Viewpoint, unproject, warp
from engine.metrics.clip import direction_consistency, direction_similarity
from engine.metrics.consistency import warping_error

from .conftest import ring, sphere_picture

CAMERA = Intrinsics(96, 80, 120.0, 124.0, 44.0, 42.0)


def sphere_depth(pose, intrinsics, radius=1.5, room=6.0):
    """(H, W) distance along the ray to the sphere, or to the wall behind it."""
    x = (np.arange(intrinsics.width) + 0.5 - intrinsics.cx) / intrinsics.fx
    y = -(np.arange(intrinsics.height) + 0.5 - intrinsics.cy) / intrinsics.fy
    rays = np.stack([*np.meshgrid(x, y), -np.ones((intrinsics.height, intrinsics.width))], axis=-1) @ pose[:3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    eye = pose[:3, 3]
    along = rays @ eye
    root = along**2 - (eye @ eye - radius**2)
    wall = np.sqrt(along**2 - (eye @ eye - room**2)) - along
    return torch.from_numpy(np.where(root > 0, -np.sqrt(np.maximum(root, 0)) - along, wall)).float()


@pytest.fixture(scope="module")
def frames():
    poses = ring(90)[:6]  # four degrees apart
    pictures = [torch.from_numpy(sphere_picture(pose, CAMERA)).float() / 255 for pose in poses]
    cameras = [Viewpoint(pose, CAMERA) for pose in poses]
    return cameras, pictures, [sphere_depth(pose, CAMERA) for pose in poses]


def test_points_lie_on_the_surfaces(frames):
    cameras, _, depths = frames
    distance = unproject(depths[2], cameras[2]).norm(dim=-1)
    near = (distance - 1.5).abs() < 1e-4
    assert 0.2 < near.float().mean() < 0.9
    torch.testing.assert_close(distance[~near], torch.full_like(distance[~near], 6.0), atol=1e-4, rtol=0)


def test_a_neighbour_warped_is_the_picture_itself(frames):
    cameras, pictures, depths = frames
    warped = warp(depths[0], cameras[0], pictures[1], depths[1], cameras[1])
    assert 0.7 < warped.known.float().mean() < 1
    assert (warped.rgb - pictures[0])[warped.known].abs().mean() < 0.01
    # What the neighbour cannot see, behind the sphere's edge, is not compared.
    hidden = ~warped.known[10:-10, 10:-10]
    assert hidden.any() and (warped.rgb - pictures[0])[10:-10, 10:-10][hidden].abs().mean() > 0.05


def test_the_error_is_that_of_what_changes_between_the_pictures(frames):
    cameras, pictures, depths = frames
    own = warping_error(pictures, depths, cameras)
    assert own < 0.03
    flicker = [p + (0.1 if k % 2 else -0.1) for k, p in enumerate(pictures)]
    assert warping_error(flicker, depths, cameras) == pytest.approx(0.2, rel=0.02)
    shifted = [p + 0.3 for p in pictures]  # the same change in all pictures is consistent
    assert warping_error(shifted, depths, cameras) == pytest.approx(own, rel=1e-3)
    stuck = [pictures[0]] * len(pictures)  # a picture that does not follow the camera is not
    assert warping_error(stuck, depths, cameras) > 3 * own


def test_cameras_that_see_nothing_in_common(frames):
    cameras, pictures, depths = frames
    away = Viewpoint(cameras[1].pose @ np.diag([-1.0, 1, -1, 1]), CAMERA)
    assert math.isnan(warping_error(pictures[:2], depths[:2], [cameras[0], away]))


def test_clip_directions():
    original = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    edited = original + torch.tensor([0.0, 0, 2])
    same = direction_similarity(original, edited, torch.tensor([1.0, 1, 0]), torch.tensor([1.0, 1, 5]))
    torch.testing.assert_close(same, torch.ones(3))
    torch.testing.assert_close(direction_consistency(original, edited), torch.ones(2))
    torch.testing.assert_close(direction_consistency(original, -edited), -torch.ones(2))
