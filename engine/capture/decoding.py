# SPDX-License-Identifier: GPL-3.0-or-later
"""Photos and masks of any kind that is read -> 8 bit sRGB, as they are meant."""

from __future__ import annotations

import os
import struct
import warnings
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from engine.capture.color import REC_709, encoded, linearized, to_rec_709, to_srgb
from engine.capture.exif import turned, turned_back
from engine.capture.photos import (
    EXR,
    LARGEST_FILE,
    SkipView,
    exr_fields,
    is_floating_tiff,
    open_picture,
    orientation_of,
    read_header,
    same_shape,
    why_unreadable,
)
from engine.errors import is_out_of_memory
from engine.files import open_file
from engine.pictures import UNREADABLE

os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")  # asked for when OpenCV first meets such a picture

_BITS_PER_SAMPLE, _PHOTOMETRIC, _MIN_IS_WHITE = 258, 262, 0  # of TIFF
_TOO_BRIGHT = 4.0  # times white: where most pixels are, the values are no light
_STRIP = 2_000_000  # pixels turned into floating point at once


Layers = tuple[Image.Image, Image.Image | None]
"""A picture, RGB, and its alpha, L; None where no pixel is transparent."""


def decode(path: Path, background: tuple[int, int, int], turn: int = 1) -> Image.Image:
    """A photo as stored (no EXIF rotation), RGB, 8 bit, sRGB, over `background` where it is transparent.

    `turn` is an EXIF orientation by which it is turned afterwards. Raises SkipView.
    """
    return decode_layers(path, background, turn)[0]


def decode_layers(path: Path, background: tuple[int, int, int], turn: int = 1) -> Layers:
    """A photo as `decode` has it, and its alpha, gray, 8 bit: None where no pixel is transparent. Raises SkipView."""
    header = read_header(path)  # bounds its size before anything is decoded
    try:
        with open_file(path, LARGEST_FILE) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            head = stream.read(8)
            stream.seek(0)
            if head[:4] == EXR:
                picture, alpha = _decode_exr(stream, background)
            elif is_floating_tiff(stream):
                picture, alpha = _decode_floating(stream, background, path)
            else:
                with open_picture(stream, path) as opened:
                    picture, alpha = _decode(opened, background)
    except UNREADABLE as problem:
        if is_out_of_memory(problem):
            raise MemoryError from None
        raise SkipView(why_unreadable(path, problem)) from None
    if picture.size != (header.width, header.height):
        raise SkipView(why_unreadable(path, ValueError()))
    return turned(picture, turn), None if alpha is None else turned(alpha, turn)


def _decode(opened: Image.Image, background: tuple[int, int, int]) -> Layers:
    orientation = orientation_of(opened)
    by_pillow = opened.format == "TIFF"  # which turns those, when it decodes them
    inverted = by_pillow and _MIN_IS_WHITE in _tag(opened, _PHOTOMETRIC)
    bits = max(_tag(opened, _BITS_PER_SAMPLE), default=16) if by_pillow else 16
    opened.load()
    alpha = None
    if opened.mode.startswith(("I", "F")):  # more than 8 bits, gray; Pillow reads more in color as 8
        picture = to_srgb(_eight_bits(opened, min(bits, 16), inverted), opened)
    elif opened.has_transparency_data:
        rgba = opened.convert("RGBA")
        plain = opened.getchannel("L") if opened.mode == "LA" else rgba.convert("RGB")
        shown = to_srgb(plain, opened)
        alpha = rgba.getchannel("A")
        shown.putalpha(alpha)
        del rgba, plain
        under = Image.new("RGBA", shown.size, (*background, 255))
        under.alpha_composite(shown)
        picture = under.convert("RGB")
    else:
        plain = opened if opened.mode in ("L", "RGB", "CMYK", "LAB") else opened.convert("RGB")
        picture = to_srgb(plain, opened)
    if by_pillow:
        picture, alpha = turned_back(picture, orientation), None if alpha is None else turned_back(alpha, orientation)
    return picture, _transparency(alpha)


def _transparency(alpha: Image.Image | None) -> Image.Image | None:
    return None if alpha is None or alpha.getextrema()[0] == 255 else alpha


def _tag(picture: Image.Image, tag: int) -> tuple[int, ...]:
    values = picture.tag_v2.get(tag, ())
    return values if isinstance(values, tuple) else (values,)


