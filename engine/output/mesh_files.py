# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh as files that other programs read: PLY in the capture frame; GLB and OBJ upright, y up as both have it."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from PIL import Image
from trimesh.exchange.gltf import export_glb
from trimesh.exchange.obj import export_obj
from trimesh.exchange.ply import export_ply
from trimesh.visual import TextureVisuals
from trimesh.visual.color import ColorVisuals
from trimesh.visual.material import PBRMaterial, SimpleMaterial

from engine.files import remove_file, write_bytes
from engine.output.frames import linear
from engine.output.mesh import write_ply
from engine.output.texture import Texture

NAME = "mesh"
TEXTURE_OF_OBJ = f"{NAME}-obj.png"  # its own: a later PLY may have another, or none
_TEXTURE = re.compile(rf"{NAME}-[0-9a-f]{{12}}\.png")  # of a PLY: named by what it holds, so that each finds its own
_FILE = re.compile(rf"{NAME}\.(ply|glb|obj|mtl)|{TEXTURE_OF_OBJ}|{_TEXTURE.pattern}")
Y_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])  # from z up
_LIBRARY = b"comment https://github.com/mikedh/trimesh\n"


@dataclass(frozen=True, eq=False)
class Painted:
    """A mesh with vertex colors, sRGB, in the capture frame, and its texture, where it has one."""

    mesh: trimesh.Trimesh
    texture: Texture | None = None


def upright(up: np.ndarray, center: np.ndarray) -> np.ndarray:
    """(4, 4) from the capture frame to one with z up about ``center``, in the same unit: as the add-on stands a capture
    up in Blender, but for its scale."""
    z = up / np.linalg.norm(up)
    helper = np.array([1.0, 0, 0] if abs(z[0]) < 0.9 else [0, 1.0, 0])
    x = helper - z * (helper @ z)
    x /= np.linalg.norm(x)
    world = np.eye(4)
    world[:3, :3] = x, np.cross(z, x), z
    world[:3, 3] = -world[:3, :3] @ center
    return world


def remove_meshes(folder: Path) -> None:
    """Remove every file that `write_mesh` writes. Raises BadInput."""
    _remove(folder, _FILE)


def write_mesh(
    painted: Painted, folder: Path, formats: Collection[str], world: np.ndarray, relit: bool
) -> dict[str, Path]:
    """Write `mesh.ply`, its texture and, of "glb" and "obj", what is among ``formats``; which file each is, that of the
    texture by "png". Each is written whole or not at all, and a PLY is never beside another's texture alone.

    ``world`` (4, 4) is the similarity from the capture frame to one with z up, in which GLB and OBJ are. ``relit``:
    their surfaces are lit by lamps; otherwise they show their colors, which hold the light they were seen in, as they
    are. Raises BadInput.
    """
    written = {"ply": folder / f"{NAME}.ply"}
    if "glb" in formats:
        written["glb"] = folder / f"{NAME}.glb"
        write_bytes(written["glb"], _glb(painted, Y_UP @ world, relit))
    if "obj" in formats:
        written["obj"] = folder / f"{NAME}.obj"
        for name, data in _obj(painted, Y_UP @ world, relit).items():
            write_bytes(folder / name, data)
    if painted.texture is None:
        write_ply(painted.mesh, written["ply"])
    else:
        data = _png(painted.texture.picture)
        written["png"] = folder / f"{NAME}-{hashlib.sha256(data).hexdigest()[:12]}.png"
        write_bytes(written["png"], data)
        write_bytes(written["ply"], _ply(painted.mesh, painted.texture, written["png"].name))
    _remove(folder, _TEXTURE, written.get("png"))
    return written


def _remove(folder: Path, names: re.Pattern[str], kept: Path | None = None) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        if names.fullmatch(path.name) and path != kept:
            remove_file(path)


def _ply(mesh: trimesh.Trimesh, texture: Texture, picture: str) -> bytes:
    """With vertex colors too; the ``picture``'s name and where the corners lie in it are as MeshLab writes them."""
    marked = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    marked.visual = ColorVisuals(marked, vertex_colors=mesh.visual.vertex_colors)
    marked.face_attributes["texcoord"] = texture.corners.reshape(-1, 6).astype(np.float32)
    named = b"comment TextureFile " + picture.encode() + b"\n"
    return export_ply(marked, vertex_normal=False).replace(_LIBRARY, named, 1)


