# SPDX-License-Identifier: GPL-3.0-or-later
"""The walk of one instruction in Blender: from the panel to the line that the engine reads (docs/architecture.md;
tests/engine/test_walk.py goes on from there)."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import bpy
import pytest
from in_blender import ROOT, settle
from test_panels import Notes

from blender_addon.client import Client, Reader
from blender_addon.panels import edit as panel

sys.path.insert(0, str(ROOT / "tests" / "unit"))
from walk import stops, written_walk


def test_from_the_panel_to_the_line_that_is_sent(opened: bpy.types.Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    opened.instruct_nerf.instruction = "make it a walk"
    walks: list[list[str]] = []

    class Buttons(Notes):
        def operator(self, name: str, text: str | None = None, **options: object) -> SimpleNamespace:
            if name == "instruct_nerf.start_edit":
                walks.append(stops())
            return super().operator(name, text, **options)

        column = row = box = split = lambda self, **_options: Buttons(self.texts)

    drawn = panel.INSTRUCT_NERF_PT_edit
    context = SimpleNamespace(
        scene=opened, view_layer=bpy.context.view_layer, region=None,
        preferences=SimpleNamespace(system=SimpleNamespace(ui_scale=1.0)),
    )  # fmt: skip
    drawn.draw(SimpleNamespace(layout=Buttons([]), edits=lambda _context: None), context)

    send = Client.send

    def sent(client: Client, number: int, line: bytes, reader: Reader) -> None:
        if b"make it a walk" in line:
            walks.append(stops())
        send(client, number, line, reader)

    monkeypatch.setattr(Client, "send", sent)
    bpy.ops.instruct_nerf.start_edit()
    settle()
    assert len(walks) == 2
    assert walks[0] + walks[1] == [stop for stop in written_walk() if stop.startswith("blender_addon/")]
