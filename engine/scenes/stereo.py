# SPDX-License-Identifier: GPL-3.0-or-later
"""What photos say of each other's depth: a sweep of planes (Collins 1996; Gallup et al. 2007) between views whose poses
are known, of which that is kept on which several views agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from engine.geometry import Camera, pixel_directions
from engine.scenes.known_depth import KnownDepth

NEIGHBOURS = 4  # views that each is compared with
ANGLE = 12.0  # degrees between two views of what they look at: best to tell its depth by
LEAST_ANGLE, MOST_ANGLE = 2.0, 35.0  # less tells no depth; more shows another side
NEAREST = 0.3  # of a camera's distance to what it looks at; the farthest is infinitely far
PLANES = 200  # at most
STEP = 0.7  # pixels that a point moves in the neighbours from one plane to the next
WINDOW = 5  # pixels: what is compared is a square about each
LIKE = 0.7  # correlation, at least, of squares that show the same
FLAT = 1.5  # of 255, the least standard deviation of a square that can be told from others
AGREED = 2  # neighbours, at least, that see a point as far away as it is
SAME = 0.01  # of the distance: how well they must
NOWHERE = -1e6  # a gray value of what a picture does not show

Done = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class _Swept:
    """Of one view: (H, W) z of what each pixel shows, how alike it looks elsewhere (−1 to 1), and the neighbours."""

    z: np.ndarray
    like: np.ndarray
    neighbours: list[int]


def stereo_depths(
    views: Sequence[Camera],
    pictures: Sequence[np.ndarray],
    centre: np.ndarray,
    done: Done = lambda count: None,
    shown: Sequence[np.ndarray | None] | None = None,
) -> list[KnownDepth]:
    """What pixels of each view show a surface on which other views agree, and how far away it is.

    ``pictures``: of each view, (H, W, 3) uint8 sRGB, of its camera's size. ``centre`` (3,), capture frame: what the
    cameras look at. ``done`` is told how many views were compared, and ends it by raising. ``shown``: of each view,
    (H, W) bool, which pixels show what was photographed and nothing else; None where all do. A square with others in it
    is not compared: what is alike there is an outline before a color that nobody photographed, and the outline of what
    is round lies behind its surface, a wire's as far as its middle. How sure a depth is is how alike the views are
    there.
    """
    grays = [cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY).astype(np.float32) for picture in pictures]
    for number, where in enumerate(shown or ()):
        if where is not None:
            grays[number][~where] = NOWHERE
    swept = []
    for number in range(len(views)):
        swept.append(_sweep(number, views, grays, np.asarray(centre, np.float64)))
        done(number + 1)
    return [_agreed(number, views, swept) for number in range(len(views))]


def neighbours_of(number: int, views: Sequence[Camera], ahead: float) -> list[int]:
    """The views that tell best how far away is what one shows ``ahead`` of it: seen from about `ANGLE` aside, and in
    their pictures."""
    view = views[number]
    target = view.pose[:3, 3] - ahead * view.pose[:3, 2]
    own = -view.pose[:3, 2]
    ranked = []
    for other, candidate in enumerate(views):
        towards = target - candidate.pose[:3, 3]
        length = np.linalg.norm(towards)
        if other == number or length == 0:
            continue
        angle = np.degrees(np.arccos(np.clip(towards @ own / length, -1, 1)))
        depth = -(candidate.pose[:3, 2] @ towards)
        i, local = candidate.intrinsics, towards @ candidate.pose[:3, :3]
        seen = depth > 0 and abs(local[0]) < depth * i.width / i.fx / 2 and abs(local[1]) < depth * i.height / i.fy / 2
        if seen and LEAST_ANGLE <= angle <= MOST_ANGLE:
            ranked.append((abs(np.log(angle / ANGLE)), other))
    return [other for _, other in sorted(ranked)[:NEIGHBOURS]]


def _matrix(camera: Camera) -> np.ndarray:
    """(3, 3): x right, y down, z forward to pixels counted from the first one's centre."""
    matrix = camera.intrinsics.matrix()
    matrix[:2, 2] -= 0.5
    return matrix


