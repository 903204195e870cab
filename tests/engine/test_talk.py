# SPDX-License-Identifier: GPL-3.0-or-later
"""An edit that is talked to while it runs: what it is asked is written down with its step, so that a run that was
killed and resumed after all that is bit for bit the unbroken one."""

import json
import shutil
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
import trimesh
from PIL import Image
from safetensors.numpy import load_file

from engine import protocol
from engine.editors import registry
from engine.errors import BadInput, Cancelled
from engine.jobs import capture, edit, named_editor
from engine.presets import PRESETS
from engine.progress import Job
from engine.runtime import Runtime
from engine.workspace import Workspace

from .conftest import PRESET
from .toy_editor import KIND

STEPS = PRESET.edit.steps


class Killed(BaseException):
    """Stands for SIGKILL: nothing is saved any more."""


class Talk:
    """A job that asks its own edit for things, each once at its step, and is killed at one."""

    def __init__(self, kill_at=None, wishes=(), runtime=None):
        self.wishes, self.kill_at, self.answers = list(wishes), kill_at, []
        self.job = Job(on_progress=self._saw, every=0.0, runtime=runtime or Runtime())

    def _saw(self, progress):
        if progress.stage == "edit":
            step = progress.step
        elif progress.stage == "first":
            step = -100 + progress.step  # before the first step
        else:
            return
        for wish in [wish for wish in self.wishes if wish[0] == step]:
            self.wishes.remove(wish)
            _, name, params = wish
            if name == "pause":
                self.job.wishes.pause()
                threading.Timer(0.3, self.job.wishes.pause, (False,)).start()
            else:
                self.answers.append((step, name, self.job.wishes.make(name, params)))
        if step == self.kill_at:
            raise Killed


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": KIND.pipeline}))
    return str(folder)


@pytest.fixture(autouse=True)
def kinds(monkeypatch):
    monkeypatch.setattr(registry, "KINDS", [*registry.KINDS, KIND])
    monkeypatch.setitem(PRESETS, PRESET.name, PRESET)


@pytest.fixture
def project(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "project")
    return tmp_path / "project"


def camera(project, number=3):
    view = capture.load_opened(Workspace(project)).views[number]
    i = view.intrinsics
    return protocol.Camera(tuple(view.pose.ravel().tolist()), i.width, i.height, i.fx, i.fy, i.cx, i.cy)


def box(half):
    """A region: a pillar around the middle of the scene, past which many pixels look in the fog of a young scene."""
    triangles = trimesh.creation.box((2 * half, 2 * half, 10.0))
    solid = protocol.Solid(
        vertices=triangles.vertices.ravel().tolist(), triangles=triangles.faces.ravel().tolist(), name="Box"
    )
    return protocol.Region(solids=[solid], softness=0.3)


def run(project, editor, talk, schedule=None):
    request = protocol.RunEdit(
        instruction="make it night", editor=editor, options={"tint": "red", "keep_background": "on"},
        workspace=str(project), preset=PRESET.name, device="cpu", schedule=schedule,
    )  # fmt: skip
    return edit.run_edit(request, talk.job)


def resume(project, talk):
    [record] = Workspace(project).edits()
    return edit.resume_edit(protocol.ResumeEdit(str(project), record.id, "cpu"), talk.job)


def asked(project):
    """Changes of words, knobs and region, two views again, one that is left as captured for a while, a look and a
    pause, on the way."""
    names = [view.name for view in capture.load_opened(Workspace(project)).views]
    view, left = names[4], names[5]
    return [
        (-97, "job/change", protocol.ChangeEdit(1, options={"brightness": 0.7})),  # in the first pass
        (3, "job/remake", protocol.RemakeView(1, view)),
        (6, "job/change", protocol.ChangeEdit(1, "turn it into marble", {"tint": "blue"})),
        (6, "job/remake", protocol.RemakeView(1, view)),
        (9, "job/render", protocol.RenderNow(1, camera(project))),
        (9, "pause", None),
        (10, "job/remake", protocol.RemakeView(1, left, captured=True)),
        (11, "job/change", protocol.ChangeEdit(1, region=box(0.9))),
        (12, "job/change", protocol.ChangeEdit(1, region=box(0.4))),
        (14, "job/change", protocol.ChangeEdit(1, options={"mirrored": True, "keep_background": "off"})),
        (15, "job/remake", protocol.RemakeView(1, view)),
        (17, "job/change", protocol.ChangeEdit(1, region=None)),
        (18, "job/remake", protocol.RemakeView(1, left)),
    ]


