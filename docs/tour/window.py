# SPDX-License-Identifier: GPL-3.0-or-later
"""What every part of the tour knows: the window that is driven, the add-on in it, and what was found on the way."""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import bpy

from . import hand

EXTENSION = "bl_ext.user_default.instruct_nerf"
TAB = "Instruct NeRF"


class Window:
    """The window, and the add-on in it; ``settings`` are of the command line, ``result`` is written at the end."""

    def __init__(self, settings: dict[str, Any], recorder: Any) -> None:
        self.settings, self.recorder = settings, recorder
        self.folder, self.pictures = Path(settings["folder"]), Path(settings["pictures"])
        self.capture = Path(settings["capture"])
        self.result: dict[str, Any] = {"blender": bpy.app.version_string}

    def addon(self, name: str) -> Any:
        """A module of the installed add-on."""
        return sys.modules[f"{EXTENSION}.{name}"]

    def has(self, operator: str) -> bool:
        """Whether the add-on has an operator."""
        return operator in dir(bpy.ops.instruct_nerf)

    @property
    def scene(self) -> bpy.types.Scene:
        """The scene that the window shows."""
        return bpy.context.window_manager.windows[0].scene

    @property
    def panel(self) -> Any:
        """The add-on's settings of the scene."""
        return self.scene.instruct_nerf

    @property
    def state(self) -> Any:
        """What the add-on knows of engine and job."""
        return self.addon("session").get()

    @property
    def root(self) -> bpy.types.Object:
        """The capture's root."""
        return self.addon("project").root_of(self.scene)

    @property
    def edits(self) -> Any:
        """The project's edits."""
        return self.addon("project").edits_of(self.scene)

    def quiet(self) -> bool:
        """Whether nothing runs."""
        return self.state.settled

    def views(self) -> list[bpy.types.Object]:
        """The capture's cameras."""
        return self.addon("scene.cameras").cameras_of(self.root)

    def chosen(self) -> list[bpy.types.Object]:
        """The cameras that were chosen."""
        return [view for view in self.views() if view.get("instruct_nerf_chosen")]

    def middle(self) -> bpy.types.Object:
        """The chosen camera in the middle of the others."""
        chosen = self.chosen()
        return chosen[len(chosen) // 2]

    def active(self, item: bpy.types.Object) -> None:
        """Make an object the active one."""
        bpy.context.view_layer.objects.active = item

    def look(self, name: str) -> None:
        """Take a picture for the guide."""
        hand.look(self.pictures / f"{name}.webp", self.folder / "whole" / f"{name}.png")

    def look_aside(self, name: str) -> None:
        """Take a picture that is looked at, and not in the guide."""
        hand.look(self.folder / f"{name}.webp")

    def fine(self, panel: str) -> None:
        """Raise what a panel complains of."""
        if panel in self.state.notices:
            log = self.state.client.log() if self.state.client else []
            raise AssertionError("\n".join([self.state.notices[panel], *log]))

    def into_viewport(self, share: float = 0.5) -> hand.Program:
        """Put the mouse into the viewport."""
        window = hand.region("WINDOW")
        hand.move(window.x + share * window.width * 0.8, window.y + window.height / 2)
        for _ in range(12):  # until no tooltip stands where the mouse was, and panels that grow have grown, however
            yield 0.1  # long a redraw takes

    def alone(self) -> hand.Program:
        """Only the largest viewport in the window, the other areas closed."""
        window, largest = bpy.context.window_manager.windows[0], hand.area()
        for _ in range(12):
            other = next((area for area in window.screen.areas if area != largest), None)
            if other is None:
                break
            with bpy.context.temp_override(window=window, screen=window.screen, area=other):
                bpy.ops.screen.area_close()
            yield 0.4
        assert len(window.screen.areas) == 1, [area.type for area in window.screen.areas]

    def home(self) -> hand.Program:
        """Show the whole scene."""
        yield from self.into_viewport()
        yield from hand.keys("Home")
        yield 0.8

    def begun(self, pressed: hand.Program, panel: str, title: str = "") -> Generator[float, None, Any]:
        """Do what begins a panel's job, and wait until it has begun; the job. It may have ended by then: a short one
        takes no longer than a few redraws by software."""
        before = self.state.job

        def new() -> bool:
            job = self.state.job
            return job is not before and job.panel == panel and job.title.startswith(title)

        yield from pressed
        yield from hand.wait(new, 20)
        return self.state.job

    def job(self, pressed: hand.Program, title: str, panel: str, patience: float) -> hand.Program:
        """Do what begins a job, and wait until it has ended; raises what its panel complains of."""
        yield from self.begun(pressed, panel, title)
        yield from hand.wait(self.quiet, patience)
        self.fine(panel)

    def mesh(self) -> bpy.types.Object:
        """The mesh that came in."""
        return next(item for item in self.root.children if item.type == "MESH" and len(item.data.polygons))

    def in_front_of(self, camera: bpy.types.Object, around: bpy.types.Object) -> hand.Program:
        """Look at an object from where a camera looks from, but not through it."""
        hidden = around.hide_get()
        around.hide_set(False)
        bpy.ops.object.select_all(action="DESELECT")
        around.select_set(True)
        yield from self.into_viewport()
        view = hand.area().spaces.active.region_3d
        view.view_perspective = "PERSP"
        view.view_rotation = camera.matrix_world.to_quaternion()
        yield 0.3
        yield from hand.keys("KP_Decimal")
        yield 1.0
        around.hide_set(hidden)

    def write_into(self, field: str, text: str) -> hand.Program:
        """Type into one of the panel's fields, in place of what it holds."""
        yield from hand.press(field)
        yield from hand.keys("ctrl+a")
        yield from hand.write(text)
        yield from hand.keys("Return")
        yield 0.4
