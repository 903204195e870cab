# SPDX-License-Identifier: GPL-3.0-or-later
"""PatchMatch stereo against planes in closed form, and its cost against a slow obvious one."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from engine.capture import Intrinsics
from engine.geometry import Viewpoint, pixel_directions
from engine.scenes import patch_match
from engine.scenes.patch_match import NOWHERE, Photos, between, camera_matrix, refined
from tests.engine.conftest import looking_at

PINHOLE = Intrinsics(64, 48, 70.0, 72.0, 31.0, 25.0)
NORMAL = np.array([0.5, -0.3, 0.8]) / np.linalg.norm([0.5, -0.3, 0.8])  # of the plane through the origin
ROUNDS = (0.06, 0.02, 0.007)


def views(count: int = 6) -> list[Viewpoint]:
    angles = np.radians(np.linspace(-30, 30, count))
    eyes = [np.array([3.6 * np.sin(a), -1.0 + 0.3 * (k % 2), 3.6 * np.cos(a)]) for k, a in enumerate(angles)]
    return [Viewpoint(looking_at(eye, np.zeros(3)), PINHOLE, f"v{k}") for k, eye in enumerate(eyes)]


def inverse_distance(view: Viewpoint) -> np.ndarray:
    """(H, W) of the plane along the camera's axis."""
    rays = pixel_directions(PINHOLE) @ view.pose[:3, :3].T
    return -(rays @ NORMAL) / (NORMAL @ view.pose[:3, 3])


def photograph(view: Viewpoint, contrast: float = 60.0, finest: float = 9.0) -> np.ndarray:
    """(H, W) gray levels of waves on the plane."""
    rays = pixel_directions(PINHOLE) @ view.pose[:3, :3].T
    places = view.pose[:3, 3] + rays / inverse_distance(view)[..., None]
    random = np.random.default_rng(1)
    waves = random.normal(size=(10, 3))
    waves *= random.uniform(3, finest, (10, 1)) / np.linalg.norm(waves, axis=1, keepdims=True)
    return (128 + contrast / 4 * np.sin(places @ waves.T + random.uniform(0, 6, 10)).sum(axis=-1)).astype(np.float32)


def begun(truth: np.ndarray, off: float = 0.04) -> np.ndarray:
    """Planes that are off by so much at most, and face the camera."""
    random = np.random.default_rng(2)
    planes = np.zeros((*truth.shape, 3), np.float32)
    planes[..., 0] = truth * (1 + random.uniform(-off, off, truth.shape))
    return planes


@pytest.mark.parametrize("contrast", [60.0, 4.0], ids=["strong", "soft"])
def test_a_slanted_plane_is_found_with_its_slant(contrast):
    """Soft: some levels of 255, of which small squares would say nothing."""
    cameras = views()
    photos = Photos(cameras, [np.round(photograph(view, contrast)) for view in cameras])
    truth = inverse_distance(cameras[2])
    planes, costs = refined(photos, 2, [0, 1, 3, 4, 5], begun(truth), ROUNDS)
    inside = np.s_[8:-8, 8:-8]
    off = np.abs(planes[..., 0] / truth - 1)[inside]
    assert np.median(off) < 0.004 and (off < 0.01).mean() > 0.85
    down, right = np.gradient(truth)
    assert np.median(np.abs(planes[..., 1] - right)[inside]) < 0.15 * np.abs(right).mean()
    assert np.median(np.abs(planes[..., 2] - down)[inside]) < 0.15 * np.abs(right).mean() + 0.15 * np.abs(down).mean()
    assert contrast < 10 or np.median(costs[inside]) < 0.1  # rounding is a part of what is soft


