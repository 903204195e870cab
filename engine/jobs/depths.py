# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of pixels' depths before a scene is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from engine.capture import Capture, View
from engine.presets import Preset
from engine.progress import Job, Plan, Stage
from engine.records import SceneRecord
from engine.scenes.known_depth import known_depths, together
from engine.scenes.picture_set import PictureSet
from engine.scenes.plain_areas import with_plain_areas
from engine.scenes.stereo import stereo_depths

SECONDS_A_VIEW, SECONDS_A_PLAIN_VIEW = 0.6, 0.2  # first guesses, of a photo at Preview's size
MOST_VIEWS = 150  # that are compared: more take long and tell little that is new


def wants_depths(record: SceneRecord | None, preset: Preset, asked: bool) -> bool:
    """Whether a scene's training is helped by depths: as it was begun, or else as is asked now."""
    return preset.train.losses.depth_weight > 0 and (asked if record is None else record.depths)


def depths_stages(views: int, plain_areas: bool) -> list[Stage]:
    """The stages of `learn_depths`."""
    compared = min(views, MOST_VIEWS)
    planes = Stage("planes", "Finding flat surfaces", compared, SECONDS_A_PLAIN_VIEW)
    return [Stage("depths", "Comparing the photos", compared, SECONDS_A_VIEW), *([planes] if plain_areas else [])]


def learn_depths(
    pictures: PictureSet, capture: Capture, views: Sequence[View], plain_areas: bool, plan: Plan, job: Job
) -> None:
    """The stages `depths` and, for ``plain_areas``, `planes`: tell the training pictures of ``views`` what the
    capture's sparse points and the photos themselves know of their depth. A function of the pictures and the cameras
    alone, so that a resumed training goes on as an unbroken one."""
    compared = np.unique(np.linspace(0, len(views) - 1, min(len(views), MOST_VIEWS)).round().astype(int)).tolist()
    chosen, photos = [views[k] for k in compared], [pictures.image(k).cpu().numpy() for k in compared]
    shown = [pictures.shown(k) for k in compared]
    stereo = stereo_depths(chosen, photos, capture.centre, _telling("depths", plan, job), shown)
    whole = stereo
    if plain_areas:
        whole = with_plain_areas(chosen, photos, stereo, _telling("planes", plan, job), shown)
    found = dict(zip(compared, whole, strict=True))
    points = None if capture.points is None else known_depths(capture.points, views)
    own = [together([*([points[k]] if points else []), *([found[k]] if k in found else [])]) for k in range(len(views))]
    pictures.learn_depths(own)
    known, all_ = 0 if pictures.known is None else len(pictures.known[0]), len(pictures.pixels)
    job.log(f"The depth of {known:,} of {all_:,} pixels is known beforehand ({100 * known / all_:.0f} %)")
    if plain_areas:
        told, total = (sum(len(depth.pixels) for depth in depths) for depths in (stereo, whole))
        job.log(f"Photos that were compared tell {told:,}, with the flat surfaces on which those lie {total:,}")


def _telling(name: str, plan: Plan, job: Job) -> Callable[[int], None]:
    """The stage begins; what it is told of how many views are done."""
    stage = plan.begin(name)

    def done(count: int) -> None:
        job.check()
        plan.advance(count)
        job.report(plan, stage)

    return done
