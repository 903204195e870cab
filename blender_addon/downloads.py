# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloading an editor, once the artist has seen what it weighs and on what terms it is given."""

from __future__ import annotations

import bpy

from . import asking, messages, session, wire
from .jobs import start_engine
from .project import editor_of
from .words import size, t

__all__ = ["size"]

OFFLINE = "Blender is offline: turn on Allow Online Access in Preferences, System, to download."


def missing_editor(scene: bpy.types.Scene) -> messages.Editor | None:
    """The scene's editor, where it can be downloaded and was not."""
    editor = editor_of(scene)
    return editor if editor is not None and editor.offer.missing else None


def missing_models() -> list[messages.Model]:
    """What is no editor, can be downloaded and was not."""
    info = session.get().info
    return [model for model in info.models if model.offer.missing] if info else []


def missing(scene: bpy.types.Scene, name: str = "") -> messages.Editor | messages.Model | None:
    """The model of that name, or the scene's editor, where it can be downloaded and was not."""
    return next((m for m in missing_models() if m.name == name), None) if name else missing_editor(scene)


def terms(model: messages.Editor | messages.Model) -> list[str]:
    """What there is to know before a model is used, or downloaded: short lines."""
    offer = model.offer
    lines = []
    if isinstance(model, messages.Editor) and model.size:
        lines.append(t("Works at {size} pixels").format(size=model.size))
    if offer.licence:
        lines.append(t("Licence: {licence}").format(licence=offer.licence))
        if not offer.commercial:
            lines.append(t("Not for commercial use"))
    return lines


def download(model: messages.Editor | messages.Model, panel: str) -> None:
    """Begin to download a model on the terms that it was offered on; a job of the session's shows how it goes.

    Raises ``RuntimeError`` where Blender is offline, something else runs, or there is no engine.
    """
    if not bpy.app.online_access:
        raise RuntimeError(OFFLINE)
    if session.get().busy:
        raise RuntimeError("Another job is running: wait for it, or cancel it.")
    start_engine()
    agreed = {"model": model.name, "licence": model.offer.licence, "bytes": model.offer.bytes}

    def done(_result: object) -> None:
        session.say(panel, t("{model} is downloaded.").format(model=model.label))
        session.ask_again()

    def begin() -> None:
        asking.run_job(wire.MODEL_DOWNLOAD, agreed, done, panel=panel, title=f"Downloading {model.label}", workspace="")

    session.ask_again(then=begin)  # it may have been started while Blender was offline
