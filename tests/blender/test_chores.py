# SPDX-License-Identifier: GPL-3.0-or-later
"""Work in small steps: in order, the newest of a kind alone, anew after undo, none of it after loading."""

from __future__ import annotations

from collections.abc import Iterator

import bpy
import pytest

from blender_addon import chores, session, state


@pytest.fixture
def sliced(addon: object, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """As in a window; what is done is noted in the list."""
    monkeypatch.setattr(chores, "at_once", False)
    return []


def counting(done: list[str], name: str, steps: int = 3) -> Iterator[float]:
    for index in range(steps):
        done.append(f"{name}{index}")
        yield (index + 1) / steps


def one_step() -> None:
    chores._step(next(iter(state.get().chores.values())))


def test_they_are_done_in_order_and_one_that_is_asked_for_again_takes_the_formers_place(sliced: list[str]) -> None:
    chores.do("a", lambda: counting(sliced, "a"), "edit")
    chores.do("b", lambda: counting(sliced, "b"), "edit")
    one_step()
    chores.do("a", lambda: counting(sliced, "A"), "edit")  # behind b now, and from its beginning
    assert not session.get().settled and not session.get().busy
    assert session.wait(lambda: session.get().settled, 5.0)
    assert sliced == ["a0", "b0", "b1", "b2", "A0", "A1", "A2"]


def test_one_that_asks_for_others_and_for_itself(sliced: list[str]) -> None:
    def asking() -> Iterator[float]:
        chores.do("it", lambda: counting(sliced, "again"), "edit")
        chores.then("then", lambda: sliced.append("then"), "edit")
        yield 1.0

    for at_once in (False, True):
        sliced.clear()
        chores.at_once = at_once
        chores.do("it", asking, "edit")
        assert session.wait(lambda: session.get().settled, 5.0)
        assert sliced == ["again0", "again1", "again2", "then"]


def test_undo_begins_them_anew_and_loading_drops_them(sliced: list[str]) -> None:
    chores.do("a", lambda: counting(sliced, "a"), "edit")
    one_step(), one_step()
    for handler in list(bpy.app.handlers.undo_post):
        handler(bpy.context.scene, None)
    one_step()
    assert sliced == ["a0", "a1", "a0"]
    bpy.ops.wm.read_homefile(use_empty=True)
    assert session.get().settled


def test_undo_begins_them_all_anew_whatever_one_cannot_tidy_up(sliced: list[str]) -> None:
    def tidying() -> Iterator[float]:
        item = bpy.data.objects.new("gone", None)
        try:
            yield 0.5
            sliced.append("went on")
        except GeneratorExit:
            bpy.data.objects.remove(item)
            bpy.data.objects.remove(item)  # as where the undo took it
            raise

    chores.do("tidying", tidying, "edit")
    chores.do("a", lambda: counting(sliced, "a"), "edit")
    for chore in state.get().chores.values():
        chores._step(chore)
    for handler in list(bpy.app.handlers.undo_post):
        handler(bpy.context.scene, None)
    assert all(chore.steps is None for chore in state.get().chores.values())
    chores.drop()


def test_what_fails_is_said_and_what_is_gone_is_left(sliced: list[str]) -> None:
    def failing() -> Iterator[float]:
        yield 0.5
        raise ValueError("There is no such thing.")

    def gone() -> Iterator[float]:
        item = bpy.data.objects.new("gone", None)
        yield 0.5
        bpy.data.objects.remove(item)
        yield float(len(item.name))

    chores.do("gone", gone, "edit")
    chores.do("failing", failing, "results")
    chores.do("a", lambda: counting(sliced, "a"), "edit")
    assert session.wait(lambda: session.get().settled, 5.0)
    assert sliced == ["a0", "a1", "a2"]
    assert session.get().notices == {"results": "There is no such thing."}


def test_opening_that_is_undone_half_way_is_whole_in_the_end(
    addon: object, capture: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What undo throws away is made again."""
    from blender_addon import project
    from blender_addon.scene import cameras

    monkeypatch.setattr(chores, "at_once", False)
    monkeypatch.setattr(cameras, "AT_ONCE", 1)
    bpy.ops.instruct_nerf.open_capture(filepath=str(capture))
    scene = bpy.context.scene

    def half() -> bool:
        root = project.root_of(scene)
        return root is not None and len(cameras.cameras_of(root)) > 3

    monkeypatch.setattr(chores, "SLICE", 0.0)
    while not half():
        session.pump()
        if state.get().chores:
            one_step()
    bpy.data.batch_remove([o for o in scene.objects])
    chores._after_undo()
    monkeypatch.undo()
    assert session.wait(lambda: session.get().settled, 20.0)
    views = cameras.cameras_of(project.root_of(scene))
    assert len(views) == 12 and all(len(v.data.background_images) == 1 for v in views)