def _glb(painted: Painted, frame: np.ndarray, relit: bool) -> bytes:
    mesh, uv = _laid_out(painted, frame)
    image = None
    if painted.texture is None:  # in glTF colors of vertices are linear: bytes would be too coarse for what is dark
        mesh.vertex_attributes["COLOR_0"] = linear(mesh.visual.vertex_colors[:, :3] / 255).astype(np.float32)
    else:
        image = Image.fromarray(painted.texture.picture)
    surface = PBRMaterial(
        name="Instruct NeRF", baseColorTexture=image, metallicFactor=0.0, roughnessFactor=1.0, doubleSided=True
    )
    mesh.visual = TextureVisuals(uv=uv, material=surface)

    def finish(tree: dict[str, Any]) -> None:
        for made in tree["meshes"]:
            attributes = made["primitives"][0]["attributes"]
            if "_COLOR_0" in attributes:
                attributes["COLOR_0"] = attributes.pop("_COLOR_0")
        if not relit:
            tree["extensionsUsed"] = ["KHR_materials_unlit"]
            for made in tree["materials"]:
                made["extensions"] = {"KHR_materials_unlit": {}}

    return export_glb(mesh.scene(), include_normals=True, tree_postprocessor=finish)


def _obj(painted: Painted, frame: np.ndarray, relit: bool) -> dict[str, bytes]:
    """Files by name. With colors a vertex, which are no part of the format and yet read by many programs, or with a
    texture and its material, `illum 0` of which is a color that no lamp changes."""
    mesh, uv = _laid_out(painted, frame)
    if painted.texture is None:
        return {f"{NAME}.obj": export_obj(mesh, include_normals=True, header=None).encode()}
    black, white = [0, 0, 0, 255], [255] * 4
    surface = SimpleMaterial(name=NAME, diffuse=white, ambient=black, specular=black)
    mesh.visual = TextureVisuals(uv=uv, material=surface)
    text = export_obj(mesh, include_normals=True, mtl_name=f"{NAME}.mtl", header=None)
    lines = [
        f"newmtl {NAME}",
        "Ka 0 0 0",
        "Kd 1 1 1",
        "Ks 0 0 0",
        f"illum {int(relit)}",
        f"map_Kd {TEXTURE_OF_OBJ}",
        "",
    ]
    return {
        TEXTURE_OF_OBJ: _png(painted.texture.picture),
        f"{NAME}.mtl": "\n".join(lines).encode(),
        f"{NAME}.obj": text.encode(),
    }


def _laid_out(painted: Painted, frame: np.ndarray) -> tuple[trimesh.Trimesh, np.ndarray | None]:
    """The mesh in a ``frame`` (4, 4), its vertices doubled where its texture was cut and their normals as before that;
    and where they lie in the texture (V, 2)."""
    mesh, corners, which, uv = painted.mesh, painted.mesh.faces, np.arange(len(painted.mesh.vertices)), None
    if painted.texture is not None:
        rows = np.empty(3 * len(corners), [("vertex", np.int64), ("u", np.float32), ("v", np.float32)])
        rows["vertex"], places = corners.reshape(-1), painted.texture.corners.reshape(-1, 2)
        rows["u"], rows["v"] = places[:, 0], places[:, 1]
        found, inverse = np.unique(rows, return_inverse=True)
        which, uv = found["vertex"], np.column_stack([found["u"], found["v"]])
        corners = inverse.reshape(-1, 3)
    normals = mesh.vertex_normals @ (frame[:3, :3] / np.cbrt(np.linalg.det(frame[:3, :3]))).T
    made = trimesh.Trimesh(
        mesh.vertices[which] @ frame[:3, :3].T + frame[:3, 3], corners, vertex_normals=normals[which], process=False
    )
    made.visual = ColorVisuals(made, vertex_colors=mesh.visual.vertex_colors[which])
    return made, uv


def _png(picture: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG", compress_level=3)
    return data.getvalue()
