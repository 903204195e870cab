# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands about a project's tree of edits: what stands on what, names, muting, and the trash."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.text import Text
from rich.tree import Tree

from engine import protocol
from engine.terminal import console, full, run_job, say, show_result

Workspace = Annotated[Path, tyro.conf.Positional]
Id = Annotated[str, tyro.conf.Positional]


def tree(workspace: Workspace) -> None:
    """Print a project's edits as the tree that they are, and what is damaged.

    Args:
        workspace: The project's folder.
    """
    from engine.jobs.capture import read_workspace

    found = read_workspace(protocol.ReadWorkspace(full(workspace)))
    trunk = Tree(Text("the captured scene"))
    nodes: dict[str | None, Tree] = {None: trunk}
    waiting = list(found["edits"])
    known = {edit.id for edit in waiting}
    while waiting:  # none of them stands on itself, by way of others either
        for edit in [edit for edit in waiting if edit.parent in nodes or edit.parent not in known]:
            waiting.remove(edit)
            nodes[edit.id] = nodes.get(edit.parent, trunk).add(_line(edit, edit.parent in nodes))
    say(trunk)
    for damage in found["damaged"]:
        console.print(Text(damage.reason, style="red"))


def _line(edit: protocol.Edit, whole: bool) -> Text:
    line = Text(f"{edit.id}  {edit.name or edit.instruction}")
    state = f"{edit.seconds:.0f} s" if edit.finished else f"stopped at {edit.steps} of {edit.of}"
    line.append(f"  {state}{', muted' if edit.muted else ''}", style="dim")
    if not whole:
        line.append(f"  what it stood on, {edit.parent}, is gone", style="red")
    return line


def rename(workspace: Workspace, edit: Id, name: Id) -> None:
    """Call an edit something else.

    Args:
        workspace: The project's folder.
        edit: The edit's id, as `tree` lists it.
        name: What to call it; '' calls it by its instruction again.
    """
    from engine.jobs.tree import label_edit

    show_result(label_edit(protocol.LabelEdit(full(workspace), edit, name=name)))


def mute(workspace: Workspace, edit: Id, off: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False) -> None:
    """Mute an edit: in Blender it, and what stands on it, shows nothing of itself any more.

    Args:
        workspace: The project's folder.
        edit: The edit's id, as `tree` lists it.
        off: Have it show again.
    """
    from engine.jobs.tree import label_edit

    show_result(label_edit(protocol.LabelEdit(full(workspace), edit, muted=not off)))


def delete(
    workspace: Workspace, edit: Id, with_children: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
) -> None:
    """Move an edit to the system's trash or, where there is none, to the project's folder `deleted`.

    Args:
        workspace: The project's folder.
        edit: The edit's id, as `tree` lists it.
        with_children: And all edits that stand on it.
    """
    from engine.jobs.tree import delete_edit

    request = protocol.DeleteEdit(full(workspace), edit, with_children)
    show_result(run_job(lambda job: delete_edit(request, job)))
