# SPDX-License-Identifier: GPL-3.0-or-later
"""The editor that a request names, with its settings, and loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from engine import protocol
from engine.devices import device_named
from engine.edit.settings import EditSettings, scheduled, with_options
from engine.editors.base import Editor
from engine.editors.catalogue import default_editor, editor_id, load_editor, source_of, state_of, unknown_words
from engine.editors.registry import kind_of
from engine.errors import BadInput
from engine.pieces import Keep
from engine.presets import Preset
from engine.progress import Job

Asked = TypeVar("Asked", bound=protocol.Instruct)


def opened_editor(name: str, device: str, job: Job) -> Editor:
    """An editor, loaded while the job can still be cancelled; it stays loaded for the next job. Where pieces are done
    elsewhere, one that has its edits made there."""
    return job.pieces.editor(name, device, job.check) or editor_at(name, device, job.keep)


def editor_at(name: str, device: str, keep: Keep) -> Editor:
    """An editor that computes here, which ``keep`` keeps loaded."""
    return keep("editor", (state_of(name), device), lambda: load_editor(name, device))


def with_editor(request: Asked, device: str) -> Asked:
    """The request with its editor named, the device's default where it names none: chosen once, for how much memory is
    free may change."""
    return replace(request, editor=request.editor or default_editor(device_named(device)))


def chosen_editor(request: protocol.Instruct) -> str:
    """The id of the editor that a request names."""
    assert request.editor
    return editor_id(request.editor)


def refuse_one_picture(editor: str) -> None:
    """Raises BadInput where an editor cannot edit more than one view."""
    if kind_of(source_of(editor)).one_view:
        raise BadInput(
            f"{Path(editor).name} is the edit of one view; approve it as a key view, and choose an editor for the "
            "others.",
            file=editor,
            field="editor",
        )


def warn_of_unknown(editor: str, instruction: str, job: Job) -> None:
    """Say in the job's log that an editor knows nothing of an instruction."""
    if sentence := unknown_words(editor, instruction):
        job.log(sentence)


def edit_settings(preset: Preset, request: protocol.Instruct) -> EditSettings:
    """The preset's settings, with what the request says and what its editor recommends."""
    steps = getattr(request, "steps", None) or preset.edit.steps
    settings = replace(preset.edit, seed=request.seed, steps=steps)
    if isinstance(request, protocol.RunEdit):
        settings = scheduled(settings, request.schedule, bool(request.key_views))
        settings = replace(settings, staleness=request.staleness)
    return with_options(settings, chosen_editor(request), request.instruction, request.options).checked()
