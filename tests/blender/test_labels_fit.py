# SPDX-License-Identifier: GPL-3.0-or-later
"""No label of the tab is cut, in any language, where the sidebar is as wide as Blender makes it.

The layout is a stand-in that shares the width as Blender does, and measures texts in Blender's own font.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import blf
import bpy
import pytest
from in_blender import settle
from test_panels import context_now
from test_projects import start

from blender_addon import panels, project, translations, words

SIDEBAR = 280  # pixels, as Blender makes it
WIDTH = 236  # of them, that a panel's content has
UNIT, MARGIN = 20, 4  # of an icon, of a text in its button
FONT = 11  # points
TEXT = 10  # units that a text asks for beside others, however long it is
LABEL = 0.4  # of the width: what stands before a field where Blender splits properties


class Ruler:
    """A layout that knows its parts, and after :meth:`measure` which of their texts have no room."""

    def __init__(self, kind: str = "column", factor: float = 0.0) -> None:
        self.kind, self.factor, self.parts = kind, factor, []
        self.scale_x = self.scale_y = 1.0
        self.alignment = "EXPAND"
        self.active = self.alert = self.enabled = self.use_property_split = self.use_property_decorate = False

    def _part(self, kind: str, factor: float = 0.0) -> Ruler:
        part = Ruler(kind, factor)
        part.use_property_split = self.use_property_split
        self.parts.append(part)
        return part

    def column(self, **_options: object) -> Ruler:
        return self._part("column")

    def row(self, **_options: object) -> Ruler:
        return self._part("row")

    def box(self) -> Ruler:
        return self._part("box")

    def split(self, factor: float = 0.0, **_options: object) -> Ruler:
        return self._part("split", factor)

    def grid_flow(self, columns: int = 1, **_options: object) -> Ruler:
        return self._part("row")  # its cells are as wide as those of a row of so many

    def text(self, text: str, icon: object = "NONE", taken: int = 0) -> None:
        """Something with a text, and ``taken`` pixels for what Blender puts beside it."""
        leaf = Ruler("leaf")
        leaf.words, leaf.taken = text, taken + (UNIT if icon not in ("NONE", 0) else 0)
        self.parts.append(leaf)

    def label(self, text: str = "", icon: str = "NONE", icon_value: int = 0, **_options: object) -> None:
        self.text(looked_up(text), icon_value or icon)

    def progress(self, factor: float, text: str) -> None:
        self.text(text)

    def operator(
        self, name: str, text: str | None = None, icon: str = "NONE", icon_value: int = 0, **_: object
    ) -> object:
        kind = getattr(getattr(bpy.ops, name.split(".")[0]), name.split(".")[1]).get_rna_type()
        self.text(looked_up(kind.name) if text is None else looked_up(text), icon_value or icon)
        return SimpleNamespace()

    def operator_menu_enum(self, name: str, _prop: str, **options: object) -> None:
        self.operator(name, **options)

    def prop(
        self, owner: object, name: str, text: str | None = None, icon: str = "NONE", expand: bool = False, **_: object
    ) -> None:
        prop = owner.bl_rna.properties[name]
        said = looked_up(prop.name if text is None else text)
        if prop.type == "ENUM" and expand:
            for item in prop.enum_items_static:
                self.text(looked_up(item.name))
        elif name == "title":
            self.text("")  # what an artist has named is as long as it is
        elif self.use_property_split and text is None and prop.type != "BOOLEAN":
            split = self._part("split", LABEL)
            split.text(said)
            split.text(looked_up(value_of(owner, prop)), taken=UNIT)
        elif prop.type == "BOOLEAN":
            self.text(said, icon, taken=UNIT if icon == "NONE" else 0)
        elif prop.type == "ENUM":
            self.text(looked_up(value_of(owner, prop)), icon, taken=UNIT)
        else:
            self.text(said + ("" if text == "" or prop.type == "STRING" else "  0.00"), icon)

    def menu(self, _name: str, text: str = "", icon: str = "NONE") -> None:
        self.text(text, icon)

    def template_ID(self, *_parts: object, **_options: object) -> None: ...
    def popover(self, *_parts: object, **_options: object) -> None: ...
    def separator(self) -> None: ...
    def template_icon(self, **_options: object) -> None: ...

    def template_list(self, *parts: object, **_options: object) -> None:
        _kind, _id, owner, items, _its, _index = parts
        column = self.column()
        for item in getattr(owner, items):
            panels.tree.draw_row(column.row(), context_now(), item)

    def units(self) -> float:
        """How much of a row's width it asks for."""
        if self.kind == "leaf":
            return (TEXT if self.words else 1) * self.scale_x
        asked = [part.units() for part in self.parts]
        return (sum(asked) if self.kind in ("row", "split") else max(asked, default=0.0)) * self.scale_x

    def measure(self, width: float) -> list[str]:
        """The texts that are longer than the room that they have, when this has so many pixels."""
        if self.kind == "leaf":
            return [] if not self.words or wide(self.words) <= width - self.taken - MARGIN else [self.words]
        if self.kind == "box":
            return [cut for part in self.parts for cut in part.measure(width - 12)]
        if self.kind == "column":
            return [cut for part in self.parts for cut in part.measure(width)]
        parts = [part for part in self.parts if part.units()]
        if self.kind == "split":
            first = self.factor or 1 / max(1, len(parts))
            rest = (1 - first) / max(1, len(parts) - 1)
            return [
                cut for number, part in enumerate(parts) for cut in part.measure(width * (rest if number else first))
            ]
        asked = [part.units() for part in parts]
        fixed = sum(UNIT * units for units in asked if units <= 1)
        share = (width - fixed) / max(1e-6, sum(units for units in asked if units > 1))
        return [
            cut
            for part, units in zip(parts, asked, strict=True)
            for cut in part.measure(UNIT * units if units <= 1 else share * units)
        ]


