# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine that a command leads to: over a slow line that is cut, and over SSH to this machine. What it does goes on
where the line is cut, and is found again."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import bpy
import pytest
from in_blender import ROOT, settle
from test_detached import TICKING, begun
from test_toy_editor import capture_of, use_toy_engine

from blender_addon import jobs, project, session, wire

ask = bpy.ops.instruct_nerf
SSHD = os.environ.get("INSTRUCT_NERF_SSHD") or shutil.which("sshd") or "/usr/sbin/sshd"


def followed_to_its_end(scene: bpy.types.Scene) -> None:
    ask.reconnect()
    settle()
    [found] = project.project_of(scene).jobs
    assert found.state in ("running", "done")
    ask.attach()
    settle()
    assert session.get().job.status == "done" and project.edit_of(scene).finished
    assert project.project_of(scene).jobs == ()


@pytest.fixture
def line(addon: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The engine at the end of a slow line; the file that cuts it."""
    pytest.importorskip("msgspec", reason="the engine's packages are not installed")
    monkeypatch.setattr(jobs, "ENGINE_ARGUMENTS", ["-m", "engine", TICKING])
    monkeypatch.setenv("CUT", str(tmp_path / "cut"))
    monkeypatch.setenv("STEPS", "400")
    project.preferences().engine_python = f"{sys.executable} {ROOT / 'tests' / 'blender' / 'cut_line.py'}"
    return tmp_path / "cut"


def test_a_cut_line_fails_what_waits_with_a_sentence_and_the_edit_goes_on(line: Path, tmp_path: Path) -> None:
    scene = begun(tmp_path)
    job = session.get().job
    line.write_text("")
    assert session.wait(lambda: not job.active, 10.0)
    assert session.wait(lambda: session.get().client is None, 10.0)
    assert job.status == "failed" and not session.get().asked
    assert "ended unexpectedly (exit code 255)" in session.get().notices["engine"]
    assert session.get().news["edit"] == session.GOES_ON
    line.unlink()
    followed_to_its_end(scene)


def test_an_engine_that_is_stopped_does_not_go_on(line: Path, tmp_path: Path) -> None:
    scene = begun(tmp_path)
    job = session.get().job
    ask.stop_engine()
    assert session.wait(lambda: session.get().client is None, 15.0) and not job.active
    ask.reconnect()
    settle()
    assert project.project_of(scene).jobs == () and not project.edits_of(scene)[0].finished


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    """The folder that files are sent to; the other side uses no other."""
    project.preferences().folder_there = str(tmp_path / "there")
    return tmp_path / "there"


def made_there(scene: bpy.types.Scene, there: Path) -> None:
    """That what the scene shows was made there and came here, and that nothing there knows of here."""
    found, here = project.project_of(scene), Path(project.workspace_of(scene))
    [copy] = (there / "projects").iterdir()
    [capture] = (there / "captures").iterdir()
    shown = [view.image for view in found.capture.views]
    shown += [image for edit in found.edits for image in (*edit.images.values(), *edit.views.values())]
    assert shown and found.edits[0].finished
    for image in map(Path, shown):
        assert image.read_bytes() == (copy / image.relative_to(here)).read_bytes()
    assert len(list(capture.rglob("*.png"))) == len(found.capture.views)
    opened = (copy / "capture" / "capture.json").read_text()
    assert str(there) in opened and str(here) not in opened and scene.instruct_nerf.source not in opened


def test_over_a_slow_line_that_is_cut_captures_are_sent_and_pictures_come_back(
    line: Path, sent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPS", "200")
    scene = begun(tmp_path)
    assert Path(scene.instruct_nerf.source) == tmp_path / "capture"
    job = session.get().job
    assert session.wait(lambda: bool(job.image) and Path(job.image).exists(), 10.0)
    line.write_text("")
    assert session.wait(lambda: not job.active and session.get().client is None, 15.0)
    assert "ended unexpectedly (exit code 255)" in session.get().notices["engine"]
    line.unlink()
    followed_to_its_end(scene)
    made_there(scene, sent)
    ask.open_capture(filepath=str(tmp_path / "capture"))  # what is there is not sent again
    settle()
    assert not session.get().notices and len(list((sent / "captures").iterdir())) == 1


def test_an_engine_of_another_version_is_refused(line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "ENGINE", "0.0.9")
    ask.start_engine()
    assert session.wait(lambda: session.get().client is None, 20.0)
    assert "belongs to 0.0.9: install the same there" in session.get().notices["engine"]


@pytest.fixture
def ssh(addon: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen]:
    """A server of this machine's own, on the loopback, with keys of the test's; the engine is reached through it."""
    client = os.environ.get("INSTRUCT_NERF_SSH") or shutil.which("ssh")
    keygen = os.environ.get("INSTRUCT_NERF_SSH_KEYGEN") or shutil.which("ssh-keygen")
    if not (client and keygen and Path(SSHD).exists() and os.name == "posix"):
        pytest.skip("OpenSSH is not installed")
    pytest.importorskip("msgspec", reason="the engine's packages are not installed")
    for name in ("host", "key"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    (tmp_path / "known").write_text((tmp_path / "key.pub").read_text())
    (tmp_path / "known").chmod(0o600)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "Port": port, "ListenAddress": "127.0.0.1", "HostKey": tmp_path / "host", "PidFile": "none",
        "AuthorizedKeysFile": tmp_path / "known", "StrictModes": "no", "PasswordAuthentication": "no", "UsePAM": "no",
        "KbdInteractiveAuthentication": "no", "PermitRootLogin": "prohibit-password",
    }  # fmt: skip
    (tmp_path / "sshd.conf").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with open(tmp_path / "sshd.log", "wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(tmp_path / "sshd.conf")], stderr=log)
    until = time.monotonic() + 15
    while time.monotonic() < until:
        if server.poll() is not None:
            pytest.skip(f"OpenSSH does not serve here: {(tmp_path / 'sshd.log').read_text()[-200:]}")
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    options = f"-p {port} -i {tmp_path / 'key'} -o IdentitiesOnly=yes -o UserKnownHostsFile={tmp_path / 'hosts'}"
    options += " -o StrictHostKeyChecking=no -o BatchMode=yes -T"
    project.preferences().engine_python = f"{client} {options} {getpass.getuser()}@127.0.0.1 STEPS=400 {sys.executable}"
    monkeypatch.setattr(jobs, "ENGINE_ARGUMENTS", ["-m", "engine", TICKING])
    yield server
    server.kill()
    server.wait()


def test_over_ssh_an_edit_goes_on_where_the_connection_breaks(ssh: subprocess.Popen, tmp_path: Path) -> None:
    scene = begun(tmp_path)
    job = session.get().job
    session.get().client.kill()  # the client of SSH alone: the engine is no child of it
    assert session.wait(lambda: not job.active and session.get().client is None, 15.0)
    assert job.status == "failed" and session.get().news["edit"] == session.GOES_ON
    followed_to_its_end(scene)


def test_over_ssh_an_edit_is_detached_and_found_again(ssh: subprocess.Popen, tmp_path: Path) -> None:
    scene = begun(tmp_path)
    job = session.get().job
    ask.detach()
    assert session.wait(lambda: job.status == "detached", 15.0), session.get().notices
    settle()
    ask.attach()
    settle()
    assert session.get().job.status == "done" and project.edit_of(scene).finished


def test_over_ssh_captures_are_sent_and_pictures_come_back(ssh: subprocess.Popen, sent: Path, tmp_path: Path) -> None:
    scene = begun(tmp_path)
    session.get().client.kill()
    assert session.wait(lambda: session.get().client is None, 15.0)
    followed_to_its_end(scene)
    made_there(scene, sent)


@pytest.mark.slow
def test_over_ssh_a_whole_edit_is_made_and_its_mesh_imported(
    ssh: subprocess.Popen, sent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine itself, with an editor and a preset that take seconds."""
    toy = use_toy_engine(tmp_path, monkeypatch)
    named = project.preferences().engine_python
    program = str(ROOT / "tests" / "engine" / "toy_engine.py")
    project.preferences().engine_python = named.replace(sys.executable, f"INSTRUCT_NERF_EDITOR={toy} {sys.executable}")
    monkeypatch.setattr(jobs, "ENGINE_ARGUMENTS", ["-m", "engine", program])
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    ask.open_capture(filepath=str(capture_of(tmp_path / "capture")))
    settle(240)
    scene = bpy.context.scene
    scene.instruct_nerf.instruction = "paint it"
    ask.start_edit()
    job = session.get().job
    assert session.wait(lambda: bool(job.stage) or not job.active, 240.0) and job.active, session.get().notices
    session.get().client.kill()  # the connection breaks, and is made again
    assert session.wait(lambda: session.get().client is None, 30.0)
    ask.reconnect()
    settle(120)
    ask.attach()
    settle(300)
    assert project.edit_of(scene).finished, session.get().notices
    made_there(scene, sent)
    ask.import_mesh()
    settle(300)
    here = Path(project.workspace_of(scene))
    [mesh] = here.rglob("mesh.ply")
    assert session.get().job.status == "done" and mesh.stat().st_size > 100, session.get().notices
