# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run leaves: a table, a sheet of pictures, and JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLUMNS = {
    # measure: (heading, format)
    "recovery_perceptual": ("recovery, perceptual", "{:.2f}"),
    "recovery_mse": ("recovery, squared error", "{:.2f}"),
    "psnr": ("PSNR, dB", "{:.1f}"),
    "ssim": ("SSIM", "{:.3f}"),
    "perceptual": ("perceptual", "{:.3f}"),
    "inconsistency": ("inconsistency", "{:.4f}"),
    "direction_consistency": ("direction consistency", "{:.3f}"),
    "key_true": ("key camera, true", "{:.3f}"),
    "key_drawn": ("key camera, drawn over", "{:.3f}"),
    "clip_direction": ("CLIP direction", "{:.3f}"),
    "clip_consistency": ("CLIP consistency", "{:.3f}"),
    "seconds": ("seconds", "{:.0f}"),
    "edits": ("edits", "{:.0f}"),
    "peak_megabytes": ("MB", "{:.0f}"),
}


def summary(records: Sequence[dict]) -> list[dict]:
    """For each method, the mean of each measure over scenes, edits and seeds, and its ``…_spread``: the standard
    deviation over seeds of the mean over scenes and edits (absent with one seed). Recoveries are of the errors' sums
    over all edits, so that an edit that changes next to nothing has next to no say."""
    rows = []
    for name in dict.fromkeys(record["method"] for record in records):
        own = [record for record in records if record["method"] == name]
        by_seed = [[r for r in own if r["seed"] == seed] for seed in sorted({r["seed"] for r in own})]
        row: dict = {"method": name, "runs": len(own)}
        for measure in COLUMNS:
            values = [_mean(part, measure) for part in by_seed]
            values = [value for value in values if not math.isnan(value)]
            if values:
                row[measure] = float(np.mean(values))
                if len(values) > 1:
                    row[f"{measure}_spread"] = float(np.std(values, ddof=1))
        rows.append(row)
    return rows


def _mean(records: Sequence[dict], measure: str) -> float:
    if measure.startswith("recovery_"):
        error = measure.removeprefix("recovery_")
        total = {side: sum(r[side][error] for r in records) for side in ("unedited", "measures", "oracle")}
        span = total["unedited"] - total["oracle"]
        return (total["unedited"] - total["measures"]) / span if span > 0 else math.nan
    values = [r["measures"][measure] for r in records if measure in r["measures"]]
    return float(np.mean(values)) if values else math.nan


def markdown(rows: Sequence[dict]) -> str:
    """The table."""
    measures = [m for m in COLUMNS if any(m in row for row in rows)]
    lines = ["| method | " + " | ".join(COLUMNS[m][0] for m in measures) + " |", "|---|" + "---:|" * len(measures)]
    for row in rows:
        cells = []
        for measure in measures:
            text = COLUMNS[measure][1].format(row[measure]) if measure in row else "–"
            if f"{measure}_spread" in row:
                text += " ± " + COLUMNS[measure][1].format(row[f"{measure}_spread"])
            cells.append(text)
        lines.append(f"| {row['method']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def sheet(pictures: Path, path: Path) -> None:
    """A picture of pictures: a column for each folder in ``pictures``, a line for each picture in it, by name."""
    columns = {
        folder.name: {file.stem[3:]: Image.open(file).convert("RGB") for file in sorted(folder.glob("*.png"))}
        for folder in sorted(pictures.glob("*/"))
    }
    rows = list(dict.fromkeys(row for column in columns.values() for row in column))
    if not rows:
        return
    width, height = next(iter(next(iter(columns.values())).values())).size
    left, top = 190, 22
    canvas = Image.new("RGB", (left + len(columns) * (width + 2), top + len(rows) * (height + 2)), "white")
    draw = ImageDraw.Draw(canvas)
    for x, (heading, column) in enumerate(columns.items()):
        draw.text((left + x * (width + 2) + 3, 5), heading, fill="black")
        for row, picture in column.items():
            canvas.paste(picture, (left + x * (width + 2), top + rows.index(row) * (height + 2)))
    for y, row in enumerate(rows):
        draw.text((5, top + y * (height + 2) + height // 2 - 6), row, fill="black")
    part = path.with_name("part-" + path.name)
    canvas.save(part)
    part.replace(path)
