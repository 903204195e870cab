# SPDX-License-Identifier: GPL-3.0-or-later
"""Work on Blender's side that would hold up a redraw, done in small steps between redraws.

A chore is a generator that yields a fraction (0–1) after every step of a millisecond or so. Chores run one after
another, in the order in which they were asked for, a few milliseconds at a time on a timer of their own; they keep
nobody from starting a job. One that is asked for again takes the place of the former one, so that a slider that is
dragged leaves one behind and not a hundred.

A chore may hold on to objects, meshes and other ID data between two steps, but to nothing inside them: undo and redo
begin every chore anew, loading another file drops them all, and what the artist deletes meanwhile raises
``ReferenceError``, which means that there is nothing left to do for it.
"""

from __future__ import annotations

import contextlib
import math
import time
import traceback
from collections.abc import Callable, Hashable, Iterator

import bpy

from . import state
from .state import Chore

INTERVAL = 0.01  # seconds between two slices
SLICE = 0.003  # seconds that a slice takes
REDRAW_REST = 0.3  # seconds between two redraws of the sidebar for the sake of a progress bar

# Without a window there is no redraw to hold up, and no timer: what is asked for is done at once.
at_once = bpy.app.background

_working = False
_redrawn = 0.0


def do(key: Hashable, make: Callable[[], Iterator[float]], panel: str, title: str = "") -> None:
    """Have the steps that ``make`` gives done soon. A failure is shown in ``panel``, and so is the progress where there
    is a ``title``."""
    queue = state.get().chores
    _close(queue.pop(key, None))
    queue[key] = Chore(make, panel, title)
    if at_once:
        work(math.inf)
    elif not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, first_interval=0.0, persistent=True)


def then(key: Hashable, call: Callable[[], object], panel: str) -> None:
    """Call a function once everything that was asked for before is done."""

    def steps() -> Iterator[float]:
        call()
        yield 1.0

    do(key, steps, panel)


def work(seconds: float) -> None:
    """Do chores for so long."""
    global _working
    if _working:  # a step that asks for another chore: that one has its turn
        return
    _working = True
    try:
        queue, until = state.get().chores, time.monotonic() + seconds
        while queue and time.monotonic() < until:
            key = next(iter(queue))
            chore = queue[key]
            if _step(chore) and queue.get(key) is chore:
                del queue[key]
                state.get().dirty = True
    finally:
        _working = False


def _step(chore: Chore) -> bool:
    """One step; whether that was the last."""
    try:
        if chore.steps is None:
            chore.steps = chore.make()
        chore.fraction = next(chore.steps)
        return False
    except StopIteration:
        return True
    except ReferenceError:
        return True
    except (ValueError, RuntimeError, OSError) as error:
        state.notice(chore.panel, str(error).strip())
    except Exception as error:
        traceback.print_exc()
        state.notice(chore.panel, str(error) or type(error).__name__)
    return True


def _close(chore: Chore | None) -> None:
    if chore is not None and chore.steps is not None and not getattr(chore.steps, "gi_running", False):
        steps, chore.steps = chore.steps, None
        with contextlib.suppress(ReferenceError):  # what it would tidy up went with the undo
            steps.close()  # type: ignore[attr-defined]


def _tick() -> float | None:
    global _redrawn
    work(SLICE)
    left, now = bool(state.get().chores), time.monotonic()
    if not left or now - _redrawn > REDRAW_REST:
        _redrawn = now
        redraw()
    return INTERVAL if left else None


def redraw(kind: str = "UI") -> None:
    """Have the sidebars (``UI``) or the viewports themselves (``WINDOW``) drawn again; changed pictures redraw the
    latter by themselves."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                for region in area.regions:
                    if region.type == kind:
                        region.tag_redraw()


def drop() -> None:
    """Leave everything undone."""
    queue = state.get().chores
    for key in list(queue):
        _close(queue.pop(key))


@bpy.app.handlers.persistent
def _before_loading(*_arguments: object) -> None:
    drop()


@bpy.app.handlers.persistent
def _after_undo(*_arguments: object) -> None:
    for chore in state.get().chores.values():
        _close(chore)


_HANDLERS = {"load_pre": _before_loading, "undo_post": _after_undo, "redo_post": _after_undo}


def register() -> None:
    """Begin to follow undo and loading."""
    for name, handler in _HANDLERS.items():
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    """Leave everything undone, and follow no longer."""
    drop()
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    for name, handler in _HANDLERS.items():
        handlers = getattr(bpy.app.handlers, name)
        if handler in handlers:
            handlers.remove(handler)
