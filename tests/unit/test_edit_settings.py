# SPDX-License-Identifier: GPL-3.0-or-later
"""What an edit's settings are made of, and those of projects that an earlier version made."""

import msgspec
import pytest

from benchmarks.truth.methods import ROWS
from engine.edit.settings import EditSettings, scheduled, settings_from, with_options
from engine.editors.catalogue import BUNDLED, editor_id, source_of
from engine.errors import BadInput
from engine.presets import PREVIEW

# As version 0.1 wrote them into edit.json.
BEFORE = {
    "steps": 300,
    "steps_per_round": 5,
    "first_pass": True,
    "agreed_relevance": 0.5,
    "diffusion_steps": 2,
    "sampler": "dpm++",
    "guidance": {"text": 3.0, "image": 1.2, "relevance": 0.4, "tethered": True, "guided_above": 0.3},
    "patches": 1,
    "losses": {"pixel": "l1", "perceptual_weight": 0.3},
    "seed": 7,
}


def test_an_edit_of_the_version_before_means_what_it_meant():
    settings = settings_from(BEFORE)
    assert settings.options == {
        "text_guidance": 3.0,
        "image_guidance": 1.2,
        "diffusion_steps": 2,
        "sampler": "dpm++",
        "tethered": True,
        "guided_above": 0.3,
    }
    assert settings.keep == 0.4 and settings.agreed_first(9) == 9
    assert (settings.steps, settings.seed, settings.first_pass) == (300, 7, True)
    assert settings_from(msgspec.to_builtins(settings)) == settings


def test_damaged_settings_are_said():
    for wrong in (
        BEFORE | {"steps": "abc"}, BEFORE | {"guidance": 3}, BEFORE | {"losses": {"pixel": "l7"}}, {"options": 3},
        {"options": {"x": [1]}}, {"keep": 7}, {"steps": 0},
    ):  # fmt: skip
        with pytest.raises(BadInput):
            settings_from(wrong)


@pytest.mark.parametrize(
    "folder",
    [
        "/home/a/.config/blender/4.5/extensions/.user/x/env/lib/python3.11/site-packages/engine/editors/weights/"
        + BUNDLED,
        r"C:\Users\a\AppData\Roaming\env\Lib\site-packages\engine\editors\weights" + "\\" + BUNDLED,
        BUNDLED,
    ],
)
def test_a_bundled_editor_is_known_wherever_its_environment_lay(folder):
    assert editor_id(folder) == BUNDLED
    assert source_of(folder).endswith(BUNDLED) and source_of(folder) == source_of(BUNDLED)
    assert editor_id("/home/a/models/" + BUNDLED) == "/home/a/models/" + BUNDLED  # a folder of the artist's own


def test_options_come_from_the_request_the_editor_and_the_preset_in_this_order():
    plain = with_options(PREVIEW.edit, "timbrooks/instruct-pix2pix", "make it night")
    assert plain.options["text_guidance"] == 7.5 and plain.options["diffusion_steps"] == 20 and plain.keep == 0
    of_preset = msgspec.structs.replace(EditSettings(), options={"diffusion_steps": 10, "other": 3})
    assert with_options(of_preset, "timbrooks/instruct-pix2pix", "x").options["diffusion_steps"] == 10
    assert with_options(of_preset, BUNDLED, "x").options["diffusion_steps"] == 2  # its guidance.json
    given = with_options(of_preset, BUNDLED, "x", {"diffusion_steps": 5, "keep_background": "on", "relevance": 0.7})
    assert given.options["diffusion_steps"] == 5 and given.keep == 0.7
    assert with_options(EditSettings(), BUNDLED, "turn it into gold").keep > 0  # about the subject alone
    assert with_options(EditSettings(), BUNDLED, "make it night").keep == 0
    for wrong in ({"text_guidance": -1.0}, {"sampler": "euler"}, {"text": 1.0}, {"diffusion_steps": 2.5}):
        with pytest.raises(BadInput) as caught:
            with_options(EditSettings(), BUNDLED, "x", wrong)
        assert caught.value.field in wrong


def test_the_projected_schedule_is_the_one_that_was_measured():
    alone, led = (scheduled(PREVIEW.edit, "projected", keys) for keys in (False, True))
    assert led == scheduled(PREVIEW.edit, None, True)
    for made, row in ((alone, "settling, agreed looks"), (led, "settling, agreed looks, a key view")):
        for name, value in ROWS[row].change.items():
            if name not in {"losses", "single_rays", "first_tries"}:  # a preset's own, and of no use with key views
                assert getattr(made, name) == value, name
        assert made.options == PREVIEW.edit.options and made.agreed_relevance == PREVIEW.edit.agreed_relevance
        assert made.steps == PREVIEW.edit.steps and made.losses == PREVIEW.edit.losses
    for schedule in (None, "paper"):
        assert scheduled(PREVIEW.edit, schedule, False) == PREVIEW.edit
