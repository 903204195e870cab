# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree of edits from the panel to the disk and back, with the engine itself and its smallest editor."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
import pytest
from in_blender import ROOT, settle
from PIL import Image
from test_toy_editor import capture_of

from blender_addon import jobs, knobs, lineage, messages, project, session

nerf = bpy.ops.instruct_nerf


def color(paths: dict[str, str]) -> list[float]:
    """The mean of the first of an edit's pictures, 0–255."""
    with Image.open(next(iter(paths.values()))) as picture:
        return [sum(channel.getdata()) / picture.width / picture.height for channel in picture.convert("RGB").split()]


@pytest.mark.slow
def test_the_tree_on_the_disk(addon: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy, trash = tmp_path / "my-toy", tmp_path / "share" / "Trash" / "files"
    toy.mkdir()
    (toy / "model_index.json").write_text(json.dumps({"_class_name": "ToyPipeline"}))
    for name, value in (("INSTRUCT_NERF_EDITOR", toy), ("HOME", tmp_path), ("XDG_DATA_HOME", tmp_path / "share")):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(jobs, "ENGINE_ARGUMENTS", [str(ROOT / "tests" / "engine" / "toy_engine.py")])
    nerf.open_capture(filepath=str(capture_of(tmp_path / "capture")))
    settle(120)
    scene = bpy.context.scene
    settings, group = scene.instruct_nerf, knobs.group_of(scene, project.editor_of(scene))
    edits = Path(project.workspace_of(scene)) / "edits"

    def made(begin) -> messages.Edit:  # type: ignore[no-untyped-def]
        begin()
        settle(300)
        assert not session.get().notices, session.get().notices
        found = project.chosen_edit(scene)
        assert found is not None and found.finished
        return found

    group.tint, settings.instruction = "red", "make it red"
    red = made(nerf.start_edit)
    nerf.stand_on()
    group.tint, group.brightness, settings.instruction = "none", 0.5, "make it darker"
    dark = made(nerf.start_edit)
    assert dark.parent == red.id
    now, before = color(dark.images), color(red.images)
    assert before[0] > 200 and before[1] < 60 and 80 < now[0] < 200 and now[1] < 60  # darker, and still red
    assert [(row.edit, row.depth) for row in settings.rows] == [(lineage.ROOT, 0), (red.id, 1), (dark.id, 2)]

    other = made(lambda: nerf.duplicate_edit(edit=red.id, seed=5))
    assert (other.parent, other.seed, other.options, other.instruction) == ("", 5, red.options, red.instruction)
    longer = made(lambda: nerf.more_steps(edit=other.id, steps=4))
    assert (longer.id, longer.steps, longer.of) == (other.id, 4, 4)
    settings.rows[2].title = "Dark 夜"
    nerf.mute_edit(edit=dark.id)
    settle(60)
    assert json.loads((edits / dark.id / "label.json").read_text("utf-8")) == {"name": "Dark 夜", "muted": True}
    nerf.choose_edit(edit=dark.id)
    assert project.edit_of(scene).id == red.id
    nerf.mute_edit(edit=dark.id)
    settle(60)

    scene.frame_end = 6
    nerf.camera_path()
    settle(60)
    for edit, parent in ((dark.id, red.id), (lineage.ROOT, "")):
        nerf.choose_edit(edit=edit)
        nerf.render_to_sequencer()
        settle(120)
        assert not session.get().notices, session.get().notices
        folder = edits / edit / "frames" if parent else edits.parent / "scene" / "frames"
        assert sorted(path.name for path in folder.rglob("*.png"))[:1] == ["0001.png"]

    nerf.choose_edit(edit=red.id)
    nerf.delete_edit()
    settle(60)
    assert sorted(path.name for path in trash.iterdir()) == [red.id, dark.id]
    assert [path.name for path in edits.iterdir() if path.is_dir()] == [other.id]
    assert [row.edit for row in settings.rows] == [lineage.ROOT, other.id] and settings.edit == lineage.ROOT
    (trash / dark.id).rename(edits / dark.id)  # brought back alone
    nerf.reconnect()
    settle(60)
    assert project.edits_of(scene)[0].title == "Dark 夜"
    settings.parent, settings.instruction = dark.id, "make it darker still"
    nerf.start_edit()
    settle(120)
    assert project.chosen_edit(scene).parent == dark.id, session.get().notices
    nerf.choose_edit(edit=dark.id)
    nerf.render_to_sequencer()
    settle(60)
    assert f"{red.id}, which is not in" in session.get().notices["results"]
