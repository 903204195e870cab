# SPDX-License-Identifier: GPL-3.0-or-later
"""What waits to be handled is bounded in bytes, and old news make room for new."""

from __future__ import annotations

import threading
import time

from blender_addon.inbox import Inbox


def drain(inbox: Inbox) -> list[object]:
    found = []
    while (message := inbox.get()) is not None:
        found.append(message)
    return found


def test_of_one_key_the_latest_is_kept_where_it_came() -> None:
    inbox = Inbox()
    for number in range(1000):
        inbox.put(("step", number), 300, "step")
        if number in (3, 500):
            inbox.put(("view", number), 300, ("view", number))
            inbox.put(("log", number), 300)
    assert drain(inbox) == [("view", 3), ("log", 3), ("view", 500), ("log", 500), ("step", 999)]
    assert inbox.bytes == 0 and inbox.get() is None


def test_who_adds_too_much_waits_until_there_is_room() -> None:
    inbox = Inbox(limit=1000)
    added: list[int] = []

    def add() -> None:
        for number in range(50):
            inbox.put(number, 400)
            added.append(number)

    thread = threading.Thread(target=add)
    thread.start()
    time.sleep(0.1)
    assert added == [0, 1] and inbox.bytes == 800
    inbox.put("an answer", 10**6, patient=False)  # never waits
    got = []
    while len(got) < 51:
        assert inbox.bytes <= 10**6 + 1000
        if (message := inbox.get()) is not None:
            got.append(message)
    thread.join(5)
    assert got == [0, 1, "an answer", *range(2, 50)] and inbox.bytes == 0


def test_one_that_is_larger_than_all_room_comes_alone() -> None:
    inbox = Inbox(limit=10)
    inbox.put("large", 1000)
    assert drain(inbox) == ["large"]


def test_closing_lets_go_who_waits() -> None:
    inbox = Inbox(limit=10)
    inbox.put(1, 10)
    thread = threading.Thread(target=inbox.put, args=(2, 10))
    thread.start()
    time.sleep(0.05)
    inbox.close()
    thread.join(5)
    assert not thread.is_alive() and drain(inbox) == [1]
