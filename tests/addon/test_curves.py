# SPDX-License-Identifier: GPL-3.0-or-later
"""A running job's loss and quality, as small curves."""

from __future__ import annotations

import math
import time

import pytest

from blender_addon import wire
from blender_addon.curves import CHANGE, COLORS, HEIGHT, HELD_OUT, LOSS, MOST, WIDTH, Curves, _packed, picture
from blender_addon.messages import Progress, WireError


def said(step: int, loss: float | None, held_out: float | None = None, stage: str = "train", **more: float) -> Progress:
    return Progress(1, stage, "", step, 1000, 0.0, None, loss, held_out, **more)


def column(pixels, x: int, name: str) -> list[int]:
    """The rows of a column, from below, that a curve goes through."""
    color = _packed((*COLORS[name], 1.0))
    return [row for row in range(HEIGHT) if pixels[row * WIDTH + x] == color]


def test_a_curve_falls_as_its_values_do_and_ends_where_the_job_is() -> None:
    curves = Curves()
    for step in range(1, 501):
        curves.add(said(step, math.exp(-step / 100), 10 + step / 100 if step % 50 == 0 else None))
    pixels = picture(curves)
    assert len(pixels) == WIDTH * HEIGHT and curves.worth_drawing
    early, late = (
        sum(rows) / len(rows) for rows in (column(pixels, WIDTH // 20, LOSS), column(pixels, 9 * WIDTH // 20, LOSS))
    )
    assert early > HEIGHT * 0.75 and late < HEIGHT * 0.15
    assert early - late == pytest.approx((HEIGHT - 9) * 0.8, rel=0.05)  # on a logarithmic axis: straight
    assert not column(pixels, 3 * WIDTH // 4, LOSS)  # the steps to come
    assert column(pixels, WIDTH // 6, HELD_OUT) < column(pixels, WIDTH // 3, HELD_OUT)
    assert curves.latest == {LOSS: pytest.approx(math.exp(-5)), HELD_OUT: 15.0}


def test_many_points_become_fewer_and_keep_the_first_and_the_last() -> None:
    curves = Curves()
    for step in range(1, 20_001):
        curves.add(said(step, 1.0 / step))
    points = curves.points[LOSS]
    assert MOST // 2 <= len(points) <= MOST and points[0] == (1.0, 1.0) and points[-1][0] == 20_000
    assert points == sorted(points)


def test_another_stage_begins_anew_and_other_stages_have_none() -> None:
    curves = Curves()
    curves.add(said(1, 0.5, stage="mesh"))
    assert not curves.points
    curves.add(said(1, 0.5))
    curves.add(said(2, 0.4, 20.0))
    curves.add(said(1, 0.9, stage="edit", change=0.1))
    assert curves.points == {LOSS: [(1.0, 0.9)], CHANGE: [(1.0, 0.1)]} and not curves.worth_drawing
    curves.add(said(1, 0.8, stage="edit"))
    assert curves.points[LOSS] == [(1.0, 0.8)]  # a step that is said twice counts once


@pytest.mark.parametrize("values", [(math.nan, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.0, 1e300, -1e300)])
def test_odd_values_are_drawn_all_the_same(values: tuple[float, ...]) -> None:
    curves = Curves()
    for step, value in enumerate(values):
        curves.add(said(step, value, value))
    assert len(picture(curves)) == WIDTH * HEIGHT


def test_drawing_is_cheap() -> None:
    curves = Curves()
    for step in range(1, 2000):
        curves.add(said(step, 1.0 + math.sin(step), 20 + math.cos(step)))
    picture(curves)
    took = []
    for _ in range(5):
        began = time.process_time()
        picture(curves)
        took.append(time.process_time() - began)
    assert min(took) < 0.005


def test_they_come_over_the_wire() -> None:
    message = {"job": 1, "stage": "train", "step": 3, "of": 9, "losses": {"colour": 0.5, "distortion": 0.25}}
    heard = wire.parse_progress(message | {"held_out": 21.5})
    assert (heard.loss, heard.held_out, heard.change) == (0.75, 21.5, None)
    assert wire.parse_progress(message | {"losses": None}).loss is None
    for wrong in ({"held_out": "much"}, {"losses": [1]}, {"losses": {"a": "b"}}, {"change": math.inf}):
        with pytest.raises(WireError):
            wire.parse_progress(message | wrong)
