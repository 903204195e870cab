# SPDX-License-Identifier: GPL-3.0-or-later
import json

import pytest

from engine.errors import BadInput
from engine.files import replacing
from engine.workspace import EditRecord, SceneRecord, Workspace


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


def test_a_trained_scene_keeps_its_capture_but_for_rounding(tmp_path):
    """The same capture, its cameras computed by another version to a few digits less, fits; another does not."""
    from capture_on_disk import transforms, write

    from engine import protocol
    from engine.jobs.capture import open_into_workspace
    from engine.workspace import SceneRecord

    source = write(tmp_path / "source", transforms(4, k1=0.1))
    folder = tmp_path / "w"
    ask = protocol.OpenCapture(str(folder), str(source), "preview")
    open_into_workspace(ask)
    Workspace(folder).save_scene(SceneRecord("preview", "cpu", 0, 1, 2, 0.0))
    stored = json.loads((folder / "capture" / "capture.json").read_text())

    def reopened(change):
        capture = json.loads(json.dumps(stored))
        change(capture["views"][1])
        (folder / "capture" / "capture.json").write_text(json.dumps(capture))
        return open_into_workspace(ask)

    def moved(by):
        return lambda view: view["intrinsics"].update(cx=view["intrinsics"]["cx"] + by)

    assert len(reopened(moved(1e-4)).views) == 4
    for change in (
        moved(0.5),
        lambda view: view["pose"].__setitem__(3, 9.0),
        lambda view: view.update(name="other", image="other.png"),
    ):
        with pytest.raises(BadInput, match="another capture"):
            reopened(change)
