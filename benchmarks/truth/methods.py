# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of the table: each is a name and one line of settings over those of the run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from engine.edit.settings import FOLLOWING, TOGETHER, EditSettings
from engine.errors import BadInput
from engine.presets import PREVIEW
from engine.scenes.nerfacto.config import NerfactoConfig, ProposalConfig
from engine.scenes.settings import LossConfig, OptimiserConfig, TrainingConfig


@dataclass(frozen=True)
class Row:
    """A method. ``change`` replaces fields of the run's EditSettings; the learning rate falls over all its steps."""

    name: str
    kind: Literal["unedited", "oracle", "per-frame", "edit"]
    change: dict[str, Any] = field(default_factory=dict)
    share: float = 1.0  # of the run's steps
    keys: int = 0  # key views, whose true edits are approved
    drawn: bool = False  # with something painted over them

    def settings(self, base: EditSettings, seed: int) -> EditSettings:
        steps = round(self.share * base.steps)
        change = self.change | {"options": base.options | self.change.get("options", {})}
        settings = msgspec.structs.replace(base, seed=seed, steps=steps, **change)
        optimiser = msgspec.structs.replace(settings.optimiser, decay_steps=settings.steps)
        return msgspec.structs.replace(settings, optimiser=optimiser).checked()


SINGLE_RAYS = {"single_rays": 1.0, "losses": LossConfig("l1")}
FIRST_PASS = SINGLE_RAYS | {"first_pass": True}
SHARED = FIRST_PASS | {"shared_noise": True}
PROJECTED = SINGLE_RAYS | {"method": "projected"}
ONCE = PROJECTED | {"short_rounds": 0, "blended": True}
# A quarter of the views first, what they say carried over into the others, then two thirds of all in rounds.
SETTLING = PROJECTED | {
    "first_share": 0.25, "first_tries": 3, "outlier": 1.5, "blended": True,
    "refit": 0.4, "short_rounds": 2, "round_share": 1 / 3, "short_noise": (0.7, 0.4),
}  # fmt: skip
HALF = {"first_share": 0.4, "refit": 0.5, "short_rounds": 1, "round_share": 0.5, "short_noise": (0.6, 0.6)}
THREE = {"first_share": 0.2, "refit": 0.3, "short_rounds": 3, "round_share": 0.25, "short_noise": (0.7, 0.3)}
# Without a key view: three quarters first, each for itself, so that their looks cancel out, and as many edits in all.
ALONE = SETTLING | {
    "alone": True, "first_tries": 1, "first_share": 0.75,
    "short_rounds": 1, "round_share": 0.25, "short_noise": (0.7, 0.7),
}  # fmt: skip
AT_ONCE, LED = PROJECTED | TOGETHER, PROJECTED | FOLLOWING  # as the engine has it without key views, and with some
AGREED = FIRST_PASS | {"agreed_relevance": 0.5}
SHARP = AGREED | {"single_rays": 0.6, "losses": LossConfig("l1", 0.3)}

