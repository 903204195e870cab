# SPDX-License-Identifier: GPL-3.0-or-later
"""*Instruct NeRF* in Blender's list of render engines."""

from __future__ import annotations

from typing import Any

import bpy

from .. import pixels, wire
from ..session import OWN_ENGINE
from . import line
from .source import border_of, camera_of, cropped, resized, source_of, workspace_of
from .viewport import Viewport

COARSE = 8  # times coarser is what a still picture first shows
LARGE = 100_000  # pixels, of a picture that is first shown coarsely


class InstructNerfRenderEngine(bpy.types.RenderEngine):
    """Renders the captured or edited scene; Blender's own objects are composited with it."""

    bl_idname = OWN_ENGINE
    bl_label = "Instruct NeRF"
    bl_use_preview = False
    bl_use_eevee_viewport = True  # for Material Preview
    bl_use_postprocess = True  # the compositor and the sequencer

    def update_render_passes(self, scene: bpy.types.Scene, layer: bpy.types.ViewLayer) -> None:
        """Blender asks which passes there will be."""
        self.register_pass(scene, layer, "Combined", 4, "RGBA", "COLOR")
        if layer.use_pass_z:
            self.register_pass(scene, layer, "Depth", 1, "Z", "VALUE")
        if layer.use_pass_normal:
            self.register_pass(scene, layer, "Normal", 3, "XYZ", "VECTOR")

    def render(self, graph: bpy.types.Depsgraph) -> None:
        """A final render of one view layer; in a window on a thread of its own."""
        try:
            self._render(graph)
        except line.Stopped:
            pass
        except (ValueError, RuntimeError, OSError) as error:
            self.report({"ERROR"}, str(error))

    def _render(self, graph: bpy.types.Depsgraph) -> None:
        scene, layer = graph.scene, graph.view_layer
        workspace = workspace_of(scene)
        self.update_stats("", "Waiting for the engine")
        client = line.reach(self.test_break)
        source = source_of(graph, line.edits_in(client, workspace, self.test_break))
        camera = camera_of(graph, self.camera_override or scene.camera, source)
        left, bottom, right, top = border_of(scene.render, camera.intrinsics.width, camera.intrinsics.height)
        width, height = right - left, top - bottom
        camera = cropped(camera, left, camera.intrinsics.height - top, width, height)
        surfaces = layer.use_pass_z or layer.use_pass_normal
        if layer.use_pass_z:
            self.add_pass("Depth", 1, "Z", layer=layer.name)
        if layer.use_pass_normal:
            self.add_pass("Normal", 3, "XYZ", layer=layer.name)
        result = self.begin_result(0, 0, width, height, layer=layer.name)
        done = False
        try:
            self.update_stats("", "Rendering")
            if not self.is_animation and not bpy.app.background and width * height > LARGE:
                coarse = max(1, width // COARSE), max(1, height // COARSE)
                asked = source.params(resized(camera, *coarse), False)
                seen = line.ask(client, wire.VIEW_RENDER, asked, self.test_break)
                first = pixels.read(wire.parse_viewed(seen)[0], coarse)
                _put(result, "Combined", pixels.enlarged(first, width, height).color)
                self.update_result(result)
            seen = line.ask(client, wire.VIEW_RENDER, source.params(camera, surfaces), self.test_break)
            found = pixels.read(wire.parse_viewed(seen)[0], (width, height))
            for name, values in (("Combined", found.color), ("Depth", found.depth), ("Normal", found.normal)):
                _put(result, name, values)
            self.update_progress(1.0)
            done = True
        finally:
            self.end_result(result, cancel=not done)

    # -- the viewport --------------------------------------------------------------------------------------------

    def view_update(self, _context: bpy.types.Context, _graph: bpy.types.Depsgraph) -> None:
        """Blender says that something changed; :meth:`view_draw`, which follows, looks at what."""

    def view_draw(self, context: bpy.types.Context, graph: bpy.types.Depsgraph) -> None:
        """Draw what is known of a viewport's picture, and have more of it rendered."""
        Viewport.of(context).draw(self, context, graph)


def _put(result: Any, name: str, values: Any) -> None:
    found = result.layers[0].passes.find_by_name(name, "")
    if found is not None and values is not None:
        found.rect.foreach_set(values)
