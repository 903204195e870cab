# SPDX-License-Identifier: GPL-3.0-or-later
"""The model of what workers bring to an edit (docs/scale.md)."""

import pytest

from benchmarks.scale import Edit, farm

EDIT = Edit(image_updates=400, steps=4000, step_seconds=0.03, update_seconds=3.0, render_seconds=0.3,
            overhead_seconds=0.02)  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 8, 100])
@pytest.mark.parametrize("staleness", [1, 2, 4, 16])
def test_a_long_edit_is_as_the_formula_says(workers, staleness):
    own = EDIT.trainer_seconds / EDIT.image_updates
    each = max(own, EDIT.update_seconds / workers, (EDIT.update_seconds + own) / (staleness + 1))
    assert EDIT.seconds(workers, staleness) == pytest.approx(EDIT.image_updates * each, rel=0.04)


def test_without_staleness_everything_follows_one_another():
    alone = EDIT.seconds(0, 0)
    assert alone == pytest.approx(EDIT.trainer_seconds + 400 * 3.0)
    assert EDIT.seconds(4, 0) == pytest.approx(alone)
    assert EDIT.seconds(4, 4) < EDIT.seconds(2, 2) < EDIT.seconds(1, 1) < alone


def test_a_farm_is_counted_by_its_cards():
    one, ten = farm(EDIT, 1, 10, 2.0), farm(EDIT, 10, 100, 2.0)
    assert ten["edits a day of the farm"] == pytest.approx(10 * one["edits a day of the farm"])
    assert ten["cards for the captures"] == pytest.approx(10 * one["cards for the captures"])
    assert ten["price of an edit"] == one["price of an edit"] == pytest.approx(EDIT.card_seconds() / 1800)
