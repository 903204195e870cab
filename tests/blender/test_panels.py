# SPDX-License-Identifier: GPL-3.0-or-later
"""Every panel draws in every state, and says what it is to say. The layout is a stand-in that takes notes."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import bpy
import pytest
from in_blender import settle
from test_projects import start

from blender_addon import drawing, jobs, knobs, panels, project, session


class Notes:
    """A layout that takes notes."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.scale_y = 1.0
        self.alert = self.enabled = self.use_property_split = self.use_property_decorate = False

    def label(self, text: str = "", icon: str = "NONE") -> None:
        self.texts.append(text)

    def prop(self, owner: object, name: str, text: str | None = None, **_options: object) -> None:
        prop = owner.bl_rna.properties[name]  # raises where there is none
        own = owner.title if name == "title" else ""  # what a row of the list is called
        self.texts.append(prop.name if text is None else text or own)

    def operator(self, name: str, text: str | None = None, **_options: object) -> SimpleNamespace:
        assert name.split(".")[0] in {"instruct_nerf", "render", "wm"}, name
        getattr(getattr(bpy.ops, name.split(".")[0]), name.split(".")[1]).get_rna_type()
        self.texts.append(text or name)
        return SimpleNamespace()

    def operator_menu_enum(self, name: str, _prop: str, **_options: object) -> None:
        self.operator(name)

    def popover(self, panel: str, text: str = "", **_options: object) -> None:
        assert hasattr(bpy.types, panel), panel

    def template_ID(self, owner: object, name: str, **_options: object) -> None:
        self.prop(owner, name)

    def menu(self, *_names: object, **_options: object) -> None: ...
    def separator(self) -> None: ...
    def template_icon(self, **_options: object) -> None: ...

    def template_list(self, *parts: object, **_options: object) -> None:
        """Each row, as the list draws it; ``parts`` as Blender takes them."""
        _kind, _id, owner, items, its, index = parts
        assert getattr(its, index) < len(getattr(owner, items))
        for item in getattr(owner, items):
            panels.tree.draw_row(Notes(self.texts), context_now(), item)

    def progress(self, factor: float, text: str) -> None:
        assert 0 <= factor <= 1
        self.texts.append(text)

    def column(self, **_options: object) -> Notes:
        return Notes(self.texts)

    row = box = split = grid_flow = column


def context_now() -> SimpleNamespace:
    """What a panel is given to draw with."""
    return SimpleNamespace(
        scene=bpy.context.scene, view_layer=bpy.context.view_layer, region=None,
        preferences=SimpleNamespace(system=SimpleNamespace(ui_scale=1.0)),
        space_data=None,
    )  # fmt: skip


def drawn() -> str:
    """Everything that the tab shows now, in one line of text."""
    texts: list[str] = []
    context = context_now()
    for cls in panels.CLASSES:
        if getattr(cls, "bl_region_type", "") == "HEADER" or issubclass(cls, bpy.types.UIList):  # Blender draws them
            continue
        if not hasattr(cls, "poll") or cls.poll(context):
            panel = SimpleNamespace(layout=Notes(texts))
            for name in ("chosen", "first"):
                if hasattr(cls, name):
                    setattr(panel, name, partial(getattr(cls, name), panel))
            for part in ("draw_header", "draw_header_preset", "draw"):
                if hasattr(cls, part):
                    getattr(cls, part)(panel, context)
    return " ".join(texts)


def test_every_state_can_be_drawn(addon: object, capture, tmp_path) -> None:
    scene = bpy.context.scene
    assert "A folder of photos" in drawn()
    bpy.ops.instruct_nerf.open_capture(filepath=str(capture))
    drawn()
    settle()
    shown = drawn()
    assert "12 views" in shown and "Masks" in shown and "Keep Background" in shown and "Tethered" in shown
    start(scene)
    assert "make it night" in drawn() or "edit step" in drawn()
    settle()
    bpy.context.view_layer.objects.active = next(o for o in scene.objects if o.type == "CAMERA")
    assert "make it night" in drawn()
    bpy.ops.instruct_nerf.stop_engine()
    drawn()
    assert session.wait(lambda: session.get().client is None, 10.0)
    drawn()


