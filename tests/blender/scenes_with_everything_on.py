# SPDX-License-Identifier: GPL-3.0-or-later
"""What an artist may have turned on in a scene before the add-on renders it: one function each, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import bpy
from fake_engine import png


def region(scene: bpy.types.Scene, _folder: Path) -> None:
    scene.render.use_border = True
    scene.render.border_min_x, scene.render.border_max_x = 0.0, 0.4
    scene.render.border_min_y, scene.render.border_max_y = 0.0, 0.4


def cropped_region(scene: bpy.types.Scene, folder: Path) -> None:
    region(scene, folder)
    scene.render.use_crop_to_border = True


def burned_in_text(scene: bpy.types.Scene, _folder: Path) -> None:
    scene.render.use_stamp = scene.render.use_stamp_note = True
    scene.render.stamp_note_text = "TAKE 7"
    scene.render.stamp_background = (1, 0, 0, 1)


def two_eyes(scene: bpy.types.Scene, _folder: Path) -> None:
    scene.render.use_multiview = True


def compositing(scene: bpy.types.Scene, _folder: Path) -> None:
    """A compositor that paints everything magenta."""
    scene.render.use_compositing = True
    if hasattr(scene, "compositing_node_group"):
        tree = scene.compositing_node_group = bpy.data.node_groups.new("all magenta", "CompositorNodeTree")
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        out = tree.nodes.new("NodeGroupOutput")
    else:
        scene.use_nodes = True
        tree = scene.node_tree
        tree.nodes.clear()
        out = tree.nodes.new("CompositorNodeComposite")
    out.inputs[0].default_value = (1, 0, 1, 1)
    colour = tree.nodes.new("CompositorNodeRGB")
    colour.outputs[0].default_value = (1, 0, 1, 1)
    tree.links.new(colour.outputs[0], out.inputs[0])


def a_strip(scene: bpy.types.Scene, folder: Path) -> None:
    from blender_addon.scene import strips

    scene.render.use_sequencer = True
    path = png(folder / "strip" / "0001.png", 8, 8, (0, 255, 0))
    strips.strips_of(scene).new_image(name="mine", filepath=path, channel=9, frame_start=-50).frame_final_end = 0


def color_override(scene: bpy.types.Scene, _folder: Path) -> None:
    image = scene.render.image_settings
    image.color_management = "OVERRIDE"
    image.view_settings.view_transform, image.view_settings.exposure = "Raw", 2.0


def other_files(scene: bpy.types.Scene, _folder: Path) -> None:
    scene.render.image_settings.file_format = "OPEN_EXR"
    scene.render.image_settings.color_depth = "32"
    scene.render.use_file_extension = False
    scene.render.use_overwrite, scene.render.use_placeholder = False, True


def film_files(scene: bpy.types.Scene, _folder: Path) -> None:
    image = scene.render.image_settings
    if hasattr(image, "media_type"):
        image.media_type = "VIDEO"
    image.file_format = "FFMPEG"
    scene.render.ffmpeg.use_lossless_output = scene.render.ffmpeg.use_autosplit = True


def half_size(scene: bpy.types.Scene, _folder: Path) -> None:
    scene.render.resolution_percentage = 29


COMMON: dict[str, Callable[[bpy.types.Scene, Path], None]] = {
    f.__name__: f
    for f in (
        region, cropped_region, burned_in_text, two_eyes, compositing, a_strip, color_override, other_files, film_files,
    )
}  # fmt: skip


def marker(scene: bpy.types.Scene, _folder: Path) -> None:
    """A marker whose camera looks away."""
    away = bpy.data.objects.new("away", bpy.data.cameras.new("away"))
    away.location = (0, 0, 50)
    scene.collection.objects.link(away)
    scene.timeline_markers.new("cut", frame=scene.frame_start).camera = away


def motion_blur(scene: bpy.types.Scene, _folder: Path) -> None:
    scene.render.use_motion_blur, scene.render.motion_blur_shutter = True, 4.0
    ball = next(item for item in scene.objects if item.name.startswith("Sphere"))
    # Keyed at its place, too: halfway between the others it is 1e-6 beside it, which is some levels at its edge.
    for frame, x in ((1, ball.location.x), (-9, -10.0), (11, 10.8)):
        ball.location.x = x
        ball.keyframe_insert("location", frame=frame)
    scene.frame_set(1)


def transparent(scene: bpy.types.Scene, _folder: Path) -> None:
    scene.render.film_transparent = True


def wide_pixels(scene: bpy.types.Scene, _folder: Path) -> None:
    scene.render.pixel_aspect_x = 2.0


PHOTOGRAPHS = COMMON | {f.__name__: f for f in (marker, motion_blur, transparent, wide_pixels, half_size)}


def frame_step(scene: bpy.types.Scene, _folder: Path) -> None:
    scene.frame_step = 3


def curves(scene: bpy.types.Scene, _folder: Path) -> None:
    scene.view_settings.use_curve_mapping = True
    curve = scene.view_settings.curve_mapping.curves[3]
    curve.points[0].location, curve.points[1].location = (0.0, 1.0), (1.0, 0.0)
    scene.view_settings.curve_mapping.update()


def exposure(scene: bpy.types.Scene, _folder: Path) -> None:
    scene.view_settings.view_transform, scene.view_settings.exposure, scene.view_settings.gamma = "Filmic", 3.0, 2.0
    scene.view_settings.look = (
        next(
            e.identifier
            for e in type(scene.view_settings).bl_rna.properties["look"].enum_items
            if e.identifier != "None"
        )
        if len(type(scene.view_settings).bl_rna.properties["look"].enum_items) > 1
        else "None"
    )


def white_balance(scene: bpy.types.Scene, _folder: Path) -> None:
    if hasattr(scene.view_settings, "use_white_balance"):
        scene.view_settings.use_white_balance, scene.view_settings.white_balance_temperature = True, 2500.0


def other_display(scene: bpy.types.Scene, _folder: Path) -> None:
    scene.display_settings.display_device = "Display P3"


def other_sequencer_space(scene: bpy.types.Scene, _folder: Path) -> None:
    scene.sequencer_colorspace_settings.name = "Linear Rec.709"


FILMS = COMMON | {
    f.__name__: f for f in (frame_step, curves, exposure, white_balance, other_display, other_sequencer_space)
}
