# SPDX-License-Identifier: GPL-3.0-or-later
"""What photos say of each other's depth: a sweep of planes (Collins 1996; Gallup et al. 2007) between views whose poses
are known, of which that is kept on which several views agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from engine.geometry import Camera, Viewpoint, pixel_directions
from engine.scenes.each_view import of_each_view
from engine.scenes.known_depth import KnownDepth
from engine.scenes.patch_match import NOWHERE, UNLIKE, Photos, refined, worse
from engine.scenes.plane_sweep import about, swept

NEIGHBOURS = 4  # views that tell first how far away things are
ANGLE = 12.0  # degrees between two views of what they look at: best to tell that by
LEAST_ANGLE, MOST_ANGLE = 2.0, 35.0  # less tells no depth; more shows another side
OTHERS, BESIDE, ASIDE = 10, 6.0, 50.0  # views that each is compared with then, and degrees between them
SMALL = 200  # pixels of the longer side of photos that are compared first
ROUNDS = (0.06, 0.02, 0.007)  # of the distance, by which planes are tried at that size,
LAST_ROUNDS = (0.006,)  # and at the photos' own
LIKE = 0.999  # of 1 − correlation as unlike as can be, below which something was found
AGREED, SURELY = 3, 0.9  # views, at least, that see a point as far away as it is; of 1, from which on one less will do
OFF, SHARP = 0.03, 0.01  # of the distance, and how much less alike all must be there: a ramp is alike everywhere
LEAST_SURE, SURER = 0.6, 2.0  # how sure a depth is that is hardly more alike than others, and times how much it is
SAME = 0.01  # of the distance: how well they must

Done = Callable[[int], None]


def stereo_depths(
    views: Sequence[Camera],
    pictures: Sequence[np.ndarray],
    centre: np.ndarray,
    done: Done = lambda count: None,
    shown: Sequence[np.ndarray | None] | None = None,
) -> list[KnownDepth]:
    """What pixels of each view show a surface on which other views agree, and how far away it is.

    ``pictures``: of each view, (H, W, 3) uint8 sRGB, of its camera's size. ``centre`` (3,), capture frame: what the
    cameras look at. ``done`` is told how many views were compared, often the same number, and ends it by raising.
    ``shown``: of each view, (H, W) bool, which pixels show what was photographed and nothing else; None where all do.
    Others are not compared, and of what lies beside them nothing is told: alike there is an outline before a color that
    nobody photographed, and the outline of what is round lies behind its surface, a wire's as far as its middle. A
    depth is the surer, the less alike the views are a bit before and behind it.
    """
    grays = [cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY).astype(np.float32) for picture in pictures]
    for number, where in enumerate(shown or ()):
        if where is not None:
            grays[number][~where] = NOWHERE
    centre = np.asarray(centre, np.float64)
    photos, small = Photos(views, grays), _smaller(views, grays)
    for some in (photos, small):
        _ = some.pixels  # once, before the threads ask for them
    found = of_each_view(len(views), lambda number, check: _matched(number, photos, small, centre, check), done)
    return of_each_view(len(views), lambda number, _: _agreed(number, views, found), lambda _: done(len(views)))


@dataclass(frozen=True, eq=False)
class _Matched:
    """Of one view: (H, W, 3) planes of what its pixels show, as `refined` has them, (H, W) how alike the views are
    there and how sure that is (0–1; 0 where nothing was found), and the views that it was compared with."""

    planes: np.ndarray
    alike: np.ndarray
    sure: np.ndarray
    others: list[int]


def _smaller(views: Sequence[Camera], grays: Sequence[np.ndarray]) -> Photos:
    """Photos of `SMALL` pixels at most, of which it is first asked where things are about."""
    cameras: list[Camera] = []
    pictures = []
    for view, gray in zip(views, grays, strict=True):
        height, width = gray.shape
        share = min(1.0, SMALL / max(height, width))
        size = max(2, round(width * share)), max(2, round(height * share))
        less = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
        less[less < 0] = NOWHERE
        pictures.append(less)
        cameras.append(Viewpoint(view.pose, view.intrinsics.scaled_to(*size), view.name))
    return Photos(cameras, pictures)


def _matched(
    number: int, photos: Photos, small: Photos, centre: np.ndarray, check: Callable[[], None]
) -> _Matched:  # fmt: skip
    view, gray = photos.views[number], photos.grays[number]
    ahead = float(-view.pose[:3, 2] @ (centre - view.pose[:3, 3]))
    if ahead <= 0:  # cameras that look outward
        ahead = float(np.mean([np.linalg.norm(other.pose[:3, 3] - centre) for other in photos.views])) or 1.0
    near, others = neighbours_of(number, photos.views, ahead), compared_with(number, photos.views, ahead)
    if not others:
        return _Matched(np.ones((*gray.shape, 3)), *np.zeros((2, *gray.shape), np.float32), [])
    less, level = small.grays[number], small
    begin = np.zeros((*less.shape, 3), np.float32)
    begin[..., 0] = swept(number, small.views, small.grays, near or others[:NEIGHBOURS], ahead)
    planes, costs = refined(small, number, others, begin, ROUNDS, check)
    if less.shape != gray.shape:
        level = photos
        planes, costs = refined(photos, number, others, _enlarged(planes, gray.shape), LAST_ROUNDS, check)
    sharp = worse(level, number, others, planes, OFF, check) - costs
    told = (costs < LIKE * UNLIKE) & (sharp > SHARP) & ~about(gray == NOWHERE)
    sure = np.clip(LEAST_SURE + SURER * sharp, 0, 1)
    return _Matched(planes, *(np.where(told, part, 0).astype(np.float32) for part in (1 - costs, sure)), others)


def _enlarged(planes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The planes (H, W, 3) of a photo's pixels for those of a larger one."""
    height, width = planes.shape[:2]
    down, across = height / shape[0], width / shape[1]
    y, x = (np.arange(shape[0]) + 0.5) * down - 0.5, (np.arange(shape[1]) + 0.5) * across - 0.5
    row, column = np.clip(np.rint(y), 0, height - 1).astype(int), np.clip(np.rint(x), 0, width - 1).astype(int)
    near = planes[row[:, None], column]
    off = near[..., 1] * (x - column) + near[..., 2] * (y - row)[:, None]
    return np.stack([np.maximum(near[..., 0] + off, 1e-6), near[..., 1] * across, near[..., 2] * down], axis=-1)


