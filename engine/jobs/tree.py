# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree of edits: which stands on which, what the artist calls them, and the trash. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from engine import protocol
from engine.errors import BadInput
from engine.files import shortened
from engine.jobs.capture import edit_message
from engine.progress import Job
from engine.results import Deleted
from engine.trash import to_trash
from engine.workspace import Workspace, writes

LONGEST_NAME = 100  # characters


def standing_on(workspace: Workspace, edit: str) -> list[str]:
    """The edits that stand on one, and those that stand on them, each after what it stands on. A damaged one, of which
    that is not known, is none of them."""
    parents = {record.id: record.parent for record in workspace.edits()}
    found = [edit]
    for above in found:  # grows meanwhile
        found += [child for child, parent in parents.items() if parent == above and child not in found]
    return found[1:]


def label_edit(request: protocol.LabelEdit) -> protocol.Edit:
    """Give an edit another name, or mute it. Whoever works in the project is not waited for: the label is a file of its
    own, and the last one counts. Raises BadInput."""
    workspace = Workspace(request.workspace)
    record, label = workspace.edit_record(request.edit), workspace.label(request.edit)
    if request.name is not None:
        name = " ".join(request.name.split())
        if len(name) > LONGEST_NAME or not name.isprintable():
            raise BadInput(
                f"The name of an edit has at most {LONGEST_NAME} characters that can be shown.", field="name"
            )
        label = replace(label, name=name)
    if request.muted is not None:
        label = replace(label, muted=request.muted)
    workspace.save_label(record.id, label)
    return edit_message(workspace, record)


@writes("deleting an edit")
def delete_edit(request: protocol.DeleteEdit, job: Job) -> Deleted:
    """Move an edit, damaged or not, to the trash, and with it those that stand on it. Raises BadInput where some do
    and that was not asked for."""
    workspace = Workspace(request.workspace)
    if not workspace.edit(request.edit).is_dir():
        raise BadInput(f"There is no edit {shortened(request.edit)} in {workspace.folder}.", field="edit")
    children = standing_on(workspace, request.edit)
    if children and not request.with_children:
        who = f"{len(children)} edits stand" if len(children) > 1 else f"The edit {children[0]} stands"
        raise BadInput(f"{who} on {request.edit}; delete that as well, or keep both.", field="with_children")
    gone: list[Path | None] = []
    workspace.keep_numbers()
    for edit in (*reversed(children), request.edit):  # never one that another stands on
        job.check()
        gone.append(to_trash(workspace.edit(edit), workspace.folder))
        job.log(f"Deleted {edit}: it lies in {gone[-1] or 'the trash'}")
    kept = next((path.parent for path in gone if path is not None), None)
    return Deleted([request.edit, *children], None if kept is None else str(kept))
