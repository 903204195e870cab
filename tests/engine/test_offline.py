# SPDX-License-Identifier: GPL-3.0-or-later
"""No job reaches a network, whatever it would like to have: each runs here where every way out is an error."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch

from engine import protocol
from engine.editors.catalogue import BUNDLED, HUB_NAME
from engine.errors import BadInput
from engine.jobs import edit, frames, output, report, scene, trying
from engine.metrics.clip import load_clip
from engine.metrics.perceptual import load_perceptual
from engine.presets import PRESETS
from engine.progress import Job
from engine.scenes.settings import LossConfig
from engine.workspace import Workspace

from .conftest import PRESET
from .test_talk import camera

ROOT = Path(__file__).parents[2]
QUICK = msgspec.structs.replace(
    PRESET, edit=msgspec.structs.replace(PRESET.edit, steps=2, patch=32, losses=LossConfig("l1", perceptual_weight=0.1))
)


@pytest.fixture
def network(tmp_path, monkeypatch):
    """What tried to get out, on a computer that has no model and no cache, and whose variables ask for the network."""
    tried = []

    def refuse(name):
        def out(*arguments, **_):
            tried.append((name, arguments[-1:]))
            raise OSError("there is no network here")

        return out

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse(name))
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse(name))
    for name in ("TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "INSTRUCT_NERF_MODELS", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.delenv("INSTRUCT_NERF_EDITOR", raising=False)
    return tried


@pytest.fixture
def project(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, PRESET.name, QUICK)
    shutil.copytree(trained, tmp_path / "project")
    return str(tmp_path / "project")


def test_importing_the_engine_is_enough_to_be_offline():
    """Before any of the libraries is imported, and whatever the environment says."""
    code = (
        "import os; os.environ['HF_HUB_OFFLINE'] = '0'\n"
        "import engine.presets\n"
        "from huggingface_hub import constants\n"
        "assert constants.HF_HUB_OFFLINE and constants.is_offline_mode()\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_no_measure_is_fetched(network):
    assert load_perceptual("cpu").name == "st-lpips-alex"
    assert load_clip("cpu") is None
    assert not network


@pytest.mark.parametrize("name", [HUB_NAME, "black-forest-labs/FLUX.1-Kontext-dev", "someone/some-pix2pix"])
def test_an_editor_that_is_not_here_is_not_fetched(network, project, name):
    view = next(iter(Workspace(project).images.glob("*.png"))).stem
    with pytest.raises(BadInput, match="is not on this computer"):
        trying.try_edit(
            protocol.TryEdit(workspace=project, view=view, instruction="make it night", editor=name, device="cpu"),
            Job(),
        )
    with pytest.raises(BadInput, match="is not on this computer"):
        edit.run_edit(
            protocol.RunEdit(workspace=project, instruction="make it night", editor=name, device="cpu", preset="tiny"),
            Job(),
        )
    assert not network


def test_a_damaged_backbone_of_lpips_is_not_used(network, tmp_path):
    folder = tmp_path / "empty" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "alexnet-owt-7be5be79.pth").write_bytes(b"half of it")
    assert load_perceptual("cpu").name == "st-lpips-alex" and not network


@pytest.mark.slow
def test_every_job_does_without_a_network(network, project):
    job = Job()
    view = next(iter(Workspace(project).images.glob("*.png"))).stem
    scene.train_scene(protocol.TrainScene(project, "tiny", "cpu", steps=8), job)
    trying.try_edit(protocol.TryEdit(workspace=project, view=view, instruction="make it night", device="cpu"), job)
    made = edit.run_edit(
        protocol.RunEdit(workspace=project, instruction="make it night", device="cpu", preset="tiny"), job
    )
    assert made.finished and made.editor == BUNDLED
    assert output.make_mesh(protocol.MakeMesh(project, made.id, 24, "cpu"), job)
    film = protocol.RenderFrames(project, made.id, "path", [camera(Path(project))], device="cpu")
    assert frames.render_frames(film, job)
    page = Path(report.make_report(protocol.MakeReport(project, made.id, "cpu"), job).html).read_text()
    assert "python -m engine download openai/clip-vit-large-patch14" in page
    assert not network
