# SPDX-License-Identifier: GPL-3.0-or-later
"""Every editor runs a whole edit, from a request to an edit's folder, on tiny networks read from the disk."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from engine import protocol
from engine.editors import catalogue, registry
from engine.editors.catalogue import KLEIN, default_editor, find_editors, load_editor
from engine.errors import BadInput
from engine.hub import wanted_files
from engine.jobs import capture, edit, trying
from engine.presets import PRESETS
from engine.progress import Job
from engine.workspace import Workspace

from . import tiny_editors
from .conftest import PRESET
from .toy_editor import KIND


@pytest.fixture(autouse=True)
def preset(monkeypatch):
    monkeypatch.setitem(PRESETS, PRESET.name, PRESET)
    monkeypatch.delenv("INSTRUCT_NERF_EDITOR", raising=False)


@pytest.fixture
def project(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "project")
    return tmp_path / "project"


def run(project, editor, **more):
    request = protocol.RunEdit(
        instruction="make it gold", editor=editor, workspace=str(project), preset=PRESET.name, device="cpu", **more
    )
    return edit.run_edit(request, Job())


SLOW = ("flux2_klein", "flux_kontext")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in tiny_editors.BUILD]
)
def test_every_editor_edits_a_whole_scene(name, project, tmp_path):
    folder = str(tiny_editors.written(name, tmp_path))
    made = run(project, folder, options={"diffusion_steps": 2})
    assert made.finished and made.editor == folder and made.steps == PRESET.edit.steps
    record = json.loads((Workspace(project).edit(made.id) / "edit.json").read_text())
    assert record["settings"]["options"]["diffusion_steps"] == 2
    assert set(made.views) == {view.name for view in capture.load_opened(Workspace(project)).views}
    originals = {path.stem: np.array(Image.open(path)).astype(int) for path in Workspace(project).images.glob("*.png")}
    changes = [
        np.abs(np.array(Image.open(path)).astype(int) - originals[view]).mean() for view, path in made.images.items()
    ]
    assert set(made.images) == set(made.chosen) and min(changes) > 1


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_picture_of_ones_own_is_the_edit_of_a_view(ending, project):
    view = capture.load_opened(Workspace(project)).views[2]
    original = Image.open(Workspace(project).images / view.image).convert("RGB")
    width, height = original.size
    painted = Image.new("RGB", (2 * width, 2 * height), (200, 40, 40))
    own = project.parent / f"painted.{ending}"
    painted.save(own, quality=95)
    request = protocol.TryEdit(
        instruction="as painted", editor=str(own), workspace=str(project), view=view.name, device="cpu"
    )
    tried = np.array(Image.open(trying.try_edit(request, Job()).after)).astype(int)
    assert tried.shape == (height, width, 3) and np.abs(tried - (200, 40, 40)).max() <= 3
    assert find_editors(str(own))[0].label == own.name and find_editors(str(own))[0].available
    with pytest.raises(BadInput, match=r"is the edit of one view; approve it as a key view") as caught:
        run(project, str(own))
    assert caught.value.field == "editor"


def test_where_it_is_transparent_the_view_stays(project):
    view = capture.load_opened(Workspace(project)).views[0]
    original = np.array(Image.open(Workspace(project).images / view.image).convert("RGB")).astype(int)
    layer = np.zeros((*original.shape[:2], 4), np.uint8)
    layer[:, :10] = (0, 255, 0, 255)
    own = project.parent / "layer.png"
    Image.fromarray(layer).save(own)
    request = protocol.TryEdit(instruction="x", editor=str(own), workspace=str(project), view=view.name, device="cpu")
    tried = np.array(Image.open(trying.try_edit(request, Job()).after)).astype(int)
    assert np.abs(tried[:, :10] - (0, 255, 0)).max() <= 1 and np.abs(tried[:, 10:] - original[:, 10:]).max() <= 1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: Image.new("RGB", (30, 300)).save(path), "another shape than the view"),
        (lambda path: path.write_text("no picture"), "own.png"),
    ],
)
def test_a_picture_that_cannot_be_the_views_is_said(make, said, project):
    own = project.parent / "own.png"
    make(own)
    view = capture.load_opened(Workspace(project)).views[0].name
    request = protocol.TryEdit(instruction="x", editor=str(own), workspace=str(project), view=view, device="cpu")
    with pytest.raises(BadInput, match=said) as caught:
        trying.try_edit(request, Job())
    assert caught.value.field == "editor" and caught.value.file == str(own)


class Killed(BaseException):
    """Stands for SIGKILL: nothing is saved any more."""


def killed_at(step):
    def saw(progress):
        if progress.stage == "edit" and progress.step == step:
            raise Killed

    return Job(on_progress=saw, every=0.0)


def test_an_edit_follows_approved_key_views_and_resumes_with_them(project, monkeypatch):
    """From a try's picture and from an image file; a run that was killed and resumed is the unbroken one."""
    monkeypatch.setattr(registry, "KINDS", [*registry.KINDS, KIND])
    toy = project.parent / "toy"
    toy.mkdir()
    (toy / "model_index.json").write_text(json.dumps({"_class_name": KIND.pipeline}))
    names = [view.name for view in capture.load_opened(Workspace(project)).views if not view.held_out]
    original = Image.open(Workspace(project).images / f"{names[1]}.png").convert("RGB")
    trial = Workspace(project).below("tries", "approved.png")
    trial.parent.mkdir(exist_ok=True)
    Image.new("RGB", original.size, (200, 40, 40)).save(trial)
    own = project.parent / "own.jpg"
    Image.new("RGB", (original.width * 2, original.height * 2), (40, 200, 40)).save(own, quality=95)
    keys = [protocol.KeyView(names[1], str(trial)), protocol.KeyView(names[3], str(own))]
    other = project.parent / "other"
    shutil.copytree(project, other)
    whole = run(project, str(toy), key_views=keys)
    assert set(whole.key_views) == {names[1], names[3]} and whole.settings["method"] == "projected"
    record = json.loads((Workspace(project).edit(whole.id) / "edit.json").read_text())
    assert record["key_views"] == [names[1], names[3]]
    for view, color in ((names[1], (200, 40, 40)), (names[3], (40, 200, 40))):
        for path in (whole.key_views[view], whole.images[view]):  # kept with the edit, and what the scene learnt
            shown = np.array(Image.open(path)).astype(int)
            assert shown.shape == (original.height, original.width, 3) and np.abs(shown - color).max() <= 3
    request = protocol.RunEdit(
        instruction="make it gold", editor=str(toy), workspace=str(other), preset=PRESET.name, device="cpu",
        key_views=keys,
    )  # fmt: skip
    with pytest.raises(Killed):
        edit.run_edit(request, killed_at(PRESET.edit.steps // 2))
    trial.unlink()  # the artist went on trying
    own.unlink()
    [begun] = Workspace(other).edits()
    again = edit.resume_edit(protocol.ResumeEdit(str(other), begun.id, "cpu"), Job())
    one, two = (load_file(Workspace(p).checkpoint(e.id)) for p, e in ((project, whole), (other, again)))
    assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("keys", "schedule", "said"),
    [
        ([("nowhere", "a.png")], None, "key view nowhere is not one that is edited"),
        ([("first", "a.png"), ("first", "a.png")], None, "is a key view twice"),
        ([("first", "none.png")], None, "There is no picture none.png"),
        ([("first", "narrow.png")], None, "another shape than the view"),
        ([("first", "a.png")], "paper", "The paper's schedule has no key views"),
    ],
)
def test_key_views_that_make_no_sense_are_said_before_anything_is_done(keys, schedule, said, project, monkeypatch):
    first = next(view for view in capture.load_opened(Workspace(project)).views if not view.held_out)
    Image.new("RGB", (first.intrinsics.width, first.intrinsics.height)).save(project.parent / "a.png")
    Image.new("RGB", (9, 90)).save(project.parent / "narrow.png")
    monkeypatch.chdir(project.parent)
    given = [protocol.KeyView(first.name if view == "first" else view, picture) for view, picture in keys]
    with pytest.raises(BadInput, match=said) as caught:
        run(project, catalogue.BUNDLED, key_views=given, schedule=schedule)
    assert caught.value.field == ("schedule" if schedule else "key_views") and not Workspace(project).edits()


def test_a_first_key_view_is_proposed(project):
    views = capture.load_opened(Workspace(project)).views
    assert capture.propose_key(protocol.ProposeKey(str(project)))["view"] in {view.name for view in views}


def test_terms_are_said_of_the_hubs_and_of_ones_own_folders(tmp_path):
    offers = {editor.name: editor.offer for editor in find_editors()}
    assert offers[KLEIN].licence == "Apache-2.0" and offers[KLEIN].commercial and not offers[KLEIN].gated
    kontext = offers["black-forest-labs/FLUX.1-Kontext-dev"]
    assert kontext.gated and not kontext.commercial and "Non-Commercial" in kontext.licence
    for name, commercial in (
        ("flux2_klein", True),
        ("flux_kontext", False),
        ("qwen_image_edit", True),
        ("instruct_pix2pix_xl", False),  # of CosXL's scheduler
    ):
        editor = find_editors(str(tiny_editors.written(name, tmp_path)))[0]
        assert editor.available, editor.reason
        assert editor.offer.commercial == commercial and bool(editor.offer.licence) == (not commercial)
    plain = tiny_editors.written("instruct_pix2pix_xl", tmp_path / "plain", tiny_editors.instruct_pix2pix_xl(False))
    assert find_editors(str(plain))[0].offer == protocol.Offer()


@pytest.mark.parametrize(
    ("name", "hub"),
    [("qwen_image_edit", "Qwen/Qwen-Image-Edit-2511"), ("flux_kontext", "black-forest-labs/FLUX.1-Kontext-dev")],
)
def test_what_is_downloaded_is_all_that_is_loaded(name, hub, tmp_path):
    whole = tiny_editors.written(name, tmp_path)
    names = [path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file()]
    for file in wanted_files(names, registry.hub_models()[hub]):
        target = tmp_path / "fetched" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(whole / file, target)
    assert (name == "flux_kontext") or (tmp_path / "fetched" / "tokenizer" / "chat_template.jinja").exists()
    load_editor(str(tmp_path / "fetched"), "cpu")


def test_the_default_on_a_card_is_klein_where_it_is_there_and_fits(tmp_path, monkeypatch):
    monkeypatch.setenv("INSTRUCT_NERF_MODELS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))

    def default(name, free, total=24):
        return default_editor(protocol.Device(name, name, free * 2**30, total * 2**30))

    assert default("cuda:0", 24) != KLEIN  # nothing is downloaded unasked
    tiny_editors.written("flux2_klein", tmp_path).rename(_made(registry.hub_models()[KLEIN].folder))
    assert default("cuda:0", 24) == KLEIN and default("cpu", 24) != KLEIN
    assert default("cuda:0", 8) != KLEIN and default("cuda:0", 8, total=8) != KLEIN  # what others use is not free


def _made(folder):
    folder.parent.mkdir(parents=True)
    return folder
