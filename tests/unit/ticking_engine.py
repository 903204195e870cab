# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's own server, whose edits only tick: no torch, no scene. A program: it serves. `TICK` seconds a step."""

import os
import sys
import time
import types
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from engine import protocol, warm  # noqa: E402
from engine.records import EditRecord  # noqa: E402
from engine.results import Noted  # noqa: E402
from engine.serving import serve  # noqa: E402
from engine.workspace import Workspace, writes  # noqa: E402

STEPS = int(os.environ.get("STEPS", "100"))
TICK = float(os.environ.get("TICK", "0.01"))


@writes("editing")
def run_edit(request, job):
    workspace = Workspace(request.workspace)
    views = request.views or ["a", "b"]
    record = EditRecord("", request.instruction, None, "preview", "e", "", views, {"steps": STEPS}, 0)
    record = workspace.create_edit(record)
    step = 0

    def change(wish):
        job.log(f"told {wish.instruction} at {step}")
        return Noted(step)

    with job.wishes.granting({protocol.CHANGE: change}):
        for step in range(1, STEPS + 1):
            job.check()
            time.sleep(TICK)
            image = workspace.edit(record.id) / "images" / f"{views[step % len(views)]}.png"
            image.parent.mkdir(exist_ok=True)
            image.write_bytes(b"")
            job.on_view(views[step % len(views)], "edited", str(image))
            job.on_progress(protocol.Progress("edit", "Editing", step, STEPS, step / STEPS, (STEPS - step) * TICK))
            print("a library prints", step)
    record = EditRecord(record.id, record.instruction, None, "preview", "e", "", views, {"steps": STEPS}, STEPS,
                        finished=True)  # fmt: skip
    workspace.save_edit(record)
    from engine.jobs.capture import edit_message

    return edit_message(workspace, record)


warm.import_torch = lambda: None
module = types.ModuleType("engine.jobs.edit")
module.run_edit = run_edit
sys.modules["engine.jobs.edit"] = module

if __name__ == "__main__":
    serve()
