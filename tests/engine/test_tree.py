# SPDX-License-Identifier: GPL-3.0-or-later
"""A tree of edits: one stands on another, whose pictures and scene are then the originals; names, muting, the trash."""

import json
import os
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from engine import cli_tree, protocol, trash
from engine.editors import registry
from engine.errors import BadInput
from engine.files import locked
from engine.jobs import capture, edit, named_editor, report, tree, trying
from engine.jobs import frames as film
from engine.presets import PRESETS
from engine.progress import Job
from engine.records import EditRecord
from engine.workspace import Workspace

from .conftest import PRESET
from .toy_editor import KIND, ToyEditor

RED = {"tint": "red", "keep_background": "off"}


class Killed(BaseException):
    """Stands for SIGKILL: nothing is saved any more."""


def killed_at(step):
    def saw(progress):
        if progress.stage == "edit" and progress.step == step:
            raise Killed

    return Job(on_progress=saw, every=0.0)


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": KIND.pipeline}))
    return str(folder)


@pytest.fixture(autouse=True)
def kinds(monkeypatch):
    monkeypatch.setattr(registry, "KINDS", [*registry.KINDS, KIND])
    monkeypatch.setitem(PRESETS, PRESET.name, PRESET)


def run(project, editor, instruction="make it night", job=None, **more):
    request = protocol.RunEdit(
        instruction=instruction, editor=editor, workspace=str(project), preset=PRESET.name, device="cpu", **more
    )
    return edit.run_edit(request, job or Job())


def resume(project, name, steps=None, job=None):
    return edit.resume_edit(protocol.ResumeEdit(str(project), name, "cpu", steps=steps), job or Job())


@pytest.fixture(scope="module")
def grown(trained, editor, tmp_path_factory):
    """(project, a red edit, a darker one that stands on it, everything that the editor was asked for the latter)."""
    project = tmp_path_factory.mktemp("grown") / "project"
    shutil.copytree(trained, project)
    toy = ToyEditor()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "KINDS", [*registry.KINDS, KIND])
        patch.setitem(PRESETS, PRESET.name, PRESET)
        patch.setattr(named_editor, "load_editor", lambda name, device: toy)
        parent = run(project, editor, "make it red", options=RED)
        toy.asked.clear()
        child = run(project, editor, "make it dark", parent=parent.id)
    return project, parent, child, list(toy.asked)


