# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats as a viewport draws them: small discs of one color, in a file that is read without any work."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from engine.files import write_bytes
from engine.output.splats import SPREAD, Splats

MAGIC = b"INSURFEL"
VERSION = 1
FAINT = 0.2  # opacity below which a splat is not drawn
COVERING = 0.75  # radius over the spacing of splats: discs that touch along a diagonal


def write_surfels(splats: Splats, path: Path) -> None:
    """Write `MAGIC`, the version and the number (two unsigned 32-bit numbers), then of all surfels the places in the
    capture frame and radii (four 32-bit floats each), then their colors (four bytes each, sRGB and opacity);
    little-endian, in an order in which any part from the beginning is spread over the whole. Raises BadInput."""
    drawn = splats[splats.opacity >= FAINT]
    drawn = drawn[np.random.default_rng(0).permutation(len(drawn))]
    radius = drawn.scales[:, :2].mean(axis=1) * COVERING / SPREAD
    places = np.column_stack([drawn.means, radius]).astype("<f4")
    shade = np.column_stack([drawn.colors, np.ones(len(drawn))])
    colors = (shade * 255 + 0.5).astype(np.uint8)
    write_bytes(path, MAGIC + struct.pack("<II", VERSION, len(drawn)) + places.tobytes() + colors.tobytes())
