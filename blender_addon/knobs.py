# SPDX-License-Identifier: GPL-3.0-or-later
"""An editor's knobs as Blender's own properties: label, tooltip, range, default and reset are Blender's.

Each editor that the engine offers gets a group of properties of its own on every scene, made when the engine has said
what its knobs are. So what the artist has set stays when another editor is chosen, and is there again with the file;
what nobody has set is not sent, and is as the editor recommends.
"""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, PointerProperty

from . import choices, messages, session
from .choices import editor_id
from .words import in_our_context

PREFIX = "instruct_nerf_knobs_"
MOST = 64  # knobs of one editor
WHOLE = 2**31 - 1  # Blender's whole numbers

_declared: dict[str, tuple[tuple[messages.Knob, ...], type]] = {}  # by the group's name on the scene

# Settings of versions up to 0.1, which had these two for every editor: where they were set, they become knobs.
OLD = ("text_guidance", "image_guidance")


def group_name(editor: str) -> str:
    """What an editor's group is called on a scene."""
    return f"{PREFIX}{zlib.crc32(editor_id(editor).encode('utf-8', 'replace')):08x}"


def usable(editor: messages.Editor) -> list[messages.Knob]:
    """The knobs that can be drawn: those of a kind and a name that Blender can hold."""
    return [k for k in editor.knobs[:MOST] if re.fullmatch(r"[a-z][a-z0-9_]{0,50}", k.name) and _property(k)]


def _property(knob: messages.Knob) -> Any:
    """A knob as a property, None where it is of no kind that is known."""
    texts = {"name": knob.label or knob.name, "description": knob.description}
    number = isinstance(knob.default, int | float) and not isinstance(knob.default, bool)
    low = knob.minimum if knob.minimum is not None else -1e9
    high = knob.maximum if knob.maximum is not None else 1e9
    if knob.kind == "bool" and isinstance(knob.default, bool):
        return BoolProperty(default=knob.default, **texts)
    if knob.kind == "float" and number and low <= knob.default <= high:
        step = 10 if high - low > 2 else 1
        return FloatProperty(default=float(knob.default), min=low, max=high, step=step, precision=2, **texts)
    if knob.kind == "int" and number and low <= knob.default <= high and abs(knob.default) < WHOLE:
        return IntProperty(default=int(knob.default), min=int(max(low, -WHOLE)), max=int(min(high, WHOLE)), **texts)
    if knob.kind == "choice" and knob.default in knob.choices:
        # Numbers that belong to the words: their order may be another in the next version.
        items = [(w, w.replace("_", " ").capitalize(), "", zlib.crc32(w.encode()) & WHOLE) for w in knob.choices]
        return EnumProperty(items=items, default=knob.default, **texts)
    return None


def declare(info: messages.EngineInfo) -> None:
    """Give every scene the groups of the editors that the engine offers."""
    for editor in info.editors:
        name, knobs = group_name(editor.name), tuple(usable(editor))
        if name in _declared and _declared[name][0] == knobs:
            continue
        _forget(name)
        annotations = {knob.name: _property(knob) for knob in knobs}
        cls = type(f"INSTRUCT_NERF_PG_{name[-8:]}", (bpy.types.PropertyGroup,), {"__annotations__": annotations})
        bpy.utils.register_class(in_our_context(cls))
        setattr(bpy.types.Scene, name, PointerProperty(type=cls))
        _declared[name] = knobs, cls
    for scene in bpy.data.scenes:
        if scene.library is None:
            _migrate(scene, info)
            _take_waiting(scene)


def _forget(name: str) -> None:
    if name in _declared:
        delattr(bpy.types.Scene, name)
        bpy.utils.unregister_class(_declared.pop(name)[1])


def _migrate(scene: bpy.types.Scene, info: messages.EngineInfo) -> None:
    settings = scene.instruct_nerf
    editor = choices.editor_of(info, settings.editor, settings.device)
    group = group_of(scene, editor) if editor else None
    if group is None:
        return
    if settings.use_guidance:
        for name in OLD:
            if settings.is_property_set(name) and hasattr(group, name):
                setattr(group, name, getattr(settings, name))
        settings.use_guidance = False
    if settings.keep_background != "AUTO" and hasattr(group, "keep_background"):
        group.keep_background = "on" if settings.keep_background == "KEEP" else "off"
        settings.keep_background = "AUTO"


def group_of(scene: bpy.types.Scene, editor: messages.Editor) -> Any:
    """The scene's values of an editor's knobs; None before the engine has said what they are."""
    return getattr(scene, group_name(editor.name), None)


def options_of(scene: bpy.types.Scene, editor: messages.Editor) -> dict[str, Any]:
    """What the artist has set of an editor's knobs, as the engine takes it."""
    _migrate(scene, session.get().info)
    group, found = group_of(scene, editor), {}
    for knob in usable(editor) if group is not None else ():
        if group.is_property_set(knob.name):
            value = getattr(group, knob.name)
            if knob.kind in {"float", "int"}:  # set where another version of the editor had another range
                value = value if knob.minimum is None else max(knob.minimum, value)
                value = value if knob.maximum is None else min(knob.maximum, value)
            # Blender's numbers have seven digits: 0.3, and not 0.30000001192092896.
            found[knob.name] = float(f"{value:.7g}") if knob.kind == "float" else type(knob.default)(value)
    return found


def take(scene: bpy.types.Scene, editor: messages.Editor, options: Mapping[str, Any]) -> list[str]:
    """Set an editor's knobs to what was asked for, the others as it recommends; the names of those that it does not
    have, or that cannot take their value."""
    group, left = group_of(scene, editor), dict(options)
    for knob in usable(editor) if group is not None else ():
        group.property_unset(knob.name)
        if knob.name in left:
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                setattr(group, knob.name, left[knob.name])
                del left[knob.name]
    return list(left)


TEXT_LIMIT = 16_384  # letters of a preset's knobs


def as_text(settings: Any) -> str:
    """The knobs of the scene's editor that were turned, with its name, as one line of JSON: what presets keep."""
    editor = choices.editor_of(
        session.get().info, settings.editor, settings.device, session.own_editor(settings.id_data)
    )
    if editor is None:
        return str(settings.knobs_waiting)
    return json.dumps({"editor": editor_id(editor.name), "options": options_of(settings.id_data, editor)})


def from_text(settings: Any, text: str) -> None:
    """Turn an editor's knobs as :func:`as_text` has them, at once or when the engine has said what they are."""
    settings.knobs_waiting = text[:TEXT_LIMIT]
    _take_waiting(settings.id_data)


def _take_waiting(scene: bpy.types.Scene) -> None:
    settings, info = scene.instruct_nerf, session.get().info
    if not settings.knobs_waiting or info is None:
        return
    try:
        said = json.loads(settings.knobs_waiting)
        wanted, options = said["editor"], said["options"]
    except (ValueError, TypeError, KeyError, RecursionError):
        settings.knobs_waiting = ""  # of a file that somebody wrote by hand
        return
    editor = next((e for e in info.editors if editor_id(e.name) == wanted), None)
    if editor is not None and isinstance(options, dict):
        take(scene, editor, options)
        settings.knobs_waiting = ""


def register() -> None:
    """Declare knobs whenever an engine says what it offers."""
    session.said.append(declare)


def unregister() -> None:
    """Take the groups away; what scenes hold stays in their files."""
    if declare in session.said:
        session.said.remove(declare)
    for name in list(_declared):
        _forget(name)
