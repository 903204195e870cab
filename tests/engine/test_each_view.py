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
    assert set(of_each_view(5, lambda *_: numba.get_num_threads(), lambda _: None)) == {1}
    assert numba.get_num_threads() == own


def test_done_is_told_on_the_callers_thread():
    told = set()
    of_each_view(3, lambda *_: time.sleep(0.3), lambda _: told.add(threading.get_ident()))
    assert told == {threading.get_ident()}


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

    def done(_: int) -> None:
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
