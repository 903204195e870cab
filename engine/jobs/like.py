# SPDX-License-Identifier: GPL-3.0-or-later
"""An edit like another: what is not said of it is as that one has it."""

from __future__ import annotations

from msgspec.structs import replace

from engine import protocol
from engine.edit.settings import EditSettings, settings_for
from engine.editors.base import KEEP_BACKGROUND, RELEVANCE
from engine.editors.catalogue import editor_id, source_of
from engine.editors.registry import kind_of
from engine.protocol import KeyView, OptionValue
from engine.records import EditRecord
from engine.workspace import Workspace


def as_like(workspace: Workspace, request: protocol.RunEdit) -> protocol.RunEdit:
    """The request with what it leaves open as the edit has it that it is to be like: what it stands on, preset, steps,
    schedule, views, region, key views, the editor and its knobs. The instruction, the seed and the device are the
    request's own. Raises BadInput."""
    if request.like is None:
        return request
    record = workspace.edit_record(request.like)
    settings = settings_for(record.settings, record.editor)
    editor, options = request.editor or record.editor, request.options
    if editor_id(editor) == editor_id(record.editor):
        options = settings.options | _background(record, settings, request.instruction) | options
    keys = [KeyView(view, str(workspace.edit(record.id) / "keys" / f"{view}.png")) for view in record.key_views]
    views = record.chosen if request.views is None else request.views
    return replace(
        request,
        parent=request.parent or record.parent,
        preset=request.preset or record.preset,
        steps=request.steps or settings.steps,
        schedule=request.schedule or {"iterative": "paper", "projected": "projected"}.get(settings.method),
        views=views,
        region=request.region or record.last_region,
        key_views=request.key_views or [key for key in keys if key.view in views],
        editor=editor,
        options=options,
    )


def _background(record: EditRecord, settings: EditSettings, instruction: str) -> dict[str, OptionValue]:
    """The knobs that say whether the background stays; of another instruction the editor decides that anew."""
    knobs = {knob.name for knob in kind_of(source_of(record.editor)).knobs}
    same = " ".join(instruction.split()) == record.instruction
    said: dict[str, OptionValue] = {RELEVANCE.name: settings.keep} if settings.keep else {}
    if same:
        said[KEEP_BACKGROUND.name] = "on" if settings.keep else "off"
    return {name: value for name, value in said.items() if name in knobs}
