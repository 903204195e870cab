# SPDX-License-Identifier: GPL-3.0-or-later
"""An object as a USD file, by Blender's own exporter."""

from __future__ import annotations

import os
from pathlib import Path

import bpy


def write_usd(scene: bpy.types.Scene, item: bpy.types.Object, path: Path) -> None:
    """Write an object of a scene, as it lies in the world, with its material and its texture in the folder `textures`
    beside ``path``, a .usdc; what is selected stays selected. Raises ``ValueError`` where it cannot be written."""
    layer = scene.view_layers[0]
    selected = [other for other in layer.objects if other.select_get(view_layer=layer)]
    active, unfinished = layer.objects.active, path.with_name(f"unfinished-{path.name}")
    options = bpy.ops.wm.usd_export.get_rna_type().properties.keys()
    # What copies textures is called otherwise from 4.4 on.
    textures = {"export_textures_mode": "NEW"} if "export_textures_mode" in options else {"export_textures": True}
    try:
        for other in selected:
            other.select_set(False, view_layer=layer)
        item.select_set(True, view_layer=layer)
        with bpy.context.temp_override(scene=scene, view_layer=layer):
            bpy.ops.wm.usd_export(
                filepath=str(unfinished), selected_objects_only=True, export_animation=False, relative_paths=True,
                overwrite_textures=True, check_existing=False, **textures,
            )  # fmt: skip
        os.replace(unfinished, path)
    except (OSError, RuntimeError) as problem:
        unfinished.unlink(missing_ok=True)
        raise ValueError(f"{path.name} could not be written: {str(problem).strip()}") from None
    finally:
        item.select_set(item in selected, view_layer=layer)
        for other in selected:
            other.select_set(True, view_layer=layer)
        layer.objects.active = active