def _eight_bits(picture: Image.Image, bits: int, inverted: bool) -> Image.Image:
    """A gray picture of up to 16 bits, L. Raises ValueError for values that are no brightness of so many bits."""
    values = np.asarray(picture)
    if values.dtype.kind == "f" or values.size == 0:
        raise ValueError("floating point")
    top = (1 << bits) - 1 if picture.mode.startswith("I;16") else 65535
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("more than 16 bits")
    gray = np.empty(values.shape, np.uint8)
    rows = max(1, _STRIP // max(1, values.shape[1]))
    for at in range(0, len(values), rows):
        gray[at : at + rows] = np.clip(values[at : at + rows].astype(np.float32) * (255 / top) + 0.5, 0, 255)
    return Image.fromarray(255 - gray if inverted else gray)


def _decode_exr(stream: BinaryIO, background: tuple[int, int, int]) -> Layers:
    """An OpenEXR picture: linear, with premultiplied alpha, as such files are; what is brighter than white is white."""
    data = stream.read()
    chromaticities = REC_709
    for name, kind, value in exr_fields(data[4 : 64 * 1024]):
        if (name, kind, len(value)) == (b"chromaticities", b"chromaticities", 32):
            found = struct.unpack("<8f", value)
            if all(-1 < number < 2 for number in found) and min(found[1::2]) > 1e-3:
                chromaticities = found
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as problem:
        raise ValueError(problem.err or "damaged") from None
    return _from_light(pixels, background, None if chromaticities == REC_709 else to_rec_709(chromaticities))


def _decode_floating(stream: BinaryIO, background: tuple[int, int, int], path: Path) -> Layers:
    """A TIFF of floating-point values: linear light, as programs write it."""
    data = stream.read()
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as problem:
        raise ValueError(problem.err or "damaged") from None
    if pixels is not None and np.median(pixels) > _TOO_BRIGHT:
        raise SkipView(
            f"The floating-point values of {path.name} are not light from 0 (black) to 1 (white); save it with 8 or 16 "
            "bits."
        )
    return _from_light(pixels, background, None)


def _from_light(pixels: np.ndarray | None, background: tuple[int, int, int], matrix: np.ndarray | None) -> Layers:
    """(H, W), or (H, W, 1, 3 or 4) in OpenCV's order, linear light with premultiplied alpha -> RGB."""
    if pixels is None or pixels.ndim not in (2, 3):
        raise ValueError("its pixels are damaged or of a kind that is not known")
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    out = np.empty((*pixels.shape[:2], 3), np.uint8)
    opacity = np.empty(pixels.shape[:2], np.uint8) if pixels.shape[2] == 4 else None
    under = linearized(np.asarray(background, np.float32) / 255)
    rows = max(1, _STRIP // max(1, pixels.shape[1]))
    for top in range(0, len(pixels), rows):
        strip = np.nan_to_num(pixels[top : top + rows].astype(np.float32), posinf=1.0, neginf=0.0)
        color = strip[..., 2::-1] if strip.shape[2] >= 3 else strip[..., :1].repeat(3, axis=2)  # from OpenCV's BGR
        if matrix is not None:
            color = color @ matrix.T.astype(np.float32)
        if opacity is not None:
            alpha = np.clip(strip[..., 3:], 0, 1)
            color = color + (1 - alpha) * under
            opacity[top : top + rows] = alpha[..., 0] * 255 + 0.5
        out[top : top + rows] = encoded(np.clip(color, 0, 1)) * 255 + 0.5
    return Image.fromarray(out), None if opacity is None else _transparency(Image.fromarray(opacity))


def decode_mask(path: Path, size: tuple[int, int], turn: int = 1) -> Image.Image:
    """A mask at the size of its photo, L: white where it is at least half as bright as at its brightest, else black.

    `size` is the photo's after `turn`, by which the mask is turned too where it has the shape of the photo as stored.
    Raises SkipView.
    """
    header = read_header(path)
    try:
        with open_file(path, LARGEST_FILE) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_picture(stream, path) as picture:
                back = orientation_of(picture) if picture.format == "TIFF" else 1
                picture.load()
                plain = picture if picture.mode.startswith(("I", "F")) else picture.convert("L")
                values = np.nan_to_num(np.asarray(turned_back(plain, back)))
    except UNREADABLE as problem:
        raise SkipView(why_unreadable(path, problem, "mask")) from None
    if values.shape != (header.height, header.width):
        raise SkipView(why_unreadable(path, ValueError(), "mask"))
    top = float(values.max())
    white = (values >= top / 2).astype(np.uint8) * (255 if top > 0 else 0)
    mask = Image.fromarray(white)
    if turn >= 5 and not same_shape(mask.size, size):
        mask = turned(mask, turn)
    return mask if mask.size == size else mask.resize(size, Image.Resampling.NEAREST)
