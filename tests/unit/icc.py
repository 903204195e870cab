# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes ICC profiles (version 2, ICC.1:2001-04) for tests: of primaries and a gamma, gray ones, and one for inks."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
DISPLAY_P3 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290)
ADOBE_RGB = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, 0.3127, 0.3290)
SRGB = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)


def rgb_profile(primaries: tuple[float, ...], gamma: float) -> bytes:
    columns = to_d50(primaries)
    tags = {key + b"XYZ": _xyz(columns[:, index]) for index, key in enumerate((b"r", b"g", b"b"))}
    tags |= {key + b"TRC": _curve(gamma) for key in (b"r", b"g", b"b")}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def gray_profile(gamma: float) -> bytes:
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma)})


def ink_profile(lab_of: Callable[[float, float, float, float], tuple[float, float, float]]) -> bytes:
    """CMYK, by the Lab color of each combination of full inks; linear between."""
    grid = []
    for index in range(16):
        light, a, b = lab_of(*(float(index >> bit & 1) for bit in (3, 2, 1, 0)))
        grid += [round(light * 255 / 100), round(a + 128), round(b + 128)]
    identity = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    table += identity * 4 + bytes(grid) + identity * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table, b"A2B1": table})


def to_d50(primaries: tuple[float, ...]) -> np.ndarray:
    """(3, 3): linear light of the primaries to XYZ of the profile connection space."""
    points = np.array(primaries).reshape(4, 2)
    xyz = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in points])
    scaled = xyz[:3].T * np.linalg.solve(xyz[:3].T, xyz[3])
    gain = np.diag((BRADFORD @ D50) / (BRADFORD @ xyz[3]))
    return np.linalg.inv(BRADFORD) @ gain @ BRADFORD @ scaled


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    name = b"test\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(4 + 4 + 2 + 1 + 67)
    tags = {b"desc": text, b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz(D50)} | tags
    body, table, at = b"", struct.pack(">I", len(tags)), 128 + 4 + 12 * len(tags)
    for key, value in tags.items():
        value += bytes(-len(value) % 4)
        table += key + struct.pack(">II", at + len(body), len(value))
        body += value
    head = struct.pack(">I4s4s4s4s4s", at + len(body), b"lcms", b"\x02\x10\0\0", kind, space, connection)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + body
