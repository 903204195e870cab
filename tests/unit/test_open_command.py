# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m engine open`: what people and programs are told of a capture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from capture_on_disk import ring, transforms, write
from capture_writers import meshroom, write_ring

ROOT = Path(__file__).parents[2]


def run(*arguments: object) -> subprocess.CompletedProcess:
    environment = os.environ | {"COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "engine", "open", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)


def test_json_for_programs(tmp_path: Path) -> None:
    meshroom(tmp_path, ring(9))
    (tmp_path / "images/004.png").unlink()
    found = json.loads(run(tmp_path, "--json", "--long-side", 32).stdout)
    assert found["format"] == "Meshroom cameras.sfm" and found["sparse_points"] == 1
    assert len(found["views"]) == 8 and [view["held_out"] for view in found["views"]] == [False] * 7 + [True]
    assert np.allclose(found["views"][1]["pose"], ring(9)[1]) and found["views"][1]["file"] == "images/001.png"
    (camera,) = found["cameras"]
    assert (camera["model"], camera["width"], camera["height"], camera["views"]) == ("OPENCV", 64, 48, 8)
    assert "004.png" in found["left_out"][0]["reason"]
    positions = np.array([pose[:3, 3] for index, pose in enumerate(ring(9)) if index != 4] + [[0.5, 0, -1]])
    assert np.allclose(found["bounding_size"], np.ptp(positions, axis=0))


def test_table_for_people(tmp_path: Path) -> None:
    meta = transforms(4)
    meta["frames"][3]["file_path"] = "images/[red]none.png"
    write(tmp_path, meta, pictures=False)
    write_ring("LLFF", tmp_path, 3)  # makes the pictures 000, 001, 002; transforms.json is read
    for index in range(3):
        (tmp_path / f"images/{index:03d}.png").rename(tmp_path / f"images/{index}.png")
    said = run(tmp_path).stdout
    for part in ("transforms.json", "PINHOLE", "64 × 48", "3, 0 of them", "none", "[red]none.png: The picture"):
        assert part in said


def test_bad_input_is_one_sentence_and_status_2(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 2 and "is empty" in done.stderr and "Traceback" not in done.stderr
    assert not done.stdout and list(tmp_path.iterdir()) == []


def test_pictures_that_cannot_be_decoded_are_left_out_when_they_are_made(tmp_path: Path) -> None:
    write(tmp_path / "capture", transforms(3))
    whole = (tmp_path / "capture/images/1.png").read_bytes()
    (tmp_path / "capture/images/1.png").write_bytes(whole[: len(whole) // 2])
    done = run(tmp_path / "capture", "--workspace", tmp_path / "project", "--json")
    found = json.loads(done.stdout)
    assert [view["name"] for view in found["views"]] == ["0", "2"] and "cannot be read" in found["left_out"][0][
        "reason"
    ]
    assert sorted(path.name for path in (tmp_path / "project/capture/images").glob("*.png")) == ["0.png", "2.png"]
