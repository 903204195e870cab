# SPDX-License-Identifier: GPL-3.0-or-later
"""A hand and an eye for a real Blender window: mouse, keys and screenshots. Runs inside Blender.

Blender tells no script where its buttons are. So they are found as a person could find them: the mouse hovers over
the sidebar line by line, and Ctrl-C (for a field: Ctrl-Alt-Shift-C) has Blender copy what lies under it. What was found
once is looked for at the same place first.

A program is a generator that yields the seconds to let Blender work before it goes on.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import bpy

Program = Generator[float, None, None]
Found = Generator[float, None, tuple[float, float]]

LINE = 14  # pixels between two lines that are looked at; a button is 20 high, a check box in a header less
ROW = 21  # pixels from a row of a list to the next
COLUMNS = (0.75, 0.3)  # where in a line: shares of the sidebar's width, or pixels from its left (right: negative) edge
LAST, THIRD = (-47,), (-87,)  # the small buttons at the right end of a row, the last and the third from there
BOX = (44, 34, 54)  # the check box in a panel's header
NEAR = (0, *(sign * 12 * step for step in range(1, 14) for sign in (-1, 1)))  # pixels up from where something was

TURNS = 6  # of Blender's event loop, by which what the mouse and the keys did has been handled, however long they take
PATIENCE = (0.03, 0.08, 0.3)  # seconds at least until a text is copied, in one search after the other

places: dict[str, tuple[float, float]] = {}  # of all that was copied: pixels from the left, and in the content


def run(program: Callable[[], Program], limit: float) -> None:
    """Run a program on a timer, then leave Blender: exit code 0 at its end, 1 at an error or after ``limit`` s."""
    steps = program()
    deadline = time.monotonic() + limit

    def tick() -> float | None:
        try:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not done after {limit:.0f} s")
            return next(steps)
        except StopIteration:
            _leave(0)
        except BaseException:
            traceback.print_exc()
            look(Path(os.environ.get("WINDOW_FAILURE", f"{tempfile.gettempdir()}/window-failure.png")))
            _leave(1)
        return None

    bpy.app.timers.register(tick, first_interval=1.0, persistent=True)


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    import addon_utils

    addon_utils.disable_all()  # as Blender does at its end: the engine must go
    os._exit(code)


def wait(until: Callable[[], object], timeout: float, step: float = 0.25) -> Program:
    """Let Blender work until something holds. Raises ``TimeoutError``."""
    deadline = time.monotonic() + timeout
    while not until():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:.0f} s in vain at line {sys._getframe(1).f_lineno}")
        yield step


def xdo(*words: object) -> None:
    """One xdotool call."""
    subprocess.run(["xdotool", *map(str, words)], check=True)


def screen(x: float, y: float) -> tuple[int, int]:
    """Screen pixels (y down) from window pixels (y up)."""
    window = bpy.context.window_manager.windows[0]
    return int(window.x + x), int(window.height - y)


def move(x: float, y: float) -> None:
    """The mouse to a place in window pixels, y up."""
    xdo("mousemove", *screen(x, y))


def click(x: float, y: float) -> Program:
    """A click of the left button."""
    move(x, y)
    yield 0.3
    xdo("click", 1)
    yield 0.6


def drag(x0: float, y0: float, x1: float, y1: float) -> Program:
    """Press, move and let go."""
    move(x0, y0)
    yield 0.3
    xdo("mousedown", 1)
    yield 0.2
    for share in (0.3, 0.6, 1.0):
        move(x0 + share * (x1 - x0), y0 + share * (y1 - y0))
        yield 0.15
    xdo("mouseup", 1)
    yield 0.5


def keys(*names: str) -> Program:
    """Keys one after the other, such as ``n`` or ``ctrl+space``."""
    for name in names:
        xdo("key", name)
        yield 0.3


def write(text: str) -> Program:
    """Type a text."""
    xdo("type", "--delay", 40, text)
    yield 0.3 + 0.05 * len(text)


def area() -> bpy.types.Area:
    """The largest 3D viewport."""
    areas = [a for a in bpy.context.window_manager.windows[0].screen.areas if a.type == "VIEW_3D"]
    return max(areas, key=lambda a: a.width * a.height)


def region(kind: str) -> bpy.types.Region:
    """One of the viewport's regions: WINDOW, UI."""
    return next(r for r in area().regions if r.type == kind)


def asked(x: float, y: float, wanted: str) -> tuple[object, ...]:
    """What has Blender copy what lies at a place, with the mouse over it: of an operator its command, of a field its
    data path, which of a list's row is that of the number of the active one. The mouse comes in two moves, with a key
    between them that does nothing, or Blender takes them for one: where buttons touch each other, the first only leaves
    the one before."""
    known = re.match(r"(?:instruct_nerf\.)?(\w+)", wanted)
    operator = known and known[1] in dir(bpy.ops.instruct_nerf)
    there, copy = screen(x, y), "ctrl+c" if operator else "ctrl+alt+shift+c"
    return "mousemove", there[0] - 1, there[1], "key", "shift", "mousemove", *there, "key", copy


