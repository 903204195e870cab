# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of pixels' depths before a scene is trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.capture import Capture, View
from engine.presets import Preset
from engine.progress import Job, Plan, Stage
from engine.records import SceneRecord
from engine.scenes.known_depth import known_depths, together
from engine.scenes.picture_set import PictureSet
from engine.scenes.stereo import stereo_depths

SECONDS_A_VIEW = 0.6  # a first guess, of a photo at Preview's size
MOST_VIEWS = 150  # that are compared: more take long and tell little that is new


def wants_depths(record: SceneRecord | None, preset: Preset, asked: bool) -> bool:
    """Whether a scene's training is helped by depths: as it was begun, or else as is asked now."""
    return preset.train.losses.depth_weight > 0 and (asked if record is None else record.depths)


def depths_stage(views: int) -> Stage:
    """The stage of `learn_depths`."""
    return Stage("depths", "Comparing the photos", min(views, MOST_VIEWS), SECONDS_A_VIEW)


def learn_depths(pictures: PictureSet, capture: Capture, views: Sequence[View], plan: Plan, job: Job) -> None:
    """The stage `depths`: tell the training pictures of ``views`` what the capture's sparse points and the photos
    themselves know of their depth. A function of the pictures and the cameras alone, so that a resumed training goes on
    as an unbroken one."""
    stage = plan.begin("depths")

    def done(count: int) -> None:
        job.check()
        plan.advance(count)
        job.report(plan, stage)

    compared = np.unique(np.linspace(0, len(views) - 1, min(len(views), MOST_VIEWS)).round().astype(int)).tolist()
    stereo = stereo_depths(
        [views[k] for k in compared],
        [pictures.image(k).cpu().numpy() for k in compared],
        capture.centre,
        done,
        [pictures.shown(k) for k in compared],
    )
    found = dict(zip(compared, stereo, strict=True))
    points = None if capture.points is None else known_depths(capture.points, views)
    own = [together([*([points[k]] if points else []), *([found[k]] if k in found else [])]) for k in range(len(views))]
    pictures.learn_depths(own)
    known, all_ = 0 if pictures.known is None else len(pictures.known[0]), len(pictures.pixels)
    job.log(f"The depth of {known:,} of {all_:,} pixels is known beforehand ({100 * known / all_:.0f} %)")
