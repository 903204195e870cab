# SPDX-License-Identifier: GPL-3.0-or-later
"""Lenses against OpenCV and COLMAP, and the pinhole camera that comes of them."""

from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pycolmap
import pytest
from capture_on_disk import SHARED, shared
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from engine.capture.lens import COLMAP_MODELS, Lens
from engine.capture.pinhole import WIDEST, NoPinhole, is_cropped, pinhole_for, rays_of, seen_rectangle


@pytest.mark.parametrize("model", COLMAP_MODELS)
def test_projects_where_colmap_itself_does(model: str) -> None:
    rng = np.random.default_rng(5)
    usual = {"f": 500, "fx": 500, "fy": 510, "cx": 322, "cy": 238}
    for _ in range(50):
        strange = {
            "omega": rng.choice([rng.uniform(1e-5, 1e-2), rng.uniform(1e-2, 1.2)]),
            "alpha": rng.uniform(0.1, 0.9),
            "beta": rng.uniform(0.5, 1.5),
            "k": rng.uniform(-0.2, 0.1),
        }
        names = COLMAP_MODELS[model][1].split()
        params = [(usual | strange).get(name, rng.uniform(-0.05, 0.05)) for name in names]
        camera = pycolmap.Camera(model=model, width=640, height=480, params=params)
        points = np.concatenate([rng.uniform(-1, 1, (40, 2)), np.ones((40, 1))], axis=1) * rng.uniform(0.5, 3, (40, 1))
        points[0, :2], points[1, :2] = 0, 1e-9  # on the axis, and as good as on it
        assert np.abs(Lens.from_colmap(model, params).project(points) - camera.img_from_cam(points)).max() < 1e-8


def test_every_camera_model_of_colmap_is_known() -> None:
    for name in pycolmap.CameraModelId.__members__:
        if name == "INVALID":
            continue
        if name == "EQUIRECTANGULAR":
            with pytest.raises(ValueError):
                Lens.from_colmap(name, [640, 480])
            continue
        camera = pycolmap.Camera.create_from_model_name(1, name, 500, 640, 480)
        assert len(COLMAP_MODELS[name][1].split()) == len(camera.params)
        # What COLMAP starts with is a camera, too: parameters in their order.
        assert np.allclose(Lens.from_colmap(name, camera.params).project(np.array([[0.0, 0, 1]])), [[320, 240]])
    assert Lens.from_colmap("FOV", [400, 405, 322, 238, 0.0]).project(np.array([[0.1, 0.2, 1]])) == pytest.approx(
        np.array([[362, 319]])
    )


@pytest.mark.parametrize("model", sorted(p.name for p in (SHARED / "fixtures/colmap").glob("*")))
def test_projects_the_fixtures_points_where_colmap_did(model: str) -> None:
    given_ = json.loads((shared("fixtures/colmap") / model / "expected_projections.json").read_text())
    lens = Lens.from_colmap(model, given_["params"])
    points = [point for image in given_["images"] for point in image["points"]]
    ours = lens.project(np.array([point["cam_xyz"] for point in points]))
    assert len(points) > 10
    assert np.abs(ours - np.array([point["uv_colmap"] for point in points])).max() < 1e-6


small = st.floats(-0.05, 0.05)
plane = st.lists(st.tuples(st.floats(-0.9, 0.9), st.floats(-0.9, 0.9)), min_size=1, max_size=20)


@given(st.tuples(*[small] * 8), plane)
def test_opencv_as_opencv_has_it(params: tuple[float, ...], points: list[tuple[float, float]]) -> None:
    rays = np.array([(x, y, 1.0) for x, y in points]) * 2.5
    lens = Lens("OPENCV", 500, 510, 320.5, 240, params)
    # OpenCV counts from the centre of the first pixel.
    matrix = np.array([[500, 0, 320.0], [0, 510, 239.5], [0, 0, 1]])
    theirs = cv2.projectPoints(rays[:, None], np.zeros(3), np.zeros(3), matrix, np.array(params))[0][:, 0]
    assert np.abs(lens.project(rays) - (theirs + 0.5)).max() < 1e-8


@given(st.tuples(*[small] * 4), plane)
def test_fisheye_as_opencv_has_it(params: tuple[float, ...], points: list[tuple[float, float]]) -> None:
    rays = np.array([(x, y, 1.0) for x, y in points]) * 0.7
    lens = Lens("OPENCV_FISHEYE", 500, 510, 320.5, 240, params)
    matrix = np.array([[500, 0, 320.0], [0, 510, 239.5], [0, 0, 1]])
    theirs = cv2.fisheye.projectPoints(rays[:, None], np.zeros(3), np.zeros(3), matrix, np.array(params))[0][:, 0]
    assert np.abs(lens.project(rays) - (theirs + 0.5)).max() < 1e-6


def test_behind_the_camera_is_nowhere() -> None:
    for model, count in (("PINHOLE", 0), ("OPENCV", 8), ("OPENCV_FISHEYE", 4)):
        pixels = Lens(model, 1, 1, 0, 0, (0.01,) * count).project(np.array([[1.0, 1, -1], [1, 1, 0], [0, 0, 1]]))
        assert np.isnan(pixels[:2]).all() and np.allclose(pixels[2], 0)


def test_scaled_is_the_resized_picture() -> None:
    lens = Lens("OPENCV", 500, 510, 322, 238, (-0.1, 0.03, 0.002, -0.001, 0, 0, 0, 0))
    points = np.array([[0.3, -0.2, 1.0], [-0.1, 0.25, 1.0]])
    assert np.allclose(lens.scaled(0.5, 0.25).project(points), lens.project(points) * (0.5, 0.25))