@pytest.fixture
def project(grown, tmp_path):
    shutil.copytree(grown[0], tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def bin(monkeypatch, tmp_path):
    """The system's trash, as far as these tests go."""
    folder = tmp_path / "trash"
    folder.mkdir()
    monkeypatch.setattr(trash, "_system_trash", lambda path: os.rename(path, folder / path.name))
    return folder


def pixels(path):
    return np.array(Image.open(path).convert("RGB"))


def result(project, made):
    """Everything that an edit left, as numbers."""
    tensors = load_file(Workspace(project).checkpoint(made.id))
    for kind, paths in (("image", made.images), ("view", made.views)):
        tensors |= {f"{kind} {name}": pixels(path) for name, path in paths.items()}
    return tensors


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_its_originals_are_the_pictures_of_the_edit_that_it_stands_on(grown):
    project, parent, child, asked = grown
    assert child.parent == parent.id and child.finished and child.created > parent.created > 1.6e9
    began = {pixels(path).tobytes() for path in parent.images.values()}
    shown = {(np.round(one.original.numpy() * 255)).astype(np.uint8).tobytes() for one in asked}
    assert shown == began and len(asked) > len(child.chosen)
    first = asked[0]  # the scene that it begins with shows them too
    assert float((first.picture - first.original).abs().mean()) < 0.2
    captured = pixels(Workspace(project).images / f"{child.chosen[0]}.png").astype(int)
    red = pixels(parent.images[child.chosen[0]]).astype(int)
    dark = pixels(child.images[child.chosen[0]]).astype(int)
    assert red[..., 0].mean() > 2 * red[..., 1].mean() and captured[..., 1].mean() > 2 * red[..., 1].mean()
    assert dark[..., 0].mean() > 2 * dark[..., 1].mean() and dark.mean() < 0.8 * red.mean()  # and red it stayed


def test_a_view_that_it_did_not_edit_is_its_render(project, grown, editor):
    _, parent, _, _ = grown
    views = [view.name for view in capture.load_opened(Workspace(project)).views]
    other = next(name for name in views if name not in parent.images)
    chosen = [other, parent.chosen[0]]
    made = run(project, editor, parent=parent.id, views=chosen, steps=2, options={"brightness": 1.0})
    kept, render = pixels(made.images[other]).astype(int), pixels(parent.views[other]).astype(int)
    assert np.abs(kept - render).mean() < 12 < np.abs(kept - pixels(Workspace(project).images / f"{other}.png")).mean()


def test_killed_and_resumed_it_is_bit_for_bit_the_same(project, grown, editor, monkeypatch):
    _, parent, child, _ = grown
    with pytest.raises(Killed):
        run(project, editor, "make it dark", killed_at(9), parent=parent.id)
    begun = Workspace(project).edits()[-1]
    assert not begun.finished and begun.parent == parent.id
    same(result(project, resume(project, begun.id)), result(grown[0], child))


def test_a_try_of_it_is_of_the_pictures_of_the_edit_below(project, grown, editor):
    _, parent, _, _ = grown
    view = parent.chosen[2]
    request = protocol.TryEdit(
        instruction="x", editor=editor, workspace=str(project), view=view, parent=parent.id, device="cpu"
    )
    tried = trying.try_edit(request, Job())
    assert tried.before == str(Workspace(project).edit(parent.id) / "images" / f"{view}.png")
    before, after = pixels(tried.before).astype(int), pixels(tried.after).astype(int)
    assert after.mean() < 0.8 * before.mean() and after[..., 0].mean() > 1.5 * after[..., 1].mean()


def _damage(project, parent, what):
    folder = Workspace(project).edit(parent)
    record = json.loads((folder / "edit.json").read_text())
    if what == "gone":
        shutil.rmtree(folder)
    elif what == "damaged":
        (folder / "edit.json").write_text('{"id": 3')
    elif what == "unfinished":
        (folder / "edit.json").write_text(json.dumps(record | {"finished": False}))
    elif what == "no scene":
        (folder / "checkpoint.safetensors").unlink()
    elif what == "no picture":
        name = sorted(os.listdir(folder / "images"))[1]
        (folder / "images" / name).unlink()
        (folder / "views" / name).unlink()
    elif what == "half a picture":
        path = folder / "images" / sorted(os.listdir(folder / "images"))[1]
        path.write_bytes(path.read_bytes()[:20])
    else:
        Image.new("RGB", (7, 9)).save(folder / "images" / sorted(os.listdir(folder / "images"))[1])


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("gone", "is not in .* bring it back from the trash"),
        ("damaged", "damaged"),
        ("unfinished", "is not finished; resume it"),
        ("no scene", "is not whole .*no checkpoint"),
        ("no picture", "is not whole .*cannot be read"),
        ("half a picture", "is not whole .*cannot be read"),
        ("another size", "is not whole .*not of its camera's size"),
    ],
)
def test_what_cannot_be_stood_on_is_one_sentence_before_anything_is_made(project, grown, editor, what, said):
    _, parent, child, _ = grown
    _damage(project, parent.id, what)
    there = sorted(os.listdir(project / "edits"))
    camera = protocol.PathCamera(tuple(np.eye(4).ravel().tolist()), 8, 8, 8.0, 8.0, 4.0, 4.0)
    asked = [
        lambda: run(project, editor, parent=parent.id),
        lambda: resume(project, child.id),
        lambda: report.make_report(protocol.MakeReport(str(project), child.id, "cpu"), Job()),
    ]
    if "picture" not in what and what != "another size":  # which frames do not need
        frames = protocol.RenderFrames(str(project), child.id, "walk", [camera], device="cpu")
        asked.append(lambda: film.render_frames(frames, Job()))
    for number, ask in enumerate(asked):
        with pytest.raises(BadInput, match=said) as caught:
            ask()
        assert caught.value.field == "parent" and parent.id in caught.value.message
        if what != "damaged":
            assert (child.id in caught.value.message) is (number > 0)
    assert sorted(os.listdir(project / "edits")) == there
    damaged = capture.read_workspace(protocol.ReadWorkspace(str(project)))
    assert [made.id for made in damaged["edits"]][-1] == child.id  # which is whole all the same


