# SPDX-License-Identifier: GPL-3.0-or-later
"""Iterative Dataset Update (Haque et al., ICCV 2023, section 3.2): the algorithm of this project."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.edit.agreement import agreed_relevance
from engine.edit.keep import Background, background_of, relevance_of
from engine.edit.originals import Originals
from engine.edit.prompt import Prompts
from engine.edit.settings import EditSettings, Order, Told
from engine.editors.base import EditorElsewhere, Prepared, ViewEdit, ViewEditElsewhere
from engine.pictures import to_uint8
from engine.randomness import random_seed
from engine.scenes.base import Check, SceneTrainer
from engine.scenes.picture_set import PictureSet


@dataclass(frozen=True)
class RelevanceComputed:
    """It is known where the instruction matters to a view."""

    view: int


@dataclass(frozen=True)
class ImageUpdated:
    """A training image was replaced by an edit of its view's current render."""

    view: int
    image: Tensor  # (H, W, 3) uint8
    change: float = 0.0  # mean absolute difference to the picture that it replaced, 0–1
    edits: int = 1  # that the editor made for it


@dataclass(frozen=True)
class LooksCompared:
    """The looks of the views' edits are compared from now on; their pictures follow."""


@dataclass(frozen=True)
class SceneUpdated:
    """The scene took a step; its weighted losses."""

    step: int
    losses: dict[str, float]


AGAIN = -1_000_000_000  # where the draws of views that are edited once more begin; a turn's count up from 0
Event = RelevanceComputed | ImageUpdated | LooksCompared | SceneUpdated


def iterative_dataset_update(
    trainer: SceneTrainer,
    pictures: PictureSet,
    originals: Originals,
    prompts: Prompts,
    settings: EditSettings,
    check: Check = lambda: None,
) -> Iterator[Event]:
    """Alternate d image updates and n scene updates until the trainer has taken ``settings.steps``.

    ``pictures`` holds the views' training images, at the start the originals, and is changed in place. ``check`` is
    called before every step of anything and may raise Cancelled. The run is a function of the seed, of the prompts and
    of ``trainer.step_index`` alone, so it goes on from a checkpoint as if never stopped (only ``settle`` counts its
    turn anew, and with ``staleness`` what was under way is begun anew). ``prompts`` may change within ``check``, for
    the present step: edits that it has made are made again.
    """
    told: Told | None = None
    prepared: Prepared
    views: dict[int, ViewEdit] = {}  # what the editor makes of c_I and c_T, once a view
    backgrounds: dict[int, Background | None] = {}  # what has to stay of each of them
    positions = torch.from_numpy(np.stack([view.pose[:3, 3] for view in trainer.views]))
    changes: deque[float] = deque(maxlen=len(pictures))

    def view_edit(view: int) -> ViewEdit:
        if view not in views:
            views[view] = prepared.view(originals[view])
        return views[view]

    def begun(
        view: int, draw: int, t_range: tuple[float, float], render: Tensor | None = None
    ) -> Callable[[], ImageUpdated]:
        """I_v^{i+1} ← U(I_v^i, t; I_v^0, c_T), with t drawn from ``t_range`` and I_v^i the scene's current render. An
        editor elsewhere begins now, one here when what is returned is called; the picture takes its place then."""
        assert told is not None
        check()  # what comes before the editor's first own one takes half a second
        if view not in backgrounds:
            backgrounds[view] = background_of(view_edit(view), told.keep)
        if render is None:
            render = trainer.scene.render(trainer.camera(view), check).rgb
        random = torch.Generator().manual_seed(random_seed(settings.seed, "image", draw))
        t = t_range[0] + (t_range[1] - t_range[0]) * float(torch.rand((), generator=random))
        if settings.shared_noise:
            random.manual_seed(random_seed(settings.seed, "shared noise", 0))
        edit, background = view_edit(view), backgrounds[view]
        coming = edit.begin(render, t, random) if isinstance(edit, ViewEditElsewhere) else None

        def finish() -> ImageUpdated:
            edited = edit.edit(render, t, random, check) if coming is None else coming(check)
            if background is not None:
                edited = background.put_back(edited, originals[view])
            edited = originals.outside_kept(view, edited, check)
            before = pictures.image(view).clone()
            pictures.replace(view, to_uint8(edited))
            after = pictures.image(view)
            return ImageUpdated(view, after, float((after.float() - before.float()).abs().mean()) / 255)

        return finish

    def begin_round(number: int) -> Iterator[None]:
        """Begin the image updates of a round, one at each step."""
        for update in range(number * settings.images_per_round, (number + 1) * settings.images_per_round):
            view = view_of_update(update, positions, settings.seed, settings.order)
            if view not in prompts.left_by(trainer.step_index):
                coming = begun(view, update, settings.noise_range(update))
                under_way.append((number + settings.staleness, view, coming))
            yield

    def finished(number: int, leave: int) -> Iterator[ImageUpdated]:
        """Those under way that are due in a round, but for ``leave`` of them, which may go on meanwhile."""
        while (due := sum(when <= number for when, _, _ in under_way)) and due > leave:
            _, view, finish = under_way.popleft()
            if view not in prompts.left_by(trainer.step_index):
                yield finish()

    at_once = prompts.editor.at_once if isinstance(prompts.editor, EditorElsewhere) else 0
    # The round in which each is due, in order, and its view.
    under_way: deque[tuple[int, int, Callable[[], ImageUpdated]]] = deque()
    resumed = trainer.step_index > 0

    while trainer.step_index < settings.steps:
        step = trainer.step_index
        if prompts.at(step) is not told:
            before, told = told, prompts.at(step)
            under_way.clear()  # what was begun for another instruction is not wanted any more
            yield from confined_anew(told, step, originals, pictures, prompts, check)
            if before is None or not told.same_words(before):
                prepared = prompts.editor.prepare(told.instruction, told.options)
                views.clear()
                backgrounds.clear()
                if settings.agreed_relevance and told.keep:
                    backgrounds |= yield from agreed_backgrounds(view_edit, originals, settings.agreed_relevance, check)
        if resumed and settings.staleness:  # those that were under way are begun anew, from renders that are newer
            last = (step - 1) // settings.steps_per_round
            for earlier in range(max(0, last + 1 - settings.staleness), last + 1):
                for _ in begin_round(earlier):
                    pass
        resumed = False
        if step == 0 and settings.first_pass:
            for view in range(len(pictures)):  # the scene still renders the originals
                coming = begun(view, -1 - view, (settings.t_max, settings.t_max), originals[view])
                under_way.append((-1, view, coming))
                yield from finished(-1, at_once)
                if prompts.at(step) is not told:
                    break
            else:
                yield from finished(-1, 0)
        if prompts.at(step) is not told:
            continue  # wished for meanwhile: what was made for this step is made again
        if step % settings.steps_per_round == 0:
            this = step // settings.steps_per_round
            for _ in begin_round(this):
                for updated in finished(this, at_once):
                    changes.append(updated.change)
                    yield updated
            for updated in finished(this, 0):
                changes.append(updated.change)
                yield updated
            if settled(changes, settings):
                return
        check()  # where wishes come in
        again = 0
        while len(asked := prompts.again_at(step)) > again:
            number, wish = asked[again]
            if wish.captured:
                yield left_as_captured(wish.view, originals, pictures)
            else:
                update = step // settings.steps_per_round * settings.images_per_round
                yield begun(wish.view, AGAIN - number, settings.noise_range(update))()
            again += 1
            check()
        if prompts.at(step) is not told:
            continue
        originals.confine(pictures, check)
        losses = trainer.step(pictures)
        yield SceneUpdated(trainer.step_index, losses)


