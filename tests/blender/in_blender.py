# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests in here share."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def settle(timeout: float = 30.0) -> None:
    """Pump until nothing runs and nothing is waited for."""
    from blender_addon import session

    assert session.wait(lambda: session.get().settled, timeout), session.get()
