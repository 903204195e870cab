# SPDX-License-Identifier: GPL-3.0-or-later
"""A contact sheet in a real Blender window, with mouse and keys, and the stand-in engine (pick_in_sheet.py)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from test_window import ROOT, take_pictures

pytestmark = [
    pytest.mark.window,
    pytest.mark.skipif(take_pictures.gui_command() is None, reason="BLENDER_GUI names no Blender with a window"),
]


def test_a_picture_of_the_sheet_is_clicked(tmp_path: Path) -> None:
    from addon_captures import ring

    settings = {
        "folder": str(tmp_path), "capture": str(ring(tmp_path / "ring")), "limit": 150,
        "engine": str(ROOT / "tests" / "addon" / "fake_engine.py"), "python": "/usr/bin/python3",
    }  # fmt: skip
    (tmp_path / "blender").mkdir()
    environment = os.environ | {
        "SHEET_WINDOW": json.dumps(settings), "BLENDER_USER_RESOURCES": str(tmp_path / "blender"),
        "WINDOW_FAILURE": str(tmp_path / "failure.png"),
    }  # fmt: skip
    command = [
        *take_pictures.gui_command(),
        "--factory-startup",
        "--python",
        str(ROOT / "tests/window/pick_in_sheet.py"),
    ]
    said = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert said.returncode == 0, said.stdout[-4000:] + said.stderr[-4000:]
    assert "Traceback" not in said.stdout + said.stderr, said.stdout[-4000:] + said.stderr[-4000:]
    assert (tmp_path / "result.json").exists()
