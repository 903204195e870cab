# SPDX-License-Identifier: GPL-3.0-or-later
"""Views that are asked for at any time: answered once, whatever runs, begins or ends meanwhile."""

import threading
import time

import pytest
from server_wire import Wire

from engine import protocol
from engine.errors import BadInput

CAMERA = {"pose": [1.0] * 16, "width": 4, "height": 3, "fx": 1.0, "fy": 1.0, "cx": 1.0, "cy": 1.0}


class Viewing:
    """A renderer that takes as long as it is told to, and where it ran."""

    def __init__(self):
        self.threads, self.begun, self.finish, self.times = set(), threading.Event(), threading.Event(), 0

    def __call__(self, request, job, check):
        self.threads.add(threading.current_thread().name)
        self.times += 1
        self.begun.set()
        if request.edit == "none":
            raise BadInput("There is no edit none.", field="edit")
        if request.edit == "broken":
            raise ValueError("a defect")
        while not self.finish.is_set():
            check()
            time.sleep(0.001)
        return {"pixels": request.workspace, "step": None}


class Stepping:
    """A job of small steps."""

    def __init__(self):
        self.step, self.over = 0, threading.Event()

    def __call__(self, request, job):
        while not self.over.is_set():
            job.check()
            self.step += 1
            time.sleep(0.001)
        return {"steps": self.step}


@pytest.fixture
def viewing(monkeypatch):
    from engine.jobs import looking

    made = Viewing()
    monkeypatch.setattr(looking, "render_view", made)
    return made


@pytest.fixture
def stepping(monkeypatch):
    from engine.jobs import scene

    made = Stepping()
    monkeypatch.setattr(scene, "train_scene", made)
    return made


@pytest.fixture
def wire(viewing, stepping):
    made = Wire(warm_up=lambda: None)
    yield made
    stepping.over.set()
    viewing.finish.set()
    made.server.close()


def look(wire, ident, **more):
    wire.ask("view/render", ident, workspace="/w", camera=CAMERA, **more)


def test_an_idle_engine_renders_at_once_and_is_not_busy(wire, viewing):
    look(wire, 2)
    assert viewing.begun.wait(5) and not wire.server.busy
    viewing.finish.set()
    assert wire.answer(2)["result"] == {"pixels": "/w", "step": None}
    assert viewing.threads == {"jobs"}


def test_a_job_that_runs_renders_between_its_steps(wire, viewing, stepping):
    wire.ask("scene/train", 1, workspace="/w")
    look(wire, 2)
    assert viewing.begun.wait(5)
    at = stepping.step
    time.sleep(0.05)
    assert stepping.step == at  # it waits
    viewing.finish.set()
    wire.answer(2)
    stepping.over.set()
    assert wire.answer(1)["result"]["steps"] >= at and viewing.threads == {"jobs"}


@pytest.mark.parametrize("job", [False, True])
def test_a_view_is_cancelled_by_its_id_and_nothing_else_is(wire, viewing, stepping, job):
    if job:
        wire.ask("scene/train", 1, workspace="/w")
    look(wire, 2)
    assert viewing.begun.wait(5)
    look(wire, "other")
    wire.ask("job/cancel", 3, job=2)
    assert wire.answer(3)["result"] == {"cancelling": True}
    assert wire.answer(2)["error"]["code"] == protocol.CANCELLED
    viewing.finish.set()
    assert wire.answer("other")["result"]["pixels"] == "/w"
    wire.ask("job/cancel", 4, job=2)
    assert wire.answer(4)["result"] == {"cancelling": False}
    if job:
        stepping.over.set()
        assert "result" in wire.answer(1)


def test_a_view_outlives_the_job_that_was_to_render_it(wire, viewing):
    wire.ask("scene/train", 1, workspace="/w")
    look(wire, 2)
    assert viewing.begun.wait(5)
    wire.ask("job/cancel", 3, job=1)
    assert wire.answer(1)["error"]["code"] == protocol.CANCELLED
    viewing.finish.set()
    assert wire.answer(2)["result"]["pixels"] == "/w" and viewing.times > 1


def test_a_view_that_a_job_never_came_to_is_rendered_after_it(wire, viewing, stepping, monkeypatch):
    from engine.jobs import scene

    monkeypatch.setattr(scene, "train_scene", lambda request, job: stepping.over.wait(5) and {"steps": 1})
    wire.ask("scene/train", 1, workspace="/w")
    look(wire, 2)
    viewing.finish.set()
    stepping.over.set()
    assert wire.answer(1)["result"] == {"steps": 1}
    assert wire.answer(2)["result"]["pixels"] == "/w"


def test_a_job_does_not_wait_for_a_view(wire, viewing, stepping):
    look(wire, 2)
    assert viewing.begun.wait(5)
    wire.ask("scene/train", 1, workspace="/w")
    deadline = time.monotonic() + 5
    while viewing.times < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert viewing.times == 2 and wire.server.busy  # the job has begun, and renders it
    viewing.finish.set()
    assert wire.answer(2)["result"]["pixels"] == "/w"
    stepping.over.set()
    assert wire.answer(1)["result"]["steps"] > 0


def test_what_cannot_be_seen_is_a_sentence_and_the_job_goes_on(wire, stepping):
    wire.ask("scene/train", 1, workspace="/w")
    look(wire, 2, edit="none")
    assert wire.answer(2)["error"]["message"] == "There is no edit none."
    look(wire, 3, edit="broken")
    assert wire.answer(3)["error"]["code"] == protocol.INTERNAL
    stepping.over.set()
    assert wire.answer(1)["result"]["steps"] > 0


def test_nothing_is_rendered_while_the_job_waits_for_something_that_loads(wire, viewing, stepping, monkeypatch):
    """What is loaded may use threads of which one user at a time is allowed."""
    from engine.jobs import scene

    loaded = threading.Event()

    def train(request, job):
        job.wait_for(lambda: loaded.wait(5))
        assert not viewing.begun.is_set()
        return stepping(request, job)

    monkeypatch.setattr(scene, "train_scene", train)
    wire.ask("scene/train", 1, workspace="/w")
    look(wire, 2)
    viewing.finish.set()
    time.sleep(0.3)
    loaded.set()
    wire.answer(2)
    stepping.over.set()
    assert "result" in wire.answer(1)


def test_a_view_without_an_id_is_refused(wire):
    wire.ask("view/render", None, workspace="/w", camera=CAMERA)
    assert "needs an id" in wire.answer(None)["error"]["message"]


def test_an_engine_that_leaves_answers_first(viewing, stepping):
    wire = Wire(warm_up=lambda: None)
    look(wire, 2)
    assert viewing.begun.wait(5)
    wire.ask("shutdown", 3)
    assert wire.answer(2)["error"]["code"] == protocol.CANCELLED
    assert wire.answer(3)["result"] == {}
