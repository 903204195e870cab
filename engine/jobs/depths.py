# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of pixels' depths before a scene is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.capture import Capture, View
from engine.errors import BadInput
from engine.jobs.kept_depths import KeptDepths
from engine.presets import MOST_COMPARED, SECONDS_A_COMPARED_PHOTO, SECONDS_A_FLAT_PHOTO, Preset
from engine.progress import Job, Plan, Stage
from engine.records import SceneRecord
from engine.scenes import many_photos, patch_match
from engine.scenes.known_depth import KnownDepth, known_depths, together
from engine.scenes.picture_set import PictureSet
from engine.scenes.plain_areas import with_plain_areas
from engine.scenes.shrunk import MOST, Shrunk
from engine.scenes.skies import skies, with_skies
from engine.scenes.stereo import stereo_depths

Told = Callable[[int], None]


class Compared(NamedTuple):
    """What a scene's training is helped by."""

    photos: bool = True  # what they know of depth, compared with each other
    planes: bool = True  # and the flat surfaces on which that lies


PHOTOS = Compared()  # what is asked where nothing is said


def compared_for(record: SceneRecord | None, preset: Preset, asked: Compared) -> Compared:
    """What helps a scene's training: as it was begun, or else as is asked now."""
    photos, planes = asked if record is None else (record.depths, record.planes)
    photos = photos and preset.train.losses.depth_weight > 0
    return Compared(photos, photos and planes)


def depths_stages(views: int, compared: Compared) -> list[Stage]:
    """The stages of `learn_depths`."""
    if not compared.photos:
        return []
    count = min(views, MOST_COMPARED)
    photos = Stage("depths", "Comparing the photos", count, SECONDS_A_COMPARED_PHOTO)
    planes = Stage("planes", "Finding flat surfaces", count, SECONDS_A_FLAT_PHOTO)
    return [photos, planes] if compared.planes else [photos]


def learn_depths(
    pictures: PictureSet, capture: Capture, views: Sequence[View], planes: bool, folder: Path, plan: Plan, job: Job
) -> None:  # fmt: skip
    """The stages `depths` and, for ``planes``, `planes`: tell the training pictures of ``views`` what the
    capture's sparse points and the photos themselves know of their depth, and where they show a sky; photos of more
    than 320 pixels are made smaller for that. A function of the pictures and the cameras alone, which is kept in
    ``folder``, so that a resumed training goes on as an unbroken one and compares nothing again."""
    compared = np.unique(np.linspace(0, len(views) - 1, min(len(views), MOST_COMPARED)).round().astype(int)).tolist()
    small = [Shrunk.of(views[k], pictures.image(k).cpu().numpy(), pictures.shown(k)) for k in compared]
    chosen, photos, shown = ([getattr(one, part) for one in small] for part in ("camera", "photo", "shown"))
    kept = KeptDepths.made_of(folder, chosen, photos, shown, capture.centre, capture.up)

    def kept_or_found(
        name: str, compile_kernels: Callable[[], None], find: Callable[[Told], list[KnownDepth]]
    ) -> list[KnownDepth]:
        depths = kept.read(name, [photo.shape[0] * photo.shape[1] for photo in photos])
        if depths is not None:
            job.report(plan, plan.skip(name))
            return depths
        job.wait_for(compile_kernels)
        depths = find(_telling(name, plan, job))
        try:
            kept.write(name, depths)
        except BadInput as error:
            job.log(f"What photos know of depth is not kept for later: {error.message}")
        return depths

    stereo = kept_or_found(
        "depths", patch_match.compile_kernels, lambda done: stereo_depths(chosen, photos, capture.centre, done, shown)
    )
    job.report(plan, replace(plan.stage("depths"), label="Looking for the sky"))
    sky = skies(chosen, photos, capture.up, shown, job.check)
    whole = stereo
    if planes:
        below = [~above if where is None else where & ~above for where, above in zip(shown, sky, strict=True)]
        whole = kept_or_found(
            "planes", many_photos.compile_kernels, lambda done: with_plain_areas(chosen, photos, stereo, done, below)
        )
    own_pixels = [one.depth_of_photo(depth) for one, depth in zip(small, whole, strict=True)]
    own_skies = [one.mask_of_photo(above) for one, above in zip(small, sky, strict=True)]
    found = dict(zip(compared, with_skies(own_pixels, own_skies), strict=True))
    points = None if capture.points is None else known_depths(capture.points, views, job.check)
    own = [together([*([points[k]] if points else []), *([found[k]] if k in found else [])]) for k in range(len(views))]
    pictures.learn_depths(own)
    known, all_ = 0 if pictures.known is None else len(pictures.known[0]), len(pictures.pixels)
    job.log(f"The depth of {known:,} of {all_:,} pixels is known beforehand ({100 * known / all_:.0f} %)")
    if any(one.photo.shape[:2] != one.size for one in small):
        job.log(f"Photos were compared at {MOST} pixels along their longer side: a pixel of theirs tells of one here")
    if showing := sum(bool(where.any()) for where in sky):
        job.log(f"{showing} of {len(sky)} photos show a plain sky, which is told to be far away")
    if planes:
        told, total = (sum(len(depth.pixels) for depth in depths) for depths in (stereo, whole))
        job.log(f"Photos that were compared tell {told:,}, with the flat surfaces on which those lie {total:,}")


def _telling(name: str, plan: Plan, job: Job) -> Told:
    """The stage begins; what it is told of how many views are done."""
    stage = plan.begin(name)

    def done(count: int) -> None:
        job.check()
        if stage.done < stage.units:
            if count > stage.done:  # the same count again says nothing of the pace
                plan.advance(count)
            job.report(plan, stage)

    return done
