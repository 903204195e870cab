# SPDX-License-Identifier: GPL-3.0-or-later
"""Randomness as a function of the place in a run, so that nothing random ever needs saving."""

from __future__ import annotations

import hashlib


def random_seed(seed: int, purpose: str, position: int) -> int:
    """A seed for one draw at one place in a run."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
