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

from blender_addon import jobs, project, session

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