def test_frames_and_report_of_any_node_follow_its_parent(project, grown, monkeypatch):
    _, parent, child, _ = grown
    view = capture.load_opened(Workspace(project)).views[3]
    i = view.intrinsics
    camera = protocol.PathCamera(tuple(view.pose.ravel().tolist()), i.width, i.height, i.fx, i.fy, i.cx, i.cy)

    def frames(name):
        return film.render_frames(protocol.RenderFrames(str(project), name, "walk", [camera], device="cpu"), Job())

    bare, lower, upper = frames(None), frames(parent.id), frames(child.id)
    assert bare.before == bare.after and bare.after[0] == str(project / "scene/frames/walk/after/0001.png")
    assert (pixels(lower.before[0]) == pixels(bare.after[0])).all()
    assert (pixels(upper.before[0]) == pixels(lower.after[0])).all()
    assert not (pixels(upper.after[0]) == pixels(lower.after[0])).all()
    monkeypatch.setattr(report, "baselines_of", lambda *_: [])
    monkeypatch.setattr(report, "FRAMES", 2)
    made = report.make_report(protocol.MakeReport(str(project), child.id, "cpu"), Job())
    drawn = sorted((Workspace(project).edit(child.id) / "report" / "unedited").glob("*.png"))
    assert len(drawn) == 2
    for path in drawn:
        assert (pixels(path) == pixels(parent.views[path.stem])).mean() > 0.9  # but for cameras' corrections
    assert "stands on, “make it red”" in Path(made.html).read_text("utf-8")


def test_a_finished_edit_gets_more_steps_and_is_resumed_exactly(project, grown, editor):
    child = grown[2]
    more = PRESET.edit.steps + 8
    other = project.with_name("other")
    shutil.copytree(project, other)
    made = [Workspace(project).edit(child.id) / name for name in ("mesh.ply", "splats.ply")]
    for path in made:
        path.write_bytes(b"of the edit as it was")
    whole = resume(project, child.id, more)
    assert whole.finished and whole.steps == whole.of == more
    assert whole.mesh is None and not any(path.exists() for path in made)
    assert whole.settings == child.settings | {"steps": more}
    with pytest.raises(Killed):
        resume(other, child.id, more, killed_at(PRESET.edit.steps + 5))
    begun = Workspace(other).edit_record(child.id)
    assert not begun.finished and begun.settings["steps"] == more
    same(result(other, resume(other, child.id)), result(project, whole))
    moved = [np.abs(a.astype(float) - b.astype(float)).max() for a, b in _pairs(result(project, whole), grown)]
    assert max(moved) > 0


@pytest.mark.slow
def test_of_the_schedule_that_settles_sooner_too(project, editor):
    """More short rounds come, by the new number of steps."""
    made = run(project, editor, schedule="projected", steps=8)
    other = project.with_name("other")
    shutil.copytree(project, other)
    whole = resume(project, made.id, 16)
    with pytest.raises(Killed):
        resume(other, made.id, 16, killed_at(11))
    same(result(other, resume(other, made.id)), result(project, whole))
    first = made.chosen[0]
    assert (pixels(whole.images[first]) != pixels(Workspace(other).images / f"{first}.png")).any()


def _pairs(now, grown):
    before = result(grown[0], grown[2])
    return [(now[name], before[name]) for name in before]


def test_steps_that_make_no_sense_are_refused_and_change_nothing(project, grown):
    _, parent, child, _ = grown
    before = Workspace(project).read_edits()
    for name, steps, said in (
        (child.id, child.steps, "has 24 steps already"),
        (child.id, 10**9, "must be 1 to 1,000,000"),
        (parent.id, 40, f"{child.id} stands on {parent.id} as it is"),
    ):
        with pytest.raises(BadInput, match=said) as caught:
            resume(project, name, steps)
        assert caught.value.field == "steps"
    assert Workspace(project).read_edits() == before


def test_one_like_another_is_the_same_but_for_what_is_said(project, grown, editor):
    _, parent, child, _ = grown
    twin = edit.run_edit(
        protocol.RunEdit(instruction="make it dark", workspace=str(project), like=child.id, device="cpu"), Job()
    )
    assert twin.id != child.id and twin.parent == parent.id and twin.settings == child.settings
    same(result(project, twin), result(grown[0], child))


