# SPDX-License-Identifier: GPL-3.0-or-later
"""The walk of one instruction through the engine: from the line that asks for an edit to the loss, in one real run
(docs/architecture.md; tests/blender/test_walk.py is the way there)."""

import json
import shutil
import threading

import pytest
import torch

from engine.editors import instruct_pix2pix
from engine.editors.catalogue import BUNDLED
from engine.editors.instruct_pix2pix import InstructPix2Pix
from engine.jobs import named_editor
from engine.presets import PRESETS
from engine.server import Server
from tests.unit.walk import stops, written_walk

from .conftest import PRESET


def test_at_most_nine_files():
    walk = written_walk()
    assert len(walk) == len(set(walk)) <= 9
    assert walk[0].startswith("blender_addon/panels/") and walk[-1].startswith("engine/scenes/")


@pytest.mark.parametrize("background", ["on", "off"])
def test_from_the_line_to_the_loss(trained, tiny_pipeline, tmp_path, monkeypatch, background):
    shutil.copytree(trained, tmp_path / "project")
    monkeypatch.setitem(PRESETS, PRESET.name, PRESET)
    monkeypatch.setattr(named_editor, "load_editor", lambda name, device: InstructPix2Pix(tiny_pipeline, name, device))
    walks: dict[str, list[str]] = {}

    def noting(milestone, function, file=""):
        def called(*given, **named):
            if threading.current_thread().name == "jobs":
                walks.setdefault(milestone, [*stops(), *([file] if file else [])])
            return function(*given, **named)

        return called

    editor = "engine/editors/instruct_pix2pix.py"
    told = noting("told", InstructPix2Pix.prepare, editor)
    monkeypatch.setattr(InstructPix2Pix, "prepare", told)
    monkeypatch.setattr(instruct_pix2pix.ViewEdit, "edit", noting("edited", instruct_pix2pix.ViewEdit.edit, editor))
    monkeypatch.setattr(torch.Tensor, "backward", noting("loss", torch.Tensor.backward))

    answers: list[dict] = []
    ended = threading.Event()

    def send(line):
        message = json.loads(line)
        if message.get("id") == 1:
            answers.append(message)
            ended.set()

    server = Server(send, warm_up=lambda: None)
    params = {
        "workspace": str(tmp_path / "project"), "instruction": "make it a walk", "preset": PRESET.name, "device": "cpu",
        "editor": BUNDLED, "options": {"keep_background": background, "diffusion_steps": 1}, "steps": 2,
    }  # fmt: skip
    server.receive(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "edit/run", "params": params}).encode())
    assert ended.wait(60)
    server.close()
    assert "result" in answers[0], answers[0]

    walk = [stop for stop in written_walk() if stop.startswith("engine/")]
    assert walks.keys() == {"told", "edited", "loss"}
    assert walks["told"] == walks["edited"] == walk[:-1]  # server, job, algorithm, editor
    assert walks["loss"] == [*walk[:-2], walk[-1]]  # and from the algorithm to the scene
