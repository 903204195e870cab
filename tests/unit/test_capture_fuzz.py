# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever stands in a transforms.json, it opens or it gets a sentence, soon."""

from __future__ import annotations

import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from capture_on_disk import transforms, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.capture import CaptureError, open_capture

KEYS = ["w", "h", "fl_x", "fl_y", "cx", "cy", "k1", "k2", "k3", "k4", "k5", "p1", "camera_angle_x", "camera_angle_y",
        "x_fov", "camera_model", "is_fisheye", "distortion_params", "frames", "file_path", "transform_matrix",
        "applied_transform", "applied_scale", "equirectangular", "anything"]  # fmt: skip
STRANGE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-3, 5000), st.floats(), st.floats(-2, 2), st.text(max_size=8),
    st.sampled_from([10**400, 1e308, -0.0, 1e-320, "images/0.png", "..", "/", "", "images", "\0", "C:\\a", "~", "con",
                     "OPENCV", "OPENCV_FISHEYE", "images/" + "x" * 300, math.nan, math.inf]),
    st.recursive(st.floats() | st.none(), lambda inner: st.lists(inner, max_size=5), max_leaves=20),
    st.dictionaries(st.sampled_from(KEYS), st.floats(), max_size=3),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("capture"), transforms(3))


def _places(meta: dict[str, Any]) -> list[tuple[Any, Any]]:
    frames = meta["frames"]
    matrix = frames[0]["transform_matrix"]
    return [(meta, key) for key in KEYS] + [(frame, key) for frame in frames[:2] for key in KEYS] + [
        (matrix, 0), (matrix, 3), (matrix[0], 0), (matrix[1], 3), (frames, 0), (frames, 2)]  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 200), STRANGE), min_size=1, max_size=4))
def test_strange_values(folder: Path, changes: list[tuple[int, Any]]) -> None:
    meta = copy.deepcopy(transforms(3))
    places = _places(meta)
    for index, value in changes:
        where, key = places[index % len(places)]
        where[key] = value
    (folder / "transforms.json").write_text(json.dumps(meta))
    _opens_or_says_why(folder)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.integers(0, 30), st.binary(max_size=6))
def test_damaged_text(folder: Path, at: int, lost: int, put: bytes) -> None:
    whole = json.dumps(transforms(3)).encode()
    at %= len(whole)
    (folder / "transforms.json").write_bytes(whole[:at] + put + whole[at + lost :])
    _opens_or_says_why(folder)


def _opens_or_says_why(folder: Path) -> None:
    began = time.thread_time()
    try:
        capture = open_capture(folder, 32)
    except CaptureError as problem:
        assert problem.message and len(problem.message) < 1000 and problem.file
    else:
        assert capture.views and all(left.reason for left in capture.left_out)
        for view in capture.views:
            camera = view.intrinsics
            assert np.isfinite(view.pose).all() and 1 <= camera.width <= 32 and 1 <= camera.height <= 32
            assert all(map(math.isfinite, (camera.fx, camera.fy, camera.cx, camera.cy)))
        assert np.isfinite(capture.centre).all() and np.isfinite(capture.up).all() and capture.radius > 0
    assert time.thread_time() - began < 1