def confined_anew(
    told: Told, step: int, originals: Originals, pictures: PictureSet, prompts: Prompts, check: Check
) -> Iterator[ImageUpdated]:
    """Keep to the region of what is told from a NeRF step on; of the pictures, what lies outside is as it was."""
    for view in originals.give_regions(prompts.regions_at(step), pictures, check):
        yield ImageUpdated(view, pictures.image(view), edits=0)
    originals.region = told.region


def left_as_captured(view: int, originals: Originals, pictures: PictureSet) -> ImageUpdated:
    """The view's picture is what it was before the edit, to the last bit."""
    before = pictures.image(view).clone()
    pictures.replace(view, originals.pictures[view])
    after = pictures.image(view)
    return ImageUpdated(view, after, float((after.float() - before.float()).abs().mean()) / 255, edits=0)


def agreed_backgrounds(
    view_edit: Callable[[int], ViewEdit], originals: Originals, threshold: float, check: Check
) -> Generator[RelevanceComputed, None, dict[int, Background]]:
    """What has to stay of all views, whose relevance ``view_edit`` tells: where the instruction matters by less than
    ``threshold`` in what they agree upon. By the depth of the unedited scene, so that it is the same whenever it is
    asked."""
    maps = []
    for view in range(len(originals)):
        check()
        maps.append(relevance_of(view_edit(view)))
        yield RelevanceComputed(view)
    unedited = originals.scene
    cameras = [unedited.camera(view) for view in range(len(maps))]
    agreed = agreed_relevance(maps, unedited.scene, cameras, check)
    return {view: Background(relevance, threshold) for view, relevance in enumerate(agreed)}


def settled(changes: deque[float], settings: EditSettings) -> bool:
    """Whether the last whole turn of image updates changed its pictures by less than ``settings.settle``."""
    return len(changes) == changes.maxlen and sum(changes) / len(changes) < settings.settle


def view_of_update(update: int, positions: Tensor, seed: int, order: Order = "shuffled") -> int:
    """Which view the update-th image update takes, of the cameras at ``positions`` (V, 3): a new order over all views
    each time round."""
    turn, place = divmod(update, len(positions))
    shuffled = torch.randperm(
        len(positions), generator=torch.Generator().manual_seed(random_seed(seed, "order", turn))
    ).tolist()
    if order == "shuffled":
        return shuffled[place]
    taken = [shuffled[0]]  # farthest-point order from a random view
    nearest = (positions - positions[taken[0]]).norm(dim=-1)
    while len(taken) <= place:
        nearest[taken] = -1.0
        taken.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (positions - positions[taken[-1]]).norm(dim=-1))
    return taken[place]
