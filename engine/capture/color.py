# SPDX-License-Identifier: GPL-3.0-or-later
"""Colors of photos as they are meant: by embedded ICC profiles, EXIF, PNG and HEIF fields -> sRGB, 8 bit."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

Chromaticities = tuple[float, float, float, float, float, float, float, float]  # x, y of red, green, blue and white

_D65 = (0.3127, 0.3290)
REC_709: Chromaticities = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, *_D65)
_ADOBE_RGB: Chromaticities = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, *_D65)
_PRIMARIES: dict[int, Chromaticities] = {  # by the codes of ITU-T H.273, which HEIF writes
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *_D65),  # Rec. 2020
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),  # DCI-P3
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_D65),  # Display P3
}
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_EXIF_IFD, _COLOR_SPACE, _INTEROP_IFD, _INTEROP_INDEX = 0x8769, 0xA001, 0xA005, 1
_STRIP = 4_000_000  # pixels turned into floating point at once


def to_srgb(image: Image.Image, meta: Image.Image) -> Image.Image:
    """The same colors in sRGB, RGB. `image` is L, RGB, CMYK or LAB, 8 bit, without alpha; `meta` is the opened file
    that it came from, whose fields say what its values mean. A field that cannot be read counts as absent."""
    profile = meta.info.get("icc_profile")
    if isinstance(profile, bytes) and profile:
        return _by_profile(image, profile)
    if image.mode == "LAB":
        return ImageCms.applyTransform(image, _lab_to_srgb())
    image = _rgb(image)
    if "srgb" in meta.info:  # a PNG that says so
        return image
    gamma = meta.info.get("gamma")
    if isinstance(gamma, int | float) and 0.05 < gamma < 5 and abs(gamma * 2.2 - 1) > 0.05:
        linear = (np.arange(256) / 255) ** (1 / gamma)
        return image.point(np.round(encoded(linear) * 255).astype(int).tolist() * 3)
    primaries = _stated_primaries(meta)
    return image if primaries is None else _from_primaries(image, *primaries)


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def encoded(linear: np.ndarray) -> np.ndarray:
    """Linear light 0–1 -> sRGB's values 0–1 (IEC 61966-2-1)."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055)


def linearized(values: np.ndarray) -> np.ndarray:
    """sRGB's values 0–1 -> linear light 0–1."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def to_rec_709(chromaticities: Chromaticities) -> np.ndarray:
    """(3, 3): linear light of other primaries -> linear light of sRGB's, white to white (Bradford)."""
    ours, theirs = _to_xyz(REC_709), _to_xyz(chromaticities)
    white, whites = ours.sum(axis=1), theirs.sum(axis=1)
    adapted = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ white) / (_BRADFORD @ whites)) @ _BRADFORD
    return np.linalg.inv(ours) @ adapted @ theirs


def _to_xyz(chromaticities: Chromaticities) -> np.ndarray:
    points = np.array(chromaticities, dtype=np.float64).reshape(4, 2)
    xyz = np.stack([points[:, 0], points[:, 1], 1 - points.sum(axis=1)]) / points[:, 1]  # (3, 4), of luminance 1
    return xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3])


def _stated_primaries(meta: Image.Image) -> tuple[Chromaticities, float | None] | None:
    """(primaries, exponent of the curve; None: sRGB's) that a file without a profile names; None where it names none
    but sRGB's."""
    nclx = meta.info.get("nclx_profile")
    if isinstance(nclx, dict) and nclx.get("color_primaries") in _PRIMARIES:
        return _PRIMARIES[nclx["color_primaries"]], None
    try:
        exif = meta.getexif()
        if exif.get_ifd(_EXIF_IFD).get(_COLOR_SPACE) in (2, 0xFFFF):
            index = exif.get_ifd(_INTEROP_IFD).get(_INTEROP_INDEX, "")
            text = index.decode("latin-1") if isinstance(index, bytes) else str(index)
            if text.strip("\0 ") == "R03" or exif.get_ifd(_EXIF_IFD).get(_COLOR_SPACE) == 2:
                return _ADOBE_RGB, 563 / 256  # cameras set to Adobe RGB embed no profile
    except Exception:  # whatever Pillow's EXIF reader makes of damaged fields
        return None
    return None


def _from_primaries(image: Image.Image, chromaticities: Chromaticities, exponent: float | None) -> Image.Image:
    values = np.arange(256) / 255
    light = (linearized(values) if exponent is None else values**exponent).astype(np.float32)
    matrix = to_rec_709(chromaticities).astype(np.float32)
    pixels = np.asarray(image)
    out = np.empty_like(pixels)
    rows = max(1, _STRIP // max(1, pixels.shape[1]))
    for top in range(0, len(pixels), rows):
        linear = np.clip(light[pixels[top : top + rows]] @ matrix.T, 0, 1)
        out[top : top + rows] = (encoded(linear) * 255 + 0.5).astype(np.uint8)
    return Image.fromarray(out)


def _by_profile(image: Image.Image, profile: bytes) -> Image.Image:
    space = _space(profile)
    if image.mode == "L" and space == "RGB ":
        image = image.convert("RGB")
    if space != {"L": "GRAY", "RGB": "RGB ", "CMYK": "CMYK", "LAB": "Lab "}.get(image.mode):
        # Another picture's profile, or a damaged one.
        return ImageCms.applyTransform(image, _lab_to_srgb()) if image.mode == "LAB" else _rgb(image)
    transform = _transform(profile, image.mode)
    return _rgb(image) if transform is None else ImageCms.applyTransform(image, transform)


@lru_cache(maxsize=16)
def _space(profile: bytes) -> str | None:
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


@lru_cache(maxsize=16)  # a capture's photos have one profile; each thread may use it
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From the profile to sRGB; None where that changes nothing (sRGB in one of its many spellings) or cannot be."""
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            _srgb(),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode in ("L", "RGB"):
            steps = np.linspace(0, 255, 18).astype(np.uint8)
            colors = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(18, -1, 3)
            grid = steps[:, None] if mode == "L" else colors
            probe = Image.fromarray(grid)
            before, after = np.asarray(probe.convert("RGB")), np.asarray(ImageCms.applyTransform(probe, transform))
            if np.abs(after.astype(int) - before).max() <= 1:
                return None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return transform


@lru_cache(maxsize=1)
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), _srgb(), "LAB", "RGB")


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
