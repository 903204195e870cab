# SPDX-License-Identifier: GPL-3.0-or-later
"""An instruction on one photo, without any NeRF: a picture, or a contact sheet over both guidance scales."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np
import torch
from PIL import Image

from engine.capture.decoding import decode
from engine.capture.photos import SkipView, read_header
from engine.devices import choose_device
from engine.edit.settings import EditSettings
from engine.editors.catalogue import default_editor
from engine.errors import BadInput
from engine.jobs.edit import (
    checked_instruction,
    edit_picture,
    opened_editor,
    with_editor,
)
from engine.pictures import save_picture, to_uint8
from engine.presets import choose_preset
from engine.progress import Job, Plan, Stage

SHEET_TEXT = (0.5, 1.0, 1.5, 2.0)  # times the text guidance, one a column
_UNDER_TRANSPARENT = (255, 255, 255)
SHEET_IMAGE = (0.75, 1.0, 1.5)  # times the image guidance, one a row


@dataclass(frozen=True)
class Try:
    photo: str
    instruction: str
    out: str
    editor: str | None = None
    device: str | None = None
    text_guidance: float | None = None
    image_guidance: float | None = None
    keep_background: bool | None = None
    seed: int = 0
    sheet: bool = False


def try_photo(settings: Try, job: Job) -> Path:
    """Write the edited photo, or the sheet, to ``settings.out``. Raises BadInput."""
    instruction = checked_instruction(settings.instruction)
    device = choose_device(settings.device)
    preset = choose_preset(None, device)
    name = settings.editor or default_editor(device)
    edit = with_editor(
        msgspec.structs.replace(preset.edit, seed=settings.seed),
        name,
        instruction,
        settings.text_guidance,
        settings.image_guidance,
        settings.keep_background,
    ).checked()
    guidance = edit.guidance
    editor = opened_editor(name, device, job)
    picture = _photo(Path(settings.photo), 2 * editor.native_size).to(device)
    cells = [(guidance.text, guidance.image)]
    if settings.sheet:
        cells = [(guidance.text * t, guidance.image * i) for i in SHEET_IMAGE for t in SHEET_TEXT]
    plan = Plan(Stage("try", "Trying on one picture", len(cells) * edit.diffusion_steps, 0.1))
    stage = plan.begin("try")

    def check() -> None:
        job.check()
        plan.advance(min(stage.done + 1, stage.units))
        job.report(plan, stage)

    edited = [edit_picture(editor, picture, instruction, _with(edit, *cell), check) for cell in cells]
    out = Path(settings.out)
    if out.suffix.lower() != ".png":
        raise BadInput(f"{out.name} must end in .png.", field="out")
    save_picture(out, _sheet(picture, edited, cells) if settings.sheet else edited[0])
    return out


def _with(settings: EditSettings, text: float, image: float) -> EditSettings:
    guidance = msgspec.structs.replace(settings.guidance, text=text, image=image)
    return msgspec.structs.replace(settings, guidance=guidance)


def _photo(path: Path, long_side: int) -> torch.Tensor:
    """(H, W, 3), 0–1, sRGB, upright as the camera was held, its longer side at most ``long_side`` pixels."""
    try:
        photo = decode(path, _UNDER_TRANSPARENT, read_header(path).orientation)
    except SkipView as problem:
        raise BadInput(str(problem), file=path) from None
    photo.thumbnail((long_side, long_side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(photo)).float() / 255


def _sheet(original: torch.Tensor, edited: list[torch.Tensor], cells: list[tuple[float, float]]) -> torch.Tensor:
    """The original above left, then one row an image guidance and one column a text guidance, labelled. uint8."""
    height, width = original.shape[:2]
    margin = 18
    rows, columns = len(SHEET_IMAGE), len(SHEET_TEXT)
    sheet = np.full((rows * (height + margin), (columns + 1) * (width + 4), 3), 255, np.uint8)

    def put(row: int, column: int, picture: torch.Tensor, label: str) -> None:
        y, x = row * (height + margin), column * (width + 4)
        sheet[y + margin : y + margin + height, x : x + width] = to_uint8(picture).cpu().numpy()
        cv2.putText(sheet, label, (x + 2, y + 13), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)

    put(0, 0, original, "original")
    for index, (picture, (text, image)) in enumerate(zip(edited, cells, strict=True)):
        row, column = divmod(index, columns)
        put(row, column + 1, picture, f"text {text:.3g} image {image:.3g}")
    return torch.from_numpy(sheet)
