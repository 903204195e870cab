# SPDX-License-Identifier: GPL-3.0-or-later
"""An instruction on one picture, without any NeRF: of a captured view or a photo, once or as a contact sheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

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
from engine.editors.catalogue import resolved_options
from engine.errors import BadInput, Cancelled
from engine.files import write_bytes
from engine.jobs.capture import ensure_images, load_opened
from engine.jobs.contact_sheet import axis_around, caption, cells_of, checked_axes, default_axes
from engine.jobs.named_editor import (
    chosen_editor,
    edit_settings,
    editor_at,
    opened_editor,
    warn_of_unknown,
    with_editor,
)
from engine.jobs.parents import check_parent, original_pictures
from engine.jobs.scene import kept_scene, scene_preset
from engine.output.sheet_picture import draw_sheet
from engine.pictures import load_picture, save_picture, to_uint8
from engine.pieces import Place
from engine.presets import Preset, choose_preset
from engine.progress import Job, Stage
from engine.protocol import Axis
from engine.randomness import random_seed
from engine.results import Tried
from engine.tries import CellRecord, NewTry, TryRecord, tried
from engine.workspace import Workspace, writes

NOISE = 0.98  # noise level of a try: the whole edit, as the loop's largest t
_UNDER_TRANSPARENT = (255, 255, 255)


@writes("trying an instruction")
def try_edit(request: protocol.TryEdit, job: Job) -> Tried:
    """Edit one captured view, the NeRF untouched, once or for every cell of a contact sheet; what was tried is kept in
    the workspace's folder `tries`."""
    workspace = Workspace(request.workspace)
    capture = load_opened(workspace)
    view = capture.view(request.view)
    request = msgspec.structs.replace(request, instruction=checked_instruction(request.instruction))
    device = choose_device(request.device)
    request = with_editor(request, device)
    name = chosen_editor(request)
    preset = scene_preset(workspace, None, device)
    axes = _axes_of(request, name, preset)
    cells = cells_of(request, axes)
    settings = [edit_settings(preset, cell) for cell in cells]
    region = region_of(request.region)
    check_parent(workspace, request.parent, [view])
    path = original_pictures(workspace, [view], request.parent).get(view.name, workspace.images / view.image)
    if not path.exists():
        images = job.plan(Stage("images", "Preparing pictures", len(capture.views), 0.1))
        ensure_images(workspace, capture, images, job)
    mask = None if region is None else region_mask(workspace, request.parent, view, region, device, job)
    opened_editor(name, device, job)  # what is wrong with it is said before anything is written
    picture = load_picture(path).to(device).float() / 255
    for instruction in dict.fromkeys(cell.instruction for cell in cells):
        warn_of_unknown(name, instruction, job)
    new = NewTry(workspace)

    def add(edit: np.ndarray) -> None:
        image = new.add(edit)
        job.on_view(view.name, "tried" if axes else "edited", str(image))

    def finish() -> Tried:
        name_of_try = _finish(new, view.name, name, preset, axes, cells, picture, request.parent)
        return tried(workspace, name_of_try, {view.name: str(path)})

    try:
        _edit(name, device, picture, cells, settings, mask, add, job)
        return finish()
    except Cancelled:
        if new.pictures:  # of a sheet: what was made is kept
            finish()
        else:
            new.discard()
        raise
    except BaseException:
        new.discard()
        raise


def _finish(
    new: NewTry,
    view: str,
    editor: str,
    preset: Preset,
    axes: Sequence[Axis],
    cells: Sequence[protocol.TryEdit],
    original: Tensor,
    parent: str | None,
) -> str:
    """Keep what was tried, as many of the cells as were edited; its id."""
    done = cells[: len(new.pictures)]
    sheet, boxes, columns = None, [(0, 0, original.shape[1], original.shape[0])], 1
    if len(done) > 1:
        columns = len(axes[0].values)
        sheet, boxes = _sheet(original, new.pictures, [caption(editor, axes, cell) for cell in done], columns)
    kept = [
        CellRecord(cell.instruction, cell.options, _resolved(editor, preset, cell), cell.seed, box)
        for cell, box in zip(done, boxes, strict=True)
    ]
    return new.finish(TryRecord(view, editor, columns, kept, parent), sheet)


def _resolved(editor: str, preset: Preset, request: protocol.Instruct) -> dict[str, protocol.OptionValue]:
    """A value for every knob of the editor, as the request's edit has them."""
    return resolved_options(editor, request.options, preset.edit.options)


