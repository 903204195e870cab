# SPDX-License-Identifier: GPL-3.0-or-later
"""Surfels: what the engine wrote is read in small steps, and nothing else is; the toggle, and what is shown when."""

from __future__ import annotations

import random
import struct
import time
from array import array
from pathlib import Path
from types import SimpleNamespace

import bpy
import pytest
from in_blender import settle
from mathutils import Matrix

from blender_addon import chores, project, session, surfels
from blender_addon.scene.surfels import AT_ONCE, Surfels, reading

HEAD = struct.pack("<8sII", b"INSURFEL", 1, 3)
PLACES = array("f", [1, 2, 3, 0.5, -4, 5, 6, 0.25, 7, 8, -9, 0.125]).tobytes()
COLORS = bytes([255, 0, 0, 255, 0, 128, 0, 255, 9, 8, 7, 255])


def write(path: Path, count: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = random.Random(count)
    places = array("f", (generator.uniform(-2, 2) for _ in range(4 * count)))
    head = struct.pack("<8sII", b"INSURFEL", 1, count)
    path.write_bytes(head + places.tobytes() + generator.randbytes(4 * count))
    return path


def read(path: Path) -> Surfels:
    found = Surfels()
    for _ in reading(path, found):
        pass
    return found


def test_what_was_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "surfels.bin").write_bytes(HEAD + PLACES + COLORS)
    found = read(tmp_path / "surfels.bin")
    assert [(list(places), colors) for places, colors in found.parts] == [(list(array("f", PLACES)), COLORS)]
    assert found.count == 3


def test_many_are_read_in_parts(tmp_path: Path) -> None:
    count = 2 * AT_ONCE + 7
    path = write(tmp_path / "surfels.bin", count)
    steps = list(reading(path, found := Surfels()))
    assert len(steps) == 3 and steps[-1] == 1.0 and found.count == count
    body = path.read_bytes()[16:]
    assert b"".join(places.tobytes() for places, _ in found.parts) == body[: 16 * count]
    assert b"".join(colors for _, colors in found.parts) == body[16 * count :]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"INSURFEL", HEAD, HEAD + PLACES, HEAD + PLACES + COLORS[:-1], HEAD + PLACES + COLORS + b"x",
        b"INSURFEX" + HEAD[8:] + PLACES + COLORS, struct.pack("<8sII", b"INSURFEL", 2, 3) + PLACES + COLORS,
        struct.pack("<8sII", b"INSURFEL", 1, 2**32 - 1) + PLACES + COLORS,
        struct.pack("<8sII", b"INSURFEL", 1, 4) + PLACES + COLORS,
        HEAD + array("f", [float("nan")] * 12).tobytes() + COLORS,
        HEAD + array("f", [float("inf")] * 12).tobytes() + COLORS,
    ],
)  # fmt: skip
def test_what_is_no_file_of_surfels_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "surfels.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"surfels\.bin does not hold surfels; press Make Splats again\."):
        read(tmp_path / "surfels.bin")


def test_a_folder_in_its_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "surfels.bin").mkdir()
    with pytest.raises(ValueError, match="does not hold surfels"):
        read(tmp_path / "surfels.bin")


