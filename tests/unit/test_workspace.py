# SPDX-License-Identifier: GPL-3.0-or-later
import pytest

from engine.errors import BadInput
from engine.workspace import EditRecord, SceneRecord, Workspace, replacing


def record(ident: str) -> EditRecord:
    return EditRecord(ident, "make it night", None, "preview", "e", "lpips", ["a"], {"steps": 3}, 1)


def test_records_come_back(tmp_path):
    workspace = Workspace(tmp_path)
    assert workspace.scene_record() is None and workspace.edits() == []
    scene = SceneRecord("preview", "cpu", 0, 5, 10, 1.5, {"psnr": 20.0})
    workspace.save_scene(scene)
    ident = workspace.new_edit_id("Make it NIGHT!")
    assert ident == "0001-make-it-night"
    workspace.save_edit(record(ident))
    again = Workspace(tmp_path)
    assert again.scene_record() == scene and not scene.finished
    assert again.edits() == [record(ident)]
    assert again.new_edit_id("夜にする") == "0002-edit"


def test_a_damaged_record_is_said_and_does_not_hide_the_others(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.save_edit(record("0001-a"))
    workspace.save_edit(record("0002-b"))
    (workspace.edit("0001-a") / "edit.json").write_text('{"id": 3')
    assert [e.id for e in workspace.edits()] == ["0002-b"]
    with pytest.raises(BadInput, match=r"edit\.json is damaged"):
        workspace.edit_record("0001-a")


@pytest.mark.parametrize("name", ["..", "../x", "/etc", "a/b", "a\\b", "", ".hidden", "a\0b", "a" * 81])
def test_a_name_from_the_wire_never_leaves_the_folder(tmp_path, name):
    with pytest.raises(BadInput, match="cannot be the name"):
        Workspace(tmp_path).edit(name)


def test_nothing_half_written_stays(tmp_path):
    target = tmp_path / "deep" / "a.png"
    with replacing(target) as temporary:
        temporary.write_text("old")
    with pytest.raises(RuntimeError), replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in target.parent.iterdir()] == ["a.png"]
