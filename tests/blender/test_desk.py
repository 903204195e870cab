# SPDX-License-Identifier: GPL-3.0-or-later
"""The workspace of our own: which areas of which workspace become what. That it opens is seen in a window."""

from __future__ import annotations

from types import SimpleNamespace

import bpy
import pytest

from blender_addon.scene import desk


def screen(*areas: tuple[int, int, int, int]) -> SimpleNamespace:
    named = [SimpleNamespace(x=x, y=y, width=w, height=h, number=n) for n, (x, y, w, h) in enumerate(areas)]
    return SimpleNamespace(areas=named)


def parts(*areas: tuple[int, int, int, int]) -> dict[str, int]:
    return {kind: area.number for kind, area in desk.parts_of(screen(*areas)).items()}


def test_two_areas_side_by_side_over_a_third_are_what_it_begins_with() -> None:
    image, view, strips = (0, 300, 600, 700), (601, 300, 900, 700), (0, 20, 1501, 279)
    outliner, header = (1502, 20, 400, 980), (0, 0, 1501, 19)
    assert parts(outliner, header, strips, view, image) == {desk.IMAGE: 4, desk.VIEW: 3, desk.STRIPS: 2}


@pytest.mark.parametrize("count", [1, 2, 5])
def test_else_the_largest_are(count: int) -> None:
    areas = [(0, 0, 1000, 900), (1001, 500, 200, 400), (1001, 0, 200, 300), (0, 901, 9, 9), (10, 901, 9, 9)][:count]
    assert parts(*areas) == dict(list({desk.VIEW: 0, desk.IMAGE: 1, desk.STRIPS: 2}.items())[:count])


def test_blenders_own_file_has_a_workspace_that_fits() -> None:
    bpy.ops.wm.read_factory_settings()
    found = desk.source()
    areas = desk.parts_of(found.screens[0])
    assert len(areas) == 3 and areas[desk.VIEW].type == "VIEW_3D" and desk.ours() is None
    image, view, strips = (areas[kind] for kind in (desk.IMAGE, desk.VIEW, desk.STRIPS))
    assert image.x < view.x and image.height == view.height and strips.y < view.y
    assert strips.width > 1000 and strips.height > 150 and min(image.width, view.width) > 300


def test_without_a_window_it_says_so(addon: object) -> None:
    assert not bpy.ops.instruct_nerf.open_workspace.poll()
    with pytest.raises(RuntimeError, match="There is no window"):
        bpy.ops.instruct_nerf.open_workspace()
