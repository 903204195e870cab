# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs jobs in processes that may be killed or may never end: `python -m tests.engine.forks` (fork_client.py asks).

Everything is imported once; each job runs in a fork, so that hundreds of them can be killed in minutes. A line of JSON
in (job, project, where to be killed), a line out (how it ended, how long it took, what it wrote). Presets and editor
are tiny; what runs is the engine's own jobs.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback

os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MKL_NUM_THREADS": "1"}

import msgspec

from engine import presets, protocol
from engine.edit.settings import EditSettings
from engine.errors import explained
from engine.jobs import capture, edit, frames, output, registration, report, scene
from engine.progress import Job
from engine.workspace import Workspace
from tests.engine.conftest import TINY_NERF, build_tiny_pipeline, ring

# Audit events of Python's that change the disk, or open a file to be written.
WRITES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}
REAL_EDITOR = edit.load_editor
INSTRUCTION = "make it night"
SIDE = {"width": 24, "height": 20, "fx": 30.0, "fy": 31.0, "cx": 11.0, "cy": 10.5}


def set_up() -> None:
    """Presets that take a second, an editor of a few thousand weights, a checkpoint at every turn."""
    tiny = msgspec.structs.replace(
        presets.PREVIEW,
        long_side=64,
        nerf=msgspec.structs.replace(TINY_NERF, optimise_cameras=False),
        train=msgspec.structs.replace(presets.PREVIEW.train, steps=12, rays=64),
        edit=tiny_edit(presets.PREVIEW.edit),
    )
    presets.PRESETS["preview"] = tiny
    for module in (scene, edit):
        if hasattr(module, "CHECKPOINT_EVERY"):
            module.CHECKPOINT_EVERY = 0.0
    report.FRAMES = 3
    edit.load_editor = load_tiny_editor
    registration.register = functools.partial(registration.register, threads=1)  # of more, the last bits depend


def tiny_edit(settings: EditSettings) -> EditSettings:
    """A few steps; nothing that a resumed run works out anew, and so not to the bit."""
    losses = msgspec.structs.replace(settings.losses, perceptual_weight=0.0)
    return msgspec.structs.replace(
        settings, steps=6, steps_per_round=2, patches=1, patch=8, agreed_relevance=0.0, first_pass=True, losses=losses
    )


def load_tiny_editor(*_, **__):
    from engine.editors.instruct_pix2pix import InstructPix2Pix

    return InstructPix2Pix(build_tiny_pipeline(), "tiny", "cpu")


def try_model(folder: str, project: str) -> None:
    """What the panel and a try ask of a model's folder."""
    from engine.editors import catalogue
    from engine.methods import JOBS

    edit.load_editor = REAL_EDITOR
    msgspec.json.encode(catalogue.find_editors(folder))
    catalogue.about_subject(folder, "make it " + "a " * 200)
    module, function = JOBS["edit/try"]
    request = {"workspace": project, "view": "00", "instruction": INSTRUCTION, "device": "cpu", "editor": folder}
    try_edit = getattr(importlib.import_module(f"engine.jobs.{module}"), function)
    try_edit(msgspec.convert(request, protocol.TryEdit), Job())


def do(order: dict) -> None:
    """One job of an artist's, as Blender asks for it: what was begun is resumed."""
    job, project, work = order["job"], order["project"], Job()
    edits = [record.id for record in Workspace(project).edits()] if os.path.isdir(project) else []
    edit_id = edits[0] if edits else "0001-make-it-night"
    if job == "open":
        capture.open_into_workspace(protocol.OpenCapture(project, order["source"], "preview"))
    elif job == "read":
        msgspec.json.encode(capture.read_workspace(protocol.ReadWorkspace(project)))
    elif job == "images":
        capture.write_images(protocol.WriteImages(project), work)
    elif job == "train":
        scene.train_scene(protocol.TrainScene(project, "preview", "cpu", steps=order.get("steps")), work)
    elif job == "edit" and edits and not order.get("anew"):
        edit.resume_edit(protocol.ResumeEdit(project, edit_id, "cpu"), work)
    elif job == "edit":
        request = {"workspace": project, "instruction": INSTRUCTION, "preset": "preview", "device": "cpu"}
        edit.run_edit(msgspec.convert(request | {"editor": "tiny/editor"}, protocol.RunEdit), work)
    elif job == "frames":
        cameras = [protocol.PathCamera(tuple(pose.ravel().tolist()), **SIDE) for pose in ring(3)]
        frames.render_frames(protocol.RenderFrames(project, edit_id, "walk", cameras, device="cpu"), work)
    elif job == "mesh":
        output.make_mesh(protocol.MakeMesh(project, edit_id, 16, "cpu"), work)
    elif job == "report":
        report.make_report(protocol.MakeReport(project, edit_id, "cpu"), work)
    elif job == "register":
        registration.register_photos(protocol.RegisterPhotos(project, order["source"]), work)
    elif job == "model":
        try_model(order["editor"], project)
    else:
        raise ValueError(job)


class Watch:
    """Counts this process's writes in the project and notes those elsewhere; kills it before its n-th, or in time."""

    def __init__(self, order: dict):
        self.project, self.at, self.count = order["project"], order.get("write"), 0
        self.outside: list[str] = []
        sys.addaudithook(self._hook)
        self._fsync = os.fsync
        os.fsync = self._flush  # which tells nobody of itself
        if order.get("seconds") is not None:
            threading.Thread(target=self._after, args=(order["seconds"],), daemon=True).start()

    def _after(self, seconds: float) -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    def _hook(self, event: str, details: tuple) -> None:
        if event in WRITES or (event == "open" and details[2] & (os.O_WRONLY | os.O_RDWR)):
            path = details[0]
            if not isinstance(path, (str, bytes, os.PathLike)):
                return
            path = os.fsdecode(path)
            if path.startswith(self.project):
                self._wrote()
                path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
            if not path.startswith(self.project) and "__pycache__" not in path and not path.startswith("/dev/"):
                self.outside.append(f"{event} {path}")

    def _flush(self, descriptor: int) -> None:
        self._wrote()
        self._fsync(descriptor)

    def _wrote(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def run(order: dict) -> dict:
    """Fork, do the job, be killed or not."""
    reading, writing = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reading)
        said: dict = {}
        try:
            watch = Watch(order)
            try:
                do(order)
            except BaseException as error:
                known = explained(error)
                said["error"] = str(known) if known is not None else repr(error)
                said["defect"] = known is None
                traceback.print_exc()
            said |= {"writes": watch.count, "outside": watch.outside}
            os.write(writing, json.dumps(said).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    _, status, used = os.wait4(child, 0)
    said = {"seconds": time.monotonic() - began, "killed": os.WIFSIGNALED(status), "peak_bytes": used.ru_maxrss * 1024}
    return said | (json.loads(told) if told else {})


def main() -> None:
    set_up()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=out, flush=True)


if __name__ == "__main__":
    main()
