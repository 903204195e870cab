# SPDX-License-Identifier: GPL-3.0-or-later
"""What other photos show where pixels of one would be if they were on a plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numba
import numpy as np

from engine.capture import Intrinsics
from engine.geometry import Camera, Viewpoint
from engine.scenes.patch_match import camera_matrix
from engine.scenes.planes import Seen, plane_z

UNLIKE = np.float32(20.0)  # of 255, from which on a photo may as well show something else
HIDES = np.float32(0.97)  # times the distance of a place, nearer than which what is known there hides it
HIDDEN = 6.0  # of 255: as how unlike a hidden place counts, or what is compared would gain by moving behind things

_kernel = numba.njit(fastmath=True, error_model="numpy", cache=True, nogil=True)


@dataclass(frozen=True, eq=False)
class ManyPhotos:
    """What the kernel reads of all photos: ``colors`` (N, 3), ``depths`` (N,) where they are known, else 0, ``places``
    (V, 3) of each, where its pixels begin, its height and its width, ``cameras`` (V, 3, 4), from a place to (x · z,
    y · z, z), pixels counted from the first one's centre; ``others`` (≤ V,), of each, what it is compared with."""

    all_seen: Sequence[Seen]
    colors: np.ndarray
    depths: np.ndarray
    places: np.ndarray
    cameras: np.ndarray
    others: Sequence[np.ndarray]

    @classmethod
    def of(
        cls, all_seen: Sequence[Seen], pictures: Sequence[np.ndarray], others: Sequence[Sequence[int]]
    ) -> ManyPhotos:  # fmt: skip
        """``pictures``: of each view, (H, W, 3) uint8 sRGB."""
        soft = [cv2.GaussianBlur(np.ascontiguousarray(picture, np.float32), (0, 0), 0.5) for picture in pictures]
        sizes = np.array([seen.z.shape for seen in all_seen], np.int64).reshape(-1, 2)
        begins = np.cumsum([0, *sizes.prod(axis=1)])[:-1]
        return cls(
            all_seen,
            np.concatenate([picture.reshape(-1, 3) for picture in soft]),
            np.concatenate([np.ravel(seen.z) for seen in all_seen]).astype(np.float32),
            np.concatenate([begins[:, None], sizes], axis=1),
            np.stack([_onto(seen.view) for seen in all_seen]),
            [np.array(near, np.int64) for near in others],
        )

    def unlike(
        self, view: int, pixels: np.ndarray, normal: np.ndarray, heights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How much pixels (K,) of a view, row by row, differ from what others show there, of 255, if they are on the
        plane at each of the ``heights`` (O,) along ``normal`` (3,), capture frame: (O, K) sums over the others that
        show them, (O, K) how many those are, and (O, K) from how many known depths hide them."""
        seen, others = self.all_seen[view], self.others[view]
        rays, eye = seen.rays.reshape(-1, 3)[pixels], np.ascontiguousarray(seen.eye)
        z = plane_z(rays, eye, normal, heights[:, None])
        own = self.colors[self.places[view, 0] + pixels]
        return _unlike(self.colors, self.depths, self.places[others], self.cameras[others], eye, rays, own, z)

    def unlike_together(
        self, view: int, pixels: np.ndarray, normal: np.ndarray, heights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `unlike`, of all pixels together, and what is hidden counted as `HIDDEN`: (O,) sums, (O,) of how many,
        and (O,) how many of those are not hidden."""
        sums, counts, hidden = (part.sum(axis=1) for part in self.unlike(view, pixels, normal, heights))
        return sums + HIDDEN * hidden, counts + hidden, counts

    def seen_at(self, view: int, places: np.ndarray) -> np.ndarray:
        """(≤ K,) the pixels of a view, row by row, at which it sees places (K, 3), those that nothing known hides."""
        shape, camera = self.all_seen[view].z.shape, self.cameras[view]
        x, y, far = camera[:, :3] @ places.T + camera[:, 3:]
        ahead = far > 0
        far = far[ahead]
        column, row = np.rint(x[ahead] / far), np.rint(y[ahead] / far)
        inside = (column >= 0) & (row >= 0) & (column < shape[1]) & (row < shape[0])
        pixels = (row * shape[1] + column)[inside].astype(np.int64)
        known = self.all_seen[view].z.ravel()[pixels]
        return pixels[~((known > 0) & (known < HIDES * far[inside]))]


def _onto(view: Camera) -> np.ndarray:
    """(3, 4) from a place, capture frame, to (x · z, y · z, z) in a view, in pixels from the first one's centre on."""
    turn = np.diag([1.0, -1.0, -1.0]) @ view.pose[:3, :3].T
    return camera_matrix(view) @ np.concatenate([turn, -(turn @ view.pose[:3, 3])[:, None]], axis=1)


@_kernel
def _unlike(colors, depths, places, cameras, eye, rays, own, z):
    """As `ManyPhotos.unlike`: of pixels with ``rays`` (K, 3) from an ``eye`` (3,) and colors ``own`` (K, 3), at ``z``
    (O, K); ``places`` and ``cameras`` of the others alone."""
    sums = np.zeros(z.shape, np.float32)
    counts, hidden = np.zeros(z.shape, np.int64), np.zeros(z.shape, np.int64)
    for plane in range(len(z)):
        for pixel in range(len(rays)):
            ahead = z[plane, pixel]
            if ahead <= 0:
                continue
            px = eye[0] + ahead * rays[pixel, 0]
            py = eye[1] + ahead * rays[pixel, 1]
            pz = eye[2] + ahead * rays[pixel, 2]
            for other in range(len(cameras)):
                c = cameras[other]
                far = c[2, 0] * px + c[2, 1] * py + c[2, 2] * pz + c[2, 3]
                if far <= 0:
                    continue
                x = (c[0, 0] * px + c[0, 1] * py + c[0, 2] * pz + c[0, 3]) / far
                y = (c[1, 0] * px + c[1, 1] * py + c[1, 2] * pz + c[1, 3]) / far
                begin, height, width = places[other, 0], places[other, 1], places[other, 2]
                if not (0 <= x < width - 1 and 0 <= y < height - 1):
                    continue
                known = depths[begin + int(y + 0.5) * width + int(x + 0.5)]
                if 0 < known < HIDES * far:
                    hidden[plane, pixel] += 1
                    continue
                column, row = int(x), int(y)
                right, down = np.float32(x - column), np.float32(y - row)
                at = begin + row * width + column
                most = np.float32(0)
                for k in range(3):
                    upper = colors[at, k] * (1 - right) + colors[at + 1, k] * right
                    lower = colors[at + width, k] * (1 - right) + colors[at + width + 1, k] * right
                    most = max(most, abs(upper * (1 - down) + lower * down - own[pixel, k]))
                sums[plane, pixel] += min(most, UNLIKE)
                counts[plane, pixel] += 1
    return sums, counts, hidden


def compile_kernels() -> None:
    """Compile them for what photos give, or load them from numba's cache."""
    seen = Seen(Viewpoint(np.eye(4), Intrinsics(4, 4, 4.0, 4.0, 2.0, 2.0)), np.zeros((4, 4)))
    photos = ManyPhotos.of([seen], [np.zeros((4, 4, 3), np.uint8)], [[0]])
    photos.unlike(0, np.arange(4), np.eye(3)[2], np.array([-1.0]))