@pytest.fixture
def drawn(opened: bpy.types.Scene, monkeypatch: pytest.MonkeyPatch):
    """Draws as a viewport of the scene does, without a graphics card: how many surfels each redraw shows."""
    shown: list[int] = []
    monkeypatch.setattr(surfels, "_batch", lambda places, colors: len(colors) // 4)
    monkeypatch.setattr(surfels, "_draw_batches", lambda batches, *_: shown.append(sum(batches)))
    monkeypatch.setattr(surfels, "LOOK_REST", 0.0)
    monkeypatch.setattr(surfels, "_in_software", lambda: True)
    view = SimpleNamespace(perspective_matrix=Matrix.Identity(4))
    space = SimpleNamespace(overlay=SimpleNamespace(show_overlays=True), region_3d=view, as_pointer=lambda: 1)
    region = SimpleNamespace(tag_redraw=lambda: None)
    context = SimpleNamespace(scene=opened, space_data=space, region=region)

    def draw(turned: float = 0.0) -> int:
        shown.clear()
        view.perspective_matrix = Matrix.Rotation(turned, 4, "Z")
        with monkeypatch.context() as patch:
            patch.setattr(surfels.bpy, "context", context)
            surfels._draw_surfels()
        chores.work(10.0)
        return sum(shown)

    return draw


def test_the_edits_surfels_are_shown_and_follow_its_file(opened: bpy.types.Scene, drawn) -> None:
    workspace = Path(project.workspace_of(opened))
    write(workspace / "scene" / "surfels.bin", AT_ONCE + 5)
    assert drawn() == 0  # not asked for
    opened.instruct_nerf.show_surfels = True
    assert [drawn() for _ in range(4)][-2:] == [AT_ONCE + 5] * 2
    opened.instruct_nerf.instruction = "make it night"
    bpy.ops.instruct_nerf.start_edit()
    settle()
    edit = project.edit_of(opened)
    assert edit is not None and drawn() == 0  # of this one there are none
    write(workspace / "edits" / edit.id / "surfels.bin", 30)
    assert [drawn() for _ in range(3)][-1] == 30
    write(workspace / "edits" / edit.id / "surfels.bin", 40)
    assert [drawn() for _ in range(3)][-1] == 40
    (workspace / "edits" / edit.id / "surfels.bin").write_bytes(b"damaged")
    drawn()
    drawn()
    assert "does not hold surfels" in session.get().notices["results"]
    project.root_of(opened).hide_set(True)
    write(workspace / "edits" / edit.id / "surfels.bin", 50)
    assert [drawn() for _ in range(3)][-1] == 0
    project.root_of(opened).hide_set(False)
    assert drawn() == 50
    opened.instruct_nerf.show_surfels = False
    assert drawn() == 0 and not surfels._shown


def test_without_a_card_a_moving_view_shows_some_and_a_still_one_all(opened: bpy.types.Scene, drawn) -> None:
    write(Path(project.workspace_of(opened)) / "scene" / "surfels.bin", 4 * AT_ONCE)
    opened.instruct_nerf.show_surfels = True
    assert [drawn() for _ in range(6)][-1] == 4 * AT_ONCE
    assert drawn(0.1) == 2 * AT_ONCE and bpy.app.timers.is_registered(surfels._rest)
    assert drawn(0.2) == 2 * AT_ONCE
    assert drawn(0.2) == 4 * AT_ONCE
    surfels.unregister()
    assert not bpy.app.timers.is_registered(surfels._rest) and not surfels._sides


def test_nothing_is_kept_when_the_extension_goes(opened: bpy.types.Scene, drawn) -> None:
    write(Path(project.workspace_of(opened)) / "scene" / "surfels.bin", 9)
    opened.instruct_nerf.show_surfels = True
    assert [drawn() for _ in range(3)][-1] == 9
    surfels.unregister()
    assert not surfels._shown and not surfels._looked


def test_a_capture_that_is_gone_shows_nothing(opened: bpy.types.Scene, drawn) -> None:
    write(Path(project.workspace_of(opened)) / "scene" / "surfels.bin", 9)
    opened.instruct_nerf.show_surfels = True
    assert [drawn() for _ in range(3)][-1] == 9
    bpy.data.objects.remove(project.root_of(opened))
    assert drawn() == 0 and not surfels._shown


def test_the_button_makes_splats_and_shows_them(opened: bpy.types.Scene) -> None:
    assert not bpy.ops.instruct_nerf.make_splats.poll()  # of nothing
    opened.instruct_nerf.instruction = "make it night"
    bpy.ops.instruct_nerf.start_edit()
    settle()
    bpy.ops.instruct_nerf.make_splats(count=2000)
    settle()
    assert opened.instruct_nerf.show_surfels
    assert "splats lie in" in session.get().news["results"]
    assert Path(surfels.file_of(opened)).is_file()


def test_while_an_edit_runs_its_surfels_are_renewed(opened: bpy.types.Scene, drawn, monkeypatch) -> None:
    monkeypatch.setattr(surfels, "RENEWED", 0.2)
    opened.instruct_nerf.show_surfels, opened.instruct_nerf.instruction = True, "make it night"
    surfels.renew(opened)
    assert not surfels._live  # nothing runs
    bpy.ops.instruct_nerf.start_edit()
    assert session.wait(lambda: session.get().job.stage == "edit", 20.0)
    bpy.ops.instruct_nerf.pause()
    surfels.renew(opened)
    [live] = surfels._live.values()
    assert live.asked
    surfels.renew(opened)  # one at a time
    assert session.wait(lambda: bool(live.path), 5.0)
    assert surfels.file_of(opened) == live.path and [drawn() for _ in range(3)][-1] == 1
    first = session.get().next_number
    surfels.renew(opened)
    assert session.get().next_number == first  # it rests
    assert session.wait(lambda: time.monotonic() > live.due, 5.0)
    surfels.renew(opened)
    assert session.get().next_number == first + 1
    bpy.ops.instruct_nerf.go_on()
    settle()
    surfels.renew(opened)
    assert not surfels._live and project.edit_of(opened).id in surfels.file_of(opened)
    assert "edit" not in session.get().notices