def result(project, made):
    """Everything that an edit left, as numbers."""
    tensors = load_file(Workspace(project).checkpoint(made.id))
    for kind, paths in (("image", made.images), ("view", made.views)):
        tensors |= {f"{kind} {name}": np.array(Image.open(path)) for name, path in paths.items()}
    return tensors


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.fixture(scope="module", params=["paper", pytest.param("projected", marks=pytest.mark.slow)])
def unbroken(request, trained, editor, tmp_path_factory):
    project = tmp_path_factory.mktemp("unbroken") / "project"
    shutil.copytree(trained, project)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "KINDS", [*registry.KINDS, KIND])
        patch.setitem(PRESETS, PRESET.name, PRESET)
        talk = Talk(wishes=asked(project))
        made = run(project, editor, talk, request.param)
        return made, result(project, made), talk.answers, project, request.param


def test_what_was_asked_is_answered_and_written_down(unbroken):
    made, _, answers, project, _ = unbroken
    steps = {(at, name): msgspec.to_builtins(answer.result(0))["step"] for at, name, answer in answers}
    assert steps == {
        (-97, "job/change"): 0, (3, "job/remake"): 3, (6, "job/change"): 6, (6, "job/remake"): 6, (9, "job/render"): 9,
        (10, "job/remake"): 10, (11, "job/change"): 11, (12, "job/change"): 12, (14, "job/change"): 14,
        (15, "job/remake"): 15, (17, "job/change"): 17, (18, "job/remake"): 18,
    }  # fmt: skip
    marble = "turn it into marble"
    assert [(c.step, c.instruction, c.captured, c.region) for c in made.changes] == [
        (0, "make it night", False, None), (3, "", False, None), (6, marble, False, None), (6, "", False, None),
        (10, "", True, None), (11, marble, False, 0), (12, marble, False, 1), (14, marble, False, None),
        (15, "", False, None), (17, marble, False, 2), (18, "", False, None),
    ]  # fmt: skip
    [record] = Workspace(project).edits()
    assert record.region is None and record.regions == [box(0.9), box(0.4), None] and record.last_region is None
    options = [c.options for c in made.changes if c.view is None and c.region is None]
    assert [(o["brightness"], o["tint"], o["mirrored"]) for o in options] == [
        (0.7, "red", False), (0.7, "blue", False), (0.7, "blue", True),
    ]  # fmt: skip
    keeps = [c.keep for c in made.changes if c.view is None and c.region is None]
    assert keeps == [0.5, 0.0, 0.0]  # another instruction decides anew: the toy knows none that is about the subject
    rendered = next(answer.result(0) for _, name, answer in answers if name == "job/render")
    assert Image.open(rendered.image).size == (48, 40) and Path(rendered.image).parent == project / "tries"
    assert made.finished and made.steps == STEPS


def test_it_follows_what_it_was_told(unbroken, trained, editor, tmp_path):
    """The pictures are not those of the edit that nobody spoke to."""
    project = tmp_path / "quiet"
    shutil.copytree(trained, project)
    quiet = run(project, editor, Talk(), unbroken[4])
    assert quiet.changes == []
    told = result(project, quiet)
    name = next(name for name in told if name.startswith("image "))
    blue = unbroken[1][name].astype(int)[..., 2].mean() - told[name].astype(int)[..., 2].mean()
    assert blue > 30


QUICK = {(6, 1e9), (14, 0.0)}
KILLS = [
    pytest.param(step, every, marks=[] if (step, every) in QUICK else pytest.mark.slow)
    for step in (-96, 2, 6, 10, 14, 20)
    for every in (0.0, 1e9)
]


@pytest.mark.parametrize(("kill_at", "every"), KILLS)  # every: seconds between two checkpoints
def test_killed_and_resumed_after_all_that_it_is_bit_for_bit_the_same(
    unbroken, project, editor, monkeypatch, kill_at, every
):
    monkeypatch.setattr(edit, "CHECKPOINT_EVERY", every)
    first = Talk(kill_at, asked(project))
    with pytest.raises(Killed):
        run(project, editor, first, unbroken[4])
    [record] = Workspace(project).edits()
    # What was asked at the moment of the kill was not heard any more, and is asked again as by an artist.
    heard = {(c.step if c.step else -97, c.view is None) for c in record.changes}
    again = [
        w for w in asked(project) if w[1] in ("job/change", "job/remake") and (w[0], w[1] == "job/change") not in heard
    ]
    made = resume(project, Talk(wishes=[w for w in again if w[0] >= kill_at or w[0] > record.steps or w[0] < 0]))
    assert made.changes == unbroken[0].changes
    same(result(project, made), unbroken[1])


