# SPDX-License-Identifier: GPL-3.0-or-later
"""How much work it is to find the cameras of photos, told before it is begun."""

from __future__ import annotations

import math
from collections.abc import Iterator

ALL_PAIRS_UP_TO = 200  # photos; of more, each is compared with those near it in order
NEIGHBOURS = 20
MOST_FRAMES = 150  # kept of a video
# First guesses of the seconds that a unit takes on two CPU cores: a frame that is looked at, a photo whose details are
# found, a pair that is compared, a photo whose camera is found.
SECONDS = {"video": 0.02, "features": 0.8, "matches": 0.1, "cameras": 0.6}


def pairs(count: int) -> Iterator[tuple[int, int]]:
    """Which photos to compare: all with all where they are few, else near ones, and ever fewer farther ones."""
    for a in range(count):
        far = {a + 2**power for power in range(5, 20)}
        for b in range(a + 1, count):
            if count <= ALL_PAIRS_UP_TO or b - a <= NEIGHBOURS or b in far:
                yield a, b


def how_many_pairs(count: int) -> int:
    """The number of them, counted without making them."""
    if count <= ALL_PAIRS_UP_TO:
        return count * (count - 1) // 2
    apart = {*range(1, NEIGHBOURS + 1), *(2**power for power in range(5, 20))}
    return sum(max(0, count - distance) for distance in apart)


def told(photos: int) -> str:
    """A sentence on how long finding the cameras of so many photos takes."""
    seconds = photos * (SECONDS["features"] + SECONDS["cameras"]) + how_many_pairs(photos) * SECONDS["matches"]
    minutes = math.ceil(seconds / 60)
    if minutes < 2:
        return "That takes about a minute."
    return f"That takes about {minutes} minutes." if minutes < 120 else f"That takes about {round(minutes / 60)} hours."
