# SPDX-License-Identifier: GPL-3.0-or-later
import json
import os
import shutil
import threading

import msgspec
import pytest

from engine import protocol
from engine.errors import BadInput, Busy, Cancelled
from engine.jobs.capture import read_workspace, write_images
from engine.progress import Job
from engine.protocol import Measures
from engine.records import EditRecord, SceneRecord
from engine.workspace import Workspace


def record(ident: str, instruction: str = "make it night") -> EditRecord:
    return EditRecord(ident, instruction, None, "preview", "e", "lpips", ["a"], {"steps": 3}, 1)


def test_records_come_back(tmp_path):
    workspace = Workspace(tmp_path)
    assert workspace.scene_record() is None and workspace.edits() == []
    scene = SceneRecord("preview", "cpu", 0, 5, 10, 1.5, Measures(20.0, 0.5, 0.3, "lpips", 2))
    workspace.save_scene(scene)
    first = workspace.create_edit(record("", "Make it NIGHT!"))
    assert first.id == "0001-make-it-night"
    again = Workspace(tmp_path)
    assert again.scene_record() == scene and not scene.finished
    assert again.edits() == [first]
    assert again.create_edit(record("", "夜にする")).id == "0002-edit"


def test_no_number_is_given_twice_whatever_the_words(tmp_path):
    made, start = [], threading.Barrier(4)

    def make(words):
        start.wait()
        for _ in range(10):
            made.append(Workspace(tmp_path).create_edit(record("", words)).id)

    threads = [threading.Thread(target=make, args=(f"make it {words}",)) for words in ("night", "night", "day", "gold")]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(int(name[:4]) for name in made) == list(range(1, 41))
    assert sorted(os.listdir(tmp_path / "edits")) == sorted(made)
    (tmp_path / "edits" / "9999-last").mkdir()
    assert Workspace(tmp_path).create_edit(record("")).id.startswith("10000-")
    assert Workspace(tmp_path).create_edit(record("")).id.startswith("10001-")


DAMAGES = [
    '{"id": 3',
    {"steps": "abc"},
    {"steps": -1},
    {"steps": 10**9},
    {"seconds": 1e308},
    {"chosen": "a"},
    {"chosen": []},
    {"chosen": ["a", "a"]},
    {"chosen": ["x" * 1000]},
    {"id": "0002-b"},
    {"id": "../../x"},
    {"parent": 3},
    {"parent": "0001-a"},
    {"settings": []},
    {"instruction": None},
    {"finished": "yes"},
    {"changes": 3},
    {"changes": [{"step": -1, "instruction": "x"}]},
    {"changes": [{"step": 10**9, "instruction": "x"}]},
    {"changes": [{"step": 3, "instruction": "x", "keep": 7}]},
    {"changes": [{"step": 3, "view": "nobody's"}]},
    {"changes": [{"step": 3, "options": {"text_guidance": []}}]},
]


@pytest.mark.parametrize("change", DAMAGES, ids=str)
def test_a_damaged_record_is_said_and_does_not_hide_the_others(tmp_path, change):
    workspace = Workspace(tmp_path)
    for name in ("0001-a", "0002-b"):
        workspace.save_edit(record(name))
    file = workspace.edit("0001-a") / "edit.json"
    file.write_text(change if isinstance(change, str) else json.dumps(json.loads(file.read_text()) | change))
    assert [e.id for e in workspace.edits()] == ["0002-b"]
    good, damaged = workspace.read_edits()
    assert [e.id for e in good] == ["0002-b"] and [d.name for d in damaged] == ["0001-a"]
    assert "edit.json is damaged" in damaged[0].reason
    with pytest.raises(BadInput, match=r"edit\.json is damaged"):
        workspace.edit_record("0001-a")


