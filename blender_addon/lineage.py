# SPDX-License-Identifier: GPL-3.0-or-later
"""Which edit stands on which, of a project as the engine tells of it. Free of bpy.

An engine that sends edits that stand on each other in a circle makes nobody wait: each edit is met once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .messages import Edit

ROOT = "/"  # the unedited scene, where an edit's id stands otherwise; no edit can have it


def is_edits(damaged: str) -> bool:
    """Whether a damaged record's name is an edit's: not that of a try, which begins with its day, nor of another part
    of the project."""
    return not re.fullmatch(r"[a-z]+|\d{8}-\d{6}-\d{3}", damaged)


def find(edits: Sequence[Edit], edit: str) -> Edit | None:
    """The edit of an id, or None."""
    return next((e for e in edits if e.id == edit), None)


def in_order(edits: Sequence[Edit]) -> list[tuple[Edit, int]]:
    """Every edit after the one that it stands on, with how many it stands on; what stands on none that is there comes
    with 0."""
    known = {e.id for e in edits}
    below: dict[str, list[Edit]] = {}
    for edit in edits:
        below.setdefault(edit.parent if edit.parent in known else "", []).append(edit)
    found: list[tuple[Edit, int]] = []
    waiting = [(edit, 0) for edit in reversed(below.get("", []))]
    while waiting:
        edit, depth = waiting.pop()
        found.append((edit, depth))
        waiting += [(child, depth + 1) for child in reversed(below.pop(edit.id, []))]
    met = {edit.id for edit, _ in found}
    return found + [(edit, 0) for edit in edits if edit.id not in met]


def stack(edits: Sequence[Edit], edit: str) -> list[Edit]:
    """What an edit stands on, from the lowest on, and itself."""
    found: list[Edit] = []
    here = find(edits, edit)
    while here is not None and here not in found:
        found.append(here)
        here = find(edits, here.parent) if here.parent else None
    return found[::-1]


def shown(edits: Sequence[Edit], edit: str) -> Edit | None:
    """What is seen of an edit: itself or, where it or one that it stands on is muted, what lies below the lowest muted
    one; None for the unedited scene."""
    seen = None
    for here in stack(edits, edit):
        if here.muted:
            break
        seen = here
    return seen


def standing_on(edits: Sequence[Edit], edit: str) -> list[Edit]:
    """The edits that stand on one, directly or by way of others, lowest first."""
    found = [edit]
    for above in found:  # grows meanwhile
        found += [e.id for e in edits if e.parent == above and e.id not in found]
    return [e for e in (find(edits, name) for name in found[1:]) if e is not None]