def seen_from(number: int, views: Sequence[Camera], ahead: float) -> list[tuple[float, int]]:
    """The views that show what one shows ``ahead`` of it, by how many degrees aside they see it from."""
    view = views[number]
    target = view.pose[:3, 3] - ahead * view.pose[:3, 2]
    own = -view.pose[:3, 2]
    found = []
    for other, candidate in enumerate(views):
        towards = target - candidate.pose[:3, 3]
        length = np.linalg.norm(towards)
        if other == number or length == 0:
            continue
        angle = np.degrees(np.arccos(np.clip(towards @ own / length, -1, 1)))
        depth = -(candidate.pose[:3, 2] @ towards)
        i, local = candidate.intrinsics, towards @ candidate.pose[:3, :3]
        if depth > 0 and abs(local[0]) < depth * i.width / i.fx / 2 and abs(local[1]) < depth * i.height / i.fy / 2:
            found.append((float(angle), other))
    return sorted(found)


def neighbours_of(number: int, views: Sequence[Camera], ahead: float) -> list[int]:
    """The views that tell first how far away is what one shows ``ahead`` of it: seen from about `ANGLE` aside."""
    near = [(abs(np.log(a / ANGLE)), k) for a, k in seen_from(number, views, ahead) if LEAST_ANGLE <= a <= MOST_ANGLE]
    return [other for _, other in sorted(near)[:NEIGHBOURS]]


def compared_with(number: int, views: Sequence[Camera], ahead: float) -> list[int]:
    """The views that tell best how far away is what one shows ``ahead`` of it: seen from near to far aside."""
    seen = seen_from(number, views, ahead)
    fit = [other for angle, other in seen if BESIDE <= angle <= ASIDE]
    if len(fit) < NEIGHBOURS:
        fit = [other for angle, other in seen if LEAST_ANGLE <= angle <= ASIDE]
    return [fit[k] for k in np.unique(np.linspace(0, len(fit) - 1, min(len(fit), OTHERS)).round().astype(int))]


def _agreed(number: int, views: Sequence[Camera], all_found: Sequence[_Matched]) -> KnownDepth:
    """The pixels of a view that show what others show as far away."""
    view, own = views[number], all_found[number]
    rays = pixel_directions(view.intrinsics)  # z = −1
    length = np.linalg.norm(rays, axis=-1)
    pixel = np.flatnonzero(own.alike > 0)
    z = 1 / own.planes[..., 0].astype(np.float64).ravel()[pixel]
    points = (rays.reshape(-1, 3)[pixel] * z[:, None]) @ view.pose[:3, :3].T + view.pose[:3, 3]
    times = np.zeros(len(points), int)
    for other in own.others:
        camera, theirs = views[other], all_found[other]
        i, local = camera.intrinsics, (points - camera.pose[:3, 3]) @ camera.pose[:3, :3]
        ahead = -local[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            x, y = local[:, 0] / ahead * i.fx + i.cx, i.cy - local[:, 1] / ahead * i.fy
        inside = (ahead > 0) & (x >= 0) & (y >= 0) & (x < i.width) & (y < i.height)
        x, y = np.where(inside, x, 0), np.where(inside, y, 0)
        row, column = y.astype(int), x.astype(int)
        plane = theirs.planes[row, column]
        inverse = plane[:, 0] + plane[:, 1] * (x - 0.5 - column) + plane[:, 2] * (y - 0.5 - row)
        times += inside & (np.abs(inverse * ahead - 1) <= SAME) & (theirs.alike[row, column] > 0)
    alike = own.alike.ravel()[pixel]
    kept = times >= np.minimum(np.where(alike < SURELY, AGREED, AGREED - 1), len(own.others))
    distance = z[kept] * length.ravel()[pixel][kept]
    return KnownDepth(pixel[kept], distance.astype(np.float32), own.sure.ravel()[pixel][kept])
