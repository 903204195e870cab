# SPDX-License-Identifier: GPL-3.0-or-later
"""Every choice that an edit makes, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from engine import typed
from engine.editors.base import KEEP_BACKGROUND, RELEVANCE
from engine.editors.catalogue import about_subject, known_options, resolved_options
from engine.errors import BadInput
from engine.protocol import OptionValue
from engine.records import MOST_STEPS
from engine.scenes.settings import LossConfig, OptimiserConfig, TrainingConfig

if TYPE_CHECKING:  # settings are known without PyTorch
    from engine.edit.region import Region

MOST_STALE = 64  # rounds; the paper's have ten steps
LEAST_COMPARED = 32  # edge of a patch that LPIPS, which halves pictures again and again, has something left of
MOST_RAYS = 2**20  # a step; the paper takes 16,384

Method = Literal["iterative", "projected", "one-time", "sds"]
"""Iterative Dataset Update as in the paper, and as it settles sooner (engine/edit/projected.py); and the paper's
baselines that change a NeRF (engine/edit/baselines.py)."""
Order = Literal["shuffled", "spread"]
"""How image updates go through the views: each turn in a new random order, or each next view far from those before."""


class Told(msgspec.Struct, frozen=True):
    """An instruction, with a value for every knob of the editor, from a NeRF step on."""

    instruction: str
    options: dict[str, OptionValue]
    keep: float = 0.0  # threshold of relevance below which the original stays; 0: nowhere
    step: int = 0
    region: Region | None = None  # where alone the scene may change; None: everywhere

    def same_words(self, other: Told) -> bool:
        """Whether the editor is told the same."""
        return (self.instruction, self.options, self.keep) == (other.instruction, other.options, other.keep)


class EditSettings(msgspec.Struct, frozen=True):
    """Every setting of an edit; the defaults are the paper's Iterative Dataset Update, the schedule is the authors'
    code's."""

    steps: int = 15_000  # NeRF updates in all
    images_per_round: int = 1  # d
    steps_per_round: int = 10  # n
    t_min: float = 0.02  # of the diffusion's length
    t_max: float = 0.98
    t_max_end: float | None = None  # what t_max has fallen to, evenly, by the last image update; None: it stays
    first_pass: bool = False  # edit every view once, at t_max, before the first NeRF update
    agreed_relevance: float = 0.0  # threshold of a relevance that all views agree about; 0: each view has its own
    shared_noise: bool = False  # one noise for all image updates: pictures of neighbouring views are drawn alike
    order: Order = "shuffled"
    # Rounds after which an edited picture takes the place of its view's: its edit may be made elsewhere meanwhile, from
    # a render that is so many rounds old. 0: at once, as in the paper.
    staleness: int = 0
    settle: float = 0.0  # stop once a turn of the views changed their pictures by less (mean, 0–1); 0: never
    options: dict[str, OptionValue] = {}  # of the editor's knobs; of a preset, those for editors that have them
    keep: float = 0.0  # threshold of relevance below which the original stays; 0: nowhere
    patches: int = 16  # a batch of rays, in patches so that LPIPS can be taken
    patch: int = 32  # edge, pixels
    single_rays: float = 0.0  # share of the steps, from the first, with as many single rays of all views: pixel loss
    losses: LossConfig = LossConfig(pixel="l1", perceptual_weight=1.0)
    optimiser: OptimiserConfig = OptimiserConfig(decay_steps=30_000)
    seed: int = 0
    method: Method = "iterative"
    # Of "projected" alone:
    first_share: float = 1.0  # of the views, that are edited before the refit; the others take what is carried over
    first_tries: int = 1  # of the view that all others follow, where none was approved: that most like the others stays
    # A view is edited twice whose first edit is so many times farther from what is carried over into it than is usual,
    # and the nearer of both stays; 0: never.
    outlier: float = 0.0
    # Where no key view was approved, each view's first edit starts from what it shows, not from what was edited before:
    # so no single view's look leads all others.
    alone: bool = False
    # The looks of the first edits, each view's own, are brought together before the scene learns from any.
    agreed_looks: bool = False
    blended: bool = False  # what several views say of a pixel is averaged, not taken from the nearest
    refit: float = 0.5  # share of the steps after which the first of the short rounds comes
    short_rounds: int = 3  # in which every view is edited once more, evenly through the other steps
    batch: int = 1  # views that a round edits at once, where the editor can
    round_share: float = 1.0  # of the views, that a round edits: each round others, in turn
    rest: bool = False  # the rounds edit the views that were not edited at first, and no others, each of them once
    short_noise: tuple[float, float] = (0.8, 0.5)  # noise level of the first of them, and of the last

    def checked(self) -> EditSettings:
        """Itself. Raises BadInput, naming the field, where a value makes no sense."""
        for field, good, need in (
            ("steps", 1 <= self.steps <= MOST_STEPS, f"1 to {MOST_STEPS:,}"),
            ("images_per_round", 1 <= self.images_per_round <= 10_000, "1 to 10,000"),
            ("steps_per_round", 1 <= self.steps_per_round <= MOST_STEPS, f"1 to {MOST_STEPS:,}"),
            ("t_min", 0 < self.t_min <= self.t_max, "above 0 and no more than t_max"),
            ("t_max", self.t_max <= 1, "at most 1"),
            ("t_max_end", self.t_min <= (self.t_max_end or self.t_max) <= self.t_max, "between t_min and t_max"),
            ("staleness", 0 <= self.staleness <= MOST_STALE, f"0 to {MOST_STALE}"),
            ("settle", 0 <= self.settle <= 1, "0 to 1"),
            ("keep", 0 <= self.keep <= 1, "0 to 1"),
            ("agreed_relevance", 0 <= self.agreed_relevance <= 1, "0 to 1"),
            ("patches", 1 <= self.patches <= 1024, "1 to 1024"),
            ("patch", 1 <= self.patch <= 256, "1 to 256"),
            (
                "patch",
                self.patch >= LEAST_COMPARED or self.single_rays == 1 or not self.losses.perceptual_weight,
                f"at least {LEAST_COMPARED}, which is what LPIPS compares; or single_rays 1, or perceptual_weight 0",
            ),
            (
                "patches",
                self.patches * self.patch**2 <= MOST_RAYS,
                f"fewer: {MOST_RAYS:,} rays are the most",
            ),
            ("first_share", 0 < self.first_share <= 1, "above 0 and at most 1"),
            ("first_tries", 1 <= self.first_tries <= 100, "1 to 100"),
            ("outlier", self.outlier == 0 or 1 <= self.outlier <= 1000, "0, or 1 to 1000"),
            ("refit", 0 < self.refit <= 1, "above 0 and at most 1"),
            ("short_rounds", 0 <= self.short_rounds <= 1000, "0 to 1000"),
            ("batch", 1 <= self.batch <= 64, "1 to 64"),
            ("round_share", 0 < self.round_share <= 1, "above 0 and at most 1"),
            ("short_noise", 0 < self.short_noise[1] <= self.short_noise[0] <= 1, "two levels, falling, above 0 to 1"),
            ("single_rays", 0 <= self.single_rays <= 1, "0 to 1"),
            ("seed", -(2**63) <= self.seed < 2**63, "a number of 64 bits"),
            ("perceptual_weight", 0 <= self.losses.perceptual_weight <= 1000, "0 to 1000"),
            *((name, 0 < value <= 10, "above 0 and at most 10") for name, value in _rates(self.optimiser)),
            *((name, 1 <= value <= 10**9, "1 to 1,000,000,000") for name, value in _decays(self.optimiser)),
        ):
            if not good:
                raise BadInput(f"The setting {field} must be {need}.", field=field)
        return self

    @property
    def training(self) -> TrainingConfig:
        """What the scene's steps learn from."""
        rays = self.patches * self.patch**2
        return TrainingConfig(self.steps, rays, self.losses, self.optimiser, self.single_rays, self.patch)

    def told(self, instruction: str) -> Told:
        """What the editor is told, but for its editor's own knobs as these settings have them."""
        return Told(instruction, self.options, self.keep)

    @property
    def rounds(self) -> int:
        """Rounds of image updates before the last NeRF update."""
        return -(-self.steps // self.steps_per_round)

    @property
    def image_updates(self) -> int:
        """Image updates of the paper's Iterative DU, without the first pass."""
        return self.rounds * self.images_per_round

    def updates_later(self, views: int) -> int:
        """Image updates after the first NeRF update of an edit of ``views`` views, where it does not settle before."""
        in_rounds = self.short_rounds * -(-views // self.rounds_apart)
        if self.rest:
            in_rounds = views - self.updates_first(views) if self.short_rounds else 0
        return {"iterative": self.image_updates, "projected": in_rounds}.get(self.method, 0)

    @property
    def rounds_apart(self) -> int:
        """Short rounds after which a view's turn comes again."""
        return max(1, round(1 / self.round_share))

    def agreed_first(self, views: int) -> int:
        """Views whose relevance is measured before anything else, so that they can agree."""
        both = self.method in ("iterative", "projected")
        return views if both and self.agreed_relevance and self.keep else 0

    def updates_first(self, views: int) -> int:
        """Image updates before the first NeRF update of an edit of ``views`` views."""
        if self.method == "projected":
            return min(views, max(1, round(views * self.first_share)))
        return views if self.method == "one-time" or (self.method == "iterative" and self.first_pass) else 0

    def noise_range(self, update: int) -> tuple[float, float]:
        """[t_min, t_max] of the ``update``-th image update."""
        end = self.t_max if self.t_max_end is None else self.t_max_end
        done = update / max(self.image_updates - 1, 1)
        return self.t_min, self.t_max + (end - self.t_max) * min(done, 1.0)


def _rates(optimiser: OptimiserConfig) -> list[tuple[str, float]]:
    names = ("learning_rate", "final_learning_rate", "camera_learning_rate", "camera_final_learning_rate")
    return [(name, getattr(optimiser, name)) for name in names]


def _decays(optimiser: OptimiserConfig) -> list[tuple[str, int]]:
    return [(name, getattr(optimiser, name)) for name in ("decay_steps", "camera_decay_steps")]


def checked_instruction(instruction: str) -> str:
    """The instruction without surrounding space. Raises BadInput where nothing is left."""
    instruction = " ".join(instruction.split())
    if not instruction:
        raise BadInput("The instruction is empty; say what should change.", field="instruction")
    if len(instruction) > 500:
        raise BadInput(
            "The instruction is longer than 500 characters; the editor reads one sentence.", field="instruction"
        )
    return instruction


# The projected schedule without key views: all at once, each for itself, and no round, which would bring new looks; and
# with key views: a quarter of the views first, what they say carried over into the others, two thirds of all in rounds.
TOGETHER: dict[str, Any] = {"alone": True, "first_share": 1.0, "short_rounds": 0, "agreed_looks": True}
FOLLOWING: dict[str, Any] = {
    "first_share": 0.25, "outlier": 1.5, "blended": True, "agreed_looks": True,
    "refit": 0.4, "short_rounds": 2, "round_share": 1 / 3, "short_noise": (0.7, 0.4),
}  # fmt: skip


def scheduled(settings: EditSettings, schedule: Literal["paper", "projected"] | None, keys: bool) -> EditSettings:
    """The settings of a schedule by its name; where none is asked for, the projected one with key views, else as they
    are. The projected one is as it was measured best (docs/benchmark.md). Raises BadInput where key views are to go
    with the paper's, which has none."""
    if keys and schedule == "paper":
        raise BadInput("The paper's schedule has no key views; choose the projected one.", field="schedule")
    method: dict[str | None, Method] = {"paper": "iterative", "projected": "projected"}
    chosen = method.get("projected" if keys else schedule, settings.method)
    if chosen != "projected":
        return msgspec.structs.replace(settings, method=chosen)
    return msgspec.structs.replace(settings, method=chosen, **(FOLLOWING if keys else TOGETHER))


def as_published(settings: EditSettings) -> EditSettings:
    """The settings with the schedule of the paper's authors in place of their own; as many steps, and all else the
    same."""
    published = EditSettings()
    names = (
        "method", "images_per_round", "steps_per_round", "t_min", "t_max", "t_max_end", "first_pass",
        "agreed_relevance", "shared_noise", "order", "settle",
    )  # fmt: skip
    return msgspec.structs.replace(settings, **{name: getattr(published, name) for name in names})


def with_options(
    settings: EditSettings, editor: str, instruction: str, given: dict[str, OptionValue] | None = None
) -> EditSettings:
    """The settings with a value for every knob of the editor: as ``given``, as it recommends, or as the settings have
    it. The background is kept where that was asked for or, where it is left to the editor, where its vocabulary says
    that the instruction is about the subject alone. Raises BadInput, naming the option."""
    options = resolved_options(editor, given or {}, settings.options)
    keep = options.pop(KEEP_BACKGROUND.name, "off")
    threshold = float(options.pop(RELEVANCE.name, 0.0))
    kept = keep == "on" or (keep == "auto" and about_subject(editor, instruction))
    return msgspec.structs.replace(settings, options=options, keep=threshold if kept else 0.0)


def changed(
    settings: EditSettings, editor: str, now: Told, instruction: str | None, given: dict[str, OptionValue], step: int
) -> Told:
    """What an editor that was told ``now`` is told from ``step`` on: another instruction, other values of some knobs,
    both or neither. The rest is as it was; but whether the background is kept is decided again for another instruction.
    Raises BadInput, naming what is wrong."""
    said = now.instruction if instruction is None else checked_instruction(instruction)
    new = with_options(settings, editor, said, now.options | given)
    decided = instruction is not None or given.keys() & {KEEP_BACKGROUND.name, RELEVANCE.name}
    return Told(said, new.options, new.keep if decided else now.keep, step, now.region)


def settings_for(record: dict[str, Any], editor: str) -> EditSettings:
    """Settings as an edit's record has them, whose options its editor can take. Raises BadInput."""
    settings = settings_from(record)
    return msgspec.structs.replace(settings, options=known_options(editor, settings.options))


def settings_from(record: dict[str, Any]) -> EditSettings:
    """Settings as an edit's record has them, also of one that an earlier version wrote. Raises BadInput."""
    given = dict(record)
    try:
        if "guidance" in given:  # until version 0.1, when InstructPix2Pix was the only editor
            guidance = typed.convert(given.pop("guidance"), dict[str, Any])
            given["keep"] = guidance.pop("relevance", 0.0)
            renamed = {"text": "text_guidance", "image": "image_guidance"}
            options = {renamed.get(name, name): value for name, value in guidance.items()}
            options |= {name: given.pop(name) for name in ("diffusion_steps", "sampler") if name in given}
            given["options"] = options
        return typed.convert(given, EditSettings).checked()
    except msgspec.ValidationError as error:
        raise BadInput(f"The settings of the edit are damaged ({error}).", field="settings") from None
