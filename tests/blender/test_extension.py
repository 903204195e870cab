# SPDX-License-Identifier: GPL-3.0-or-later
"""The zip as Blender's own tools make, check, install and enable it, in a Blender of its own with empty folders."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from in_blender import ROOT
from tiny_wheels import tiny_engine

INSTALL = """
import sys, bpy
zip_file, action = sys.argv[1:]
if action == "install":
    bpy.ops.extensions.package_install_files(filepath=zip_file, repo="user_default", enable_on_install=True)
name = "bl_ext.user_default.instruct_nerf"
assert name in bpy.context.preferences.addons, list(bpy.context.preferences.addons.keys())
from bl_ext.user_default.instruct_nerf import project
assert project.bundled_wheel().name.endswith(".whl")
assert project.user_folder().is_dir() and "instruct_nerf" in project.user_folder().name
assert hasattr(bpy.types, "INSTRUCT_NERF_PT_capture")
assert bpy.context.scene.instruct_nerf.shown == "image"
try:
    bpy.ops.instruct_nerf.install_engine()
except RuntimeError as error:
    assert "Allow Online Access" in str(error), error
else:
    raise SystemExit("installed without being allowed online")
import addon_utils
addon_utils.disable(name)
assert not hasattr(bpy.types.Scene, "instruct_nerf")
addon_utils.enable(name)
assert hasattr(bpy.types.Scene, "instruct_nerf")
print("EXTENSION FINE")
"""


def test_the_extension_builds_installs_and_enables(tmp_path: Path) -> None:
    made = tmp_path / "extension.zip"
    wheel = tiny_engine(tmp_path)
    subprocess.run(
        [sys.executable, ROOT / "packaging" / "build_extension.py", "--output", made, "--wheel", wheel], check=True
    )
    with zipfile.ZipFile(made) as content:
        names = set(content.namelist())
    assert {"blender_manifest.toml", "__init__.py", "client.py", f"engine/{wheel.name}"} <= names
    platforms, parts = ("linux-x86_64", "windows-x86_64", "macos-arm64"), ("", "-torch", "-uv")
    assert {f"locks/{platform}{part}.txt" for platform in platforms for part in parts} <= names
    assert not any("__pycache__" in name or name.startswith("tests") for name in names)
    env = os.environ | {"BLENDER_USER_RESOURCES": str(tmp_path / "user"), "XDG_DATA_HOME": str(tmp_path / "data")}
    (tmp_path / "user").mkdir()
    said = subprocess.run(
        [sys.executable, "-c", INSTALL, str(made), "install"], env=env, capture_output=True, text=True, timeout=120
    )
    assert "EXTENSION FINE" in said.stdout, said.stdout + said.stderr
