# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports run one way (docs/architecture.md); what must load fast or inside Blender imports little."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A package may import those below its own line, and its own.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"server"},
    {"jobs"},
    {"presets"},
    {"edit", "output", "metrics"},
    {"scenes", "editors"},
    {"capture"},
    {"pictures"},
    {"workspace", "progress", "devices", "rpc"},
    {"runtime", "wishes", "wire", "process"},
    {"protocol"},
    {"files"},
    {"errors", "unused"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imports_of(file: Path) -> set[str]:
    """Full names of the modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_engine_imports_run_downward():
    wrong = []
    for file in sorted((ROOT / "engine").rglob("*.py")):
        own = file.relative_to(ROOT / "engine").parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        assert own in LEVEL, f"{own} has no place in the written order"
        for name in imports_of(file):
            parts = name.split(".")
            other = parts[1] if parts[0] == "engine" and len(parts) > 1 else None
            if other in LEVEL and other != own and LEVEL[other] <= LEVEL[own]:
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_the_engine_knows_nothing_of_blender_and_never_unpickles():
    for file in (ROOT / "engine").rglob("*.py"):
        names = {name.split(".")[0] for name in imports_of(file)}
        assert not names & {"bpy", "mathutils", "blender_addon", "pickle"}, file


@pytest.mark.parametrize(
    "module", ["engine.server", "engine.jobs.capture", "engine.presets", "engine.editors.catalogue"]
)
def test_what_answers_first_imports_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_no_file_is_longer_than_a_sitting():
    for folder in ("engine", "blender_addon", "training", "packaging", "benchmarks", "tests"):
        for file in (ROOT / folder).rglob("*.py"):
            assert len(file.read_text().splitlines()) <= 600, file
