# SPDX-License-Identifier: GPL-3.0-or-later
"""The same work on every view, on all of the processor's cores."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Event
from typing import TypeVar

import numba

Result = TypeVar("Result")
Check = Callable[[], None]
EVERY = 0.2  # seconds, after which it is asked whether the work is to go on


class Ended(Exception):
    """Raised within the work on a view when the whole is ended."""


def of_each_view(
    count: int, work: Callable[[int, Check], Result], done: Callable[[int], None], most: int | None = None
) -> list[Result]:
    """What ``work`` returns for the number of each of ``count`` views, in their order.

    It runs on as many threads as numba has, and has one of them, so it must be of compiled code mostly, and independent
    of the other views; it is given a function to call often, which raises `Ended` when another view's work failed or
    when ``done`` raised: told on the caller's own thread, often, how many views are done, whose exception ends the
    whole. While ``done`` lets wait, as a paused job's does, the work waits, too. ``most`` views at once, where each
    takes much memory."""
    ended, going = Event(), Event()

    def check() -> None:
        going.wait()
        if ended.is_set():
            raise Ended

    def told(count: int) -> None:
        going.clear()
        done(count)
        going.set()

    def begun(number: int) -> Result:
        check()
        return work(number, check)

    # numba's number of threads is each thread's own: what asks for it within the work is told one.
    threads = min(most or count or 1, numba.get_num_threads())
    with ThreadPoolExecutor(threads, initializer=numba.set_num_threads, initargs=(1,)) as pool:
        futures = [pool.submit(begun, number) for number in range(count)]
        try:
            left = set(futures)
            told(0)
            while left:
                finished, left = wait(left, EVERY, FIRST_EXCEPTION)
                for future in finished:
                    future.result()
                told(count - len(left))
        except BaseException:
            ended.set()
            going.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]
