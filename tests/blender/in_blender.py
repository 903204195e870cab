# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests in here share."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def settle(timeout: float = 30.0) -> None:
    """Pump until nothing runs and nothing is waited for."""
    from blender_addon import session

    def quiet() -> bool:
        state = session.get()
        return not state.busy and (state.client is None or state.waiting == 0)

    assert session.wait(quiet, timeout), session.get()