ROWS = {
    row.name: row
    for row in (
        Row("unedited", "unedited"),
        Row("oracle", "oracle", SINGLE_RAYS),
        Row("per-frame", "per-frame"),
        Row("one-time DU", "edit", {"method": "one-time"}),
        # Fewer steps: each takes a render of a whole view, and so as long as several of the others'.
        Row("SDS", "edit", {"method": "sds", "losses": LossConfig("mse")}, share=0.3),
        Row("Iterative DU", "edit"),  # the schedule of the authors' code
        Row("Iterative DU, five times the steps", "edit", share=5.0),
        Row("Iterative DU, ten times the steps", "edit", share=10.0),
        Row("more updates", "edit", {"steps_per_round": 3}),
        Row("two views a round", "edit", {"images_per_round": 2}),
        Row("spread views", "edit", {"order": "spread"}),
        Row("DPM-Solver++", "edit", {"options": {"sampler": "dpm++"}}),
        Row("pixel loss alone", "edit", {"losses": LossConfig("l1")}),
        Row("single rays", "edit", SINGLE_RAYS),
        Row("agreed relevance", "edit", SINGLE_RAYS | {"agreed_relevance": 0.5}),
        Row("first pass", "edit", {"first_pass": True}),
        Row("first pass, single rays", "edit", FIRST_PASS),
        Row("… agreed relevance", "edit", AGREED),
        Row("… patches last", "edit", SHARP),
        Row("… patches last, more updates", "edit", SHARP | {"steps_per_round": 5}),
        Row("projected", "edit", PROJECTED),
        Row("projected, one round, a third of the steps", "edit", PROJECTED | {"short_rounds": 1}, share=1 / 3),
        Row("projected, a key view", "edit", PROJECTED, keys=1),
        Row("projected, four key views", "edit", PROJECTED, keys=4),
        Row("once", "edit", ONCE, share=0.75),
        Row("half first, 0.6", "edit", SETTLING | HALF, share=0.75),
        Row("half first, 0.4", "edit", SETTLING | HALF | {"short_noise": (0.4, 0.4)}, share=0.75),
        Row("half first, 0.6, a key view", "edit", SETTLING | HALF, share=0.75, keys=1),
        Row("settling", "edit", ALONE, share=0.75),
        Row("settling, agreed relevance", "edit", ALONE | {"agreed_relevance": 0.5}, share=0.75),
        Row("settling, agreed looks", "edit", AT_ONCE, share=0.75),
        Row("settling, agreed looks, a key view", "edit", LED, share=0.75, keys=1),
        Row("settling, agreed looks, a key view painted over", "edit", LED, share=0.75, keys=1, drawn=True),
        Row("settling, agreed looks, all first, a key view", "edit", AT_ONCE, share=0.75, keys=1),
        Row("settling, agreed relevance and looks", "edit", AT_ONCE | {"agreed_relevance": 0.5}, share=0.75),
        Row("settling, led by one view", "edit", SETTLING, share=0.75),
        Row("settling, a key view", "edit", SETTLING, share=0.75, keys=1),
        Row("settling, a key view painted over", "edit", SETTLING, share=0.75, keys=1, drawn=True),
        Row("settling, less noise", "edit", SETTLING | {"short_noise": (0.5, 0.3)}, share=0.75),
        Row("settling, three rounds", "edit", SETTLING | THREE, share=0.75),
        Row("settling, a tenth first", "edit", SETTLING | {"first_share": 0.1, "refit": 0.3}, share=0.75),
        Row("settling, each view once", "edit", SETTLING | {"rest": True}, share=0.75),
        Row("… shared noise", "edit", SHARED),
        Row("… shared noise, falling t", "edit", SHARED | {"t_max_end": 0.5}),
        Row("… shared noise, more updates", "edit", SHARED | {"steps_per_round": 3}),
        Row("… shared noise, stop when settled", "edit", SHARED | {"t_max_end": 0.5, "settle": 0.02}),
    )
}
ENDS = ("unedited", "oracle")  # of the scale: no editor has a part in them
BASELINES = ("unedited", "oracle", "per-frame", "one-time DU", "SDS", "Iterative DU")
OURS = "… patches last"
# With the simulated editor schedules are compared, the paper's at length and in as many edits as ours.
SCHEDULES = (
    "per-frame", "one-time DU", "SDS", "Iterative DU", "Iterative DU, ten times the steps",
    "settling", "settling, a key view", "settling, a key view painted over",
)  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How much is done: picture size, the NeRF, how its unedited scene is trained, and an edit (guidance and
    sampler steps are those that the editor recommends)."""

    pixels: int
    nerf: NerfactoConfig
    train: TrainingConfig
    edit: EditSettings
    views: int = 1000  # to train on, at most


def _edit(steps: int, diffusion_steps: int) -> EditSettings:
    return EditSettings(
        steps=steps,
        patches=1,
        options={"diffusion_steps": diffusion_steps},
        optimiser=OptimiserConfig(learning_rate=5e-3, final_learning_rate=1e-3),  # over the row's own steps
    )


def _train(steps: int) -> TrainingConfig:
    optimiser = msgspec.structs.replace(PREVIEW.train.optimiser, decay_steps=steps)
    return msgspec.structs.replace(PREVIEW.train, steps=steps, optimiser=optimiser)


# For many runs on one core, of schedules alone: a smaller NeRF, and all methods learn single rays by the pixel loss.
_SMALL_NERF = msgspec.structs.replace(
    PREVIEW.nerf,
    levels=6,
    table_log2=14,
    max_resolution=256,
    proposal_samples=(32,),
    nerf_samples=16,
    proposals=(ProposalConfig(128, table_log2=14),),
)
_SMALL_TRAIN = msgspec.structs.replace(_train(800), rays=512)
_SMALL_EDIT = msgspec.structs.replace(_edit(400, 20), patch=16, single_rays=1.0, losses=LossConfig("l1"))

SIZES = {
    "small": Size(64, _SMALL_NERF, _SMALL_TRAIN, _SMALL_EDIT),
    "smallest": Size(128, PREVIEW.nerf, _train(400), _edit(100, 10)),
    "quick": Size(128, PREVIEW.nerf, _train(1500), _edit(200, 10)),
    "full": Size(256, PREVIEW.nerf, _train(1500), _edit(600, 20)),
}


def refuse_what_cannot_be(rows: Iterable[str], size: str) -> None:
    """End the program with a sentence where the settings of a row make no sense at a size."""
    for name in rows:
        try:
            ROWS[name].settings(SIZES[size].edit, 0)
        except BadInput as error:
            raise SystemExit(f"The row “{name}” cannot be made with --size {size}. {error}") from None
