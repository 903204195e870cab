# SPDX-License-Identifier: GPL-3.0-or-later
"""An instruction on one picture, without any NeRF: of a captured view or a photo, or a contact sheet over two of the
editor's knobs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import cv2
import msgspec
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engine import protocol
from engine.capture import View
from engine.capture.decoding import decode
from engine.capture.photos import SkipView, read_header
from engine.devices import choose_device
from engine.edit.keep import edit_alone
from engine.edit.region import Region, outside_kept, region_of
from engine.edit.settings import EditSettings, checked_instruction
from engine.editors.base import Check, Editor
from engine.editors.catalogue import source_of
from engine.editors.registry import kind_of
from engine.errors import BadInput
from engine.files import write_bytes
from engine.jobs.capture import ensure_images, load_opened
from engine.jobs.edit import chosen_editor, edit_settings, opened_editor, warn_of_unknown, with_editor
from engine.jobs.parents import check_parent, original_pictures
from engine.jobs.scene import kept_scene, scene_preset
from engine.pictures import load_picture, save_picture, to_uint8
from engine.presets import choose_preset
from engine.progress import Job, Stage
from engine.protocol import Knob
from engine.randomness import random_seed
from engine.results import Tried
from engine.workspace import Workspace, writes

NOISE = 0.98  # noise level of a try: the whole edit, as the loop's largest t
# What a sheet multiplies the editor's first number by, one a column, and its second, one a row.
COLUMNS, ROWS = (0.5, 1.0, 1.5, 2.0), (0.75, 1.0, 1.5)
_UNDER_TRANSPARENT = (255, 255, 255)


@writes("trying an instruction")
def try_edit(request: protocol.TryEdit, job: Job) -> Tried:
    """Edit one captured view, the NeRF untouched. The picture goes to the workspace's folder `tries`."""
    workspace = Workspace(request.workspace)
    capture = load_opened(workspace)
    view = capture.view(request.view)
    instruction = checked_instruction(request.instruction)
    device = choose_device(request.device)
    request = with_editor(request, device)
    region = region_of(request.region)
    settings = edit_settings(scene_preset(workspace, None, device), request)
    check = _checks(1, settings, job)
    check_parent(workspace, request.parent, [view])
    path = original_pictures(workspace, [view], request.parent).get(view.name, workspace.images / view.image)
    if not path.exists():
        images = job.plan(Stage("images", "Preparing pictures", len(capture.views), 0.1))
        ensure_images(workspace, capture, images, job)
    mask = None if region is None else region_mask(workspace, request.parent, view, region, device, job)
    editor = opened_editor(chosen_editor(request), device, job)
    picture = load_picture(path).to(device).float() / 255
    after = edit_picture(editor, picture, instruction, settings, check)
    if mask is not None:
        after = outside_kept(picture, after, mask)
    target = workspace.below("tries", f"{view.name}.png")
    save_picture(target, after)
    job.on_view(view.name, "edited", str(target))
    warn_of_unknown(chosen_editor(request), instruction, job)
    return Tried(before=str(path), after=str(target))


def try_photo(request: protocol.TryPhoto, job: Job) -> Path:
    """Write the edited photo, or the sheet, to ``request.out``. Raises BadInput."""
    out = _checked_out(Path(request.out))
    if request.region is not None:
        raise BadInput(
            "A photo alone knows no region: name a view of a project in its place, and the project with --workspace.",
            field="region",
        )
    instruction = checked_instruction(request.instruction)
    _turn_of(Path(request.photo))  # before an editor is loaded for nothing
    device = choose_device(request.device)
    request = with_editor(request, device)
    name = chosen_editor(request)
    preset = choose_preset(None, device)
    settings = edit_settings(preset, request)
    editor = opened_editor(name, device, job)
    picture = _photo(Path(request.photo), 2 * editor.size).to(device)
    warn_of_unknown(name, instruction, job)
    if not request.sheet:
        save_picture(out, edit_picture(editor, picture, instruction, settings, _checks(1, settings, job)))
        return out
    knobs = _turned(name)
    cells = _cells(knobs, settings)
    check = _checks(len(cells), settings, job)
    requests = [msgspec.structs.replace(request, options=request.options | cell) for cell in cells]
    edited = [edit_picture(editor, picture, instruction, edit_settings(preset, r), check) for r in requests]
    labels = [" ".join(f"{knob.label.lower()} {cell[knob.name]:.3g}" for knob in knobs) for cell in cells]
    save_picture(out, _sheet(picture, edited, labels, columns=len(COLUMNS)))
    return out


