# SPDX-License-Identifier: GPL-3.0-or-later
"""Instruct NeRF: edit a captured scene by telling it what to become.

Read in this order: panels (what the artist sees), operators (what the buttons do), jobs and results (what is asked of
the engine, and what comes of it), session and client (how it is asked), scene (what appears in Blender), conversion.
"""

from __future__ import annotations

from . import operators, panels, previews, session, settings

_MODULES = (session, previews, settings, operators, panels)


def register() -> None:
    """Called by Blender when the extension is enabled."""
    for module in _MODULES:
        module.register()


def unregister() -> None:
    """Called by Blender when the extension is disabled, and when Blender ends: stops the engine and reaps it."""
    for module in reversed(_MODULES):
        module.unregister()
