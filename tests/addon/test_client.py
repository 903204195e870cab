# SPDX-License-Identifier: GPL-3.0-or-later
"""The line to the engine, against real processes: a scripted stand-in that behaves, and ones that do not."""

from __future__ import annotations

import os
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from addon_captures import ring

from blender_addon import messages, wire
from blender_addon.client import Client, clean_environment
from blender_addon.messages import Failure

FAKE = [sys.executable, str(Path(__file__).parent / "fake_engine.py")]


class Asked:
    """Collects what became of a request."""

    def __init__(self) -> None:
        self.result: object = None
        self.failure: Failure | None = None
        self.count = 0

    def done(self, result: object) -> None:
        self.result, self.count = result, self.count + 1

    def failed(self, failure: Failure) -> None:
        self.failure, self.count = failure, self.count + 1


def ask(client: Client, method: str, **params: object) -> Asked:
    asked = Asked()
    client.request(method, params, asked.done, asked.failed)
    return asked


def settle(client: Client, *asked: Asked, timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not all(a.count for a in asked):
        assert time.monotonic() < deadline, f"no answer; log: {client.log()}"
        client.poll()
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether a process exists neither alive nor as a zombie of ours."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def start(tmp_path: Path):
    clients: list[Client] = []

    def make(*modes: str, **options: object) -> Client:
        clients.append(Client([*FAKE, *modes], cwd=tmp_path, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close(0.0)


def test_an_answer_reaches_its_own_question(start) -> None:
    client = start()
    good, bad = ask(client, "initialize", protocol=2), ask(client, "no/such")
    settle(client, good, bad)
    assert wire.parse_engine(good.result).presets[0].name == "preview"
    assert bad.failure is not None and bad.failure.code == -32601
    assert client.waiting == 0


def test_what_is_no_message_is_logged_and_does_no_harm(start) -> None:
    client = start("garbage")
    asked = [ask(client, "initialize", protocol=2) for _ in range(20)]
    settle(client, *asked)
    assert all(a.count == 1 and a.failure is None for a in asked)
    assert any("Loading checkpoint" in line for line in client.log())


def test_a_dying_engine_fails_every_waiting_request_with_its_last_words(start, tmp_path: Path) -> None:
    client = start("crash-edit")
    capture = ring(tmp_path / "capture")
    opened = ask(client, "capture/open", workspace=str(tmp_path / "w"), source=str(capture), preset="preview")
    settle(client, opened)
    edit = ask(client, "edit/run", workspace=str(tmp_path / "w"), instruction="x", preset="preview")
    later = ask(client, "capture/images", workspace="x")  # answered (busy) or failed, but never forgotten
    settle(client, edit, later)
    assert edit.count == 1 and edit.failure is not None
    assert edit.failure.code == wire.ENGINE_DIED and "exit code 7" in edit.failure.message
    assert "device-side assert" in edit.failure.detail
    assert not client.alive
    after = ask(client, "initialize", protocol=2)
    settle(client, after)
    assert after.failure is not None and after.failure.code == wire.ENGINE_DIED


def test_a_killed_engine_is_named_by_its_signal(start) -> None:
    client = start()
    settle(client, ask(client, "initialize", protocol=2))
    waiting = ask(client, "edit/try", view="none")
    os.kill(client.pid, 9)
    settle(client, waiting)
    while client.alive:
        client.poll()
    assert client.death is not None and "SIGKILL" in client.death.message


def test_an_endless_line_ends_the_engine(start) -> None:
    client = start("flood", line_limit=1_000_000)
    asked = ask(client, "initialize", protocol=2)
    settle(client, asked)
    assert asked.failure is not None and "more than 1000000 bytes" in asked.failure.message
    assert client.close() != 0


def test_closing_asks_first_and_reaps(start) -> None:
    client = start()
    settle(client, ask(client, "initialize", protocol=2))
    began = time.monotonic()
    assert client.close(10.0) == 0
    assert time.monotonic() - began < 5.0
    assert gone(client.pid)
    assert client.close() == 0  # again does no harm


def test_an_engine_that_does_not_listen_is_killed_after_patience(start) -> None:
    client = start("deaf")
    asked = ask(client, "initialize", protocol=2)
    began = time.monotonic()
    assert client.close(0.5) == -9
    assert 0.4 < time.monotonic() - began < 4.0
    assert asked.count == 1 and asked.failure is not None
    assert gone(client.pid)


def test_closing_while_an_edit_runs_fails_it_and_leaves_nobody(start, tmp_path: Path) -> None:
    client = start("tick=0.3")
    settle(
        client, ask(client, "capture/open", workspace=str(tmp_path), source=str(ring(tmp_path / "capture")), preset="p")
    )
    edit = ask(client, "edit/run", workspace=str(tmp_path), instruction="x", preset="preview")
    time.sleep(0.3)
    client.close(10.0)
    assert edit.count == 1 and edit.failure is not None
    assert gone(client.pid)


def test_notifications_arrive_in_order_on_the_polling_thread(start, tmp_path: Path) -> None:
    heard: list[tuple[str, object]] = []
    client = start(notified=lambda method, params: heard.append((method, params)))
    settle(
        client, ask(client, "capture/open", workspace=str(tmp_path), source=str(ring(tmp_path / "capture")), preset="p")
    )
    settle(client, ask(client, "capture/images", workspace=str(tmp_path)))
    steps = [wire.parse_progress(p).step for m, p in heard if m == wire.JOB_PROGRESS]
    assert steps == sorted(steps) and steps[-1] == 12  # some may have been overtaken
    assert sum(m == wire.JOB_VIEW for m, _ in heard) == 12


def test_a_running_edit_is_talked_to(start, tmp_path: Path) -> None:
    heard: list[messages.Progress] = []

    def listen(method: str, params: object) -> None:
        if method == wire.JOB_PROGRESS:
            heard.append(wire.parse_progress(params))

    client = start("tick=0.05", notified=listen)
    opened = ask(client, wire.CAPTURE_OPEN, workspace=str(tmp_path), source=str(ring(tmp_path / "capture")), preset="p")
    settle(client, opened)
    view = wire.parse_capture(opened.result).views[0]
    edit = Asked()
    params = {"workspace": str(tmp_path), "instruction": "x", "preset": "preview"}
    job = client.request(wire.EDIT_RUN, params, edit.done, edit.failed)
    while not any(progress.stage == "edit" for progress in heard):
        client.poll()
        time.sleep(0.01)
    paused = ask(client, wire.JOB_PAUSE, job=job)
    seen = ask(client, wire.JOB_RENDER, job=job, camera=wire.camera_object(view.camera))
    changed = ask(client, wire.JOB_CHANGE, job=job, instruction="y")
    again = ask(client, wire.JOB_REMAKE, job=job, view=view.name)
    wrong = ask(client, wire.JOB_PAUSE, job=job + 99)
    settle(client, paused, seen, changed, again, wrong)
    assert Path(wire.parse_rendered(seen.result).image).exists()
    assert wire.parse_step(changed.result) == wire.parse_step(again.result) == wire.parse_rendered(seen.result).step
    assert wrong.failure is not None and wrong.failure.field == "job"
    at = heard[-1].step
    time.sleep(0.2)
    client.poll()
    assert heard[-1].step <= at + 1  # the step that it was taking
    settle(client, ask(client, wire.JOB_CONTINUE, job=job), edit)
    done = wire.parse_edit(edit.result)
    assert [(c.instruction, c.view) for c in done.changes] == [("y", ""), ("", view.name)]


def test_text_that_utf8_cannot_hold_is_asked_and_answered(start, tmp_path: Path) -> None:
    client = start()
    name = os.fsdecode(b"caf\xe9") if os.name == "posix" else "caf\udce9"
    asked = ask(client, "capture/open", workspace=str(tmp_path), source=str(tmp_path / name / "x"), preset="p")
    settle(client, asked)
    assert asked.failure is not None and "caf\\udce9" in asked.failure.message
    assert client.waiting == 0


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}, b"bytes"])
def test_what_cannot_be_sent_is_refused_and_nothing_waits_for_it(start, value: object) -> None:
    client = start()
    with pytest.raises(ValueError, match="capture/open cannot be sent"):
        ask(client, "capture/open", source=value)
    assert client.waiting == 0
    settle(client, ask(client, "initialize", protocol=2))  # the line is as it was


@pytest.mark.parametrize("mode", ["chatter", "chatter-views", "chatter-logs", "chatter-answers"])
def test_an_engine_that_talks_without_end_costs_little_memory(start, mode: str) -> None:
    """While Blender is busy: nobody polls."""
    heard: list[str] = []
    client = start(mode, notified=lambda method, _params: heard.append(method))
    asked = ask(client, "initialize", protocol=2)
    tracemalloc.start()
    try:
        time.sleep(0.7)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 25e6, f"{most / 1e6:.0f} MB"
    settle(client, asked)
    assert asked.failure is None


def test_a_command_that_does_not_exist_raises() -> None:
    with pytest.raises(OSError):
        Client(["/nowhere/python", "-m", "engine"])


def test_blenders_python_variables_do_not_reach_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/blender/python")
    monkeypatch.setenv("PYTHONPATH", "/blender/scripts")
    env = clean_environment()
    assert "PYTHONHOME" not in env and "PYTHONPATH" not in env and env["PYTHONUTF8"] == "1"