@pytest.mark.parametrize(
    ("instruction", "known"),
    [
        ("make it night", True), ("Make It Night", True), ("  make  it night! ", True), ("", True),
        ("turn the old man to night", True),
        ("Turn the castle to NIGHT.", True), ("make it blurple", False), ("turn it to night", False),
    ],
)  # fmt: skip
def test_an_instruction_that_the_editor_does_not_know_is_said(
    opened: bpy.types.Scene, instruction: str, known: bool
) -> None:
    opened.instruct_nerf.instruction = instruction
    assert ("does not know this instruction" in drawn()) != known
    opened.instruct_nerf.editor_choice = "hub/big"  # takes any
    assert "does not know this instruction" not in drawn()


def test_names_that_the_engine_does_not_have_are_said(opened: bpy.types.Scene) -> None:
    assert "any more" not in drawn()
    settings = opened.instruct_nerf
    settings.editor, settings.preset, settings.device = "gone", "last year's", "cuda:3"
    shown = drawn().replace("  ", " ")
    for words in ("editor “gone” is not here", "preset “last year's” is not", "device “cuda:3” is not"):
        assert words in shown


def test_another_size_is_said(opened: bpy.types.Scene) -> None:
    opened.instruct_nerf.preset_choice = "paper"
    assert "prepared anew" in drawn()
    opened.instruct_nerf.preset_choice = "preview"
    assert "prepared anew" not in drawn()
    start(opened)
    settle()
    opened.instruct_nerf.preset_choice = "paper"
    assert "was trained on pictures of 240 px" in drawn()


def test_drawing_reads_no_large_file(opened: bpy.types.Scene, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the engine's wheel, which Blender asks about at every redraw, one look is enough."""
    from pathlib import Path

    from blender_addon import project

    wheel = tmp_path / "instruct_nerf_engine-1-py3-none-any.whl"
    wheel.write_bytes(b"x" * 1000)
    project.preferences().engine_python = ""
    monkeypatch.setattr(project, "bundled_wheel", lambda: wheel)
    reads = []
    whole = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.append(path) or whole(path))
    for _ in range(5):
        drawn()
    assert reads.count(wheel) <= 1
    assert jobs.bundled_wheel is not None


def test_labels_of_knobs_are_wide_enough_and_leave_room_for_the_field() -> None:
    def share(width: int, *labels: str, scale: float = 1.0) -> float:
        preferences = SimpleNamespace(system=SimpleNamespace(ui_scale=scale))
        context = SimpleNamespace(region=SimpleNamespace(width=width), preferences=preferences)
        return drawing.share_of_labels(context, labels)

    assert share(280) == share(280, "Text", "Image") == 0.4  # as Blender's own fields are
    keep = share(280, "Text", "Keep Background")
    assert 0.4 < keep < 0.5 and share(560, "Keep Background", scale=2.0) == keep
    assert share(600, "Keep Background") == 0.4
    assert share(280, "A label that no sidebar has the room for") == 0.6
    assert share(1, "Text") == 0.6


def test_a_turned_knob_can_be_given_back(opened: bpy.types.Scene) -> None:
    assert "instruct_nerf.reset_knob" not in drawn()
    knobs.group_of(opened, project.editor_of(opened)).text_guidance = 4.0
    assert drawn().count("instruct_nerf.reset_knob") == 1 and drawn().count("Keep Background") == 1


def test_what_runs_can_be_cancelled_where_the_scene_shows_no_capture(opened: bpy.types.Scene, monkeypatch) -> None:
    """In another scene, and where opening the capture was undone meanwhile, the panel that it runs in is not there."""
    bpy.context.scene.instruct_nerf.instruction = "make it night"
    bpy.ops.instruct_nerf.start_edit()
    state = session.get()
    assert session.wait(lambda: state.job is not None and state.job.stage == "edit", 10.0), state.notices
    shown, words = opened.instruct_nerf.workspace, "Cancelling; what was made is kept"
    opened.instruct_nerf.workspace = ""
    bpy.ops.instruct_nerf.cancel()
    assert state.job.status == "cancelling" and drawn().count(words) == 1
    opened.instruct_nerf.workspace = shown
    assert drawn().count(words) == 1
    settle()
