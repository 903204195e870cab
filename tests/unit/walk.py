# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of our files a call has passed, and which the documents say that an instruction passes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What runs every operator and every job and looks at nothing of it: failures become reports, the project is locked.
AROUND = {"blender_addon/operators/base.py": {"attempt"}, "engine/workspace.py": {"alone"}}


def stops() -> list[str]:
    """The files of the add-on and of the engine whose functions are being executed now in this thread, each once, the
    outermost first: what a debugger would show at the line that calls this."""
    found: list[str] = []
    frame = sys._getframe(1)
    while frame is not None:
        file, function = Path(frame.f_code.co_filename), frame.f_code.co_name
        if file.is_relative_to(ROOT):
            name = file.relative_to(ROOT).as_posix()
            if name.startswith(("blender_addon/", "engine/")) and function not in AROUND.get(name, ()):
                found.append(name)
        frame = frame.f_back
    return list(dict.fromkeys(reversed(found)))


def written_walk() -> list[str]:
    """The files of docs/architecture.md's "The walk of one instruction", in order."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.split("## The walk of one instruction\n")[1].split("\n## ")[0]
    return re.findall(r"^\d+\. `([\w/]+\.py)`", section, re.MULTILINE)