@pytest.mark.slow
def test_like_another_with_its_region_and_key_views(project, grown, editor):
    child = grown[2]
    solid = protocol.Solid(
        vertices=[-9.0, -9, -9, 9, -9, -9, 0, 9, -9, 0, 0, 9], triangles=[0, 2, 1, 0, 1, 3, 1, 2, 3, 2, 0, 3]
    )
    picture = project / "tries" / "key.png"
    picture.parent.mkdir(exist_ok=True)
    Image.new("RGB", Image.open(child.images[child.chosen[0]]).size, (10, 200, 30)).save(picture)
    first = run(
        project, editor, "make it green", views=child.chosen[:4], steps=3, region=protocol.Region(solids=[solid]),
        key_views=[protocol.KeyView(child.chosen[0], str(picture))],
        options={"brightness": 0.7, "keep_background": "on"},
    )  # fmt: skip
    again = edit.run_edit(
        protocol.RunEdit(
            instruction="make it blue", workspace=str(project), like=first.id, device="cpu", seed=5, steps=4,
            options={"tint": "blue"},
        ),
        Job(),
    )  # fmt: skip
    one, two = (Workspace(project).edit_record(made.id) for made in (first, again))
    assert (two.chosen, two.region, two.key_views, two.parent) == (one.chosen, one.region, one.key_views, None)
    assert two.settings["options"] == one.settings["options"] | {"tint": "blue"}
    assert (two.settings["seed"], two.settings["steps"], two.settings["method"]) == (5, 4, "projected")
    assert two.settings["keep"] == 0.0  # another instruction: the editor decides, and knows none about the subject
    with pytest.raises(BadInput, match="There is no edit 0099-x"):
        edit.run_edit(protocol.RunEdit(instruction="x", workspace=str(project), like="0099-x", device="cpu"), Job())


def test_a_name_and_whether_it_is_muted_are_kept_apart_from_the_record(project, grown):
    child = grown[2]
    record = (Workspace(project).edit(child.id) / "edit.json").read_bytes()
    with locked(Workspace(project).folder, "editing"):  # by a job that runs
        made = tree.label_edit(protocol.LabelEdit(str(project), child.id, name="  夜の庭  2 "))
        assert (made.name, made.muted) == ("夜の庭 2", False)
        made = tree.label_edit(protocol.LabelEdit(str(project), child.id, muted=True))
    assert (made.name, made.muted, made.instruction) == ("夜の庭 2", True, "make it dark")
    told = capture.read_workspace(protocol.ReadWorkspace(str(project)))["edits"]
    assert [(one.name, one.muted) for one in told] == [("", False), ("夜の庭 2", True)]
    assert (Workspace(project).edit(child.id) / "edit.json").read_bytes() == record
    for wrong, said in (("x" * 101, "at most 100"), ("a\x00b", "can be shown")):
        with pytest.raises(BadInput, match=said):
            tree.label_edit(protocol.LabelEdit(str(project), child.id, name=wrong))
    for unknown in ("0009-none", "../../x"):
        with pytest.raises(BadInput):
            tree.label_edit(protocol.LabelEdit(str(project), unknown, name="x"))
    assert not (project / "edits" / "0009-none").exists()
    (Workspace(project).edit(child.id) / "label.json").write_text("{")
    assert Workspace(project).label(child.id).name == ""


def delete(project, name, **more):
    return tree.delete_edit(protocol.DeleteEdit(str(project), name, **more), Job())


def test_what_is_deleted_lies_in_the_trash_with_all_that_stands_on_it(project, grown, bin):
    _, parent, child, _ = grown
    with pytest.raises(BadInput, match=rf"{child.id} stands on {parent.id}; delete that as well") as caught:
        delete(project, parent.id)
    assert caught.value.field == "with_children" and not os.listdir(bin)
    assert msgspec.to_builtins(delete(project, parent.id, with_children=True)) == {
        "edits": [parent.id, child.id], "folder": None,
    }  # fmt: skip
    assert sorted(os.listdir(bin)) == sorted([parent.id, child.id])
    assert os.listdir(project / "edits") == ["numbers.json"]
    record = EditRecord("", "make it red", None, "tiny", "e", "", ["a"], {}, 0)
    third = Workspace(project).create_edit(record)  # of the same words, and yet another one
    assert third.id == "0003-make-it-red"
    shutil.rmtree(Workspace(project).edit(third.id))
    (project / "edits" / "numbers.json").write_text('{"last": -3}')  # damaged: the folders alone count
    assert Workspace(project).create_edit(record).id == "0001-make-it-red"
    shutil.rmtree(project / "edits" / "0001-make-it-red")
    for name in (child.id, parent.id):  # brought back, they are what they were
        os.rename(bin / name, project / "edits" / name)
    told = capture.read_workspace(protocol.ReadWorkspace(str(project)))
    assert [made.id for made in told["edits"]] == [parent.id, child.id] and not told["damaged"]


