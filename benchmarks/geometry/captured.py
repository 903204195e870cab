# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of a project's mesh beside its photos, from two sides and from above, for captures without a known truth:

python -m benchmarks.geometry.captured PROJECT PICTURE.png [MESH.ply]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

from benchmarks.geometry.pictures import drawn
from engine.capture import Capture
from engine.geometry import Viewpoint
from engine.jobs.capture import load_opened
from engine.workspace import Workspace

ABOVE = 2.5  # times the cameras' mean distance: how far above what they look at
ASIDE = 0.1  # share of the views that is farther out on each side


def sides(capture: Capture) -> tuple[int, int]:
    """The numbers of two views, from the left and from the right of what the cameras look at."""
    forward = np.mean([-view.pose[:3, 2] for view in capture.views], axis=0)
    right = np.cross(forward, capture.up)
    along = (capture.positions - capture.centre) @ right
    order = np.argsort(along)
    out = int(ASIDE * len(order))
    return int(order[out]), int(order[-1 - out])


def above(capture: Capture) -> Viewpoint:
    """What looks down on what the cameras look at, their front below."""
    back = capture.up
    front = np.mean([-view.pose[:3, 2] for view in capture.views], axis=0)
    up = front - (front @ back) * back
    up = up / np.linalg.norm(up) if np.linalg.norm(up) > 1e-6 else np.roll(back, 1)
    pose = np.eye(4)
    pose[:3] = np.stack([np.cross(up, back), up, back, capture.centre + ABOVE * capture.radius * back], axis=1)
    return Viewpoint(pose, capture.views[0].intrinsics, "above")


def picture(project: Path, mesh: Path | None = None) -> Image.Image:
    """A row of photos, and below it the mesh in gray, which shows its shape, and in its colours."""
    workspace = Workspace(project)
    capture = load_opened(workspace)
    made = trimesh.load(mesh or workspace.output(None) / "mesh.ply", process=False)
    vertices, faces = np.asarray(made.vertices), np.asarray(made.faces)
    colours = np.asarray(made.visual.vertex_colors)[:, :3][faces].mean(axis=1)
    columns = []
    for number in sides(capture):
        view = capture.views[number]
        photo = np.asarray(Image.open(workspace.images / view.image).convert("RGB"))
        shown = [drawn(vertices, faces, view), drawn(vertices, faces, view, colours)]
        columns.append(np.vstack([photo, *shown]))
    top = above(capture)
    from_above = [drawn(vertices, faces, top), drawn(vertices, faces, top, colours)]
    columns.append(np.vstack([np.full_like(from_above[0], 255), *from_above]))
    tallest = max(len(column) for column in columns)
    padded = [np.pad(c, ((0, tallest - len(c)), (0, 0), (0, 0)), constant_values=255) for c in columns]
    return Image.fromarray(np.hstack(padded))


if __name__ == "__main__":
    picture(Path(sys.argv[1]), Path(sys.argv[3]) if len(sys.argv) > 3 else None).save(sys.argv[2])
