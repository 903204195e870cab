# SPDX-License-Identifier: GPL-3.0-or-later
"""Icons of pictures: none is lost while it is drawn, and they do not pile up. (Without a window icons have no number,
so what is kept is looked at instead.)"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fake_engine import png

from blender_addon import previews


def kept(path: str) -> int:
    return sum(key.startswith(f"{path}@") for g in (previews._younger, previews._elder) for key in g)


def test_a_file_that_changed_is_loaded_again(addon: object, tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", 4, 4, (9, 9, 9))
    for _ in range(3):
        previews.icon(path)
    assert kept(path) == 1
    os.utime(path, (5, 5))
    previews.icon(path)
    assert kept(path) == 2
    assert previews.icon(str(tmp_path / "missing.png")) == 0 and previews.icon("") == 0


def test_an_icon_survives_a_full_generation_of_others(addon: object, tmp_path: Path) -> None:
    paths = [png(tmp_path / f"{i}.png", 4, 4, (9, 9, 9)) for i in range(3 * previews.LIMIT)]
    for path in paths:
        previews.icon(paths[0])
        previews.icon(path)  # one redraw of a panel shows both
        assert kept(paths[0]) and kept(path)
    assert len(previews._younger) + len(previews._elder) <= 2 * previews.LIMIT


def test_a_picture_is_read_before_it_is_drawn(addon: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else Blender draws a spinner in its place: beside an edit that goes fast, nothing but that."""

    def size(name: str, width: int = 40, height: int = 30) -> tuple[int, int]:
        path = png(tmp_path / name, width, height, (200, 9, 9))
        previews.icon(path)
        Path(path).unlink()  # what was not read by now is read never
        (key,) = (key for key in previews._younger if key.startswith(path))
        return tuple(previews._younger[key].image_size)

    assert min(size("small.png")) > 0
    assert size("a sheet.png", 800, 700) == (0, 0)  # a panel does not wait for a large one, few bytes as it may have
    monkeypatch.setattr(previews, "AT_ONCE", (10, 10_000))
    assert size("large.png") == (0, 0)