def try_photo(request: protocol.TryPhoto, job: Job) -> Path:
    """Write the edited photo, or the sheet, to ``request.out``. Raises BadInput."""
    out = _checked_out(Path(request.out))
    if request.region is not None:
        raise BadInput(
            "A photo alone knows no region: name a view of a project in its place, and the project with --workspace.",
            field="region",
        )
    request = msgspec.structs.replace(request, instruction=checked_instruction(request.instruction))
    _turn_of(Path(request.photo))  # before an editor is loaded for nothing
    device = choose_device(request.device)
    request = with_editor(request, device)
    name = chosen_editor(request)
    preset = choose_preset(None, device)
    axes = _axes_of(request, name, preset)
    cells = cells_of(request, axes)
    settings = [edit_settings(preset, cell) for cell in cells]
    editor = opened_editor(name, device, job)
    picture = _photo(Path(request.photo), 2 * editor.size).to(device)
    for instruction in dict.fromkeys(cell.instruction for cell in cells):
        warn_of_unknown(name, instruction, job)
    edited: list[np.ndarray] = []
    _edit(name, device, picture, cells, settings, None, edited.append, job)
    captions = [caption(name, axes, cell) for cell in cells]
    save_picture(out, _sheet(picture, edited, captions, len(axes[0].values))[0] if axes else edited[0])
    return out


def _axes_of(request: protocol.TryPhoto | protocol.TryEdit, editor: str, preset: Preset) -> list[Axis]:
    """What a sheet is over; nothing where none is asked for. An axis without values is filled."""
    settings = _resolved(editor, preset, request)
    if request.across is None and request.down is None:
        return default_axes(editor, settings) if getattr(request, "sheet", False) else []
    filled = [
        axis if axis is None or axis.values else axis_around(editor, request, settings, axis.name)
        for axis in (request.across, request.down)
    ]
    return checked_axes(editor, *filled)


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


def _edit(
    editor: str,
    device: str,
    picture: Tensor,
    cells: Sequence[protocol.Instruct],
    settings: Sequence[EditSettings],
    mask: Tensor | None,
    add: Callable[[np.ndarray], object],
    job: Job,
) -> None:
    """Edit a picture as each of the cells asks, where the ``mask`` (H, W, 1), 0–1, lets it change, and ``add`` each
    edit, (H, W, 3) uint8. What is drawn for a cell depends on its own seed alone: on no other cell, and not on their
    order."""
    steps = [max(1, int(of.options.get("diffusion_steps", 20))) for of in settings]
    label = "Trying on one picture" if len(cells) == 1 else f"Making {len(cells)} edits of one picture"
    plan = job.plan(Stage("try", label, sum(steps), 0.1))
    stage = plan.begin("try")
    most = steps[0]  # steps, once the cell at work is done

    def check() -> None:
        job.check()
        plan.advance(min(stage.done + 1, most))
        job.report(plan, stage)

    shared = editor, picture.cpu().numpy(), None if mask is None else mask.cpu().numpy()
    orders = [(cell.instruction, of) for cell, of in zip(cells, settings, strict=True)]
    edits = job.pieces.map(edited_cell, shared, orders, job.place(device, check=check))
    for number, edit in enumerate(edits):
        add(edit)
        plan.advance(sum(steps[: number + 1]))
        job.report(plan, stage)
        most = sum(steps[: number + 2])


def edited_cell(
    shared: tuple[str, np.ndarray, np.ndarray | None], order: tuple[str, EditSettings], place: Place
) -> np.ndarray:
    """A piece: an edit of a picture, (H, W, 3) uint8. ``shared``: the editor, the picture (H, W, 3), 0–1, and where it
    may change (H, W, 1), 0–1, or None."""
    name, pixels, allowed = shared
    instruction, settings = order
    picture = torch.tensor(pixels).to(place.device)
    editor = editor_at(name, place.device, place.keep)
    edited = edit_picture(editor, picture, instruction, settings, place.check)
    if allowed is not None:
        edited = outside_kept(picture, edited, torch.tensor(allowed).to(place.device))
    return to_uint8(edited).cpu().numpy()


def _sheet(
    original: Tensor, edited: Sequence[np.ndarray], captions: Sequence[str], columns: int
) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    return draw_sheet(to_uint8(original).cpu().numpy(), edited, captions, columns, "Original")


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
