# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendered frames as image strips, and scene settings with which Blender's own Render Animation writes a film.

The names of Blender's sequencer changed between 4.2 and 5.x; every difference is dealt with here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bpy

from .borrowed import literal, plain_output
from .cameras import size_of

STRIP = "instruct_nerf"
BEFORE_NAME, AFTER_NAME, WIPE_NAME = "NeRF before", "NeRF after", "NeRF before and after"
TITLE_NAME = "NeRF title"
CHANNELS = 4  # that a film takes: before, after, the wipe over both, and the title
TITLE_SIZE, TITLE_PLACE = 0.055, 0.06  # of the picture's height: the letters, and how far up they stand


def strips_of(scene: bpy.types.Scene) -> Any:
    """The scene's strips, made where there are none (``sequences`` before 4.4, ``strips`` since)."""
    editor = scene.sequence_editor or scene.sequence_editor_create()
    return editor.strips if hasattr(editor, "strips") else editor.sequences


def even_size(scene: bpy.types.Scene) -> tuple[int, int]:
    """Give the scene an even width and height at 100 %, as films need it, and return them."""
    render = scene.render
    width, height = (max(4, side + side % 2) for side in size_of(scene))
    if (width, height, 100) != (render.resolution_x, render.resolution_y, render.resolution_percentage):
        render.resolution_x, render.resolution_y, render.resolution_percentage = width, height, 100
    return width, height


def add_frames(
    scene: bpy.types.Scene, before: Sequence[str], after: Sequence[str], first: int, show: str, title: str = ""
) -> tuple[Any, Any]:
    """Lay the original frames on a lower and the edited ones on an upper channel from frame ``first`` on.

    ``show`` is ``EDITED`` (the edit covers the original), ``SPLIT`` (left half original, right half edited) or
    ``WIPE`` (the edit is drawn over the original from left to right). A ``title``, where there is one, stands at the
    bottom all the while. Strips of an earlier run are replaced, others left alone. Raises ``ValueError`` where the
    frames are not one folder's, or are missing.
    """
    for paths in (before, after):
        if not paths:
            raise ValueError("The engine rendered no frames.")
        if len({str(Path(p).parent) for p in paths}) > 1:
            raise ValueError("The frames of one strip do not lie in one folder.")
        missing = [p for p in paths if not Path(p).is_file()]
        if missing:
            raise ValueError(f"{len(missing)} frames are missing, such as {missing[0]}.")
    strips = strips_of(scene)
    for name in (TITLE_NAME, WIPE_NAME, AFTER_NAME, BEFORE_NAME):  # the effect first: its inputs take it with them
        for old in [s for s in strips if s.get(STRIP) == name]:
            strips.remove(old)
    channel = _free_channel(strips, first, first + len(before))
    lower = _add(strips, BEFORE_NAME, before, channel, first)
    upper = _add(strips, AFTER_NAME, after, channel + 1, first)
    if show != "EDITED":
        _wipe(_over(strips, lower, upper, first, len(before)), show, first, first + len(before) - 1)
    if title:
        _write(strips, title, size_of(scene)[1], channel + CHANNELS - 1, first, len(before))
    return lower, upper


def _free_channel(strips: Any, first: int, end: int) -> int:
    """The lowest channel that, with those above it that a film takes, holds nothing between two frames."""
    taken = {s.channel for s in strips if s.frame_final_start < end and s.frame_final_end > first}
    return next(c for c in range(1, 127) if not taken.intersection(range(c, c + CHANNELS)))


def _add(strips: Any, name: str, paths: Sequence[str], channel: int, first: int) -> Any:
    folder = Path(paths[0]).parent
    strip = strips.new_image(name=name, filepath=str(paths[0]), channel=channel, frame_start=first, fit_method="FIT")
    for path in paths[1:]:
        strip.elements.append(Path(path).name)
    # Appending pictures does not lengthen the strip in every version.
    if strip.frame_final_duration != len(paths):
        strip.frame_final_duration = len(paths)
    strip.directory = str(folder)
    strip.blend_type = "ALPHA_OVER"
    strip[STRIP] = name
    return strip


def _over(strips: Any, lower: Any, upper: Any, first: int, count: int) -> Any:
    """A wipe effect above both strips. (Cropping the upper strip would do, but Blender 4.5 now and then leaves a
    frame of the lower one black beneath a cropped strip.)"""
    known = _parameters(strips)
    inputs = {"input1": lower, "input2": upper} if "input1" in known else {"seq1": lower, "seq2": upper}
    return _effect(strips, WIPE_NAME, "WIPE", upper.channel + 1, first, count, inputs)