def test_without_distortion_nothing_is_lost() -> None:
    lens = Lens("PINHOLE", 1000, 1100, 700, 500)
    intrinsics = pinhole_for(lens, 1080, 1920, 240)
    assert (intrinsics.width, intrinsics.height) == (135, 240)
    assert np.allclose(
        (intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy), np.array([1000, 1100, 700, 500]) / 8
    )


def test_never_enlarged_and_cut_evenly() -> None:
    lens = Lens("PINHOLE", 80, 80, 50, 30)
    assert pinhole_for(lens, 100, 60, 512).width == 100
    cut = pinhole_for(lens, 100, 61, 50)  # 50 × 30.5: a quarter of a pixel above and below
    assert (cut.width, cut.height) == (50, 30) and math.isclose(cut.cy, 15 - 0.25) and cut.fx == cut.fy == 40


lenses = st.one_of(
    st.builds(
        lambda fx, fy, cx, cy, k1, k2, p1, p2, k3: Lens("OPENCV", fx, fy, cx, cy, (k1, k2, p1, p2, k3, 0.0, 0.0, 0.0)),
        *[st.floats(250, 1500)] * 2, st.floats(250, 400), st.floats(180, 300),
        *[st.floats(-0.3, 0.3)] * 2, *[st.floats(-0.01, 0.01)] * 2, st.floats(-0.1, 0.1),
    ),
    st.builds(
        lambda fx, fy, cx, cy, params: Lens("OPENCV_FISHEYE", fx, fy, cx, cy, params),
        *[st.floats(150, 900)] * 2, st.floats(250, 400), st.floats(180, 300), st.tuples(*[st.floats(-0.1, 0.1)] * 4),
    ),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(lenses)
# Nearly folded in a corner, where differences from one of 97 places to the next are too coarse to tell.
@example(Lens("OPENCV", 250, 250, 250, 180, (-0.298828125, 0.04045, 0.001953125, -0.001953125, 0, 0, 0, 0)))
# Folded in the very corner, outward alone.
@example(
    Lens(
        "OPENCV_FISHEYE",
        284.09765625,
        820.125,
        363.3046875,
        284.125,
        (-0.0383383, -0.09498353, 0.00015404, -0.09498353),
    )
)
def test_largest_picture_without_empty_pixels(lens: Lens) -> None:
    width, height = 640, 480
    try:
        left, top, right, bottom = seen_rectangle(lens, width, height)
    except NoPinhole:
        assume(False)
    x, y = np.meshgrid(np.linspace(left, right, 97), np.linspace(top, bottom, 97))
    rays = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=1)
    at, right_of, below = (lens.project(rays + shift) for shift in ((0, 0, 0), (1e-6, 0, 0), (0, 1e-6, 0)))
    assert (at > -0.01).all() and (at < (width + 0.01, height + 0.01)).all(), "an empty pixel"
    # Nowhere does the picture run backwards, as a polynomial beyond its range would have it.
    across, down = right_of - at, below - at
    assert (across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0] > 0).all(), "folded"
    assert max(-left, right, -top, bottom) <= math.tan(WIDEST) + 1e-9


def test_no_side_could_be_further_out() -> None:
    for params in ((-0.2, 0.05, 0.001, 0.002), (0.06, -0.08, -0.001, 0.0002)):
        lens = Lens("OPENCV", 600, 590, 330, 230, (*params, 0.0, 0.0, 0.0, 0.0))
        sides = np.array(seen_rectangle(lens, 640, 480))
        for side, outward in enumerate((-1, -1, 1, 1)):
            wider = sides.copy()
            wider[side] += outward * 0.5 / 600  # half a pixel
            edge = np.linspace(0, 1, 500)
            x, y = wider[0] + edge * (wider[2] - wider[0]), wider[1] + edge * (wider[3] - wider[1])
            border = [(x, np.full(500, wider[1])), (x, np.full(500, wider[3])), (np.full(500, wider[0]), y),
                      (np.full(500, wider[2]), y)]  # fmt: skip
            at = np.concatenate([lens.project(np.stack([u, v, np.ones(500)], axis=1)) for u, v in border])
            assert (at < 0).any() or (at > (640, 480)).any()


def test_wide_fisheye_is_cropped_and_strange_ones_refused() -> None:
    fisheye = Lens("OPENCV_FISHEYE", 200, 200, 320, 240, (0.0,) * 4)  # 184 degrees across
    assert is_cropped(fisheye, 640, 480)
    wide = pinhole_for(fisheye, 640, 480, 512)
    assert math.isclose(wide.cx / wide.fx, math.tan(WIDEST), rel_tol=0.01)
    assert not is_cropped(Lens("OPENCV_FISHEYE", 600, 600, 320, 240, (0.0,) * 4), 640, 480)
    with pytest.raises(NoPinhole, match="outside the picture"):
        pinhole_for(Lens("OPENCV", 500, 500, -10, 240, (0.1,) + (0.0,) * 7), 640, 480, 512)
    with pytest.raises(ValueError):
        Lens("OPENCV", 500, 500, 320, 240, (0.1,))


def test_rays_of_are_pixels_again() -> None:
    intrinsics = pinhole_for(Lens("PINHOLE", 500, 510, 322, 238), 640, 480, 320)
    pixels = np.array([[0.5, 0.5], [100, 70]])
    points = rays_of(intrinsics, pixels) * 3
    again = points @ intrinsics.matrix().T
    assert np.allclose(again[:, :2] / again[:, 2:], pixels)
