# SPDX-License-Identifier: GPL-3.0-or-later
"""Iterative Dataset Update as it settles sooner: every view is edited once, each from what those before it became,
carried over by depth (the projected start of DATENeRF, Rojas et al., ECCV 2024); the scene is fitted to that; then come
a few short rounds at falling noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from statistics import median

import torch
from torch import Tensor

from engine.edit.consensus import agreed_looks
from engine.edit.iterative import (
    AGAIN,
    Event,
    ImageUpdated,
    LooksCompared,
    SceneUpdated,
    agreed_backgrounds,
    confined_anew,
    left_as_captured,
)
from engine.edit.keep import Background, background_of
from engine.edit.originals import Originals
from engine.edit.overlap import Overlap, overlap_of
from engine.edit.prompt import Prompts
from engine.edit.settings import EditSettings, Told
from engine.editors.base import Carried, Prepared, ViewEdit, edit_together
from engine.editors.carrying import with_carried
from engine.pictures import to_uint8
from engine.randomness import random_seed
from engine.scenes.base import Check, SceneTrainer
from engine.scenes.picture_set import PictureSet

FEW = 4  # edits, fewer than which do not say what is usual


@dataclass
class _Edited(Mapping[int, Tensor]):
    """The pictures (H, W, 3), 0–1, of the views that were edited so far: floats while they are looked at alone, for a
    card has room for the training pictures' bytes."""

    pictures: PictureSet
    views: list[int] = field(default_factory=list)

    def __getitem__(self, view: int) -> Tensor:
        return self.pictures.image(view).float() / 255

    def __iter__(self) -> Iterator[int]:
        return iter(self.views)

    def __len__(self) -> int:
        return len(self.views)