def _between(view: Camera, other: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and shift (3,) from one camera's axes (x right, y down, z forward) to another's."""
    flip = np.diag([1.0, -1.0, -1.0])
    turn = flip @ other.pose[:3, :3].T @ view.pose[:3, :3] @ flip
    return turn, flip @ other.pose[:3, :3].T @ (view.pose[:3, 3] - other.pose[:3, 3])


def _sweep(number: int, views: Sequence[Camera], grays: Sequence[np.ndarray], centre: np.ndarray) -> _Swept:
    view, hidden = views[number], grays[number] == NOWHERE
    gray = np.where(hidden, 0, grays[number])
    height, width = gray.shape
    ahead = float(-view.pose[:3, 2] @ (centre - view.pose[:3, 3]))
    if ahead <= 0:  # cameras that look outward
        ahead = float(np.mean([np.linalg.norm(other.pose[:3, 3] - centre) for other in views])) or 1.0
    neighbours = neighbours_of(number, views, ahead)
    if not neighbours:
        return _Swept(np.full(gray.shape, np.inf), np.full(gray.shape, -1.0), [])
    ways = [(_between(view, views[n]), _matrix(views[n]), grays[n]) for n in neighbours]
    inverse = np.linalg.inv(_matrix(view))
    moved = [views[n].intrinsics.fx * np.linalg.norm(shift) for n, ((_, shift), _, _) in zip(neighbours, ways, strict=True)]  # noqa: E501  # fmt: skip
    nearest = NEAREST * ahead
    planes = int(np.clip(np.median(moved) / nearest / STEP, 2, PLANES)) + 1
    inverse_z = np.linspace(0, 1 / nearest, planes)
    mean, spread = _local(gray)
    scores = np.full((planes, height, width), -1, np.float32)
    corners = np.array([[0, 0, 1], [width - 1, 0, 1], [0, height - 1, 1], [width - 1, height - 1, 1]], float).T
    for plane, one in enumerate(inverse_z):
        best, second = (np.full(gray.shape, -1, np.float32) for _ in range(2))
        for (turn, shift), matrix, other in ways:
            across = matrix @ (turn + np.outer(shift, [0, 0, one])) @ inverse
            if (across @ corners)[2].min() <= 1e-6:  # a part of the plane is behind the other camera
                continue
            like = _alike(gray, mean, spread, across, other)
            second = np.maximum(second, np.minimum(best, like))
            best = np.maximum(best, like)
        # Half of the neighbours may be kept from seeing a point by what is before it.
        scores[plane] = (best + second) / 2 if len(ways) > 1 else best
    z, like = _best(scores, inverse_z[1])
    like[_about(hidden)] = -1
    return _Swept(z, like, neighbours)


def _about(where: np.ndarray) -> np.ndarray:
    """(H, W) bool, which squares hold a pixel of those."""
    return cv2.dilate(where.astype(np.uint8), np.ones((WINDOW, WINDOW), np.uint8)) > 0


def _local(gray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) mean and standard deviation about each pixel."""
    mean = cv2.boxFilter(gray, -1, (WINDOW, WINDOW))
    square = cv2.boxFilter(gray * gray, -1, (WINDOW, WINDOW))
    return mean, np.sqrt(np.maximum(square - mean * mean, 0))


def _alike(gray: np.ndarray, mean: np.ndarray, spread: np.ndarray, across: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(H, W) correlation of each square with that of ``other`` to which ``across`` (3, 3) takes its pixels; −1 where
    one of them is flat, lies outside or holds what is not shown."""
    height, width = gray.shape
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(other, across, (width, height), flags=how, borderValue=NOWHERE)
    outside = moved < -0.5
    moved[outside] = 0
    its_mean, its_spread = _local(moved)
    both = cv2.boxFilter(gray * moved, -1, (WINDOW, WINDOW)) - mean * its_mean
    like = np.where((spread > FLAT) & (its_spread > FLAT), both / np.maximum(spread * its_spread, 1e-6), -1)
    like[_about(outside)] = -1
    return like.astype(np.float32)


def _best(scores: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) z and score of the best of the planes (P, H, W), ``step`` of 1 / z apart from infinity on, and between
    them by a parabola."""
    plane = scores.argmax(axis=0)
    inside = np.clip(plane, 1, len(scores) - 2)
    below, at, above = (np.take_along_axis(scores, (inside + d)[None], axis=0)[0] for d in (-1, 0, 1))
    bend = below - 2 * at + above
    off = np.where((bend < -1e-6) & (plane == inside), np.clip((below - above) / (2 * np.minimum(bend, -1e-6)), -0.5, 0.5), 0)  # noqa: E501  # fmt: skip
    with np.errstate(divide="ignore"):
        z = 1 / ((plane + off) * step)
    like = scores.max(axis=0)
    like[plane != inside] = -1  # at the end of the sweep: nobody knows
    return z, like


def _agreed(number: int, views: Sequence[Camera], swept: Sequence[_Swept]) -> KnownDepth:
    """The pixels of a view that are like, and as far away, in others."""
    view, own = views[number], swept[number]
    rays = pixel_directions(view.intrinsics)  # z = −1
    length = np.linalg.norm(rays, axis=-1)
    candidate = (own.like >= LIKE) & np.isfinite(own.z)
    pixel = np.flatnonzero(candidate)
    points = (rays[candidate] * own.z[candidate][:, None]) @ view.pose[:3, :3].T + view.pose[:3, 3]
    times = np.zeros(len(points), int)
    for other in own.neighbours:
        camera, theirs = views[other], swept[other]
        i, local = camera.intrinsics, (points - camera.pose[:3, 3]) @ camera.pose[:3, :3]
        z = -local[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            x, y = local[:, 0] / z * i.fx + i.cx, i.cy - local[:, 1] / z * i.fy
        inside = (z > 0) & (x >= 0) & (y >= 0) & (x < i.width) & (y < i.height)
        row, column = np.where(inside, y, 0).astype(int), np.where(inside, x, 0).astype(int)
        near = np.abs(theirs.z[row, column] - z) <= SAME * z
        times += inside & near & (theirs.like[row, column] >= LIKE)
    kept = times >= min(AGREED, len(own.neighbours))
    distance = (own.z * length)[candidate][kept]
    return KnownDepth(pixel[kept], distance.astype(np.float32), own.like[candidate][kept].astype(np.float32))
