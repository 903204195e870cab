# SPDX-License-Identifier: GPL-3.0-or-later
"""A contact sheet as one picture: every cell under its caption, readable whatever size the cells have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SMALLEST, LARGEST = 256, 512  # pixels, the width of a cell as it is shown
GAP = 8  # pixels around every cell
TEXT = 18  # pixels, the captions' letters at least
SEEN, OF_CELL = 0.03, 8  # of the pictures' height together: readable where all is seen; at most so many to a cell
MOST_LINES = 4  # of a caption
GROUND, INK = (40, 40, 40), (235, 235, 235)  # as Blender's image editor has it
ELLIPSIS = "…"

Box = tuple[int, int, int, int]


def draw_sheet(
    original: np.ndarray, pictures: Sequence[np.ndarray], captions: Sequence[str], columns: int, caption: str
) -> tuple[np.ndarray, list[Box]]:
    """The ``original`` at the upper left under its ``caption``, and the ``pictures`` beside it, in rows of ``columns``,
    all (H, W, 3) uint8 of one size. The sheet, uint8, and where in it each picture lies: x, y from its upper left
    corner, width and height, pixels."""
    height, width = original.shape[:2]
    shown = min(max(width, SMALLEST), LARGEST)
    size = (shown, max(1, round(shown * height / width)))
    rows = -(-len(pictures) // columns)
    font = ImageFont.load_default(max(TEXT, min(round(SEEN * rows * size[1]), shown // OF_CELL)))
    line = sum(font.getmetrics())
    wrapped = [_wrapped(text, font, shown) for text in (caption, *captions)]
    # The captions of a row are as high as its longest.
    heights = [max(len(lines) for lines in wrapped[1 + row * columns :][:columns]) * line for row in range(rows)]
    heights[0] = max(heights[0], len(wrapped[0]) * line)
    tops = [GAP + sum(heights[:row]) + row * (size[1] + 2 * GAP) for row in range(rows)]
    sheet = Image.new("RGB", ((columns + 1) * (shown + GAP) + GAP, tops[-1] + heights[-1] + size[1] + 2 * GAP), GROUND)
    pen = ImageDraw.Draw(sheet)

    def put(row: int, column: int, picture: np.ndarray, lines: Sequence[str]) -> Box:
        x, y = GAP + column * (shown + GAP), tops[row] + heights[row]
        for number, text in enumerate(lines):
            pen.text((x, y - (len(lines) - number) * line), text, font=font, fill=INK)
        sheet.paste(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS), (x, y + GAP // 2))
        return x, y + GAP // 2, *size

    put(0, 0, original, wrapped[0])
    boxes = []
    for number, (picture, lines) in enumerate(zip(pictures, wrapped[1:], strict=True)):
        row, column = divmod(number, columns)
        boxes.append(put(row, column + 1, picture, lines))
    return np.asarray(sheet), boxes


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """A caption in lines of at most ``width`` pixels; what does not fit into so many lines ends in an ellipsis."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    lines = [_cut(line, font, width) for line in lines]
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], _cut(lines[MOST_LINES - 1] + ELLIPSIS, font, width)]
    return lines


def _cut(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """A line with its end cut off where it is wider."""
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(line + ELLIPSIS) > width:
        line = line[:-1]
    return line + ELLIPSIS
