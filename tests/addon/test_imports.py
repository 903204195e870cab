# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's layers: imports run downward only, and what is said to be free of bpy is."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ADDON = Path(__file__).parents[2] / "blender_addon"

# From the top down; a module may import those of later lines, never of its own or earlier ones, but for packages
# whose modules stand side by side.
LAYERS = [
    {"panels", "translations"},
    {"drawing", "operators", "following", "highlight", "wipe", "surfels"},
    {"frames", "detaching", "render"},
    {"settings", "results", "meshes", "tries"},
    {"tree"},
    {"editing", "talking", "downloads", "sheet_settings"},
    {"opening", "knobs", "key_views"},
    {"jobs", "workspaces"},
    {"rows", "estimates"},
    {"project", "previews", "second_blender"},
    {"session", "scene"},
    {"asking", "chores"},
    {"state", "install", "trajectories"},
    {"graphics", "running", "ply", "costs", "pixels"},
    {"relay"},
    {"client", "engine_home", "choices", "files", "lineage", "answers"},
    {"wire", "inbox"},
    {"fields", "curves"},
    {"messages"},
    {"conversion", "words"},
]
INSIDE = {("settings", "project"), ("state", "install")}
FREE_OF_BPY = {
    "asking", "state", "choices", "files", "client", "inbox", "install", "wire", "messages", "conversion",
    "fields", "lineage", "trajectories", "ply", "costs", "curves", "words", "pixels", "relay", "answers",
}  # fmt: skip
SCENE_KNOWS_NOT = {"asking", "state", "choices", "session", "client", "jobs", "project", "wire", "install"}


def modules() -> list[Path]:
    return sorted(p for p in ADDON.rglob("*.py") if p.relative_to(ADDON) != Path("__init__.py"))


def layer_name(path: Path) -> str:
    return path.relative_to(ADDON).parts[0].removesuffix(".py")


def imports(path: Path) -> tuple[set[str], set[str]]:
    """Names of the add-on's own modules, and of foreign ones, that a file imports."""
    own: set[str] = set()
    foreign: set[str] = set()
    depth = len(path.relative_to(ADDON).parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            own |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            foreign.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            foreign |= {alias.name.split(".")[0] for alias in node.names}
    return own, foreign


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(ADDON).as_posix())
def test_imports_run_downward(path: Path) -> None:
    rank = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    name = layer_name(path)
    own, foreign = imports(path)
    for other in own - {name}:
        assert rank[other] > rank[name] or (name, other) in INSIDE, f"{name} imports {other}"
    if name in FREE_OF_BPY:
        assert not foreign & {"bpy", "mathutils", "bpy_extras"}
    if name == "scene":
        assert not own & SCENE_KNOWS_NOT
    # Some builds of Blender come without numpy, and nothing else is in them.
    blenders = {"bl_operators", "bl_ui", "blf", "bpy", "bpy_extras", "gpu", "gpu_extras", "mathutils"}
    others = foreign - blenders - sys.stdlib_module_names
    assert not others, f"{name} imports {others}: the add-on needs Blender and the standard library alone"


def test_wire_names_are_written_once() -> None:
    for path in modules():
        if path.name != "wire.py":
            strings = {n.value for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Constant)}
            assert not {s for s in strings if isinstance(s, str) and s.count("/") == 1 and s.split("/")[0] in
                        {"capture", "workspace", "scene", "edit", "output", "job", "files"}}, path  # fmt: skip


def test_no_node_is_asked_for_by_its_name() -> None:
    """Blender gives the nodes that it makes by itself names in the artist's language."""
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                of = node.value
                named = of.attr if isinstance(of, ast.Attribute) else of.id if isinstance(of, ast.Name) else ""
                assert named != "nodes", f"{path.relative_to(ADDON)}:{node.lineno}"
