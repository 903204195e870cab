# SPDX-License-Identifier: GPL-3.0-or-later
"""Time remaining, against a clock that the test moves."""

import pytest

from engine.errors import Cancelled
from engine.progress import Job, Plan, Stage


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_time_left_is_right_for_a_machine_three_times_slower_than_guessed():
    clock = Clock()
    plan = Plan(Stage("train", "", 100, 0.1), Stage("edit", "", 50, 0.4), clock=clock)
    plan.begin("train")
    assert plan.seconds_left is None
    for step in range(1, 51):
        clock.now += 0.3
        plan.advance(step)
    # 50 steps of 0.3 s are left, and 50 of 0.4 s guessed, which the first stage says are 1.2 s here
    assert plan.seconds_left == pytest.approx(50 * 0.3 + 50 * 1.2)
    assert plan.fraction == pytest.approx(15 / (30 + 60))
    for step in range(51, 101):
        clock.now += 0.3
        plan.advance(step)
    plan.begin("edit")
    clock.now += 2.0
    plan.advance(1)
    assert plan.seconds_left == pytest.approx(49 * 2.0)


def test_a_resumed_stage_counts_only_what_is_left():
    clock = Clock()
    plan = Plan(Stage("train", "", 100, 1.0, done=90), clock=clock)
    plan.begin("train")
    for step in range(91, 96):
        clock.now += 2
        plan.advance(step)
    assert plan.seconds_left == pytest.approx(10)
    assert plan.fraction == pytest.approx(0.95)


def test_what_was_done_before_says_nothing_of_this_machine():
    clock = Clock()
    stages = Stage("depths", "", 100, 2.0), Stage("train", "", 100, 1.0), Stage("before", "", 50, 1.0)
    plan = Plan(*stages, clock=clock)
    assert plan.skip("depths").done == 100
    plan.begin("train")
    for step in range(1, 51):
        clock.now += 1.0  # just as guessed
        plan.advance(step)
    assert plan.seconds_left == pytest.approx(50 + 50)
    assert plan.fraction == pytest.approx(250 / 350)


def test_the_rate_follows_a_change():
    clock = Clock()
    plan = Plan(Stage("train", "", 1000, 1.0), clock=clock)
    plan.begin("train")
    for step in range(1, 501):
        clock.now += 0.1 if step <= 300 else 1.0
        plan.advance(step)
    assert plan.seconds_left == pytest.approx(500, rel=0.02)


def test_waiting_for_work_answers_a_cancel():
    import threading

    block = threading.Event()
    checks = iter([False, False, True])
    with pytest.raises(Cancelled):
        Job(cancelled=lambda: next(checks)).wait_for(lambda: block.wait(30))
    block.set()
    assert Job().wait_for(lambda: 7) == 7

    def fails():
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        Job().wait_for(fails)
