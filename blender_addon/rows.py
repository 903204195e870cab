# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of the list of edits: Blender draws lists of its own properties alone, so what the engine said of a project
is written into the scene, where it differs."""

from __future__ import annotations

from collections.abc import Iterator

import bpy

from . import chores, lineage
from .project import chosen_edit, edits_of
from .scene import cameras

Row = tuple[str, str, int, bool]  # an edit's id, its title, how many it stands on, whether it is muted


def wanted(scene: bpy.types.Scene) -> list[Row]:
    """The rows as they should be: the unedited scene, and below it the tree."""
    edits = edits_of(scene)
    if not edits:
        return []
    rows: list[Row] = [(lineage.ROOT, "Captured Scene", 0, False)]
    return rows + [(edit.id, edit.title, depth + 1, edit.muted) for edit, depth in lineage.in_order(edits)]


def there(scene: bpy.types.Scene) -> list[Row]:
    """The rows as they are."""
    return [(row.edit, row.name, row.depth, row.muted) for row in scene.instruct_nerf.rows]


def follow(scene: bpy.types.Scene) -> None:
    """Have the rows follow what is known, soon: not while something is drawn."""
    uid = scene.session_uid

    def steps() -> Iterator[float]:
        found = cameras.scene_by_uid(uid)
        if found is None:
            return
        rows, now = wanted(found), there(found)
        if rows == now:
            return
        kept = found.instruct_nerf.rows
        while len(kept) > len(rows):
            kept.remove(len(kept) - 1)
        for number, (edit, name, depth, muted) in enumerate(rows):
            row = kept[number] if number < len(kept) else kept.add()
            row.edit, row.name, row.depth, row.muted = edit, name, depth, muted
            if number % 32 == 31:
                yield number / len(rows)
        yield 1.0

    chores.do(("rows", uid), steps, "tree")


def index_of(scene: bpy.types.Scene) -> int:
    """Which row is the chosen edit's; -1 where none is."""
    chosen = chosen_edit(scene)
    edit = chosen.id if chosen is not None else lineage.ROOT
    return next((number for number, row in enumerate(scene.instruct_nerf.rows) if row.edit == edit), -1)