def under(x: float, y: float, wanted: str, patience: float = PATIENCE[0]) -> Generator[float, None, bool]:
    """Whether the button there has a command, or the field a data path, that holds ``wanted``; it is given ``TURNS``
    of Blender's event loop, and ``patience`` seconds, to say so."""
    bpy.context.window_manager.clipboard = "-"
    xdo(*asked(x, y, wanted))  # in one: a process for each of many lines takes long
    began, turns = time.monotonic(), 0
    # In turns, not in seconds alone: a busy Blender would copy this line when the next one is asked for.
    while bpy.context.window_manager.clipboard == "-" and (turns < TURNS or time.monotonic() < began + patience):
        yield 0.0
        turns += 1
    copied = bpy.context.window_manager.clipboard
    if copied != "-":
        side = region("UI")
        places[copied] = x - side.x, side.view2d.region_to_view(0, y - side.y)[1]
    return wanted in copied


def beside(x: float, y: float, wanted: str, step: int = 8) -> Found:
    """Where in the same row, to the right of a place, such a button or field lies."""
    side = region("UI")
    while x < side.x + side.width:
        if (yield from under(x, y, wanted)):
            return x, y
        x += step
    raise LookupError(f"no {wanted} in the row")


def press_row(wanted: str, number: int) -> Program:
    """Click a row of the list whose active one is kept in the field ``wanted``; the first has the number 0."""
    x, y = yield from find(wanted, (0.3,))  # where a row has no buttons
    while (yield from under(x, y + 5, wanted)):  # up to the list's first row
        y += 5
    yield from click(x, y - 8 - ROW * number)


def find(wanted: str, columns: Sequence[float] = COLUMNS) -> Found:
    """Where in the sidebar a button lies whose command, or a field whose data path, holds ``wanted``; the sidebar is
    scrolled to it. Raises ``LookupError``."""
    for copied in [copied for copied in places if wanted in copied]:
        left, height = places.pop(copied)  # it is put back where it is found
        yield from _reveal(height)
        for up in NEAR:
            side = region("UI")
            x, y = side.x + left, side.y + side.view2d.view_to_region(0, height, clip=False)[1] + up
            if side.y < y < side.y + side.height and (yield from under(x, y, wanted)):
                return x, y
    # A column from here down, then each of them from the top: nearly everything is in the first.
    for column, patience in ((columns[0], PATIENCE[0]), *((c, p) for p in PATIENCE for c in columns)):
        while True:
            found = yield from _among_visible(wanted, column, patience)
            if found is not None:
                return found
            before = scrolled()
            yield from scroll(10)
            if abs(scrolled() - before) < 1:
                break
        yield from scroll(-150)
    raise LookupError(f"no {wanted} in the sidebar")


def _among_visible(wanted: str, column: float, patience: float) -> Generator[float, None, tuple[float, float] | None]:
    side = region("UI")
    within = column * (side.width - 20) if isinstance(column, float) else column
    x = side.x + (within if within >= 0 else side.width + within)
    y = side.y + side.height - 12
    while y > side.y + 6:
        if (yield from under(x, y, wanted, patience)):
            return x, y
        y -= LINE
    return None


def scrolled() -> float:
    """Which height of the sidebar's content is at its top."""
    side = region("UI")
    return side.view2d.region_to_view(0, side.height)[1]


def _reveal(height: float) -> Program:
    """Scroll so that a height of the sidebar's content is well inside it, if it can be."""
    for _ in range(60):
        side = region("UI")
        y = side.view2d.view_to_region(0, height, clip=False)[1]
        if 0.08 * side.height < y < 0.92 * side.height:
            return
        before = scrolled()
        yield from scroll(4 if y < 0.5 * side.height else -4)
        if abs(scrolled() - before) < 1:
            return


def press(wanted: str, columns: Sequence[float] = COLUMNS) -> Program:
    """Click the sidebar's button or field that holds ``wanted``."""
    x, y = yield from find(wanted, columns)
    yield from click(x, y)


def show(wanted: str, columns: Sequence[float] = COLUMNS, share: float = 0.5) -> Program:
    """Scroll the sidebar so that a button or field lies at a share of its height, from the top, if that can be; the
    mouse is left over it."""
    yield from find(wanted, columns)
    height = next(place[1] for copied, place in reversed(places.items()) if wanted in copied)
    turned = 0
    for _ in range(60):
        side = region("UI")
        y = side.view2d.view_to_region(0, height, clip=False)[1] / side.height
        turn, before = (1 if y < 1 - share else -1), scrolled()
        if abs(y - (1 - share)) < 0.06 or turn == -turned:
            return
        yield from scroll(turn)
        turned = turn
        if abs(scrolled() - before) < 1:
            return


def scroll(clicks: int) -> Program:
    """Turn the wheel over the sidebar; positive: down."""
    side = region("UI")
    move(side.x + side.width / 2, side.y + side.height / 2)
    yield 0.1
    for done in range(0, abs(clicks), 5):
        xdo("click", "--repeat", min(5, abs(clicks) - done), "--delay", 15, 5 if clicks > 0 else 4)
        yield 0.05
    yield 0.3


def look(path: Path, whole: Path | None = None) -> None:
    """A screenshot of the screen, as small as a guide needs it; ``whole``: also as it is, into another file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    taken = whole or path.with_suffix(".whole.png")
    taken.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["import", "-window", "root", str(taken)], check=True)
    quality = ["-quality", "84", "-define", "webp:method=6"]
    subprocess.run(["convert", str(taken), "-resize", "1280x>", *quality, str(path)], check=True)
    if whole is None:
        taken.unlink()
