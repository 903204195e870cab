# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain pictures of crumpled surfaces are not believed, and nothing else is doubted."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from test_mesh import BOUNDS, CAMERA, CENTRE, RADIUS, RESOLUTION, cameras, pixel_rays, render, sphere

from engine.output.doubt import crumpled as doubtful_pixels
from engine.output.doubt import skylike
from engine.output.mesh import DepthView, fuse

ALL = np.ones((CAMERA.height, CAMERA.width), bool)
LENGTH = np.linalg.norm(pixel_rays(CAMERA), axis=-1)
PLAIN = np.full((*ALL.shape, 3), (0.5, 0.6, 0.8)) + np.random.default_rng(0).normal(0, 1 / 255, (*ALL.shape, 1))


def wall(slope: float = 0.4) -> np.ndarray:
    """Distances to a plane that is seen from the side, 4 away in the picture's middle."""
    return 4 / (1 + slope * pixel_rays(CAMERA)[..., 0]) * LENGTH


def rough(seed: int, size: float = 0.04) -> np.ndarray:
    """The same as a scene sees it that nothing told where it is."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=ALL.shape), 1.5)
    return wall() * (1 + size * noise / noise.std())


UP = np.array([0.0, 1.0, 0.0])  # of a camera at the world's own pose


def doubtful(depth: np.ndarray, color: np.ndarray, full: np.ndarray, _: object, sine: float = 0.8) -> np.ndarray:
    """By a camera that looks up, unless its sine says otherwise."""
    pose = np.eye(4)
    turn = np.sqrt(1 - sine * sine)
    pose[1:3, 1:3] = [[turn, -sine], [sine, turn]]
    return skylike(DepthView(pose, CAMERA, depth, color, full.astype(float)), UP)


def test_what_is_plain_and_crumpled_is_doubted_and_what_has_either_is_not() -> None:
    stripes = PLAIN + 0.03 * np.sin(np.arange(CAMERA.width))[None, :, None]
    assert doubtful(rough(1), PLAIN, ALL, CAMERA).mean() > 0.99
    for depth, color in ((wall(), PLAIN), (rough(1), stripes), (wall(), stripes), (rough(1, 0.002), PLAIN)):
        assert not doubtful(depth, color, ALL, CAMERA).any()


def test_plain_tiles_among_others_are_not_doubted() -> None:
    rows, columns = np.indices(ALL.shape)
    tiles = np.where(((rows // 18 + columns // 18) % 2 == 0)[..., None], PLAIN, PLAIN / 2)
    assert not doubtful(rough(1), tiles, ALL, CAMERA).any()
    sky = np.where((rows < 50)[..., None], PLAIN, tiles)
    found = doubtful(rough(1), sky, ALL, CAMERA)
    assert found[:44].mean() > 0.99 and not found[54:].any()


def test_below_the_horizon_there_is_no_sky() -> None:
    """A plain floor is kept, however badly it was learned."""
    assert doubtful(rough(1), PLAIN, ALL, CAMERA, sine=0.8).mean() > 0.99
    assert not doubtful(rough(1), PLAIN, ALL, CAMERA, sine=-0.8).any()
    assert doubtful_pixels(rough(1), PLAIN, ALL, CAMERA).mean() > 0.99


def test_a_plain_thing_before_nothing_is_doubted_at_its_outline_at_most() -> None:
    """What is behind it is no surface, whatever its depth says."""
    view = render(sphere, cameras()[3])
    for behind in (0.0, 7.0, np.nan, np.inf):
        depth = np.where(view.full, view.depth, behind)
        found = doubtful(depth, PLAIN, view.full, CAMERA)
        inside = ndimage.distance_transform_edt(view.full) > 7  # pixels
        assert inside.sum() > 500 and not found[inside].any() and not found[~view.full].any()
        thin = view.full & (np.indices(ALL.shape)[1] % 9 < 7)
        assert not doubtful(depth, PLAIN, thin, CAMERA).any()


def test_a_plain_corner_is_doubted_along_its_edge_alone() -> None:
    depth = np.minimum(wall(0.6), wall(-0.6))
    found = doubtful(depth, PLAIN, ALL, CAMERA)
    beside = np.abs(pixel_rays(CAMERA)[..., 0]) * CAMERA.fx > 6  # pixels
    assert not found[beside].any()


def test_nothing_at_all_is_not_doubted() -> None:
    assert not doubtful(np.full(ALL.shape, np.nan), PLAIN, ~ALL, CAMERA).any()


def behind(view: DepthView, height: float = -0.8) -> DepthView:
    """With a plain crumpled sheet behind the ball, which is the same to all views."""
    rays = (pixel_rays(CAMERA) / LENGTH[..., None] * (1, -1, -1)) @ view.pose[:3, :3].T
    at = view.pose[:3, 3] + ((CENTRE[2] + height - view.pose[2, 3]) / rays[..., 2])[..., None] * rays
    bumps = 0.05 * (np.sin(40 * at[..., 0] + 3 * np.sin(31 * at[..., 1])) + np.sin(37 * at[..., 1]))
    depth = (CENTRE[2] + height + bumps - view.pose[2, 3]) / rays[..., 2]
    depth = np.where(view.full, view.depth, depth).astype(np.float32)
    color = np.where(view.full[..., None], view.colour, PLAIN).astype(np.float32)
    return DepthView(view.pose, CAMERA, depth, color, np.ones(ALL.shape, np.float32))


def test_a_plain_sky_that_hangs_crumpled_behind_a_thing_is_not_in_its_mesh() -> None:
    """But for a fringe about the thing's outline, where the pictures are not plain."""
    views = [behind(render(sphere, pose)) for pose in cameras(40) if pose[2, 2] > 0.6]
    counts = []
    for up in (np.array([0.0, 0.0, -1.0]), None):  # the cameras look down onto it, so up is there
        mesh = fuse(views, BOUNDS, RESOLUTION, up=up)
        off = np.abs(np.linalg.norm(mesh.vertices - CENTRE, axis=1) - RADIUS)
        counts.append(((off < 0.05).sum(), (off > 0.05).sum()))
    (ball, sky), (as_before, hung) = counts
    assert ball > 0.98 * as_before > 4000 and hung > as_before and sky < 0.2 * hung
