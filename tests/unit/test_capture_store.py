# SPDX-License-Identifier: GPL-3.0-or-later
"""A saved capture opens as it was, or with a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from capture_on_disk import photo, transforms, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.capture import CaptureError, load_capture, open_capture, save_capture
from engine.errors import BadInput


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    meta = transforms(9, k1=0.05)
    meta["frames"][4]["file_path"] = "images/missing"
    folder = write(tmp_path / "capture", meta, pictures=False)
    for index in (0, 1, 2, 3, 5, 6, 7, 8):
        photo(folder / f"images/{index}.png")
    capture = open_capture(folder, 40)
    save_capture(capture, tmp_path / "project/capture.json")
    return tmp_path / "project/capture.json"


def test_round_trip(saved: Path) -> None:
    capture = open_capture(saved.parent.parent / "capture", 40)
    again = load_capture(saved)
    for ours, theirs in zip(capture.views, again.views, strict=True):
        assert np.array_equal(ours.pose, theirs.pose)
        assert (ours.name, ours.image, ours.intrinsics, ours.held_out) == (
            theirs.name, theirs.image, theirs.intrinsics, theirs.held_out)  # fmt: skip
    for name in ("source", "root", "format", "sources", "left_out", "notes", "background"):
        assert getattr(capture, name) == getattr(again, name)
    assert [path.name for path in saved.parent.iterdir()] == ["capture.json"]


def _changed(saved: dict[str, Any], view: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    return saved | values | ({"views": [saved["views"][0] | view]} if view else {})


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"views": []}, {"background": [0, 0, 256]}, {"extra": 1}, {"source": 3},
     {"view": {"name": "../a"}}, {"view": {"name": ""}}, {"view": {"image": "b.png"}}, {"view": {"pose": [0.0] * 16}},
     {"view": {"pose": [1.0]}}, {"view": {"held_out": 1}}, {"view": {"intrinsics": {}}},
     {"view": {"intrinsics": {"width": 0, "height": 1, "fx": 1, "fy": 1, "cx": 0, "cy": 0}}},
     {"view": {"intrinsics": {"width": 1, "height": 1, "fx": -1, "fy": 1, "cx": 0, "cy": 0}}}],
)  # fmt: skip
def test_nothing_in_it_is_trusted(saved: Path, change: dict[str, Any]) -> None:
    saved.write_text(json.dumps(_changed(json.loads(saved.read_text()), **change)))
    with pytest.raises(CaptureError, match="damaged") as caught:
        load_capture(saved)
    assert caught.value.file == str(saved)


def test_twice_the_same_name(saved: Path) -> None:
    content = json.loads(saved.read_text())
    content["views"][1] = content["views"][0]
    saved.write_text(json.dumps(content))
    with pytest.raises(CaptureError, match="same name"):
        load_capture(saved)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.binary(max_size=4))
def test_damaged_files_get_a_sentence(saved: Path, at: int, put: bytes) -> None:
    whole = saved.read_bytes()
    at %= len(whole)
    damaged = saved.with_name("damaged.json")
    damaged.write_bytes(whole[:at] + put + whole[at + len(put) + 1 :])
    try:
        load_capture(damaged)
    except CaptureError as problem:
        assert "damaged.json" in problem.message


def test_places_that_do_not_work(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(CaptureError, match="cannot be read"):
        load_capture(tmp_path / "nothing.json")
    with pytest.raises(BadInput, match="cannot be written"):
        save_capture(load_capture(saved), saved / "below-a-file.json")