def slow_cost(photos: Photos, number: int, others: list[int], y: int, x: int, plane: np.ndarray) -> float:
    """1 − the weighted correlation of a pixel's square with what a plane says shows the same; the mean over photos."""
    gray = np.asarray(photos.grays[number], np.float64)
    small = gray[y - 3 : y + 4, x - 3 : x + 4]
    busy = small.var() > patch_match.BUSY**2
    reach, stride = (patch_match.SMALL, 1) if busy else (patch_match.REACH, patch_match.STRIDE)
    near, alike = (patch_match.SMALL_NEAR, patch_match.SMALL_ALIKE) if busy else (patch_match.NEAR, patch_match.ALIKE)
    steps = np.arange(-reach, reach + 1, stride)
    down, right = (part.ravel() for part in np.meshgrid(steps, steps, indexing="ij"))
    own = gray[y + down, x + right]
    weights = np.exp(-np.abs(own - gray[y, x]) / alike - (down**2 + right**2) / (2 * near**2))
    weights = np.where(weights < patch_match.LEAST, 0, weights)
    inverse = plane[0] + plane[1] * right + plane[2] * down
    rays = np.linalg.inv(camera_matrix(photos.views[number])) @ np.stack([x + right, y + down, np.ones(len(down))])
    costs = []
    for other in others:
        turn, shift = between(photos.views[number], photos.views[other])
        seen = camera_matrix(photos.views[other]) @ (turn @ (rays / inverse) + shift[:, None])
        their = map_coordinates(np.asarray(photos.grays[other], np.float64), [seen[1] / seen[2], seen[0] / seen[2]], order=1)  # noqa: E501  # fmt: skip
        covariance = np.cov(np.stack([own, their]), aweights=weights, ddof=0)
        variances = np.diag(covariance) + patch_match.NOISE
        costs.append(min(1 - covariance[0, 1] / np.sqrt(variances.prod()), float(patch_match.UNLIKE)))
    return float(np.mean(costs))


@pytest.mark.parametrize("contrast", [60.0, 4.0], ids=["small squares", "large squares"])
def test_the_cost_is_a_weighted_correlation(contrast):
    cameras = views()
    photos = Photos(cameras, [photograph(view, contrast) for view in cameras])
    planes, costs = refined(photos, 2, [1, 3], begun(inverse_distance(cameras[2]), 0.01), (0.005,))
    for y, x in ((20, 30), (24, 25), (27, 38), (22, 33)):
        assert costs[y, x] == pytest.approx(slow_cost(photos, 2, [1, 3], y, x, planes[y, x]), abs=2e-3)


def test_it_is_the_same_whatever_the_number_of_threads(monkeypatch):
    cameras = views()
    photos = Photos(cameras, [photograph(view) for view in cameras])
    begin = begun(inverse_distance(cameras[2]))
    made = []
    for threads in (1, 3):
        monkeypatch.setattr(patch_match.numba, "get_num_threads", lambda threads=threads: threads)
        made.append(refined(photos, 2, [0, 1, 3, 4, 5], begin, ROUNDS))
    assert np.array_equal(made[0][0], made[1][0]) and np.array_equal(made[0][1], made[1][1])


def test_what_is_not_shown_is_not_compared():
    """Half of each photo of one thing is hidden behind another's color; what is beside it is found all the same."""
    cameras = views()
    grays = [photograph(view) for view in cameras]
    places = [v.pose[:3, 3] + pixel_directions(PINHOLE) @ v.pose[:3, :3].T / inverse_distance(v)[..., None] for v in cameras]  # noqa: E501  # fmt: skip
    for gray, place in zip(grays, places, strict=True):
        gray[place[..., 0] > 0.1] = NOWHERE
    truth = inverse_distance(cameras[2])
    planes, costs = refined(Photos(cameras, grays), 2, [0, 1, 3, 4, 5], begun(truth), ROUNDS)
    shown = grays[2] != NOWHERE
    assert 0.3 < shown.mean() < 0.7 and (costs[~shown] == patch_match.NOTHING).all()
    beside = shown & (places[2][..., 0] > -0.1)
    beside[:8], beside[-8:] = False, False
    off = np.abs(planes[..., 0] / truth - 1)[beside]
    assert len(off) > 60 and np.median(off) < 0.006


def test_a_ramp_is_alike_at_any_distance_and_waves_are_not():
    cameras = views()
    others = [0, 1, 3, 4, 5]
    rise = []
    for contrast in (60.0, 0.0):
        grays = [photograph(view, contrast) for view in cameras]
        if not contrast:  # a ramp over the plane
            places = [v.pose[:3, 3] + pixel_directions(PINHOLE) @ v.pose[:3, :3].T / inverse_distance(v)[..., None] for v in cameras]  # noqa: E501  # fmt: skip
            grays = [(128 + 60 * place[..., 0]).astype(np.float32) for place in places]
        photos = Photos(cameras, grays)
        planes, costs = refined(photos, 2, others, begun(inverse_distance(cameras[2]), 0.01), ROUNDS)
        rise.append(np.median((patch_match.worse(photos, 2, others, planes, 0.03) - costs)[8:-8, 8:-8]))
    assert rise[0] > 0.05 and rise[1] < 0.005


def test_it_can_be_ended():
    class End(Exception):
        pass

    def check() -> None:
        raise End

    cameras = views()
    photos = Photos(cameras, [photograph(view) for view in cameras])
    with pytest.raises(End):
        refined(photos, 2, [1, 3], begun(inverse_distance(cameras[2])), ROUNDS, check)
