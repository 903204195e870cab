# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be asked of the engine, by the names that lines have for it (docs/protocol.md), and what answers."""

from __future__ import annotations

from engine import protocol
from engine.exchange import Exchange

# Request → module of engine.jobs and function. Modules that import torch are named, not imported.
JOBS: dict[str, tuple[str, str]] = {
    "model/download": ("download", "download_model"),
    "capture/open": ("capture", "open_into_workspace"),
    "capture/register": ("registration", "register_photos"),
    "capture/images": ("capture", "write_images"),
    "scene/train": ("scene", "train_scene"),
    "edit/try": ("trying", "try_edit"),
    "edit/run": ("edit", "run_edit"),
    "edit/resume": ("edit", "resume_edit"),
    "edit/delete": ("tree", "delete_edit"),
    "output/mesh": ("output", "make_mesh"),
    "output/splats": ("splats", "make_splats"),
    "output/frames": ("frames", "render_frames"),
    "output/report": ("report", "make_report"),
    protocol.ATTACH: ("following", "follow_job"),
}
NEEDS_TORCH = {"scene", "edit", "trying", "output", "splats", "frames", "report"}
# Wish → the jobs that it may be asked of while they run; one that follows another passes all on.
PAUSE = {name for name, (module, _) in JOBS.items() if module in NEEDS_TORCH} | {protocol.ATTACH}
EDITS = {"edit/run", "edit/resume", protocol.ATTACH}
WISHES = {protocol.PAUSE: PAUSE, protocol.CONTINUE: PAUSE, protocol.CHANGE: EDITS, protocol.REMAKE: EDITS}
WISHES |= dict.fromkeys((protocol.RENDER, protocol.SURFELS), EDITS | {"scene/train"})
# What is asked of the folder for files, and what answers it.
FILES = {protocol.LOOK_AT_FILES: Exchange.look, protocol.WRITE_FILE: Exchange.write, protocol.READ_FILE: Exchange.read}
# What may go on by itself: what works in a project.
DETACHABLE = set(JOBS) - {"model/download", "capture/open"}