def projected_dataset_update(
    trainer: SceneTrainer,
    pictures: PictureSet,
    originals: Originals,
    prompts: Prompts,
    settings: EditSettings,
    check: Check = lambda: None,
) -> Iterator[Event]:
    """Take the key views as they were approved, edit all others once in order of overlap, and train until the trainer
    has taken ``settings.steps``; on the way, edit all but the key views again in ``settings.short_rounds`` rounds.

    An editor that can be shown references sees the key views, and each warped into the view; for any other, what was
    edited before takes the render's place in its first steps. ``pictures``, ``check`` and ``prompts`` are as of
    `iterative_dataset_update`: here, too, the run is a function of the seed, of the prompts and of
    ``trainer.step_index`` alone. An instruction that changes on the way is followed by an edit of every view.
    """
    told: Told | None = None
    prepared: Prepared
    views: dict[int, ViewEdit] = {}
    backgrounds: dict[int, Background | None] = {}
    keys: dict[int, Tensor] = {}  # (H, W, 3), 0–1
    shows_keys = prompts.editor.references > 0
    overlap: Overlap | None = None

    def seen() -> Overlap:
        nonlocal overlap
        overlap = overlap or overlap_of(originals.scene, len(pictures), originals.device, check)
        return overlap

    def references(view: int) -> list[Tensor]:
        """[key view, its warp into the view], those first that see most of it; the original where a warp says
        nothing."""
        shown: list[Tensor] = []
        for key in seen().nearest(view, list(keys)) if shows_keys and keys else []:
            warped = seen().carried(view, {key: keys[key]})
            shown += [
                keys[key],
                torch.where(warped.seen[..., None], warped.picture, originals[view].to(warped.picture)),
            ]
        return shown

    def view_edit(view: int) -> ViewEdit:
        if view not in views:
            views[view] = prepared.view(originals[view], references(view))
        return views[view]

    def image_update(view: int, draw: int, t: float, render: Tensor, carried: Carried | None = None) -> Tensor:
        """U(render, t; I_v^0, c_T), (H, W, 3) uint8."""
        edited = view_edit(view).edit(render, t, random_of(draw), check, carried)
        return finished(view, edited)

    def image_updates(those: Sequence[int], number: int, t: float, renders: Sequence[Tensor]) -> list[Tensor]:
        """`image_update` of several views in a round, at once where the editor can."""
        randoms = [random_of(number * len(pictures) + view) for view in those]
        approved = [(view_edit(key), picture) for key, picture in keys.items()]
        edits = [view_edit(view) for view in those]
        edited = edit_together(prepared, edits, renders, t, randoms, check, approved)
        return [finished(view, picture) for view, picture in zip(those, edited, strict=True)]

    def random_of(draw: int) -> torch.Generator:
        return torch.Generator().manual_seed(random_seed(settings.seed, "image", draw))

    def finished(view: int, edited: Tensor) -> Tensor:
        """An edit as its view is to learn it, (H, W, 3) uint8: with what has to stay as it was."""
        if view not in backgrounds:
            backgrounds[view] = background_of(view_edit(view), told.keep if told else 0.0)
        if (background := backgrounds[view]) is not None:
            edited = background.put_back(edited, originals[view])
        return to_uint8(originals.outside_kept(view, edited, check))

    def following() -> tuple[list[int], list[int], list[int]]:
        """The views that all others follow, those to edit, in order of overlap, and of these the ones before the
        refit."""
        first = list(keys) or [seen().central()]
        order = [*(view for view in first if view not in keys), *seen().order(first)]
        return first, order, spread(order, settings.updates_first(len(order)))

    def every_view(step: int) -> Iterator[Event]:
        """Each view once: the key views as approved, the others in order of overlap, from a projected start; but for
        those that were left as captured."""
        left = prompts.left_by(step)
        done = _Edited(pictures)
        for view, picture in keys.items():
            yield updated(view, to_uint8(picture), edits=0)
            done.views.append(view)
        apart: list[float] = []  # how far the edits so far were from what was carried over
        first, order, edited = following()
        for view in (view for view in edited if view not in left):
            from_others = not shows_keys if keys else not settings.alone
            carried = seen().carried(view, done, list(keys), settings.blended) if from_others else None
            render = originals[view] if step == 0 else trainer.scene.render(trainer.camera(view), check).rgb

            def tried(number: int, view=view, carried=carried, render=render) -> Tensor:
                draw = -1 - view - (step + number * (settings.steps + 1)) * len(pictures)
                return image_update(view, draw, settings.t_max, render, carried)

            if view in first:
                made = [tried(number) for number in range(settings.first_tries)]
                chosen, edits = most_alike(made), len(made)
            else:
                chosen, edits = tried(0), 1
                if settings.outlier and carried is not None and carried.seen.any():
                    distance = _apart_where(chosen, carried)
                    if len(apart) >= FEW and distance > settings.outlier * median(apart):
                        again, edits = tried(1), 2
                        if (other := _apart_where(again, carried)) < distance:
                            chosen, distance = again, other
                    apart.append(distance)
            yield updated(view, chosen, edits)
            done.views.append(view)
            if prompts.at(step) is not told:
                return  # wished for meanwhile: what was made for this step is made again
        if settings.agreed_looks:
            yield from in_agreement(done)
        for view in (view for view in order if view not in edited and view not in left):
            carried = seen().carried(view, done, list(keys), settings.blended)
            yield updated(view, finished(view, with_carried(originals[view], carried)), edits=0)
            check()

    def in_agreement(edited: _Edited) -> Iterator[Event]:
        """What was edited, brought to the look that all of it agrees about."""

        @cache
        def mask(view: int) -> Tensor | None:
            """How much of each pixel of a view may change, (H, W, 1), 0–1, kept on the CPU; None: all of it."""
            background, inside = backgrounds.get(view), originals.mask(view, check)
            if background is None:
                return None if inside is None else inside.cpu()
            changes = background.mask(*pictures.image(view).shape[:2])
            return (changes if inside is None else changes * inside.to(changes)).cpu()

        yield LooksCompared()
        for view, look in agreed_looks(edited, seen(), list(keys), mask, check).items():
            before, may_change = edited[view].to(originals.device), mask(view)
            after = look.of(before)
            if may_change is not None:  # what has to stay was put back already, softly at its edges
                after = before + may_change.to(before) * (after - before)
            yield updated(view, to_uint8(after), edits=0)

    def updated(view: int, image: Tensor, edits: int = 1) -> ImageUpdated:
        change = _apart(image, pictures.image(view))
        pictures.replace(view, image)
        return ImageUpdated(view, pictures.image(view), change, edits)

    while trainer.step_index < settings.steps:
        step = trainer.step_index
        if prompts.at(step) is not told:
            before, told = told, prompts.at(step)
            yield from confined_anew(told, step, originals, pictures, prompts, check)
            prepared = prompts.editor.prepare(told.instruction, told.options)
            approved = {v: p.to(originals.device).float() / 255 for v, p in prompts.keys_at(step).items()}
            keys = {view: originals.outside_kept(view, picture, check) for view, picture in approved.items()}
            views.clear()
            if before is None or not told.same_words(before):
                backgrounds.clear()
                if settings.agreed_relevance and told.keep:
                    backgrounds |= yield from agreed_backgrounds(view_edit, originals, settings.agreed_relevance, check)
            if told.step == step:
                yield from every_view(step)
        if prompts.at(step) is not told:
            continue
        if (number := round_at(step, settings)) is not None:
            t = noise_of_round(number, settings)
            moved: list[float] = []
            _, order, edited = following()
            left = prompts.left_by(step)
            turn = [view for view in views_of_round(order, edited, number, settings) if view not in left]
            for those in batched(turn, settings.batch):
                renders = [trainer.scene.render(trainer.camera(view), check).rgb for view in those]
                images = image_updates(those, number, t, renders)
                for view, render, image in zip(those, renders, images, strict=True):
                    shown = to_uint8(render)
                    moved.append(_apart(image, shown))
                    # The better of the two stays: the one that lies nearer to what all views together have made.
                    old = pictures.image(view)
                    yield updated(view, image if moved[-1] <= _apart(old, shown) else old.clone())
                if prompts.at(step) is not told:
                    break
            if prompts.at(step) is not told:
                continue
            if moved and sum(moved) / len(moved) < settings.settle:
                return
        check()  # where wishes come in
        again = 0
        while len(asked := prompts.again_at(step)) > again:
            number, wish = asked[again]
            if wish.captured:
                yield left_as_captured(wish.view, originals, pictures)
            else:
                render = trainer.scene.render(trainer.camera(wish.view), check).rgb
                t = noise_of_round(round_before(step, settings), settings) if step else settings.t_max
                yield updated(wish.view, image_update(wish.view, AGAIN - number, t, render))
            again += 1
            check()
        if prompts.at(step) is not told:
            continue
        originals.confine(pictures, check)
        losses = trainer.step(pictures)
        yield SceneUpdated(trainer.step_index, losses)


