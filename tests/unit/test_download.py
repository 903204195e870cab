# SPDX-License-Identifier: GPL-3.0-or-later
"""Models are downloaded only with consent, whole or not at all, and go on where they were cut off."""

import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hub_server import Hub
from server_wire import Wire

from engine import hub, hub_worker, protocol
from engine.editors import registry
from engine.editors.catalogue import find_editors, source_of
from engine.errors import BadInput, Busy, Cancelled
from engine.hub import HubModel, wanted_files
from engine.jobs.download import download_model, models
from engine.progress import Job

ROOT = Path(__file__).parents[2]
NAME, REVISION = "owner/tiny-pix2pix", "5" * 40
SIZE = 3 * 2**20  # bytes of the largest file
WEIGHTS = "unet/diffusion_pytorch_model.fp16.safetensors"
HEADER = (2).to_bytes(8, "little") + b"{}"


def weights(size: int, seed: int) -> bytes:
    return HEADER + random.Random(seed).randbytes(size - len(HEADER))


INDEX = {
    "_class_name": "StableDiffusionInstructPix2PixPipeline",
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "feature_extractor": ["transformers", "CLIPFeatureExtractor"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
FILES = {
    "model_index.json": json.dumps(INDEX).encode(),
    "README.md": b"read me",
    "convert.py": b"raise SystemExit",
    "instruct-pix2pix-00-22000.ckpt": b"\x80\x04N." * 5000,
    "instruct-pix2pix-00-22000.safetensors": weights(20_000, 1),
    "feature_extractor/preprocessor_config.json": b"{}",
    "safety_checker/config.json": b"{}",
    "safety_checker/model.fp16.safetensors": weights(20_000, 2),
    "scheduler/scheduler_config.json": b'{"num_train_timesteps": 1000}',
    "unet/config.json": b'{"sample_size": 64}',
    "unet/diffusion_pytorch_model.bin": b"\x80\x04N." * 5000,
    "unet/diffusion_pytorch_model.fp16.bin": b"\x80\x04N." * 5000,
    "unet/diffusion_pytorch_model.safetensors": weights(2 * SIZE, 3),
    WEIGHTS: weights(SIZE, 4),
    "vae/config.json": b"{}",
    "vae/diffusion_pytorch_model.safetensors": weights(30_000, 5),
}
WANTED = [
    "model_index.json", "scheduler/scheduler_config.json", "unet/config.json", WEIGHTS, "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
]  # fmt: skip
TOTAL = sum(len(FILES[name]) for name in WANTED)
MODEL = HubModel(
    NAME, "Tiny", REVISION, TOTAL, "MIT", "https://example.org", variant="fp16",
    without=("safety_checker", "feature_extractor"),
)  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A computer with no model on it, and a registry that knows the tiny one."""
    monkeypatch.setenv("INSTRUCT_NERF_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(registry, "KINDS", [replace(registry.KINDS[0], models=(MODEL,)), *registry.KINDS[1:]])
    return tmp_path


@pytest.fixture
def site(here, monkeypatch):
    with Hub(NAME, REVISION, dict(FILES)) as site:
        monkeypatch.setenv("HF_ENDPOINT", site.url)
        yield site


def ask(job=None, **changes):
    agreed = {"model": MODEL.name, "licence": MODEL.licence, "bytes": MODEL.bytes}
    return download_model(protocol.DownloadModel(**agreed | changes), job or Job())


def there(model=MODEL):
    """The files of the downloaded model."""
    return sorted(path.relative_to(model.folder).as_posix() for path in model.folder.rglob("*") if path.is_file())


def test_what_is_wanted_is_downloaded_told_and_taken_for_there(site):
    assert source_of(NAME) == NAME and not next(e for e in find_editors() if e.name == NAME).offer.downloaded
    told = []
    result = ask(job=Job(on_progress=told.append, every=0))
    assert result.model == NAME and Path(result.folder) == MODEL.folder and there() == sorted(WANTED)
    for name in WANTED:
        assert (MODEL.folder / name).read_bytes() == FILES[name]
    assert {(p.stage, p.of) for p in told} == {("download", TOTAL)}
    steps = [p.step for p in told]
    assert steps == sorted(steps) and steps[0] == 0 and steps[-1] == TOTAL and len(set(steps)) >= 4
    assert any("/s" in p.label for p in told) and told[-1].fraction == 1
    info = next(e for e in find_editors() if e.name == NAME)
    assert info.offer.downloaded and info.offer.folder == source_of(NAME) == str(MODEL.folder)
    asked = len(site.asked)
    ask()  # nothing more
    assert len(site.asked) == asked


@pytest.mark.slow
def test_a_cut_connection_is_resumed_where_it_was(site):
    site.cut = [2**20 + 17, 5]
    ask()
    assert there() == sorted(WANTED) and (MODEL.folder / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    ranges = [entry for entry in site.sent(WEIGHTS) if entry]
    assert ranges and all(entry.startswith("bytes=") and entry.endswith("-") for entry in ranges)


def kill_in_the_middle(here):
    """Run a worker until it is in the middle of the largest file, and kill it."""
    order = msgspec.json.encode(hub_worker.Order(MODEL, str(MODEL.coming))) + b"\n"
    process = subprocess.Popen(
        [sys.executable, "-m", "engine.hub_worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    process.stdin.write(order)
    process.stdin.flush()
    part = MODEL.coming / (WEIGHTS + hub_worker.PART)
    end = time.monotonic() + 20
    while time.monotonic() < end and not (part.exists() and part.stat().st_size > 2**20):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    process.wait()
    process.stdin.close(), process.stdout.close()
    return part.stat().st_size


def test_a_killed_download_is_not_there_and_goes_on(site, here):
    site.slow = 0.01
    arrived = kill_in_the_middle(here)
    assert 2**20 <= arrived < SIZE
    assert not MODEL.folder.exists() and source_of(NAME) == NAME
    with pytest.raises(BadInput, match="is not on this computer"):
        registry.load(NAME, NAME, "cpu")
    site.slow = 0
    told = []
    ask(job=Job(on_progress=told.append, every=0))
    assert site.sent(WEIGHTS)[-1] == f"bytes={arrived}-" and told[0].step >= arrived
    assert there() == sorted(WANTED) and (MODEL.folder / WEIGHTS).read_bytes() == FILES[WEIGHTS]


def test_a_cancel_takes_effect_within_two_seconds_whatever_the_connection_does(site):
    site.slow, site.piece = 30.0, 2**20 + 4096  # it sends a piece, and then nothing
    began, stopped = time.monotonic(), []

    def cancelled():
        part = MODEL.coming / (WEIGHTS + hub_worker.PART)
        if not stopped and (time.monotonic() - began > 20 or (part.exists() and part.stat().st_size)):
            stopped.append(time.monotonic())
        return bool(stopped)

    with pytest.raises(Cancelled):
        ask(job=Job(cancelled=cancelled))
    assert time.monotonic() - stopped[0] < 2
    assert not MODEL.folder.exists() and (MODEL.coming / (WEIGHTS + hub_worker.PART)).stat().st_size >= 2**20


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [1, 2])
def test_what_arrives_damaged_is_fetched_again_once_and_never_used(site, wrong):
    site.wrong = wrong
    if wrong == 1:
        ask()
        assert (MODEL.folder / WEIGHTS).read_bytes() == FILES[WEIGHTS]
        return
    with pytest.raises(BadInput, match="arrived damaged twice"):
        ask()
    assert not MODEL.folder.exists() and not (MODEL.coming / (WEIGHTS + hub_worker.PART)).exists()


REFUSALS = {
    "gated": (403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}, "accept them there"),
    "no token": (401, {"X-Error-Code": "GatedRepo"}, f"sign in at https://huggingface.co/{NAME}"),
    "private": (401, {}, "does not give"),
    "gone": (404, {"X-Error-Code": "EntryNotFound"}, "update the add-on"),
    "another revision": (404, {"X-Error-Code": "RevisionNotFound"}, "update the add-on"),
    "forbidden": (403, {}, "does not give"),
}


@pytest.mark.parametrize("case", [pytest.param(c, marks=[pytest.mark.slow] if c != "gated" else []) for c in REFUSALS])
def test_a_refusal_says_what_to_do(site, case):
    site.status, site.headers, said = REFUSALS[case]
    with pytest.raises(BadInput, match=said) as caught:
        ask()
    assert caught.value.message.rstrip(".").count(". ") == 0 and not MODEL.folder.exists()


@pytest.mark.slow
def test_no_hub_is_said(here, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BadInput, match=r"connection to the hub .* failed or was cut off"):
        ask()


def test_a_full_disk_is_said_before(site, here, monkeypatch):
    (here / "sitecustomize.py").write_text(
        "import shutil\n"
        "shutil.disk_usage = lambda path: __import__('types').SimpleNamespace(total=1, used=1, free=1000)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")]))
    with pytest.raises(BadInput, match=r"has 0\.00 GB free, and 0\.\d\d GB are needed: make room"):
        ask()
    assert not site.sent(WEIGHTS)


@pytest.mark.slow
def test_a_disk_that_fills_meanwhile_is_said_and_what_arrived_kept(site, here, monkeypatch):
    (here / "sitecustomize.py").write_text(
        "import engine.hub_worker as w, errno\n"
        "write = w._Sink.write\n"
        "def full(self, data):\n"
        "    if self.file.tell() >= 2**21: raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "    return write(self, data)\n"
        "w._Sink.write = full\n"
    )
    # Run as a module, the worker would be another one than the one above.
    monkeypatch.setattr(sys, "executable", str(_python(here)))
    with pytest.raises(BadInput, match="is full; make room and start again"):
        ask()
    assert (MODEL.coming / (WEIGHTS + hub_worker.PART)).stat().st_size == 2**21


def _python(folder):
    """A Python that runs the worker with what sitecustomize.py changed of it."""
    script = folder / "python"
    script.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'import sitecustomize, engine.hub_worker as w; w.main()' \"$@\"\n"
    )
    script.chmod(0o755)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), str(ROOT)])
    return script


@pytest.mark.parametrize("changes", [{"licence": "Apache-2.0"}, {"bytes": TOTAL - 1}, {"model": "owner/other"}])
def test_what_was_not_agreed_to_is_not_downloaded(site, changes):
    with pytest.raises(BadInput):
        ask(**changes)
    assert not site.asked


def test_the_wire_downloads_only_where_the_artist_is_online(site):
    wire = Wire(warm_up=lambda: None)
    agreed = {"model": NAME, "licence": "MIT", "bytes": TOTAL}
    for ident, online in enumerate([None, False]):
        if online is not None:
            wire.ask("initialize", 100 + ident, protocol=protocol.VERSION, online=online)
            wire.answer(100 + ident)
        wire.ask("model/download", ident, **agreed)
        error = wire.answer(ident)["error"]
        assert error["code"] == protocol.BAD_INPUT and "Allow Online Access" in error["message"]
        assert not site.asked
    wire.ask("initialize", 200, protocol=protocol.VERSION, online=True)
    editors = wire.answer(200)["result"]["editors"]
    offer = next(e["offer"] for e in editors if e["name"] == NAME)
    wire.ask("model/download", 201, model=NAME, licence=offer["licence"], bytes=offer["bytes"])
    assert wire.answer(201, timeout=30)["result"] == {"model": NAME, "folder": str(MODEL.folder)}


def test_editors_of_the_artists_own_are_described(here):
    wire = Wire(warm_up=lambda: None)
    own = [str(here / "gone"), NAME, "someone/other", str(here)]
    wire.ask("initialize", 1, protocol=protocol.VERSION, own=own)
    found = {e["name"]: e for e in wire.answer(1)["result"]["editors"]}
    assert set(own) <= set(found) and not any(found[name]["available"] for name in own)
    assert "There is no editor model" in found[own[0]]["reason"] and found[NAME]["offer"]["page"]
    assert "download it into a folder" in found["someone/other"]["reason"]
    wire.ask("initialize", 2, protocol=protocol.VERSION, own=["x"] * 65)
    assert wire.answer(2)["error"]["code"] == protocol.INVALID_PARAMS


def test_the_rows_are_whole():
    for model in models().values():
        assert hub.NAME.fullmatch(model.name) and re.fullmatch("[0-9a-f]{40}", model.revision)
        assert model.bytes > 10**8 and model.licence and model.licence_url.startswith("https://")


def test_only_texts_and_safetensors_are_wanted():
    names = [*FILES, "../evil.json", "/abs.json", "a/../../b.json", "unet/x.py", "c:/d.json", "tokenizer/spiece.model"]
    names += ["unet/..\\..\\evil.json", "\\\\host\\share\\x.json"]
    assert wanted_files(names, MODEL) == sorted([*WANTED, "tokenizer/spiece.model"])
    full = replace(MODEL, variant=None)
    assert "unet/diffusion_pytorch_model.safetensors" in wanted_files(names, full)
    assert WEIGHTS not in wanted_files(names, full)
    ends = "-00001-of-00002.safetensors", ".fp16-00001-of-00002.safetensors", ".safetensors.index.json"
    shards = [f"unet/diffusion_pytorch_model{end}" for end in (*ends, ".safetensors.index.fp16.json")]
    assert wanted_files(shards, MODEL) == sorted([shards[1], shards[3]])
    assert wanted_files(shards, full) == sorted([shards[0], shards[2]])
    named = replace(MODEL, files=("*.json", "instruct-pix2pix-00-22000.safetensors"))
    assert "instruct-pix2pix-00-22000.safetensors" in wanted_files(names, named)


def test_an_error_that_nobody_expects_is_a_sentence():
    for error, said in ((ValueError("odd\nTraceback"), "odd"), (KeyError(), "KeyError")):
        assert hub_worker.explained(error, MODEL, "host").sentence == f"Downloading {NAME} failed ({said})."


# ---- on the command line ----


def terminal(text, tty):
    """Standard input with these lines, a terminal or not."""
    stdin = io.StringIO(text)
    stdin.isatty = lambda: tty
    return stdin


def command(*words, text="", tty=False):
    """Run a command in this process; what it printed as its result."""
    from engine import cli
    from engine import terminal as printing

    out = io.StringIO()
    old = printing._out, sys.stdin
    printing._out, sys.stdin = out, terminal(text, tty)
    try:
        cli.tyro.extras.subcommand_cli_from_dict(cli.COMMANDS, prog="engine", args=list(words))
    finally:
        printing._out, sys.stdin = old
    return out.getvalue()


def test_editors_says_what_is_on_disk_and_what_a_download_costs(site, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    dear = replace(MODEL, bytes=23_800_000_000, licence="Some Non-Commercial License", commercial=False, gated=True)
    monkeypatch.setattr(registry, "KINDS", [replace(registry.KINDS[0], models=(dear,)), *registry.KINDS[1:]])
    said = " ".join(command("editors").replace("│", " ").split())
    assert "no; 23.8 GB to download into" in said
    assert "Some Non-Commercial License, not for commercial use (https://example.org)" in said
    assert f"its terms must be accepted at https://huggingface.co/{NAME} before it is downloaded" in said
    assert "GPL-3.0-or-later" in said and not site.asked


def test_the_command_line_downloads_only_with_consent(site):
    for words, text, tty in ((["download", NAME], "y\n", False), (["download", NAME], "n\n", True)):
        with pytest.raises(BadInput, match="only with your consent"):
            command(*words, text=text, tty=tty)
        assert not site.asked
    with pytest.raises(BadInput, match="no model that can be downloaded"):
        command("download", "owner/other", "--yes")
    assert str(MODEL.folder) in command("download", NAME, text="yes\n", tty=True)
    assert there() == sorted(WANTED)
    asked = len(site.asked)
    assert str(MODEL.folder) in command("download", NAME) and len(site.asked) == asked


def test_an_edit_asks_before_it_downloads(here, monkeypatch):
    from engine import cli, cli_machine

    fetched = []
    monkeypatch.setattr(cli_machine, "_download", lambda model: fetched.append(model.name))

    def asked(editor=NAME, text="", tty=False, download=False):
        monkeypatch.setattr(sys, "stdin", terminal(text, tty))
        cli_machine.have_editor(editor, download)
        return bool(fetched and [fetched.pop()])

    assert not asked() and not asked(text="\n", tty=True) and not asked(text="y\n")
    assert not asked(None, download=True) and not asked(str(here), download=True)
    assert asked(download=True) and asked(text="y\n", tty=True)
    assert "download" not in cli.How("make it night").words()


def test_one_engine_downloads_at_a_time(site):
    from engine.files import locked

    inside, leave = threading.Event(), threading.Event()

    def other():
        with locked(hub.models_folder().resolve(), "downloading"):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(5)
    with pytest.raises(Busy, match=r"Another engine downloads into .*models: wait until it is done"):
        ask()
    leave.set()
    thread.join()
    assert not site.asked


def test_clip_is_there_when_all_of_it_is(here):
    [offered] = hub.other_models()
    assert offered.name == hub.CLIP.name and offered.offer.bytes == hub.CLIP.bytes
    assert not offered.offer.downloaded and offered.offer.folder == str(hub.CLIP.folder)
    names = ("config.json", "model.safetensors", "preprocessor_config.json", "vocab.json", "merges.txt")
    hub.CLIP.folder.mkdir(parents=True)
    for name in names:
        assert hub.clip_folder() is None
        (hub.CLIP.folder / name).touch()
    assert hub.clip_folder() == hub.CLIP.folder and hub.other_models()[0].offer.downloaded
