# SPDX-License-Identifier: GPL-3.0-or-later
"""What an instruction is about, agreed by all views: against all that views say, cell by cell, of a scene that is a
closed form, a sphere in a round room."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from engine.capture import Intrinsics
from engine.edit.agreement import agreed_relevance
from engine.geometry import Viewpoint
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.scene import NerfactoScene

from .conftest import ring

LENS = Intrinsics(48, 36, 55.0, 57.0, 23.0, 18.5)
HEIGHT, WIDTH = 18, 24  # of a map
VIEWS, RADIUS, ROOM = 12, 1.5, 9.0


class Sphere:
    """Answers as a NeRF that has learned the scene: how far a ray goes till the sphere or the room. The NeRF's frame is
    smaller than the capture's by ``scale``, about the same middle."""

    training = True
    background = None

    def __init__(self, scale):
        self.scale = scale

    def parameters(self):
        return iter([torch.zeros(1)])

    def eval(self):
        self.training = False

    def train(self, mode):
        self.training = mode

    def __call__(self, rays):
        assert not self.training
        depth = self.scale * depth_of(rays.origins.numpy() / self.scale, rays.directions.numpy())
        depth = torch.from_numpy(depth).float()
        return SimpleNamespace(rgb=depth.expand(-1, 3), depth=depth, opacity=torch.ones_like(depth))


def depth_of(origins, directions):
    """(R, 1) distances of rays (R, 3), of unit length."""
    middle = (origins * directions).sum(-1)
    inside = np.square(middle) - (np.square(origins).sum(-1) - RADIUS**2)
    outer = np.square(middle) - (np.square(origins).sum(-1) - ROOM**2)
    hit = inside > 0
    near = -middle - np.sqrt(np.where(hit, inside, 0))
    return np.where(hit, near, -middle + np.sqrt(outer))[:, None]


def truth(points):
    """What the instruction is about: more of what is higher. (P, 3) → (P,)."""
    return 1 / (1 + np.exp(-points[..., 2] / 2))


TOP = truth(np.array([0.0, 0.0, ROOM]))  # the most of any surface


@pytest.fixture(scope="module")
def scene():
    """(poses, cameras, a scene that has learned them)."""
    poses = ring(VIEWS)
    frame = NerfFrame.around(poses, np.zeros(3))
    scale = float(np.linalg.norm(frame.nerf_from_capture(poses)[0, :3, 3]) / np.linalg.norm(poses[0, :3, 3]))
    assert scale < 0.9  # the frames differ
    return poses, [Viewpoint(pose, LENS) for pose in poses], NerfactoScene(Sphere(scale), frame)


def cells(pose):
    """Origins and unit directions (h·w, 3) of the rays through a map's cells, in the capture frame."""
    x = ((np.arange(WIDTH) + 0.5) * LENS.width / WIDTH - LENS.cx) / LENS.fx
    y = -((np.arange(HEIGHT) + 0.5) * LENS.height / HEIGHT - LENS.cy) / LENS.fy
    rays = np.stack([*np.meshgrid(x, y), -np.ones((HEIGHT, WIDTH))], axis=-1).reshape(-1, 3) @ pose[:3, :3].T
    return np.repeat(pose[None, :3, 3], len(rays), 0), rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def test_what_one_view_takes_for_the_subject_and_the_others_do_not_is_left_alone(scene):
    """Every view is right but for what lies left of the middle of its picture, which it takes for the subject too."""
    poses, cameras, learned = scene
    exact, maps = [], []
    for pose in poses:
        origins, directions = cells(pose)
        own = truth(origins + directions * depth_of(origins, directions)).reshape(HEIGHT, WIDTH)
        exact.append(own / TOP)
        wrong = own.copy()
        wrong[:, : WIDTH // 2] = 1.0
        maps.append(torch.from_numpy(wrong / TOP).float()[None, None])
    agreed = agreed_relevance(maps, learned, cameras)
    assert learned.nerf.training  # as it was
    assert all(a.shape == m.shape for a, m in zip(agreed, maps, strict=True))
    before, after = (
        np.mean([np.abs(m[0, 0].numpy() - e).mean() for m, e in zip(some, exact, strict=True)])
        for some in (maps, agreed)
    )
    assert after < 0.35 * before


def test_all_but_a_few_of_the_views_that_see_the_surface_say_as_much(scene):
    """Maps of one value each, so that nothing is read between cells; against one cell after another."""
    poses, cameras, learned = scene
    values = np.linspace(0.1, 0.9, VIEWS)
    maps = [torch.full((1, 1, HEIGHT, WIDTH), float(v)) for v in values]
    agreed = agreed_relevance(maps, learned, cameras)
    depths = [depth_of(*cells(pose)).reshape(HEIGHT, WIDTH) for pose in poses]
    counts, expected = set(), []
    for pose in poses:
        origins, directions = cells(pose)
        for point in origins + directions * depth_of(origins, directions):
            seen = []
            for other, value, depth in zip(poses, values, depths, strict=True):
                local = np.linalg.inv(other) @ [*point, 1.0]
                column = (LENS.fx * local[0] / -local[2] + LENS.cx) / LENS.width * WIDTH
                row = (LENS.cy - LENS.fy * local[1] / -local[2]) / LENS.height * HEIGHT
                if local[2] < 0 and 0 < column < WIDTH and 0 < row < HEIGHT:
                    away = np.linalg.norm(local[:3])
                    if abs(depth[int(row), int(column)] - away) < 0.05 * away:
                        seen.append(value)
            counts.add(len(seen))
            expected.append(np.quantile(seen, 0.15))
    expected = np.minimum(np.array(expected) / np.quantile(expected, 0.98), 1)  # 1 where most
    np.testing.assert_allclose(torch.cat(agreed).flatten(), expected, atol=2e-4)
    assert len(counts) > 3  # of some surfaces few views know, of others many


def test_a_view_that_nobody_shares_keeps_its_own(scene):
    _, cameras, learned = scene
    mine = torch.rand(1, 1, HEIGHT, WIDTH)
    (own,) = agreed_relevance([mine], learned, cameras[:1])
    torch.testing.assert_close(own, (mine / mine.quantile(0.98)).clamp(max=1), atol=1e-3, rtol=0)
