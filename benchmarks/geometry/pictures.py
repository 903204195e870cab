# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes seen beside the photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh
from PIL import Image, ImageDraw

from benchmarks.geometry.data import ExactScene
from benchmarks.geometry.measures import Truth
from engine.geometry import Camera, Viewpoint
from engine.output.raster import depth_of

FINER = 2  # a mesh is drawn at so many times a photo's size and averaged


def looks(scene: ExactScene) -> list[Viewpoint]:
    """From two sides, where held-out photos are, and from above."""
    first, *_, last = scene.cameras[scene.training :]
    centre = np.asarray(scene.centre)
    above = np.eye(4)
    above[:3, 3] = centre
    above[2, 3] += np.linalg.norm(first.pose[:3, 3] - centre)
    return [first, last, Viewpoint(above, first.intrinsics, "above")]


def drawn(vertices: np.ndarray, faces: np.ndarray, camera: Camera, colours: np.ndarray | None = None) -> np.ndarray:
    """(H, W, 3) uint8 of triangles lit from the camera; ``colours`` (F, 3) 0–255, else gray."""
    i = camera.intrinsics
    fine = Viewpoint(camera.pose, i.scaled_to(FINER * i.width, FINER * i.height))
    _, face = depth_of(vertices, faces, fine)
    picture = np.full((*face.shape, 3), 255.0)
    a, b, c = np.moveaxis(vertices[faces[face[face >= 0]]], 1, 0)
    normal = np.cross(b - a, c - a)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    facing = np.abs(normal @ camera.pose[:3, 2])[:, None]
    own = np.full((len(a), 3), 210.0) if colours is None else colours[face[face >= 0]]
    picture[face >= 0] = own * (0.35 + 0.65 * facing)
    return picture.reshape(i.height, FINER, i.width, FINER, 3).mean(axis=(1, 3)).astype(np.uint8)


def of_mesh(mesh: trimesh.Trimesh, scene: ExactScene, path: Path) -> None:
    """The mesh from all looks: in gray, which shows its shape, and in its colours."""
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    colours = np.asarray(mesh.visual.vertex_colors)[:, :3][faces].mean(axis=1)
    columns = [np.vstack([drawn(vertices, faces, c), drawn(vertices, faces, c, colours)]) for c in looks(scene)]
    _write(np.hstack(columns), path)


def of_truth(scene: ExactScene, truth: Truth, path: Path) -> None:
    """The photos, and the true surface in gray."""
    small, faces, chosen = truth.surface.vertices, truth.surface.faces, truth.surface.chosen
    colours = np.where(chosen[:, None], [230.0, 190.0, 120.0], 190.0)
    photos = [*scene.pictures[[scene.training, -1]], np.full_like(scene.pictures[0], 255)]
    columns = [np.vstack([p, drawn(small, faces, c, colours)]) for p, c in zip(photos, looks(scene), strict=True)]
    _write(np.hstack(columns), path)


def sheet(folder: Path, path: Path) -> None:
    """All pictures of a folder below each other, under their names."""
    pictures = [(file.stem, Image.open(file).convert("RGB")) for file in sorted(folder.glob("*.png"))]
    if not pictures:
        return
    width, height = max(p.width for _, p in pictures), sum(p.height + 20 for _, p in pictures)
    canvas = Image.new("RGB", (width, height), "white")
    draw, y = ImageDraw.Draw(canvas), 0
    for name, picture in pictures:
        draw.text((4, y + 4), name, fill="black")
        canvas.paste(picture, (0, y + 20))
        y += picture.height + 20
    canvas.save(path)


def _write(picture: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.astype(np.uint8)).save(path)
