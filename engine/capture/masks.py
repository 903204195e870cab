# SPDX-License-Identifier: GPL-3.0-or-later
"""What is behind the pixels that a mask, or transparency, hides: empty space around an object that was cut out, or
something unknown, such as a passer-by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from engine.capture.photos import EXR, SkipView, inside, open_picture
from engine.files import open_file
from engine.pictures import UNREADABLE

Masks = Literal["auto", "object", "unknown", "ignore"]
"""What the artist says of a capture's masks: see what they are; they cut an object out; what they hide is unknown; use
neither them nor transparency."""
Behind = Literal["empty", "unknown", "ignored"]

LOOKED_AT = 24  # views, spread over the capture
SMALL = 96  # pixels, the longer side of the masks that are looked at
BORDER = 0.5  # of a picture's border is hidden where an object was cut out of it…
MOST = 0.75  # …which holds for this share of the views
WHOLE = 0.7  # of what is kept hangs together, likewise
SAME = 0.98  # intersection over union of one view's mask and the next: a lens or a tripod hides, no object's shape
SPANNED = 0.9  # of width and height that a lens's circle spans, or what is left between blank corners


@dataclass(frozen=True)
class Hidden:
    """What is behind pixels hidden by the photos' masks, and by their transparency."""

    masks: Behind = "unknown"
    alpha: Behind = "empty"


def what_is_hidden(
    said: Masks, root: Path, photos: list[str], masks: list[str | None], stop: Callable[[], bool] = lambda: False
) -> Hidden:
    """As the artist ``said``, else by looking at some of the ``masks``, one for each of the ``photos`` or None, and at
    the photos' transparency. Paths are relative to ``root``; what cannot be read says nothing."""
    if said == "ignore":
        return Hidden("ignored", "ignored")
    if said == "unknown":
        return Hidden("unknown", "unknown")
    if said == "object":
        return Hidden("empty", "empty")
    some = np.unique(np.linspace(0, len(photos) - 1, min(LOOKED_AT, len(photos))).round().astype(int)).tolist()
    by_mask, by_alpha = [], []
    for index in some:
        if stop():
            break
        if any(masks):
            mask = masks[index]
            by_mask.append(None if mask is None else _small_mask(root, mask))
        by_alpha.append(_small_alpha(root, photos[index]))
    return Hidden(
        "empty" if cuts_out(by_mask) else "unknown",
        "unknown" if is_the_lens([kept for kept in by_alpha if kept is not None]) else "empty",
    )


def cuts_out(kept: list[np.ndarray | None]) -> bool:
    """Whether masks, each (H, W) bool and true where the photo is kept, or None where nothing is hidden, cut an object
    out of nearly every picture.

    An object stands free in its picture: most of the border is hidden, and what is kept hangs together. Who hides a
    passer-by hides a small part of some pictures. A lens or a tripod hides the same pixels in all of them.
    """
    masks = [mask for mask in kept if mask is None or mask.any()]  # a view that shows nothing of it says nothing
    if not masks or all(mask is None for mask in masks):
        return False
    bordered = [mask is not None and 1 - _border(mask).mean() > BORDER for mask in masks]
    whole = [mask is not None and _largest_part(mask) > WHOLE for mask in masks]
    free = np.mean([a and b for a, b in zip(bordered, whole, strict=True)])
    return bool(free >= MOST) and not _all_the_same([mask for mask in masks if mask is not None])


def is_the_lens(kept: list[np.ndarray]) -> bool:
    """Whether masks hide the same in every picture, around something that spans it: what the lens did not see, or
    blank corners that undistorting left."""
    if not kept or not _all_the_same(kept):
        return False
    rows, columns = (np.flatnonzero(kept[0].any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return False
    spans = [(line[-1] - line[0] + 1) / side for line, side in zip((rows, columns), kept[0].shape, strict=True)]
    return len(kept) > 1 and min(spans) > SPANNED and not kept[0].all()


def _border(mask: np.ndarray) -> np.ndarray:
    return np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])


def _largest_part(mask: np.ndarray) -> float:
    """Share of the true pixels that hang together with most others."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return float(areas.max() / areas.sum()) if len(areas) else 0.0


def _all_the_same(masks: list[np.ndarray]) -> bool:
    if len(masks) < 2 or len({mask.shape for mask in masks}) > 1:
        return False
    first = masks[0]
    return all((mask & first).sum() >= SAME * (mask | first).sum() for mask in masks[1:])


def _small_mask(root: Path, file: str) -> np.ndarray | None:
    try:
        path = inside(root, file)
        with open_file(path) as stream, open_picture(stream, path) as picture:
            values = np.asarray(picture if picture.mode.startswith(("I", "F")) else picture.convert("L"), np.float32)
    except (SkipView, *UNREADABLE):
        return None
    top = float(values.max(initial=0))
    return _small(values >= top / 2) if top > 0 else np.zeros((1, 1), bool)


def _small_alpha(root: Path, file: str) -> np.ndarray | None:
    """None where the photo has no transparent pixel."""
    try:
        path = inside(root, file)
        if path.suffix.lower() in (".jpg", ".jpeg"):
            return None
        with open_file(path) as stream:
            if stream.read(4) == EXR:
                return None
            stream.seek(0)
            with open_picture(stream, path) as picture:
                if not picture.has_transparency_data:
                    return None
                alpha = np.asarray(picture.convert("RGBA").getchannel("A"))
    except (SkipView, *UNREADABLE):
        return None
    return None if alpha.min() == 255 else _small(alpha >= 128)


def _small(mask: np.ndarray) -> np.ndarray:
    height, width = mask.shape
    scale = min(1.0, SMALL / max(height, width))
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    return cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5
