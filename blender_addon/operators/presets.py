# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's own presets, of all settings of an edit. What they keep are values, by names that do not depend on what
the engine offers; not the device, the region or the key views, which belong to a computer or a scene."""

import bpy
from bl_operators.presets import AddPresetBase

SUBDIR = "instruct_nerf/edit"
KEPT = ("instruction", "preset", "editor", "editor_model", "steps", "seed", "schedule", "knobs_text")


class INSTRUCT_NERF_OT_preset_add(AddPresetBase, bpy.types.Operator):
    """Add these settings of the edit as a preset, or remove one"""

    bl_idname = "instruct_nerf.preset_add"
    bl_label = "Add Edit Preset"
    preset_menu = "INSTRUCT_NERF_PT_presets"
    preset_subdir = SUBDIR
    preset_defines = ("settings = bpy.context.scene.instruct_nerf",)
    preset_values = tuple(f"settings.{name}" for name in KEPT)


CLASSES = (INSTRUCT_NERF_OT_preset_add,)
