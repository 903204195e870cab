# SPDX-License-Identifier: GPL-3.0-or-later
"""The line to the engine, against real processes: a scripted stand-in that behaves, and ones that do not."""

from __future__ import annotations

import os
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
from addon_captures import ring

from blender_addon import asking, messages, state, wire
from blender_addon.client import Client, clean_environment
from blender_addon.messages import Failure

FAKE = [sys.executable, str(Path(__file__).parent / "fake_engine.py")]


class Asked:
    """Collects what became of a request."""

    def __init__(self) -> None:
        self.result: object = None
        self.failure: Failure | None = None
        self.count = 0
        self.number = 0

    def done(self, result: object) -> None:
        self.result, self.count = result, self.count + 1

    def failed(self, failure: Failure) -> None:
        self.failure, self.count = failure, self.count + 1


def ask(method: str, **params: object) -> Asked:
    asked = Asked()
    asked.number = asking.request(method, params, asked.done, panel="edit", failed=asked.failed)
    return asked


def settle(*asked: Asked, timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not all(a.count for a in asked):
        assert time.monotonic() < deadline, f"no answer; log: {state.get().client.log()}"
        asking.hear()
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
    state.begin()

    def make(*modes: str, **options: object) -> Client:
        clients.append(Client([*FAKE, *modes], cwd=tmp_path, **options))
        state.get().client = clients[-1]
        return clients[-1]

    yield make
    for client in clients:
        client.close(0.0)


def test_an_answer_reaches_its_own_question(start) -> None:
    start()
    good, bad = ask("initialize", protocol=2), ask("no/such")
    settle(good, bad)
    assert good.result.presets[0].name == "preview"
    assert bad.failure is not None and bad.failure.code == -32601
    assert state.get().waiting == 0


def test_a_result_that_is_not_what_the_protocol_says_fails_its_request(start, tmp_path: Path) -> None:
    start("liar")
    params = {"workspace": str(tmp_path / "w"), "source": str(ring(tmp_path / "capture")), "preset": "preview"}
    opened = ask("capture/open", **params)
    settle(opened)
    told = "The engine's views is not a list of at most 200000 entries."
    assert opened.count == 1 and opened.failure == Failure(wire.INTERNAL, told)
    assert state.get().notices == {"edit": told}


def test_a_result_is_read_on_a_thread_of_its_own(start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_by: list[str] = []

    def read(method: str, result: object, acts_as: str = "") -> object:
        read_by.append(threading.current_thread().name)
        raise KeyError("a fault of the add-on's own")

    start()
    monkeypatch.setattr("blender_addon.answers.read", read)
    first = ask("initialize", protocol=2)
    settle(first)
    assert "add-on itself" in first.failure.message  # and the thread goes on
    monkeypatch.undo()
    again = ask("initialize", protocol=2)
    settle(again)
    assert again.result.presets and threading.main_thread().name not in read_by and len(read_by) == 1


def test_what_is_no_message_is_logged_and_does_no_harm(start) -> None:
    client = start("garbage")
    asked = [ask("initialize", protocol=2) for _ in range(20)]
    settle(*asked)
    assert all(a.count == 1 and a.failure is None for a in asked)
    assert any("Loading checkpoint" in line for line in client.log())


def test_a_dying_engine_fails_every_waiting_request_with_its_last_words(start, tmp_path: Path) -> None:
    client = start("crash-edit")
    capture = ring(tmp_path / "capture")
    opened = ask("capture/open", workspace=str(tmp_path / "w"), source=str(capture), preset="preview")
    settle(opened)
    edit = ask("edit/run", workspace=str(tmp_path / "w"), instruction="x", preset="preview")
    later = ask("capture/images", workspace="x")  # answered (busy) or failed, but never forgotten
    settle(edit, later)
    assert edit.count == 1 and edit.failure is not None
    assert edit.failure.code == wire.ENGINE_DIED and "exit code 7" in edit.failure.message
    assert "device-side assert" in edit.failure.detail
    assert not client.alive
    with pytest.raises(RuntimeError, match="not running"):
        ask("initialize", protocol=2)


def test_a_killed_engine_is_named_by_its_signal(start) -> None:
    client = start()
    settle(ask("initialize", protocol=2))
    waiting = ask("edit/try", view="none")
    os.kill(client.pid, 9)
    settle(waiting)
    while client.alive:
        asking.hear()
    assert client.death is not None and "SIGKILL" in client.death.message


def test_an_endless_line_ends_the_engine(start) -> None:
    client = start("flood", line_limit=1_000_000)
    asked = ask("initialize", protocol=2)
    settle(asked)
    assert asked.failure is not None and "more than 1000000 bytes" in asked.failure.message
    assert client.close() != 0


def test_closing_asks_first_and_reaps(start) -> None:
    client = start()
    settle(ask("initialize", protocol=2))
    began = time.monotonic()
    assert client.close(10.0) == 0
    assert time.monotonic() - began < 5.0
    assert gone(client.pid)
    assert client.close() == 0  # again does no harm


def test_an_engine_that_does_not_listen_is_killed_after_patience(start) -> None:
    client = start("deaf")
    asked = ask("initialize", protocol=2)
    began = time.monotonic()
    assert client.close(0.5) == -9
    assert 0.4 < time.monotonic() - began < 4.0
    settle(asked)
    assert asked.count == 1 and asked.failure is not None
    assert gone(client.pid)


def test_closing_while_an_edit_runs_fails_it_and_leaves_nobody(start, tmp_path: Path) -> None:
    client = start("tick=0.3")
    settle(ask("capture/open", workspace=str(tmp_path), source=str(ring(tmp_path / "capture")), preset="p"))
    edit = ask("edit/run", workspace=str(tmp_path), instruction="x", preset="preview")
    time.sleep(0.3)
    client.close(10.0)
    settle(edit)
    assert edit.count == 1 and edit.failure is not None
    assert gone(client.pid)


def test_notifications_arrive_in_order_on_the_thread_that_hears(start, tmp_path: Path, monkeypatch) -> None:
    heard: list[tuple[str, object]] = []
    monkeypatch.setattr(asking, "_notified", lambda method, params: heard.append((method, params)))
    start()
    settle(ask("capture/open", workspace=str(tmp_path), source=str(ring(tmp_path / "capture")), preset="p"))
    settle(ask("capture/images", workspace=str(tmp_path)))
    steps = [wire.parse_progress(p).step for m, p in heard if m == wire.JOB_PROGRESS]
    assert steps == sorted(steps) and steps[-1] == 12  # some may have been overtaken
    assert sum(m == wire.JOB_VIEW for m, _ in heard) == 12


def test_a_running_edit_is_talked_to(start, tmp_path: Path, monkeypatch) -> None:
    heard: list[messages.Progress] = []

    def listen(method: str, params: object) -> None:
        if method == wire.JOB_PROGRESS:
            heard.append(wire.parse_progress(params))

    monkeypatch.setattr(asking, "_notified", listen)
    start("tick=0.05")
    opened = ask(wire.CAPTURE_OPEN, workspace=str(tmp_path), source=str(ring(tmp_path / "capture")), preset="p")
    settle(opened)
    view = opened.result.views[0]
    edit = ask(wire.EDIT_RUN, workspace=str(tmp_path), instruction="x", preset="preview")
    job = edit.number
    while not any(progress.stage == "edit" for progress in heard):
        asking.hear()
        time.sleep(0.01)
    paused = ask(wire.JOB_PAUSE, job=job)
    seen = ask(wire.JOB_RENDER, job=job, camera=wire.camera_object(view.camera))
    changed = ask(wire.JOB_CHANGE, job=job, instruction="y")
    again = ask(wire.JOB_REMAKE, job=job, view=view.name)
    wrong = ask(wire.JOB_PAUSE, job=job + 99)
    settle(paused, seen, changed, again, wrong)
    assert Path(seen.result.image).exists()
    assert changed.result == again.result == seen.result.step
    assert wrong.failure is not None and wrong.failure.field == "job"
    at = heard[-1].step
    time.sleep(0.2)
    asking.hear()
    assert heard[-1].step <= at + 1  # the step that it was taking
    settle(ask(wire.JOB_CONTINUE, job=job), edit)
    done = edit.result
    assert [(c.instruction, c.view) for c in done.changes] == [("y", ""), ("", view.name)]


def test_text_that_utf8_cannot_hold_is_asked_and_answered(start, tmp_path: Path) -> None:
    client = start()
    name = os.fsdecode(b"caf\xe9") if os.name == "posix" else "caf\udce9"
    params = {"workspace": str(tmp_path), "source": str(tmp_path / name / "x"), "preset": "p"}
    with pytest.raises(ValueError, match="no Unicode"):  # said before it is asked
        ask("capture/open", **params)
    client.send(1, wire.request_line(1, "capture/open", params), wire.parse_capture)
    while (answer := client.receive()) is None:
        time.sleep(0.01)
    assert "caf\\udce9" in wire.parse_failure(answer.error).message


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}, b"bytes"])
def test_what_cannot_be_sent_is_refused_and_nothing_waits_for_it(start, value: object) -> None:
    start()
    with pytest.raises(ValueError, match=r"capture/open cannot be sent|not finite"):
        ask("capture/open", source=value)
    assert state.get().waiting == 0
    settle(ask("initialize", protocol=2))  # the line is as it was


@pytest.mark.parametrize("mode", ["chatter", "chatter-views", "chatter-logs", "chatter-answers"])
def test_an_engine_that_talks_without_end_costs_little_memory(start, mode: str) -> None:
    """While Blender is busy: nobody polls."""
    start(mode)
    asked = ask("initialize", protocol=2)
    tracemalloc.start()
    try:
        time.sleep(0.7)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 25e6, f"{most / 1e6:.0f} MB"
    settle(asked)
    assert asked.failure is None


def test_a_command_that_does_not_exist_raises() -> None:
    with pytest.raises(OSError):
        Client(["/nowhere/python", "-m", "engine"])


def test_blenders_python_variables_do_not_reach_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/blender/python")
    monkeypatch.setenv("PYTHONPATH", "/blender/scripts")
    env = clean_environment()
    assert "PYTHONHOME" not in env and "PYTHONPATH" not in env and env["PYTHONUTF8"] == "1"
