# SPDX-License-Identifier: GPL-3.0-or-later
"""A job that is talked to while it runs, by the wire."""

import threading
import time

import pytest
from server_wire import Wire

from engine import protocol
from engine.errors import BadInput, Cancelled
from engine.progress import Job, Plan, Stage
from engine.wishes import Wishes

CAMERA = {"pose": [1.0] * 16, "width": 4, "height": 3, "fx": 1.0, "fy": 1.0, "cx": 1.0, "cy": 1.0}


class Stepping:
    """A job of small steps that can render where it is, and says which step it takes."""

    def __init__(self):
        self.step, self.threads, self.begin_granting = 0, set(), threading.Event()

    def __call__(self, request, job):
        self.begin_granting.wait(10)
        plan = job.plan(Stage("train", "Learning", 1000, 0.01))
        stage = plan.begin("train")

        def render(wish):
            self.threads.add(threading.get_ident())
            job.check()  # as a renderer does between parts of a picture
            if wish.camera.width == 13:
                raise BadInput("No such camera.", field="camera")
            return {"image": "a.png", "step": self.step}

        with job.wishes.granting({"job/render": render}):
            self.threads.add(threading.get_ident())
            while self.step < 1000:
                job.check()
                self.step += 1
                time.sleep(0.002)
                plan.advance(self.step)
                job.report(plan, stage)
        return {"steps": self.step}


@pytest.fixture
def stepping(monkeypatch):
    from engine.jobs import scene

    job = Stepping()
    monkeypatch.setattr(scene, "train_scene", job)
    return job


@pytest.fixture
def wire(stepping):
    made = Wire(warm_up=lambda: None)
    made.ask("scene/train", 1, workspace="/w")
    yield made
    made.server.close()


def test_a_wish_is_granted_between_two_steps_on_the_jobs_own_thread(wire, stepping):
    stepping.begin_granting.set()
    wire.ask("job/render", 2, job=1, camera=CAMERA)
    wire.ask("job/render", 3, job=1, camera={**CAMERA, "width": 13})
    assert wire.answer(2)["result"]["image"] == "a.png"
    assert wire.answer(3)["error"] == {"code": -32000, "message": "No such camera.", "data": {"field": "camera"}}
    assert len(stepping.threads) == 1
    wire.ask("job/cancel", 4, job=1)
    assert wire.answer(1)["error"]["code"] == protocol.CANCELLED


def test_a_paused_job_waits_renders_goes_on_and_can_be_cancelled(wire, stepping):
    stepping.begin_granting.set()
    wire.ask("job/pause", 2, job=1)
    assert wire.answer(2)["result"] == {"paused": True}
    time.sleep(0.1)
    at = stepping.step
    wire.ask("job/render", 3, job=1, camera=CAMERA)
    assert wire.answer(3)["result"]["step"] == at
    time.sleep(0.2)
    assert stepping.step == at
    wire.ask("job/continue", 4, job=1)
    assert wire.answer(4)["result"] == {"paused": False}
    time.sleep(0.2)
    assert stepping.step > at
    wire.ask("job/pause", 5, job=1)
    wire.answer(5)
    began = time.monotonic()
    wire.ask("job/cancel", 6, job=1)
    assert wire.answer(1)["error"]["code"] == protocol.CANCELLED and time.monotonic() - began < 1.5


def test_a_paused_job_lets_the_engine_leave(stepping):
    wire = Wire(warm_up=lambda: None)
    wire.ask("scene/train", 1, workspace="/w")
    stepping.begin_granting.set()
    wire.ask("job/pause", 2, job=1)
    wire.answer(2)
    began = time.monotonic()
    wire.ask("shutdown", 3)
    assert wire.answer(3)["result"] == {} and time.monotonic() - began < 2


def test_wishes_that_cannot_be_granted_are_answered(wire, stepping):
    for ident, (method, params, why) in enumerate(
        [
            ("job/render", {"job": 77, "camera": CAMERA}, "does not run"),
            ("job/pause", {"job": "1"}, "does not run"),
            ("job/remake", {"job": 1, "view": "a"}, "cannot be asked"),
        ],
        start=10,
    ):
        wire.ask(method, ident, **params)
        error = wire.answer(ident)["error"]
        assert error["code"] == protocol.BAD_INPUT and why in error["message"] and error["data"] == {"field": "job"}
    wire.ask("job/render", 2, job=1, camera=CAMERA)  # before there is a scene, and then there never is one
    stepping.step = 1000
    stepping.begin_granting.set()
    assert "ended before" in wire.answer(2)["error"]["message"]
    assert wire.answer(1)["result"] == {"steps": 1000}


def test_what_is_wished_too_late_fails():
    wishes = Wishes()
    early = wishes.make("job/render", None)
    wishes.close()
    for answer in (early, wishes.make("job/render", None)):
        with pytest.raises(BadInput, match="ended before"):
            answer.result(0)


def test_a_cancelled_job_cancels_what_it_is_granting():
    stop = threading.Event()
    job = Job(cancelled=stop.is_set)

    def render(_):
        stop.set()
        job.check()

    answer = job.wishes.make("job/render", None)
    with job.wishes.granting({"job/render": render}), pytest.raises(Cancelled):
        job.check()
    with pytest.raises(Cancelled):
        answer.result(0)


def test_a_pause_does_not_count_into_the_time_that_is_left():
    job = Job()
    plan = job.plan(Stage("train", "Learning", 200, 1.0))
    assert isinstance(plan, Plan)
    plan.SETTLED = 0.0
    plan.begin("train")
    for step in range(1, 21):
        time.sleep(0.005)
        if step == 10:
            job.wishes.pause()
            threading.Timer(0.6, job.wishes.pause, (False,)).start()
        job.check()
        plan.advance(step)
    assert plan.seconds_left < 180 * 0.02  # a step took 5 ms; with the pause, 35
