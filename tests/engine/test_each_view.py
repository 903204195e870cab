# SPDX-License-Identifier: GPL-3.0-or-later
"""The same work on every view, on several threads."""

import threading
import time

import numba
import pytest

from engine.scenes.each_view import Ended, of_each_view

WAIT = 20.0  # seconds that nothing here takes


@pytest.fixture
def threads(monkeypatch):
    """Four, whatever this machine has."""
    monkeypatch.setattr(numba, "get_num_threads", lambda: 4)


def test_results_come_in_order_and_views_are_worked_on_at_once(threads):
    together = threading.Barrier(4)  # broken if fewer than four work at the same time

    def work(number: int, _) -> int:
        together.wait(WAIT)
        time.sleep(0.01 * (8 - number))
        return number**2

    counts = []
    assert of_each_view(8, work, counts.append) == [number**2 for number in range(8)]
    assert counts == sorted(counts) and counts[0] == 0 and counts[-1] == 8
    assert of_each_view(0, work, counts.append) == []


def test_the_work_has_one_of_numbas_threads_and_the_caller_keeps_its_own():
    own = numba.get_num_threads()
    if own < 2:
        pytest.skip("numba has one thread here")
    assert set(of_each_view(5, lambda *_: numba.get_num_threads(), lambda _: None)) == {1}
    assert numba.get_num_threads() == own


def test_done_is_told_on_the_callers_thread():
    told = set()
    of_each_view(3, lambda *_: time.sleep(0.3), lambda _: told.add(threading.get_ident()))
    assert told == {threading.get_ident()}


def test_work_waits_while_done_does(threads):
    """A paused job's check returns when it is to go on."""
    begun, waits = [], []

    def work(number: int, check) -> None:
        begun.append(number)
        for _ in range(20):
            time.sleep(0.005)
            check()

    def done(_: int) -> None:
        time.sleep(0.2)  # what was within its work is at its check by now
        before = len(begun)
        time.sleep(0.5)
        waits.append(len(begun) - before)

    of_each_view(12, work, done)
    assert sorted(begun) == list(range(12)) and waits and not any(waits)


def test_as_many_at_once_as_are_asked(threads):
    at_once, most, lock = [0], [0], threading.Lock()

    def work(*_) -> None:
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        time.sleep(0.02)
        with lock:
            at_once[0] -= 1

    of_each_view(12, work, lambda _: None, 2)
    assert most == [2]


def test_it_ends_soon_when_done_raises(threads):
    began, ended = threading.Semaphore(0), []

    def work(_: int, check) -> None:
        began.release()
        try:
            until = time.monotonic() + WAIT
            while time.monotonic() < until:
                check()
                time.sleep(0.01)
        except Ended:
            ended.append(1)
            raise

    told = []

    def done(count: int) -> None:
        told.append(count)
        if len(told) > 1:  # what the first one lets begin has begun
            assert began.acquire(timeout=WAIT)
            raise KeyboardInterrupt

    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        of_each_view(50, work, done)
    assert time.monotonic() - before < WAIT / 4 and len(ended) <= 5


def test_a_fault_ends_the_others(threads):
    def work(number: int, check) -> None:
        if number == 2:
            raise ValueError("the third")
        until = time.monotonic() + WAIT
        while time.monotonic() < until:
            check()
            time.sleep(0.01)

    before = time.monotonic()
    with pytest.raises(ValueError, match="the third"):
        of_each_view(6, work, lambda _: None)
    assert time.monotonic() - before < WAIT / 4
