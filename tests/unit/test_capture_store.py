# SPDX-License-Identifier: GPL-3.0-or-later
"""A saved capture opens as it was, or with a sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from capture_on_disk import photo, transforms, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.capture import CaptureError, load_capture, open_capture, save_capture, write_images
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
     {"view": {"intrinsics": {"width": 1, "height": 1, "fx": -1, "fy": 1, "cx": 0, "cy": 0}}},
     {"view": {"intrinsics": {"width": 90_000, "height": 90_000, "fx": 9e4, "fy": 9e4, "cx": 4e4, "cy": 4e4}}},
     {"view": {"intrinsics": {"width": 64, "height": 48, "fx": 1e308, "fy": 50, "cx": 32, "cy": 24}}},
     {"view": {"intrinsics": {"width": 64, "height": 48, "fx": 50, "fy": 50, "cx": -1e9, "cy": 24}}},
     {"view": {"pose": [1.0] * 17}}, {"view": {"pose": [1e308] * 16}}, {"view": {"pose": "[]"}},
     {"view": {"name": "x" * 300, "image": "x" * 300 + ".png"}}, {"view": {"name": "a\u0000", "image": "a\u0000.png"}},
     {"view": {"name": "\ud800", "image": "\ud800.png"}}, {"view": {"mask": "../mask.png"}},
     {"gravity_up": [0, 0, 0]}, {"gravity_up": [1e308, 0, 0]}, {"origin": [1e308, 0, 0, 0]}, {"points": -1},
     {"masks": "all"}, {"hidden": {"masks": "maybe"}}],
)  # fmt: skip
def test_nothing_in_it_is_trusted(saved: Path, change: dict[str, Any]) -> None:
    saved.write_text(json.dumps(_changed(json.loads(saved.read_text()), **change)))
    with pytest.raises(CaptureError, match="damaged") as caught:
        load_capture(saved)
    assert caught.value.file == str(saved)


@pytest.mark.parametrize(
    "source",
    [{"width": 30_000, "height": 30_000}, {"width": 10**9}, {"lens": {"fx": 1e308}}, {"lens": {"cx": 1e308}},
     {"lens": {"params": [1e308] * 8}}, {"lens": {"params": []}}, {"lens": {"model": "MAGIC"}}, {"turned": "yes"}],
)  # fmt: skip
def test_cameras_that_cannot_be(saved: Path, source: dict[str, Any]) -> None:
    content = json.loads(saved.read_text())
    there = content["views"][0]["source"]
    content["views"][0]["source"] = there | source | {"lens": there["lens"] | source.get("lens", {})}
    saved.write_text(json.dumps(content))
    with pytest.raises(CaptureError, match="damaged"):
        load_capture(saved)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-1e999"])
def test_numbers_that_json_does_not_have(saved: Path, number: str) -> None:
    content = json.loads(saved.read_text())
    content["views"][0]["pose"][3] = 12345.5
    saved.write_text(json.dumps(content).replace("12345.5", number))
    with pytest.raises(CaptureError, match="damaged"):
        load_capture(saved)


def test_a_photo_outside_the_root_is_not_read(saved: Path) -> None:
    photo(saved.parent.parent / "secret.png")
    content = json.loads(saved.read_text())
    content["views"][0]["source"]["file"] = "../secret.png"
    saved.write_text(json.dumps(content))
    with pytest.raises(CaptureError, match="outside"):
        write_images(load_capture(saved), saved.parent / "images")


def test_a_pipe_is_not_waited_for(saved: Path) -> None:
    saved.unlink()
    os.mkfifo(saved)
    with pytest.raises(CaptureError, match="pipe"):
        load_capture(saved)


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
