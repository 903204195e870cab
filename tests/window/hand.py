# SPDX-License-Identifier: GPL-3.0-or-later
"""A hand and an eye for a real Blender window: mouse, keys and screenshots. Runs inside Blender.

Blender tells no script where its buttons are. So they are found as a person could find them: the mouse hovers over
the sidebar line by line, and Ctrl-C (for a field: Ctrl-Alt-Shift-C) has Blender copy what lies under it.

A program is a generator that yields the seconds to let Blender work before it goes on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Generator
from pathlib import Path

import bpy

Program = Generator[float, None, None]


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


def wait(until: Callable[[], bool], timeout: float, step: float = 0.25) -> Program:
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


def under(x: float, y: float, wanted: str) -> Generator[float, None, bool]:
    """Whether the button there has a command, or the field a data path, that holds ``wanted``."""
    move(x, y)
    yield 0.06
    for combination in ("ctrl+c", "ctrl+alt+shift+c"):
        bpy.context.window_manager.clipboard = "-"
        xdo("key", combination)
        yield 0.08
        if wanted in bpy.context.window_manager.clipboard:
            return True
    return False


def beside(x: float, y: float, wanted: str, step: int = 8) -> Generator[float, None, tuple[float, float]]:
    """Where in the same row, to the right of a place, such a button or field lies."""
    side = region("UI")
    while x < side.x + side.width:
        if (yield from under(x, y, wanted)):
            return x, y
        x += step
    raise LookupError(f"no {wanted} in the row")


def find(wanted: str, step: int = 11) -> Generator[float, None, tuple[float, float]]:
    """Where in the sidebar a button lies whose command, or a field whose data path, holds ``wanted``."""
    for share in (0.3, 0.75):
        side = region("UI")
        x = side.x + share * (side.width - 20)
        y = side.y + side.height - 12
        while y > side.y + 6:
            if (yield from under(x, y, wanted)):
                return x, y
            y -= step
    raise LookupError(f"no {wanted} in the sidebar")


def press(wanted: str) -> Program:
    """Click the sidebar's button or field that holds ``wanted``."""
    x, y = yield from find(wanted)
    yield from click(x, y)


def scroll(clicks: int) -> Program:
    """Turn the wheel over the sidebar; positive: down."""
    side = region("UI")
    move(side.x + side.width / 2, side.y + side.height / 2)
    yield 0.2
    for _ in range(abs(clicks)):
        xdo("click", 5 if clicks > 0 else 4)
        yield 0.05
    yield 0.4


def look(path: Path) -> None:
    """A screenshot of the screen, scaled down and with fewer colours until it takes at most 300 KB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_suffix(".whole.png")
    subprocess.run(["import", "-window", "root", str(whole)], check=True)
    for width, colours in ((1200, 128), (1200, 64), (1080, 64), (960, 48), (800, 32)):
        smaller = ["-resize", f"{width}x>", "+dither", "-colors", str(colours)]
        subprocess.run(["convert", str(whole), *smaller, str(path)], check=True)
        if path.stat().st_size <= 300_000:
            break
    whole.unlink()
