# SPDX-License-Identifier: GPL-3.0-or-later
"""Small pictures that panels draw as icons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy.utils.previews

LIMIT = 24  # pictures kept at a time

_icons: Any = None


def icon(path: str) -> int:
    """The icon of a picture file, read again when the file has changed; 0 where there is none."""
    if _icons is None or not path:
        return 0
    try:
        key = f"{path}@{Path(path).stat().st_mtime_ns}"
    except OSError:
        return 0
    if key not in _icons:
        if len(_icons) >= LIMIT:
            _icons.clear()
        _icons.load(key, path, "IMAGE")
    return int(_icons[key].icon_id)


def register() -> None:
    """Make the collection."""
    global _icons
    _icons = bpy.utils.previews.new()


def unregister() -> None:
    """Free the collection."""
    global _icons
    if _icons is not None:
        bpy.utils.previews.remove(_icons)
        _icons = None
