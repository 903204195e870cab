# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Blender window, driven with mouse and keys through all of the add-on (docs/take_pictures.py)."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOX = ROOT.parent / "shared" / "captures" / "fox"
sys.path[:0] = [str(ROOT / "tests" / "addon"), str(ROOT)]

_spec = importlib.util.spec_from_file_location("take_pictures", ROOT / "docs" / "take_pictures.py")
take_pictures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(take_pictures)
CAPTIONS = take_pictures.tour("parts").CAPTIONS

pytestmark = [
    pytest.mark.window,
    pytest.mark.skipif(take_pictures.gui_command() is None, reason="BLENDER_GUI names no Blender with a window"),
]


def drive(tmp_path: Path, *arguments: object, timeout: float) -> dict:
    command = [sys.executable, ROOT / "docs" / "take_pictures.py", "--folder", tmp_path, "--limit", timeout]
    command += ["--pictures", tmp_path / "pictures", *arguments]
    said = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=timeout + 120)
    assert said.returncode == 0, said.stdout[-4000:] + said.stderr[-4000:]
    # What fails inside Blender, a panel that cannot be drawn say, is printed and nothing more.
    assert "Traceback" not in said.stdout + said.stderr, said.stdout[-4000:] + said.stderr[-4000:]
    return json.loads((tmp_path / "result.json").read_text())


def check(result: dict, tmp_path: Path, without: set[str]) -> None:
    assert result["longest pause of the interface"] < 2.0
    assert result["live views"] > 0
    assert result["strips"] == ["NeRF after", "NeRF before", "NeRF before and after"]
    taken = {p.stem for p in (tmp_path / "pictures").glob("*.webp")} - {"film"}
    assert taken == set(CAPTIONS) - without, taken
    assert {"Project", "Editor's Details", "Installation", "Log"} <= set(result["drawn"])
    assert len(result["callbacks"]) > 20


@pytest.mark.timeout(1700)
def test_the_sidebar_from_capture_to_film_with_a_stand_in_engine(tmp_path: Path) -> None:
    from addon_captures import ring
    from tiny_wheels import tiny_engine

    result = drive(
        tmp_path, "--capture", ring(tmp_path / "ring", count=24), "--wheel", tiny_engine(tmp_path), "--engine-python",
        sys.executable, "--fake-engine", ROOT / "tests" / "addon" / "fake_engine.py", "--frames", 16, "--steps", 600,
        "--more", 10, "--skip", "begin.example", timeout=1500,
    )  # fmt: skip
    assert result["views"] == 24 and 12 <= result["chosen"] <= 14
    check(result, tmp_path, {"training", "example"})  # the stand-in trains nothing


@pytest.mark.slow
@pytest.mark.skipif(not FOX.exists(), reason="the capture is not beside this checkout")
@pytest.mark.timeout(4200)
def test_fox_from_the_sidebar(tmp_path: Path) -> None:
    result = drive(tmp_path, "--capture", FOX, "--animate", timeout=3600)
    assert result["views"] == 50
    check(result, tmp_path, set())
    for name in ("film.webp", "tour.mp4"):
        assert (tmp_path / "pictures" / name).stat().st_size > 20_000
