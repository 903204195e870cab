# SPDX-License-Identifier: GPL-3.0-or-later
"""A scene is photographed by a second Blender, so that nobody waits in the first."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import bpy
import numpy as np
import pytest
from in_blender import settle

from blender_addon import project, running, second_blender, session
from blender_addon.scene import photographer

# The bpy module as a Blender without a window: the last but two of its arguments is the script.
BLENDER = "import bpy, runpy, sys; runpy.run_path(sys.argv[-3], run_name='__main__')"


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A second Blender to be started; the file that it is started by."""
    file = tmp_path / "blender.py"
    file.write_text(BLENDER)
    monkeypatch.setattr(second_blender, "command", lambda: [sys.executable, str(file)])
    return file


def photographed(scene: bpy.types.Scene, **options: object) -> tuple[str, list[np.ndarray]]:
    """The poses as they were written, and the pictures."""
    bpy.ops.instruct_nerf.photograph(**options)
    settle(60)
    assert not session.get().notices
    folder = Path(project.workspace_of(scene)) / "source"
    pictures = []
    for path in sorted((folder / "images").glob("*.png")):
        image = bpy.data.images.load(str(path), check_existing=False)
        pictures.append(np.array(image.pixels[:]))
        bpy.data.images.remove(image)
    return (folder / "transforms.json").read_text(), pictures


def left_over() -> list[Path]:
    return list(Path(bpy.app.tempdir).glob("photographs-*"))


def test_its_pictures_are_those_that_this_blender_takes(
    ball: bpy.types.Scene, second: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bpy.ops.object.select_all(action="DESELECT")
    ball.name, ball.view_settings.view_transform = "My Scene", "Standard"
    theirs = photographed(ball, count=8, width=48, height=36)
    assert "without a word" not in capfd.readouterr().out  # and it was the second one
    monkeypatch.setattr(second_blender, "command", list)
    own = photographed(ball, count=8, width=48, height=36)
    assert theirs[0] == own[0]
    assert len(own[1]) == 8 and max(p.max() for p in own[1]) > 0.5
    np.testing.assert_array_equal(theirs[1], own[1])
    assert not left_over()


def test_what_is_changed_meanwhile_does_not_reach_them(ball: bpy.types.Scene, second: Path) -> None:
    bpy.ops.object.select_all(action="DESELECT")
    bpy.ops.instruct_nerf.photograph(count=8, width=48, height=36)
    bpy.data.batch_remove([item for item in bpy.data.objects])  # nothing is left to be seen
    settle(60)
    assert not session.get().notices
    folder = Path(project.workspace_of(ball)) / "source" / "images"
    for path in sorted(folder.glob("*.png")):
        assert max(bpy.data.images.load(str(path)).pixels[: 3 * 48 * 36]) > 0.5


def test_the_wait_for_it_takes_no_time_of_this_one(ball: bpy.types.Scene, second: Path) -> None:
    bpy.ops.instruct_nerf.photograph(count=8, width=48, height=36)
    longest = 0.0
    while session.get().task is not None:
        began = time.thread_time()
        session.pump()
        if session.get().task is not None:  # opening what was photographed is another matter
            longest = max(longest, time.thread_time() - began)
        time.sleep(0.01)
    settle(60)
    assert 0 < longest < 0.02


def test_cancelled_it_ends_at_once_and_leaves_nothing(
    ball: bpy.types.Scene, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    begin = second_blender.photographing
    monkeypatch.setattr(second_blender, "photographing", lambda *order: asked.append(order[-1]) or begin(*order))
    ball.cycles.samples = 64
    bpy.ops.instruct_nerf.photograph(count=40, width=96, height=96)
    assert session.wait(lambda: session.get().task.fraction > 0, 60.0)
    began = time.monotonic()
    bpy.ops.instruct_nerf.cancel()
    settle()
    assert time.monotonic() - began < 2.0
    (folder,) = asked
    count = len(list((folder / "images").iterdir()))
    time.sleep(1.0)
    assert 0 < len(list((folder / "images").iterdir())) == count < 40
    assert not (folder / "transforms.json").exists() and not left_over()


def test_what_it_cannot_photograph_is_said(ball: bpy.types.Scene, second: Path) -> None:
    item = bpy.data.objects.new("wide", bpy.data.cameras.new("wide"))
    item.data.type = "ORTHO"
    ball.collection.objects.link(item)
    bpy.ops.instruct_nerf.photograph(way="CAMERAS")
    settle(60)
    assert any("not a perspective camera" in text for text in session.get().notices.values())
    assert not left_over()


@pytest.mark.parametrize("script", ["raise SystemExit(3)", "import time; print('not in the mood')"])
def test_where_it_does_not_begin_this_one_takes_the_pictures(ball: bpy.types.Scene, second: Path, script: str) -> None:
    second.write_text(script)
    _, pictures = photographed(ball, count=8, width=48, height=36)
    assert len(pictures) == 8 and not left_over()


def test_a_blender_that_is_not_there_is_done_without(ball: bpy.types.Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_blender, "command", lambda: ["/no/such/blender"])
    _, pictures = photographed(ball, count=8, width=48, height=36)
    assert len(pictures) == 8 and not left_over()


def test_where_it_ends_half_way_that_is_said(ball: bpy.types.Scene, second: Path) -> None:
    second.write_text("print('instruct-nerf: {\"fraction\": 0.5}', flush=True)")
    bpy.ops.instruct_nerf.photograph(count=8, width=48, height=36)
    settle(60)
    assert "ended while it rendered" in session.get().notices["capture"]
    assert not (Path(project.workspace_of(ball)) / "source" / "transforms.json").exists() and not left_over()


def test_what_was_painted_and_not_saved_is_photographed_here(
    ball: bpy.types.Scene, second: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    second.write_text("print('asked'); raise SystemExit(3)")
    image = bpy.data.images.new("painted", 4, 4)
    image.pixels[:] = [0.5] * 64
    image.use_fake_user = True
    assert image.is_dirty
    _, pictures = photographed(ball, count=8, width=48, height=36)
    assert len(pictures) == 8 and "asked" not in capfd.readouterr().out


def test_it_ends_with_this_one() -> None:
    """Its standard input is a pipe that closes when Blender is gone, however it went."""
    code = (
        "import threading, time, runpy\n"
        f"where = runpy.run_path({photographer.__file__!r})\n"
        "threading.Thread(target=where['end_with_the_other'], daemon=True).start(); time.sleep(60)"
    )
    process = running.begin([sys.executable, "-c", code])
    assert process.stdin is not None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.0)
    process.stdin.close()
    assert process.wait(20.0) == 1