def test_a_damaged_one_can_be_deleted_and_what_stands_on_it_stays_listed(project, grown, bin):
    _, parent, child, _ = grown
    _damage(project, parent.id, "damaged")
    assert delete(project, parent.id, with_children=True).edits == [parent.id, child.id]
    with pytest.raises(BadInput, match="There is no edit") as caught:
        delete(project, parent.id)
    assert caught.value.field == "edit"


def test_without_a_trash_it_goes_to_a_folder_of_the_project(project, grown, monkeypatch):
    def none(path):
        raise PermissionError("no trash on this disk")

    monkeypatch.setattr(trash, "_system_trash", none)
    child = grown[2]
    gone = delete(project, child.id)
    assert gone.folder == str(project / "deleted") and (project / "deleted" / child.id / "edit.json").exists()
    shutil.copytree(project / "deleted" / child.id, project / "edits" / child.id)
    delete(project, child.id)
    assert sorted(os.listdir(project / "deleted")) == [child.id, f"{child.id} 2"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_no_link_leads_the_trash_out_of_the_project(project, grown, monkeypatch, tmp_path):
    child, outside = grown[2], tmp_path / "outside"
    monkeypatch.setattr(trash, "_system_trash", lambda path: pytest.fail(f"{path} was thrown away"))
    (project / "edits" / child.id).rename(outside)
    (project / "edits" / child.id).symlink_to(outside)
    with pytest.raises(BadInput, match="by a link"):
        delete(project, child.id)
    assert outside.is_dir()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="freedesktop.org's trash")
def test_the_systems_own_trash_takes_it_where_it_can_be_found_again(tmp_path, monkeypatch):
    from send2trash import plat_other

    monkeypatch.setattr(trash, "_system_trash", lambda path: plat_other.send2trash(str(path)))
    monkeypatch.setattr(plat_other, "HOMETRASH_B", os.fsencode(tmp_path / "Trash"))
    monkeypatch.setattr(plat_other, "XDG_DATA_HOME", os.fsencode(tmp_path / "no parent of it"))
    monkeypatch.setattr(plat_other, "get_dev", lambda path: 1)
    folder = tmp_path / "project" / "edits" / "0001-夜"
    folder.mkdir(parents=True)
    (folder / "edit.json").write_text("{}")
    assert trash.to_trash(folder, tmp_path / "project") is None
    assert (tmp_path / "Trash/files/0001-夜/edit.json").exists() and not folder.exists()
    assert "0001-%E5%A4%9C" in (tmp_path / "Trash/info/0001-夜.trashinfo").read_text()


def test_edits_that_stand_on_each_other_are_damaged_and_hide_no_other(project, grown):
    _, parent, child, _ = grown
    path = Workspace(project).edit(parent.id) / "edit.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"parent": child.id}))
    shutil.copytree(Workspace(project).edit(child.id), Workspace(project).edit("0003-good"))
    good = Workspace(project).edit("0003-good") / "edit.json"
    good.write_text(json.dumps(json.loads(good.read_text()) | {"id": "0003-good", "parent": parent.id}))
    told = capture.read_workspace(protocol.ReadWorkspace(str(project)))
    assert [made.id for made in told["edits"]] == ["0003-good"]
    assert [one.name for one in told["damaged"]] == [parent.id, child.id]
    assert all("stands on itself" in one.reason for one in told["damaged"])
    assert tree.standing_on(Workspace(project), parent.id) == ["0003-good"]


def test_the_commands_show_the_tree_and_change_it(project, grown, bin, capsys):
    _, parent, child, _ = grown
    cli_tree.rename(project, child.id, "Dark and red")
    cli_tree.mute(project, child.id)
    capsys.readouterr()
    cli_tree.tree(project)
    first, second, third = capsys.readouterr().out.strip().splitlines()
    assert first == "the captured scene"
    assert second.startswith(f"└── {parent.id}  make it red") and third.startswith(f"    └── {child.id}  Dark and red")
    assert third.endswith("muted")
    shutil.rmtree(Workspace(project).edit(parent.id))
    cli_tree.tree(project)
    assert f"{parent.id}, is gone" in " ".join(capsys.readouterr().out.split())
    cli_tree.delete(project, child.id)
    assert os.listdir(bin) == [child.id] and f'"{child.id}"' in capsys.readouterr().out
