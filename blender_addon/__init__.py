# SPDX-License-Identifier: GPL-3.0-or-later
"""Instruct NeRF: edit a captured scene by telling it what to become.

Read in this order: panels (what the artist sees), operators (what the buttons do), opening, editing and results (what
is asked of the engine, and what comes of it), asking, session and client (how it is asked), scene (what appears in
Blender), conversion.
"""

from __future__ import annotations

from importlib import import_module

_MODULES = (
    "session",
    "translations",
    "previews",
    "settings",
    "knobs",
    "following",
    "highlight",
    "wipe",
    "surfels",
    "render",
    "operators",
    "panels",
)


def register() -> None:
    """Called by Blender when the extension is enabled."""
    # Imported here and not above, so that client, install and conversion can be used, and tested, without bpy.
    for name in _MODULES:
        import_module(f".{name}", __package__).register()


def unregister() -> None:
    """Called by Blender when the extension is disabled, and when Blender ends: stops the engine and reaps it."""
    # The session first: what a running job still sends must not meet half of an add-on.
    for name in (_MODULES[0], *reversed(_MODULES[1:])):
        import_module(f".{name}", __package__).unregister()
