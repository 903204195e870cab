# SPDX-License-Identifier: GPL-3.0-or-later
"""What docs/guide.md names stands in the add-on under that name; the guide writes such names in italics."""

from __future__ import annotations

import ast
import re

import bpy
from in_blender import ROOT, settle
from test_panels import drawn
from test_projects import start

from blender_addon import knobs, messages, operators, panels, project, settings
from blender_addon.panels.base import CATEGORY
from engine import presets
from engine.editors.registry import KINDS

GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")

# Names of other programs, Blender's own among them.
OF_OTHERS = {
    "Edit", "Preferences", "Get Extensions", "Install from Disk", "Allow Online Access", "System", "Render",
    "Render Animation", "Standard", "Export Cameras", "Internal/External camera parameters", "Metadata", "Step",
    "Rendered",
}  # fmt: skip


def named() -> list[str]:
    """What the guide has in italics; of menus and rows, each part."""
    found = re.findall(r"(?<![*\w])\*([^*\n]+(?:\n[^*\n]+)?)\*(?!\*)", GUIDE)
    parts = [part for text in found for part in re.split(r"\s+[→·]\s+", " ".join(text.split()))]
    return [part for part in parts if part[0].isupper() or part[0].isdigit()]  # else: a term, or an instruction


def sentences() -> str:
    """Every text in the add-on's and the engine's code."""
    texts = []
    for folder in ("blender_addon", "engine"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            texts += [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return "\n".join(texts)


def names_of(rna: bpy.types.Struct) -> set[str]:
    """The names of properties and of what can be chosen."""
    found = set()
    for prop in rna.properties:
        if not prop.is_hidden:
            found.add(prop.name)
            found |= {item.name for item in getattr(prop, "enum_items", ())}
    return found


def labels(scene: bpy.types.Scene) -> set[str]:
    """Every label of the add-on, with the engine's own knobs and presets."""
    found = {CATEGORY} | {getattr(cls, "bl_label", "") for cls in (*panels.CLASSES, *operators.CLASSES)}
    for cls in settings.CLASSES:
        found |= names_of(cls.bl_rna)
    for kind in KINDS:
        declared = tuple(
            messages.Knob(
                k.name, k.label, k.description, k.kind, k.default, k.minimum, k.maximum, tuple(k.choices), k.advanced
            )
            for k in kind.knobs
        )
        editor = messages.Editor(kind.pipeline, "", 64, True, "", (), declared)
        assert knobs.usable(editor) == list(declared)
        knobs.declare(messages.EngineInfo(1, "", (), (editor,), ()))
        found |= names_of(knobs.group_of(scene, editor).bl_rna)
    return found | {preset.label for preset in presets.PRESETS.values()}


def test_what_the_guide_names_is_there(opened: bpy.types.Scene, monkeypatch) -> None:
    start(opened)
    settle()
    shown = drawn()
    monkeypatch.setattr(project, "engine_command", lambda _arguments: None)
    bpy.ops.instruct_nerf.stop_engine()
    settle()
    there, said = labels(opened) | OF_OTHERS, sentences() + shown + drawn()
    names = named()
    assert len(names) > 40, "the guide names nothing any more"
    whole = [name for name in names if all(word[0].isupper() for word in name.split() if len(word) > 4)]
    missing = [name for name in whole if name not in there and not re.search(rf"^{re.escape(name)}$", said, re.M)]
    missing += [name for name in names if name not in whole and name not in said]
    assert not missing, f"the guide names what is not in the add-on: {missing}"


def test_its_pictures_are_there_and_no_other() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (*(ROOT / "docs").glob("*.md"), ROOT / "README.md")]
    shown = {name for text in texts for name in re.findall(r"\]\((?:docs/)?pictures/([^)/]+)\)", text)}
    there = {path.name for path in (ROOT / "docs" / "pictures").iterdir() if path.is_file()}
    assert shown == there


def test_its_own_links_lead_to_a_heading() -> None:
    headings = {re.sub(r"[^\w\- ]", "", line.strip("# ").lower()).replace(" ", "-") for line in GUIDE.splitlines()
                if line.startswith("#")}  # fmt: skip
    assert set(re.findall(r"\]\(#([^)]+)\)", GUIDE)) <= headings
