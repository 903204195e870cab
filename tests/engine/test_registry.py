# SPDX-License-Identifier: GPL-3.0-or-later
"""A new editor is one file and one row: the toy one is found, described, steered and run like any other."""

import json

import msgspec
import pytest
import torch
import torch.nn.functional as F

from engine.edit.iterative import ImageUpdated
from engine.edit.settings import settings_for, settings_from, with_options
from engine.editors import registry
from engine.editors.catalogue import find_editors, load_editor, resolved_options
from engine.errors import BadInput

from .test_iterative import SETTINGS, Run
from .toy_editor import KIND, ToyEditor

OWN = {
    "brightness": 0.5,
    "tint": "none",
    "checks": 1,
    "mirrored": False,
    "keep_background": "auto",
    "relevance": 0.5,
}
OWN_RECORDED = {name: value for name, value in OWN.items() if name not in ("keep_background", "relevance")}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The id of a folder with a toy editor in it."""
    monkeypatch.setattr(registry, "KINDS", [*registry.KINDS, KIND])
    folder = tmp_path / "my-toy"
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": KIND.pipeline}))
    return str(folder)


def test_it_is_found_with_its_own_knobs(toy):
    info = find_editors(toy)[0]
    assert (info.name, info.label, info.size, info.available, info.reason) == (toy, "my-toy", 32, True, "")
    assert {knob.name: knob.default for knob in info.knobs} == OWN
    assert info.knobs == list(KIND.knobs) and info.vocabulary == []
    assert find_editors(own=[toy])[-1] == info
    others = find_editors()  # which are what they were
    assert toy not in {other.name for other in others}
    assert all("text_guidance" in {knob.name for knob in other.knobs} for other in others)


def test_without_its_row_it_is_said_to_be_unknown(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": KIND.pipeline}))
    info = find_editors(str(tmp_path))[0]
    assert not info.available and KIND.pipeline in info.reason and "cannot use" in info.reason
    with pytest.raises(BadInput, match="cannot use as an editor") as caught:
        load_editor(str(tmp_path), "cpu")
    assert caught.value.field == "editor"


def test_what_its_folder_recommends_stands_between_the_knobs_own_and_what_is_given(toy, tmp_path):
    guidance = tmp_path / "my-toy" / "guidance.json"
    guidance.write_text('{"relevance": 0.25, "brightness": 20}')
    assert resolved_options(toy, {}) == OWN  # a value that makes no sense: nothing there can be trusted
    guidance.write_text('{"relevance": 0.25, "tint": "red", "text": 3, "size": 64}')  # of those it has no knob for
    recommended = {"relevance": 0.25, "tint": "red"}
    assert resolved_options(toy, {}) == OWN | recommended
    assert {k.name: k.default for k in find_editors(toy)[0].knobs} == OWN | recommended
    given = {"relevance": 0.75, "checks": 3}
    preset = {"brightness": 0.1, "diffusion_steps": 4}  # which it has no knob for
    assert resolved_options(toy, given, preset) == OWN | {"brightness": 0.1} | recommended | given


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("text_guidance", 7.5, "no option 'text_guidance'; it has: brightness, tint"),
        ("brightness", 2.1, "a number from 0 to 2"),
        ("brightness", -0.1, "a number from 0 to 2"),
        ("brightness", float("nan"), "a number from 0 to 2"),
        ("brightness", "much", "a number from 0 to 2"),
        ("brightness", True, "a number from 0 to 2"),
        ("checks", 0, "a whole number from 1 to 9"),
        ("checks", 2.5, "a whole number from 1 to 9"),
        ("tint", "green", "one of none, red, blue"),
        ("tint", 1, "one of none, red, blue"),
        ("mirrored", 1, "true or false"),
        ("mirrored", "yes", "true or false"),
        ("keep_background", True, "one of auto, on, off"),
        ("relevance", 1.01, "a number from 0 to 1"),
    ],
)
def test_its_options_are_checked_by_name(toy, name, value, said):
    for ask in (
        lambda: resolved_options(toy, {name: value}),
        lambda: with_options(SETTINGS, toy, "darker", {name: value}),
    ):
        with pytest.raises(BadInput, match=said) as caught:
            ask()
        assert caught.value.field == name and name in caught.value.message


def test_numbers_come_as_their_knobs_have_them(toy):
    options = resolved_options(toy, {"checks": 3.0, "brightness": 1})
    assert [type(options[name]) for name in ("checks", "brightness")] == [int, float]


def test_it_edits_a_scene(sphere_set, toy):
    editor = load_editor(toy, "cpu")
    assert isinstance(editor, ToyEditor) and editor.name == toy
    given = {"brightness": 0.25, "tint": "blue", "checks": 3, "keep_background": "on", "relevance": 0.3}
    settings = with_options(msgspec.structs.replace(SETTINGS, options={}), toy, "darker", given)
    assert settings.keep == 0.3  # what is kept is the engine's to do, not the editor's
    assert settings.options == {"brightness": 0.25, "tint": "blue", "checks": 3, "mirrored": False}
    run = Run(sphere_set, settings, editor)
    checks = []
    images = [e for e in run.events(lambda: checks.append(1)) if isinstance(e, ImageUpdated)]
    assert run.trainer.step_index == settings.steps and len(images) == settings.image_updates == len(editor.asked)
    assert all(asked.options == settings.options for asked in editor.asked)
    renders = len(images)  # of one chunk each, after a look before each update
    assert len(checks) == settings.steps + len(images) + renders + 3 * len(editor.asked)
    kept, changed = 0, 0
    for asked, event in zip(editor.asked, images, strict=True):
        answer = 0.1 * (asked.original * (0.25 - 0.06) + asked.picture * 0.1 + 0.01 * asked.drawn)
        answer += 0.9 * torch.tensor([0.1, 0.1, 0.9])
        cells = F.adaptive_avg_pool2d(asked.original[..., 0][None, None], (6, 8))
        low, high = (
            F.interpolate(sign * F.max_pool2d(sign * cells, 3, 1, 1), (20, 24))[0, 0] for sign in (-1, 1)
        )  # of a pixel's cell and those around it
        stays, goes = high < 0.2, low > 0.4
        image = event.image.float() / 255
        assert torch.equal(image[stays], asked.original[stays])
        torch.testing.assert_close(image[goes], answer[goes], atol=0.51 / 255, rtol=0)
        kept, changed = kept + int(stays.sum()), changed + int(goes.sum())
    assert kept > 50 and changed > 50


@pytest.mark.parametrize("options", [{"brightness": 1e30}, {"checks": 10**9}, {"tint": "../x"}, {"other": 1}])
def test_options_of_a_record_are_checked_as_given_ones_are(toy, options):
    settings = msgspec.to_builtins(msgspec.structs.replace(SETTINGS, options=OWN_RECORDED | options))
    with pytest.raises(BadInput, match="option") as caught:
        settings_for(settings, toy)
    assert caught.value.field == next(iter(options))
    assert settings_for(settings | {"options": OWN_RECORDED}, toy).options == OWN_RECORDED


def test_a_record_of_nonsense_is_said():
    for record in (
        {"guidance": 3},
        {"guidance": [1]},
        {"guidance": {"text": {}}},
        {"options": {"a": []}},
        {"steps": []},
    ):
        with pytest.raises(BadInput):
            settings_from(record)
