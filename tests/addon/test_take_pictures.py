# SPDX-License-Identifier: GPL-3.0-or-later
"""`make docs` as it is written in the Makefile, up to where Blender's window would open; and what moves in docs."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest
from addon_captures import ring
from PIL import Image
from tiny_wheels import tiny_engine

ROOT = Path(__file__).parents[2]
WINDOW = "import os, sys; print(os.environ['INSTRUCT_NERF_WINDOW'], file=open(sys.argv[1], 'w')); sys.exit(3)"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not there")
def test_make_docs_finds_what_is_named_by_relative_paths(tmp_path: Path) -> None:
    given = {"VENV": os.path.relpath(sys.prefix, ROOT), "CAPTURE": os.path.relpath(ring(tmp_path / "a ring"), ROOT)}
    ready = f"{given['VENV']}/.ready"
    asked = ["make", "-n", "-o", ready, "docs", *(f"{name}={value}" for name, value in given.items())]
    said = subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    (line,) = [line for line in said.splitlines() if "take_pictures" in line]
    command = [*shlex.split(line), "--wheel", str(tiny_engine(tmp_path)), "--folder", os.path.relpath(tmp_path, ROOT)]
    heard = tmp_path / "heard.json"
    window = shlex.join([sys.executable, "-c", WINDOW, str(heard)])
    ran = subprocess.run(command, cwd=ROOT, env=os.environ | {"BLENDER_GUI": window, "PYTHONPATH": str(ROOT)})
    assert ran.returncode == 3, "Blender's own exit code is handed on"
    settings = json.loads(heard.read_text())
    for name in ("python", "capture", "folder", "pictures", "zip"):
        assert os.path.isabs(settings[name]) and Path(settings[name]).exists(), (name, settings[name])
    assert Path(settings["capture"]) == tmp_path / "a ring"


def test_the_animation_and_the_film_are_of_what_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("animate", ROOT / "docs" / "tour" / "animate.py")
    animate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(animate)
    monkeypatch.setattr(animate, "SIZE", (320, 180))
    monkeypatch.setattr(animate, "BAR", 24)
    monkeypatch.setattr(animate, "SECONDS", 1.5)
    frames = tmp_path / "project" / "edits" / "0001-night" / "frames" / "Camera"
    for kind, color in (("before", (200, 40, 30)), ("after", (30, 40, 200))):
        (frames / kind).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (40, 30), color).save(frames / kind / f"{number:05d}.png")
    whole, made = tmp_path / "whole", tmp_path / "pictures"
    whole.mkdir(), made.mkdir()
    for name in ("sidebar", "sequencer"):
        Image.new("RGB", (320, 180), (90, 160, 90)).save(whole / f"{name}.png")
    first = frames / "before" / "00000.png"
    result = {"project": str(tmp_path / "project"), "photo": str(first), "edited": str(first)}
    (tmp_path / "result.json").write_text(json.dumps(result))
    animate.animate(tmp_path, made)
    film = Image.open(made / "film.webp")
    assert film.n_frames >= 4 and film.size == (round(40 * animate.HEIGHT / 30), animate.HEIGHT)
    red, _, blue = film.convert("RGB").getpixel((film.width // 2, 200))
    assert red > 150 > blue  # what was before, at first
    film.seek(film.n_frames - 1)
    red, _, blue = film.convert("RGB").getpixel((film.width // 2, 200))
    assert blue > 150 > red  # and after, at the end
    with av.open(str(made / "tour.mp4")) as tour:
        seconds = float(tour.duration / av.time_base)
        picture = next(tour.decode(video=0)).to_image()
    assert seconds == pytest.approx(2 * animate.SECONDS, abs=1) and picture.size == animate.SIZE
    assert picture.getpixel((160, 80))[1] > 140 and max(picture.getpixel((4, 170))) < 60