def copy_of_try(request: protocol.TryEdit, out: Path, job: Job) -> Path:
    """Try on a captured view, and write the edited picture to ``out``, too. Raises BadInput."""
    _checked_out(out)
    write_bytes(out, Path(try_edit(request, job).after).read_bytes())
    return out


def _checked_out(out: Path) -> Path:
    if out.suffix.lower() != ".png":
        raise BadInput(f"{out.name} must end in .png.", field="out")
    return out


def region_mask(workspace: Workspace, parent: str | None, view: View, region: Region, device: str, job: Job) -> Tensor:
    """(H, W, 1), 0–1: how much of each pixel of a view may change, by what it shows of the scene that the edit would
    stand on; while there is none, by whether it looks through the region."""
    if parent is None and not workspace.checkpoint(None).exists():
        job.log(
            "The scene is not trained yet, so nothing is known of depth: also what lies before and behind the region "
            "is tried on."
        )
        return region.outline(view)
    return region.mask_of(kept_scene(workspace, parent, device, job), view, job.check)


def edit_picture(
    editor: Editor, picture: Tensor, instruction: str, settings: EditSettings, check: Check = lambda: None
) -> Tensor:
    """The editor alone on one picture (H, W, 3), 0–1, from (almost) pure noise."""
    generator = torch.Generator().manual_seed(random_seed(settings.seed, "try", 0))
    prepared = editor.prepare(instruction, settings.options)
    return edit_alone(prepared, picture, picture, NOISE, settings.keep, generator, check)


def _checks(edits: int, settings: EditSettings, job: Job) -> Check:
    """A check for so many edits that also tells how far they are."""
    steps = settings.options.get("diffusion_steps", 20)
    plan = job.plan(Stage("try", "Trying on one picture", edits * int(steps), 0.1))
    stage = plan.begin("try")

    def check() -> None:
        job.check()
        plan.advance(min(stage.done + 1, stage.units))
        job.report(plan, stage)

    return check


def _turned(editor: str) -> list[Knob]:
    """The knobs that a sheet is over: the first two numbers that an artist would turn. Raises BadInput."""
    numbers = [k for k in kind_of(source_of(editor)).knobs if k.kind in {"float", "int"} and not k.advanced][:2]
    if not numbers:
        raise BadInput(f"The editor {Path(editor).name} has no number to make a sheet over.", field="sheet")
    return numbers


def _cells(knobs: Sequence[Knob], settings: EditSettings) -> list[dict[str, protocol.OptionValue]]:
    """The options of a sheet's cells, row by row."""

    def values(knob: Knob, factors: Sequence[float]) -> list[float]:
        own = float(settings.options[knob.name])
        low = -np.inf if knob.minimum is None else knob.minimum
        high = np.inf if knob.maximum is None else knob.maximum
        steps = [min(max(own * factor, low), high) for factor in factors]
        return [round(step) for step in steps] if knob.kind == "int" else steps

    across = values(knobs[0], COLUMNS)
    if len(knobs) == 1:
        return [{knobs[0].name: value} for value in across]
    return [{knobs[0].name: x, knobs[1].name: y} for y, x in product(values(knobs[1], ROWS), across)]


def _photo(path: Path, long_side: int) -> Tensor:
    """(H, W, 3), 0–1, sRGB, upright as the camera was held, its longer side at most ``long_side`` pixels."""
    turn = _turn_of(path)
    try:
        photo = decode(path, _UNDER_TRANSPARENT, turn)
    except SkipView as problem:
        raise BadInput(str(problem), file=path) from None
    photo.thumbnail((long_side, long_side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(photo)).float() / 255


def _turn_of(path: Path) -> int:
    """The EXIF orientation of a photo. Raises BadInput where it is none."""
    try:
        return read_header(path).orientation
    except SkipView as problem:
        raise BadInput(str(problem), file=path) from None


def _sheet(original: Tensor, edited: Sequence[Tensor], labels: Sequence[str], columns: int) -> Tensor:
    """The original above left, then ``edited`` in rows of ``columns``, labelled. uint8."""
    height, width = original.shape[:2]
    margin = 18
    rows = -(-len(edited) // columns)
    sheet = np.full((rows * (height + margin), (columns + 1) * (width + 4), 3), 255, np.uint8)

    def put(row: int, column: int, picture: Tensor, label: str) -> None:
        y, x = row * (height + margin), column * (width + 4)
        sheet[y + margin : y + margin + height, x : x + width] = to_uint8(picture).cpu().numpy()
        cv2.putText(sheet, label, (x + 2, y + 13), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)

    put(0, 0, original, "original")
    for index, (picture, label) in enumerate(zip(edited, labels, strict=True)):
        row, column = divmod(index, columns)
        put(row, column + 1, picture, label)
    return torch.from_numpy(sheet)
