"""Picture sheets for the model card and for looking at: rows of pictures, labelled columns."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from .evaluate import cases
from .paths import EXPORT, SIZE
from .sampling import Editor
from .vocabulary import BY_KEY, INSTRUCTIONS

LABEL = 14  # pixels of text above each picture


def sheet(rows: list[list[tuple[str, np.ndarray]]], path: Path, quality: int = 85) -> None:
    """Rows of (label, picture (S, S, 3) in 0..1), written as one JPEG."""
    size = rows[0][0][1].shape[0]
    out = Image.new("RGB", (max(map(len, rows)) * (size + 2), len(rows) * (size + LABEL + 2)), "white")
    draw = ImageDraw.Draw(out)
    for y, row in enumerate(rows):
        for x, (label, picture) in enumerate(row):
            corner = (x * (size + 2), y * (size + LABEL + 2))
            draw.text((corner[0] + 2, corner[1] + 1), label[: size // 6], fill="black")
            out.paste(
                Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)), (corner[0], corner[1] + LABEL)
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    out.save(path, quality=quality)


def load_square(path: Path, size: int = SIZE) -> np.ndarray:
    """The middle square of a photograph file, (size, size, 3) float32 in 0..1."""
    with Image.open(path) as picture:
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.convert("RGB").crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.LANCZOS), np.float32) / 255


def vocabulary_sheet(editor: Editor, pictures: list[np.ndarray], path: Path, columns: int = 7) -> None:
    """Every instruction on each of a few pictures."""
    rows = []
    for picture in pictures:
        cells = [("unedited", picture)]
        cells += [(i.wordings[0], editor.edit(picture, i.wordings[0])) for i in INSTRUCTIONS]
        cells.append(("make it happy (unknown)", editor.edit(picture, "make it happy")))
        rows += [cells[k : k + columns] for k in range(0, len(cells), columns)]
    sheet(rows, path)


def truth_sheet(editor: Editor, path: Path) -> None:
    """Held-out pictures: for each instruction the unedited one, the edited one and the truth."""
    views, crops = cases(13)
    rows = []
    for k, instruction in enumerate(INSTRUCTIONS):
        case = (views if instruction.of_subject else crops)[k % 13]
        edit = editor.edit(case.picture, instruction.wordings[0])
        rows.append(
            [("unedited", case.picture), (instruction.wordings[0], edit), ("truth", case.truths[instruction.key])]
        )
    half = (len(rows) + 1) // 2
    sheet([a + b for a, b in zip(rows[:half], [*rows[half:], []][:half], strict=True)], path)


def guidance_sheet(editor: Editor, picture: np.ndarray, text: str, path: Path) -> None:
    """Text guidance across, image guidance down; the last row shows the noise level at which the edit starts."""
    rows = [
        [
            (f"text {s} image {i}", editor.edit(picture, text, {"text_guidance": s, "image_guidance": i}))
            for s in (1.0, 1.5, 2.0, 3.0, 5.0, 7.5)
        ]
        for i in (1.0, 1.5, 2.5)
    ]
    rows.append([(f"noise {t}", editor.edit(picture, text, level=t)) for t in (0.02, 0.2, 0.4, 0.6, 0.8, 0.98)])
    sheet(rows, path)


def make(photos: list[Path], folder: Path, weights: Path = EXPORT) -> None:
    """All sheets of the model card; one vocabulary sheet for the given photographs together."""
    editor = Editor(weights)
    truth_sheet(editor, folder / "held-out.jpg")
    views, _ = cases(8)
    for key in ("gold", "night"):
        guidance_sheet(editor, views[3].picture, BY_KEY[key].wordings[0], folder / f"guidance-{key}.jpg")
    if photos:
        vocabulary_sheet(editor, [load_square(p) for p in photos], folder / "photographs.jpg", columns=14)
