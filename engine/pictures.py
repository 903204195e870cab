# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's own pictures and masks, in and out, by numpy and Pillow; torch is imported where a tensor is meant."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine.errors import BadInput
from engine.files import open_file, write_bytes

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_FILE = 2**30  # bytes
NOTE = "instruct-nerf"  # the keyword of a text in a PNG
# What Pillow raises on files that are not what they seem.
UNREADABLE = (OSError, ValueError, SyntaxError, TypeError, IndexError, EOFError, OverflowError, struct.error,
              Image.DecompressionBombError)  # fmt: skip


def read_picture(path: Path) -> np.ndarray:
    """(H, W, 3) uint8, sRGB. Raises BadInput."""
    try:
        with open_file(path, LARGEST_FILE) as file, Image.open(file, formats=("PNG",)) as picture:
            return np.array(picture.convert("RGB"))
    except UNREADABLE as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: BaseException) -> BadInput:
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    return BadInput(f"{path} cannot be read ({why}); open the capture again.", file=path)


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, by the file's header alone. Raises BadInput."""
    try:
        with open_file(path, LARGEST_FILE) as file, Image.open(file, formats=("PNG",)) as picture:
            return picture.size
    except UNREADABLE as error:
        raise _unreadable(path, error) from None


def load_picture(path: Path) -> Tensor:
    """(H, W, 3) uint8 on the CPU, sRGB. Raises BadInput."""
    import torch

    return torch.from_numpy(read_picture(path))


def load_mask(path: Path, width: int, height: int) -> np.ndarray:
    """(H, W) bool: where the picture that the mask belongs to shows the scene. Raises BadInput."""
    mask = read_picture(path)[..., 0] > 127
    if mask.shape != (height, width):
        raise BadInput(f"The mask {path.name} is not of its picture's size; open the capture again.", field="views")
    return mask


def load_alpha(path: Path, width: int, height: int) -> np.ndarray:
    """(H, W) uint8: how much of each pixel of the picture that it belongs to is not empty space. Raises BadInput."""
    alpha = read_picture(path)[..., 0]
    if alpha.shape != (height, width):
        raise BadInput(f"{path.name} is not of its picture's size; open the capture again.", field="views")
    return alpha


def to_uint8(rgb: Tensor) -> Tensor:
    """Colors 0–1 → 8 bits, rounded; on the same device. Raises BadInput where they are not numbers."""
    import torch

    if not torch.isfinite(rgb).all():
        raise _not_numbers()
    return (rgb.clamp(0, 1) * 255).round().to(torch.uint8)


def save_picture(path: Path, rgb: Tensor | np.ndarray, note: str = "") -> None:
    """Write (H, W, 3), floats 0–1 or uint8, as PNG, whole or not at all; with a ``note`` that `note_of` reads.

    Raises BadInput where floats are not numbers: what is there already stays.
    """
    write_bytes(path, encoded(rgb, note))


def encoded(rgb: Tensor | np.ndarray, note: str = "") -> bytes:
    """A picture as the PNG file that `save_picture` writes. Raises BadInput where floats are not numbers."""
    if not isinstance(rgb, np.ndarray):
        rgb = rgb.detach().cpu().numpy()
    if rgb.dtype != np.uint8:
        if not np.isfinite(rgb).all():
            raise _not_numbers()
        rgb = (np.clip(rgb, 0, 1) * 255).round().astype(np.uint8)
    texts = PngInfo()
    if note:
        texts.add_text(NOTE, note)
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "PNG", compress_level=3, pnginfo=texts)
    return file.getvalue()


def note_of(path: Path) -> str | None:
    """What was noted in a picture when it was written; None where nothing was, or where there is no such picture."""
    try:
        with open_file(path, LARGEST_FILE) as file, Image.open(file, formats=("PNG",)) as picture:
            note = picture.info.get(NOTE)
    except UNREADABLE:
        return None
    return note if isinstance(note, str) else None


def _not_numbers() -> BadInput:
    return BadInput(
        "A picture came out with values that are not numbers (NaN), so it was not kept; choose another editor or "
        "device, or lower the guidance scales."
    )