@pytest.mark.parametrize(
    "settings",
    [{"steps": "abc"}, {"steps": 10**9}, {"patch": 10**6}, {"optimiser": {"learning_rate": -1}}, {"order": 7}],
)
def test_settings_that_make_no_sense_are_a_damaged_edit(tmp_path, settings):
    workspace = Workspace(tmp_path)
    workspace.save_edit(msgspec.structs.replace(record("0001-a"), settings=settings))
    workspace.save_edit(record("0002-b"))
    found = read_workspace(protocol.ReadWorkspace(str(tmp_path)))
    assert [e.id for e in found["edits"]] == ["0002-b"] and [d.name for d in found["damaged"]] == ["0001-a"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('{"preset": "preview", "device": "cpu", "seed": 0, "steps": 5, "of": 10, "measures": {"psnr": "x"}}', True),
        ('{"preset": "preview", "device": "cpu", "seed": 0, "steps": 5, "of": 10, "measures": [1]}', True),
        ('{"preset": "preview", "device": "cpu", "seed": 0, "steps": "abc", "of": 10}', False),
        ('{"preset": "preview", "device": "cpu", "seed": 0, "steps": 5, "of": 1000000000}', False),
        ("[", False),
    ],
)
def test_odd_measures_are_made_anew_and_a_damaged_scene_hides_no_edit(tmp_path, text, kept):
    workspace = Workspace(tmp_path)
    workspace.save_edit(record("0001-a"))
    workspace.scene.mkdir()
    (workspace.scene / "scene.json").write_text(text)
    (workspace.folder / "capture").mkdir()
    workspace.capture_file.write_text("{")
    found = read_workspace(protocol.ReadWorkspace(str(tmp_path)))
    assert len(found["edits"]) == 1 and found["capture"] is None
    assert [d.name for d in found["damaged"]] == ["capture", *([] if kept else ["scene"])]
    assert (found["scene"] is not None) == kept
    if kept:
        assert found["scene"].measures is None and workspace.scene_record().measures is None


@pytest.mark.parametrize("name", ["..", "../x", "/etc", "a/b", "a\\b", "", ".hidden", "a\0b", "a" * 81])
def test_a_name_from_the_wire_never_leaves_the_folder(tmp_path, name):
    with pytest.raises(BadInput, match="cannot be the name"):
        Workspace(tmp_path).edit(name)


@pytest.mark.parametrize("opening", [True, False])
def test_what_a_killed_engine_left_is_gone_when_the_next_begins_and_nothing_of_the_artists(tmp_path, opening):
    workspace = Workspace(tmp_path)
    workspace.save_edit(record("0001-a"))
    (workspace.edit("0001-a") / "checkpoint.safetensors").write_text("kept")
    orphan = workspace.folder / "edits" / "0002-orphan"
    orphan.mkdir()
    (orphan / "checkpoint.safetensors").write_text("saved before the record")
    (workspace.folder / "edits" / ".number-0003").mkdir()
    (workspace.folder / "edits" / "0004-mine").mkdir()
    (workspace.folder / "edits" / "0004-mine" / "notes.txt").write_text("the artist's")
    for name in (".registered.part", ".part-0123456789abcdef"):
        (workspace.folder / name / "images").mkdir(parents=True)
    (workspace.folder / ".registered.before" / "images").mkdir(parents=True)  # killed between two renames
    (workspace.folder / "film.part").write_text("the artist's")
    (workspace.scene).mkdir()
    (workspace.scene / "checkpoint.safetensors.part").write_text("half")
    (workspace.scene / ".part-0123456789abcdef.json").write_text("half")
    if opening:
        read_workspace(protocol.ReadWorkspace(str(tmp_path)))
    else:
        with workspace.writing("editing"):
            pass
    left = sorted(str(p.relative_to(workspace.folder)) for p in workspace.folder.rglob("*") if p.name != ".engine.lock")
    assert left == [
        "edits", "edits/0001-a", "edits/0001-a/checkpoint.safetensors", "edits/0001-a/edit.json", "edits/0004-mine",
        "edits/0004-mine/notes.txt", "film.part", "registered", "registered/images", "scene",
    ]  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="links")
