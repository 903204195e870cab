# SPDX-License-Identifier: GPL-3.0-or-later
"""Which device, preset and editor a scene's settings mean, of what the engine offers now. Free of bpy.

A scene keeps names, and what the engine offers may change between two sessions: a name that it does not offer any more
means what it would choose itself. What is shown, what is sent and what the engine does are then the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from .messages import Device, Editor, EngineInfo, Preset
from .words import about, size, t

# Versions up to 0.1 kept the folder that the bundled editors lay in, inside an environment that an update replaces.
_BUNDLED = re.compile(r"[/\\]engine[/\\]editors[/\\]weights[/\\]([^/\\]+)[/\\]?$")


def editor_id(name: str) -> str:
    """An editor's name; of a bundled one that is given by its folder, the last part."""
    found = _BUNDLED.search(name)
    return found.group(1) if found else name


def device_of(info: EngineInfo | None, wanted: str) -> Device | None:
    """The device meant: the one of that name, else the first, which is the engine's own choice."""
    if info is None or not info.devices:
        return None
    return next((d for d in info.devices if d.name == wanted), info.devices[0])


def computing(info: EngineInfo | None, wanted: str) -> str:
    """A sentence on what will compute, and why; empty before the engine said anything."""
    device = device_of(info, wanted)
    if info is None or device is None:
        return ""
    if info.settled and device != info.devices[0]:
        said = t("Computing on {device} ({name}), as chosen here.")
        return said.format(device=device.label or device.name, name=device.name)
    return info.computing


def preset_of(info: EngineInfo | None, wanted: str, device: str = "") -> Preset | None:
    """The preset meant: the one of that name, else the one that suits the device."""
    if info is None or not info.presets:
        return None
    chosen = device_of(info, device)
    suited = chosen.preset if chosen else ""
    by_name = {p.name: p for p in info.presets}
    default = next((p for p in info.presets if p.default), info.presets[0])
    return by_name.get(wanted) or by_name.get(suited) or default


def too_slow(info: EngineInfo | None, presets: Iterable[str], device: str = "") -> str:
    """A sentence where one of the presets takes so long on the device that the engine refuses it unless asked for a
    second time; else empty."""
    chosen = device_of(info, device)
    return next((chosen.slow[name] for name in presets if name in chosen.slow), "") if chosen else ""


def learning(preset: Preset, photos: int, views: int, compared: bool, flat: bool) -> float:
    """Seconds to learn a scene from so many photos, ``compared`` with each other, their ``flat`` surfaces found, and to
    render its views; a guess for a CPU."""
    a_photo = preset.compare_seconds + (preset.flat_seconds if flat else 0.0) if compared else 0.0
    return preset.train_seconds + min(photos, preset.most_compared) * a_photo + views * preset.render_seconds


def cost(preset: Preset, device: Device, editor: Editor | None, views: int, learn: float, steps: int) -> str:
    """A sentence on what an edit of so many views takes, after ``learn`` seconds to learn the scene (0 where that is
    done), with the preset's own number of steps where ``steps`` is 0; empty where nobody has measured."""
    if device.name != "cpu" or not preset.edit_seconds or preset.name in device.slow:
        return ""
    edit, room = preset.edit_seconds + views * preset.view_seconds, preset.bytes
    guessed = editor is not None and device.editor and editor_id(editor.name) == editor_id(device.editor) and not steps
    if not learn and not guessed:
        return ""
    if not learn:
        said = t("About {edit} to edit {count} views.")
    elif guessed:
        said = t("About {learn} to learn the scene, once, about {edit} to edit {count} views.")
    else:
        said = t("About {learn} to learn the scene, once, then as long as the editor takes.")
    said = said.format(learn=about(learn), edit=about(edit), count=views)
    room *= 2 if learn else 1
    return f"{said} {t('{size} on the disk.').format(size=size(room))}" if room else said


def editor_of(info: EngineInfo | None, wanted: str, device: str = "", own: str = "") -> Editor | None:
    """The editor meant: the artist's ``own`` where one is named, None until the engine has described it; else the one
    of that name, else the one that suits the device, else the first that can be used."""
    if info is None or not info.editors:
        return None
    by_id = {editor_id(e.name): e for e in info.editors}
    if own:
        return by_id.get(editor_id(own))
    chosen = device_of(info, device)
    suited = by_id.get(editor_id(chosen.editor)) if chosen and chosen.editor else None
    usable = next((e for e in info.editors if e.available), info.editors[0])
    return (by_id.get(editor_id(wanted)) if wanted else None) or suited or usable


def unknown_to(editor: Editor, instruction: str) -> bool:
    """Whether an editor that knows certain instructions knows nothing of this one; however it is written."""
    return bool(editor.vocabulary) and _plain(instruction) not in _known(editor.vocabulary, editor.wordings)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[\w{}]+", text.casefold()))


class _Known:
    def __init__(self, texts: tuple[str, ...]):
        plain = {_plain(text) for text in texts}
        self.whole = {text for text in plain if "{noun}" not in text}
        self.patterns = [
            re.compile(re.escape(text).replace(r"\{noun\}", r"[\w ]+")) for text in plain if "{noun}" in text
        ]

    def __contains__(self, text: str) -> bool:
        return text in self.whole or any(pattern.fullmatch(text) for pattern in self.patterns)


@lru_cache(maxsize=8)  # panels ask at every redraw
def _known(vocabulary: tuple[str, ...], wordings: tuple[str, ...]) -> _Known:
    return _Known((*vocabulary, *wordings))