def rounds_begin(settings: EditSettings) -> list[int]:
    """The NeRF steps at which the short rounds begin."""
    first = max(1, round(settings.refit * settings.steps))
    length = (settings.steps - first) / max(settings.short_rounds, 1)
    return [first + int(number * length) for number in range(settings.short_rounds)]


def round_at(step: int, settings: EditSettings) -> int | None:
    """The number of the round that begins at a NeRF step, from 0; None where none does."""
    begin = rounds_begin(settings)
    return begin.index(step) if step in begin else None


def round_before(step: int, settings: EditSettings) -> int:
    """The number of the last round that began by a NeRF step, or of the first."""
    return max(0, sum(begin <= step for begin in rounds_begin(settings)) - 1)


def views_of_round(order: Sequence[int], edited: Sequence[int], number: int, settings: EditSettings) -> list[int]:
    """The views that a round edits, of all in order of overlap: those whose turn it is or, where the rest alone is to
    be edited, of those that were not ``edited`` before the refit."""
    if settings.rest:
        return [view for view in order if view not in edited][number :: settings.short_rounds]
    return list(order[number % settings.rounds_apart :: settings.rounds_apart])


def noise_of_round(number: int, settings: EditSettings) -> float:
    """The noise level of a round: falling evenly from the first to the last."""
    high, low = settings.short_noise
    return high + (low - high) * number / max(settings.short_rounds - 1, 1)


def spread(order: Sequence[int], count: int) -> list[int]:
    """``count`` of the views in ``order``, the first among them, evenly through it."""
    return [order[number * len(order) // count] for number in range(count)] if order else []


def batched(views: Sequence[int], size: int) -> list[Sequence[int]]:
    """Views, in their order, as many at once as ``size`` and what is left at the end."""
    return [views[first : first + size] for first in range(0, len(views), size)]


def most_alike(pictures: Sequence[Tensor]) -> Tensor:
    """The one of some pictures (H, W, 3) uint8 that differs least from the others."""
    sums = [sum(_apart(one, other) for other in pictures) for one in pictures]
    return pictures[sums.index(min(sums))]


def _apart_where(image: Tensor, carried: Carried) -> float:
    """Mean absolute difference of a picture (H, W, 3) uint8 to what was carried over, where that says anything."""
    difference = (image.to(carried.picture.device).float() / 255 - carried.picture).abs()
    return float(difference[carried.seen].mean())


def _apart(one: Tensor, other: Tensor) -> float:
    """Mean absolute difference of two pictures (H, W, 3) uint8, 0–1."""
    return float((one.float() - other.to(one.device).float()).abs().mean()) / 255