@pytest.mark.parametrize(
    "linked", ["capture", "scene", "edits", "tries", "registered", "capture/images", "scene/views"]
)
def test_no_job_begins_where_a_folder_leads_out_of_the_project(tmp_path, linked):
    project, outside = tmp_path / "project", tmp_path / "outside"
    outside.mkdir()
    (outside / ".a.part.png").write_text("not ours")
    (project / linked).parent.mkdir(parents=True, exist_ok=True)
    (project / linked).symlink_to(outside)
    with pytest.raises(BadInput, match="leads out of"), Workspace(project).writing("editing"):
        pass
    assert os.listdir(outside) == [".a.part.png"]


def test_a_project_that_a_failed_job_would_have_made_is_not_there(tmp_path):
    folder = tmp_path / "new" / "project"
    with pytest.raises(RuntimeError), Workspace(folder).writing("finding cameras"):
        assert folder.is_dir()
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    with pytest.raises(BadInput, match="No capture was opened"):
        write_images(protocol.WriteImages(str(folder)), Job())
    assert os.listdir(tmp_path) == []


def test_a_job_says_who_works_in_the_project_and_readers_do_not_care(tmp_path):
    from capture_on_disk import transforms, write

    from engine.jobs.capture import open_into_workspace

    source = write(tmp_path / "source", transforms(4))
    ask = protocol.OpenCapture(str(tmp_path / "w"), str(source), "preview")
    open_into_workspace(ask)
    said = []

    def other(job):
        try:
            job()
        except Busy as error:
            said.append(error.message)

    with Workspace(tmp_path / "w").writing("training the scene"):
        for job in (
            lambda: open_into_workspace(ask),
            lambda: write_images(protocol.WriteImages(ask.workspace), Job()),
        ):
            thread = threading.Thread(target=other, args=(job,))
            thread.start()
            thread.join()
        assert len(read_workspace(protocol.ReadWorkspace(ask.workspace))["capture"].views) == 4
    assert len(said) == 2 and all("training the scene" in text for text in said)
    assert len(write_images(protocol.WriteImages(ask.workspace), Job()).views) == 4


def test_a_cancelled_opening_leaves_nothing(tmp_path):
    from capture_on_disk import transforms, write

    from engine.jobs.capture import open_into_workspace

    source = write(tmp_path / "source", transforms(4))
    ask = protocol.OpenCapture(str(tmp_path / "w"), str(source), "preview")
    asked = []
    open_into_workspace(ask, Job(cancelled=lambda: bool(asked.append(1))))
    shutil.rmtree(tmp_path / "w")
    assert len(asked) > 1
    for after in range(len(asked)):
        checks = iter([False] * after)
        with pytest.raises(Cancelled):
            open_into_workspace(ask, Job(cancelled=lambda checks=checks: next(checks, True)))
        assert not (tmp_path / "w" / "capture").exists()


def test_a_trained_scene_keeps_its_capture_but_for_rounding(tmp_path):
    """The same capture, its cameras computed by another version to a few digits less, fits; another does not."""
    from capture_on_disk import transforms, write

    from engine.jobs.capture import open_into_workspace

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


@pytest.mark.skipif(os.name == "nt", reason="Windows renames no folder in which a file is open")
def test_a_project_renamed_while_a_job_runs_is_not_made_again(tmp_path):
    from capture_on_disk import transforms, write

    from engine.jobs.capture import open_into_workspace

    source = write(tmp_path / "source", transforms(6))
    ask = protocol.OpenCapture(str(tmp_path / "w"), str(source), "preview")
    open_into_workspace(ask)
    renamed = []

    def rename(*_):
        if not renamed:
            renamed.append(os.rename(tmp_path / "w", tmp_path / "renamed"))

    (tmp_path / "w" / "capture" / "images").mkdir()
    with pytest.raises(BadInput, match="was moved, renamed or removed"):
        write_images(protocol.WriteImages(ask.workspace), Job(on_progress=rename, on_view=rename))
    assert not (tmp_path / "w").exists()
    where = str(tmp_path / "renamed")
    assert len(write_images(protocol.WriteImages(where), Job()).views) == 6
    assert not [name for name in os.listdir(tmp_path / "renamed" / "capture" / "images") if ".part" in name]
