# SPDX-License-Identifier: GPL-3.0-or-later
"""An edit that is let go in one real Blender window, which is closed, and found and followed in another
(detach_in_window.py). The engine's own server; the edit ticks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_window import ROOT, take_pictures

pytestmark = [
    pytest.mark.window,
    pytest.mark.skipif(take_pictures.gui_command() is None, reason="BLENDER_GUI names no Blender with a window"),
]


@pytest.mark.timeout(900)
def test_an_edit_outlives_its_window(tmp_path: Path) -> None:
    sys.path.append(str(ROOT / "tests" / "unit"))
    from capture_on_disk import transforms, write

    python = take_pictures.engine_environment(tmp_path / "python")
    capture = write(tmp_path / "ring", transforms(8))
    (tmp_path / "blender").mkdir()
    said = {}
    for part in ("first", "second"):
        settings = {
            "folder": str(tmp_path), "capture": str(capture), "limit": 400, "part": part, "python": str(python),
            "engine": str(ROOT / "tests" / "unit" / "ticking_engine.py"),
        }  # fmt: skip
        environment = os.environ | {
            "DETACH_WINDOW": json.dumps(settings), "BLENDER_USER_RESOURCES": str(tmp_path / "blender"),
            "WINDOW_FAILURE": str(tmp_path / "failure.png"), "STEPS": "1500", "TICK": "0.1",
            "BLENDER_GUI_BIND": sys.prefix,
        }  # fmt: skip
        program = str(ROOT / "tests" / "window" / "detach_in_window.py")
        command = [*take_pictures.gui_command(), "--factory-startup", "--python", program]
        ran = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=440)
        assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
        assert "Traceback" not in ran.stdout + ran.stderr, ran.stdout[-4000:] + ran.stderr[-4000:]
        said[part] = json.loads((tmp_path / f"{part}.json").read_text())
    assert said["second"]["found"] == "running" and said["first"]["step"] > 2
    assert "goes on by itself" in said["first"]["news"]