def test_outside_a_region_and_of_a_view_that_is_left_all_is_as_captured_at_once(project, editor, monkeypatch):
    """The pictures that the next steps learn from, as a checkpoint keeps them."""
    monkeypatch.setattr(edit, "CHECKPOINT_EVERY", 1e9)
    workspace = Workspace(project)
    names = [view.name for view in capture.load_opened(workspace).views]
    chosen = [view.name for view in capture.load_opened(workspace).views if not view.held_out]
    left = chosen[2]
    wishes = [
        (9, "job/remake", protocol.RemakeView(1, left, captured=True)),
        (10, "job/change", protocol.ChangeEdit(1, region=box(1.0))),
    ]
    talk, stop = Talk(wishes=wishes), threading.Event()
    talk.job.cancelled = stop.is_set
    saw = talk.job.on_progress
    talk.job.on_progress = lambda progress: (
        saw(progress) or (stop.set() if progress.stage == "edit" and progress.step == 16 else None)
    )
    with pytest.raises(Cancelled):
        run(project, editor, talk)
    [record] = workspace.edits()
    assert record.steps >= 16 and [c.step for c in record.changes] == [9, 10]
    pictures = {name: np.array(Image.open(workspace.images / f"{name}.png")) for name in names}
    edited = {name: np.array(Image.open(workspace.edit(record.id) / "images" / f"{name}.png")) for name in chosen}
    np.testing.assert_array_equal(edited[left], pictures[left])
    other = [(edited[name] != pictures[name]).any(axis=-1) for name in set(chosen) - {left}]
    assert sum(one.sum() for one in other) > 20  # they had been edited everywhere
    assert all(one.sum() < one.size / 2 for one in other)


def test_a_key_view_is_not_left_as_captured(project, editor):
    workspace = Workspace(project)
    view = next(view for view in capture.load_opened(workspace).views if not view.held_out)
    picture = str(workspace.images / view.image)
    talk = Talk(wishes=[(5, "job/remake", protocol.RemakeView(1, view.name, captured=True))])
    request = protocol.RunEdit(
        instruction="make it night", editor=editor, workspace=str(project), preset=PRESET.name, device="cpu",
        key_views=[protocol.KeyView(view.name, picture)], steps=8,
    )  # fmt: skip
    made = edit.run_edit(request, talk.job)
    assert made.changes == []
    with pytest.raises(BadInput, match="is a key view"):
        talk.answers[0][2].result(0)


def test_a_paused_edit_saves_when_it_is_cancelled(project, editor):
    stop = threading.Event()
    talk = Talk(wishes=[(5, "pause", None)])
    talk.job.cancelled = stop.is_set
    talk.job.wishes.pause = _only_pausing(talk.job.wishes.pause)
    threading.Timer(2.5, stop.set).start()
    with pytest.raises(Cancelled):
        run(project, editor, talk)
    [record] = Workspace(project).edits()
    assert record.steps == 5 and not record.finished
    assert record.seconds < 2.5  # the pause is not of them


def _only_pausing(pause):
    return lambda paused=True: pause() if paused else None


def test_wishes_that_make_no_sense_are_refused_and_change_nothing(unbroken, project, editor):
    wishes = [
        (5, "job/change", protocol.ChangeEdit(1)),
        (5, "job/change", protocol.ChangeEdit(1, "   ")),
        (5, "job/change", protocol.ChangeEdit(1, options={"no such": 1})),
        (5, "job/change", protocol.ChangeEdit(1, options={"brightness": 77.0})),
        (5, "job/change", protocol.ChangeEdit(1, region=msgspec.structs.replace(box(1.0), softness=-1.0))),
        (5, "job/remake", protocol.RemakeView(1, "no such view")),
        (5, "job/remake", protocol.RemakeView(1, "no such view", captured=True)),
        (5, "job/render", protocol.RenderNow(1, msgspec.structs.replace(camera(project), width=10**6))),
    ]
    talk = Talk(wishes=wishes)
    made = run(project, editor, talk)
    assert len(talk.answers) == len(wishes) and made.changes == []
    for _, _, answer in talk.answers:
        with pytest.raises(BadInput):
            answer.result(0)


def test_editor_and_scenes_stay_loaded_for_the_next_job(project, editor, monkeypatch):
    from engine.jobs import output, trying, views

    runtime, loads = Runtime(), []
    monkeypatch.setattr(
        named_editor, "load_editor", lambda name, device: loads.append(name) or registry.load(name, name, device)
    )
    opened = []
    monkeypatch.setattr(views, "open_scene", _counting(views.open_scene, opened))

    def try_once(instruction):
        view = capture.load_opened(Workspace(project)).views[0].name
        request = protocol.TryEdit(
            instruction=instruction, editor=editor, workspace=str(project), view=view, device="cpu"
        )
        trying.try_edit(request, Job(runtime=runtime))

    try_once("make it night")
    try_once("make it red")
    assert loads == [editor]
    request = protocol.MakeMesh(str(project), resolution=20, device="cpu")
    output.make_mesh(request, Job(runtime=runtime))
    output.make_mesh(request, Job(runtime=runtime))
    assert opened.count("loaded") == 1
    (Path(editor) / "guidance.json").write_text('{"brightness": 0.4}')  # it is another editor now
    try:
        try_once("make it night")
    finally:
        (Path(editor) / "guidance.json").unlink()
    assert loads == [editor, editor]
    assert runtime.release() == ["editor", "scene"]


def _counting(open_scene, opened):
    def counted(path):
        saved = open_scene(path)
        load = saved.scene
        saved.scene = lambda device: opened.append("loaded") or load(device)
        return saved

    return counted