def value_of(owner: object, prop: bpy.types.Property) -> str:
    """The name of an enumeration's value; nothing of anything else."""
    if prop.type != "ENUM":
        return ""
    value = getattr(owner, prop.identifier)
    return next((item.name for item in prop.enum_items_static if item.identifier == value), "")


def wide(text: str) -> float:
    """A text's width in Blender's font."""
    blf.size(0, FONT)
    return float(blf.dimensions(0, text)[0])


looked_up = words.t


def cut() -> set[str]:
    """The texts of all panels of the tab that are cut now."""
    found: set[str] = set()
    context = context_now()
    context.region = SimpleNamespace(width=SIDEBAR)
    for cls in panels.CLASSES:
        if not issubclass(cls, panels.base.Base) or (hasattr(cls, "poll") and not cls.poll(context)):
            continue
        layout = Ruler()
        panel = SimpleNamespace(layout=layout)
        for name in ("chosen", "first"):
            if hasattr(cls, name):
                setattr(panel, name, partial(getattr(cls, name), panel))
        cls.draw(panel, context)
        found.update(layout.measure(WIDTH))
    return found


@pytest.mark.parametrize("language", ["en_US", *translations.LANGUAGES])
def test_no_label_is_cut(addon: object, capture, language: str) -> None:
    table = translations.LANGUAGES.get(language, {})
    words.look_up_with(lambda text: table.get(text, text))
    try:
        scene = bpy.context.scene
        seen = cut()
        bpy.ops.instruct_nerf.open_capture(filepath=str(capture))
        settle()
        settings = scene.instruct_nerf
        settings.use_wipe = settings.use_region = True
        seen |= cut()
        settings.use_region = False
        start(scene)
        seen |= cut()
        settle()
        camera = next(item for item in scene.objects if item.type == "CAMERA")
        bpy.context.view_layer.objects.active = camera
        settings.instruction = "make it night"
        bpy.ops.instruct_nerf.make_sheet()
        settle()
        bpy.ops.instruct_nerf.region_box()
        bpy.context.view_layer.objects.active = camera
        settings.parent = project.edits_of(scene)[0].id
        seen |= cut()
    finally:
        translations.look_up()
    assert not seen, "\n".join(sorted(seen))


def test_the_ruler_measures() -> None:
    row = Ruler("row")
    row.text("A", "ICON")
    row.text("")
    row.text("A very long text, and longer than half of it all")
    assert row.measure(WIDTH) == ["A very long text, and longer than half of it all"]
    assert row.measure(3 * WIDTH) == []
