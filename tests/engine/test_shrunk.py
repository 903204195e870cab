# SPDX-License-Identifier: GPL-3.0-or-later
"""Photos made smaller before they are compared."""

from dataclasses import replace

import numpy as np
import pytest

from engine.capture import Intrinsics
from engine.geometry import Viewpoint, pixel_directions
from engine.scenes.known_depth import KnownDepth
from engine.scenes.shrunk import Shrunk

LENS = Intrinsics(512, 341, 400.0, 410.0, 250.0, 180.0)
CAMERA = Viewpoint(np.eye(4), LENS, "one")


def to_a_plane(intrinsics: Intrinsics) -> np.ndarray:
    """(H, W): how far along each normalised ray the slanted plane −z = 2 + 0.3 x lies, of a camera at the origin."""
    rays = pixel_directions(intrinsics)
    rays = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    return 2 / (-rays[..., 2] - 0.3 * rays[..., 0])


@pytest.mark.parametrize("most", [320, 200, 512, 511])
def test_depths_of_the_smaller_photo_are_those_of_the_photo(most):
    small = Shrunk.of(CAMERA, np.zeros((341, 512, 3), np.uint8), None, most)
    lens = small.camera.intrinsics
    assert (lens.height, lens.width) == small.photo.shape[:2] and max(small.photo.shape) == most
    found = to_a_plane(lens).ravel()
    known = KnownDepth(np.arange(len(found)), found.astype(np.float32), np.linspace(0, 1, len(found), dtype=np.float32))
    moved = small.depth_of_photo(known)
    assert (np.diff(moved.pixels) > 0).all() and moved.pixels.max() < 341 * 512
    shifted = (replace(LENS, cx=LENS.cx + x, cy=LENS.cy + y) for x in (-0.5, 0.5) for y in (-0.5, 0.5))
    corners = np.stack([to_a_plane(lens).ravel()[moved.pixels] for lens in shifted])
    assert (moved.distances > corners.min(axis=0) - 1e-6).all() and (moved.distances < corners.max(axis=0) + 1e-6).all()
    assert (moved.sure == known.sure).all()


def test_a_photo_that_is_small_already_is_taken_as_it_is():
    photo, shown = np.random.default_rng(0).integers(256, size=(341, 512, 3), dtype=np.uint8), np.ones((341, 512), bool)
    small = Shrunk.of(CAMERA, photo, shown, 512)
    assert small.camera is CAMERA and small.photo is photo and small.shown is shown
    pixels = np.array([0, 77, 341 * 512 - 1])
    assert (small.depth_of_photo(KnownDepth(pixels, pixels, pixels)).pixels == pixels).all()
    assert (small.mask_of_photo(photo[..., 0] > 99) == (photo[..., 0] > 99)).all()


def test_what_is_hidden_in_part_is_hidden_and_a_mask_comes_back_at_the_photos_size():
    shown = np.ones((341, 512), bool)
    shown[100, 200] = False
    photo = np.zeros((341, 512, 3), np.uint8)
    photo[:, 256:] = 200
    small = Shrunk.of(CAMERA, photo, shown)
    assert small.shown.shape == (213, 320) and 0 < (~small.shown).sum() <= 4
    right = small.mask_of_photo(small.photo[..., 0] > 100)
    assert right.shape == (341, 512) and (right[:, :255] == 0).all() and right[:, 257:].all()