def _effect(strips: Any, name: str, kind: str, channel: int, first: int, count: int, inputs: dict[str, Any]) -> Any:
    end = {"length": count} if "length" in _parameters(strips) else {"frame_end": first + count}
    effect = strips.new_effect(name=name, type=kind, channel=channel, frame_start=first, **end, **inputs)
    effect[STRIP] = name
    return effect


def _parameters(strips: Any) -> set[str]:
    """What the function that makes effects takes in this version."""
    return {parameter.identifier for parameter in strips.bl_rna.functions["new_effect"].parameters}


def _write(strips: Any, title: str, height: int, channel: int, first: int, count: int) -> None:
    """A title in the middle of the bottom, white with a shadow, broken where the picture is too narrow for it."""
    effect = _effect(strips, TITLE_NAME, "TEXT", channel, first, count, {})
    for name, value in (
        ("text", title), ("font_size", max(8.0, TITLE_SIZE * height)), ("location", (0.5, TITLE_PLACE)),
        ("wrap_width", 0.9), ("color", (1.0, 1.0, 1.0, 1.0)), ("use_shadow", True),
        ("shadow_color", (0.0, 0.0, 0.0, 0.8)), ("blend_type", "ALPHA_OVER"),
        ("align_x", "CENTER"), ("align_y", "BOTTOM"),  # until 4.3
        ("alignment_x", "CENTER"), ("anchor_x", "CENTER"), ("anchor_y", "BOTTOM"),
    ):  # fmt: skip
        if hasattr(effect, name):
            setattr(effect, name, value)


def _wipe(effect: Any, show: str, first: int, last: int) -> None:
    """Set how much of the upper strip is seen: its right half, or more and more of it from the left, with a still
    sixth of the film at either end."""
    effect.transition_type, effect.direction, effect.blur_width = "SINGLE", "OUT", 0.0
    effect.use_default_fade = False
    if show == "SPLIT":
        effect.angle, effect.effect_fader = math.radians(90.0), 0.5
        return
    effect.angle = math.radians(-90.0)
    rest = (last - first) // 6
    for frame, shown in ((first + rest, 0.0), (last - rest, 1.0)):
        effect.effect_fader = shown
        effect.keyframe_insert("effect_fader", frame=frame)


def film_settings(scene: bpy.types.Scene, first: int, last: int, path: str) -> None:
    """Set the scene so that Render Animation writes frames ``first``–``last`` as an H.264 MP4 at ``path``.

    The look becomes Blender's plainest (view transform Standard, no curves, no exposure): the frames are finished
    pictures, and anything else would grade them a second time. What the scene has on that would leave frames, or parts
    of them, out or write over them (region, frame step, burned-in text) is turned off.
    """
    scene.frame_start, scene.frame_end, scene.frame_step = first, last, 1
    render, film = scene.render, scene.render.ffmpeg
    for owner, name, value in (
        *plain_output(scene),
        (render, "use_sequencer", True),
        (render.image_settings, "color_management", "FOLLOW_SCENE"),
        (render, "filepath", literal(path)),
        (render.image_settings, "media_type", "VIDEO"),  # from 5.0 on, films are a kind of media of their own
        (render.image_settings, "file_format", "FFMPEG"),
        (render.image_settings, "color_mode", "RGB"),
        (film, "format", "MPEG4"),
        (film, "codec", "H264"),
        (render.image_settings, "color_depth", "8"),
        (film, "use_lossless_output", False),
        (film, "use_autosplit", False),
        (film, "constant_rate_factor", "HIGH"),
        (film, "ffmpeg_preset", "GOOD"),
        (film, "audio_codec", "NONE"),
        # The look last: another display may change which looks there are.
        (scene.view_settings, "view_transform", "Standard"),
        (scene.view_settings, "look", "None"),
        (scene.view_settings, "exposure", 0.0),
        (scene.view_settings, "gamma", 1.0),
        (scene.view_settings, "use_curve_mapping", False),
        (scene.view_settings, "use_white_balance", False),
        (scene.view_settings, "use_hdr_view", False),
        (scene.sequencer_colorspace_settings, "name", "sRGB"),
    ):
        if hasattr(owner, name):
            setattr(owner, name, value)
    for workspace in bpy.data.workspaces:  # from 5.0 on, a workspace says which scene its sequencers show
        if hasattr(workspace, "sequencer_scene") and workspace.sequencer_scene is None:
            workspace.sequencer_scene = scene
