# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh with colour out of depth and colour renders, in the capture frame. Knows nothing of what rendered them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import trimesh
from skimage.measure import marching_cubes
from trimesh.exchange.ply import export_ply
from trimesh.visual.color import ColorVisuals

from engine.errors import BadInput
from engine.files import write_bytes
from engine.geometry import project, sample, unproject
from engine.output.doubt import skylike
from engine.output.volume import DepthView, Volume

__all__ = ["DepthView", "bounds_from_depth", "checked_resolution", "fuse", "resolution_for", "write_ply"]

SAME_PLACE = 0.1  # of the distance: what is farther apart is hidden from one of two views
NARROWEST, WIDEST = 3.0, 4 / 160  # samples, and share of the box: how far from a surface a view speaks of it
NOISES = 6.0  # times what views disagree by, where that lies between these
COARSEST, FINEST = 8, 512  # samples along the longest side of a mesh's box

Bounds = tuple[np.ndarray, np.ndarray]


def bounds_from_depth(renders: Iterable[DepthView], centre: np.ndarray, radius: float, reach: float = 2.0) -> Bounds:
    """(low, high), each (3,): the box, along the capture frame's axes, of what the cameras see near `centre`.

    Surfaces farther from the centre than `reach` times `radius` (the cameras' mean distance to it) are background. Of
    the rest the outermost hundredth at each side is left out and a twentieth of the box added around. Raises BadInput
    where nothing is seen.
    """
    seen = []
    for view in renders:
        step = max(1, int(np.sqrt(view.depth.size / 4000)))  # a few thousand pixels of each view are plenty
        part = np.s_[step // 2 :: step, step // 2 :: step]
        points = unproject(torch.as_tensor(view.depth, dtype=torch.float64), view).numpy()[part]
        full = (view.opacity[part] >= 0.5) & np.isfinite(view.depth[part])
        seen.append(points[full])
    points = np.concatenate(seen) if seen else np.zeros((0, 3))
    if not len(points):
        raise BadInput("The renders show no surface, so there is nothing to make a mesh of; train for longer.")
    distance = np.linalg.norm(points - centre, axis=1)
    near = points[distance < reach * radius]
    if len(near) < 0.01 * len(points):  # everything is far away: a panorama
        near = points[distance <= np.median(distance)]
    low, high = np.percentile(near, (1, 99), axis=0)
    margin = 0.05 * (high - low).max()
    return low - margin, high + margin


def fuse(
    renders: Iterable[DepthView],
    bounds: Bounds,
    resolution: int = 160,
    smallest_part: float = 0.01,
    up: np.ndarray | None = None,
) -> trimesh.Trimesh:
    """The surface that the renders agree on inside `bounds`: vertices in the capture frame, colours uint8 sRGB.

    `resolution` is the number of samples along the longest side of the box; memory is about 6 bytes for each cell of
    the grid, and 30 more for each near a surface. Parts with less area than `smallest_part` of the largest are left out
    as floaters, and of known `up` (3,) what is most likely sky (`engine/output/doubt.py`). Faces turn counter-clockwise
    towards the cameras. Raises BadInput where there is no surface; whatever `renders` raises passes through, which is
    how to cancel.
    """
    low, high = (np.asarray(corner, np.float64) for corner in bounds)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (high > low).all()):
        raise BadInput("The box to make a mesh of has no size.", field="bounds")
    checked_resolution(resolution)
    views = list(renders)
    if up is not None:
        views = [replace(view, doubtful=skylike(view, up)) for view in views]
    spacing = float((high - low).max()) / resolution
    reach = np.clip(
        NOISES * disagreement(views, (low, high)) / spacing,
        NARROWEST,
        max(NARROWEST, WIDEST / spacing * (high - low).max()),
    )
    volume = Volume(low, high, resolution, float(reach))
    for view in views:
        volume.near(view)
    for view in views:
        volume.add(view)
    vertices, faces = _surface(volume)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    mesh = _without_floaters(mesh, smallest_part)
    colours = np.clip(volume.colours_at(mesh.vertices) * 255 + 0.5, 0, 255).astype(np.uint8)
    mesh.visual = ColorVisuals(mesh, vertex_colors=colours)
    return mesh


def resolution_for(renders: Iterable[DepthView], bounds: Bounds) -> int:
    """Samples along the longest side of a box for as much detail as the pictures hold: one for what half of the pixels
    that show the inside of the box are smaller than, on its surfaces."""
    (low, high), sizes = bounds, []
    for view in renders:
        step = max(1, int(np.sqrt(view.depth.size / 4000)))
        part = np.s_[step // 2 :: step, step // 2 :: step]
        points = unproject(torch.as_tensor(view.depth, dtype=torch.float64), view).numpy()[part]
        inside = (view.opacity[part] >= 0.5) & ((points > low) & (points < high)).all(axis=-1)
        ahead = (points[inside] - view.pose[:3, 3]) @ -view.pose[:3, 2]
        sizes.append(ahead / max(view.intrinsics.fx, view.intrinsics.fy))
    found = np.concatenate(sizes) if sizes else np.zeros(0)
    longest = float(np.max(np.asarray(high) - low))
    if not len(found):
        return COARSEST
    return int(np.clip(np.ceil(longest / np.median(found)), COARSEST, FINEST))


def disagreement(views: Sequence[DepthView], bounds: Bounds) -> float:
    """By how much views disagree about where surfaces in a box lie: the median distance along the ray between what some
    pixels show and what another view shows there, of those that differ by less than `SAME_PLACE` of the distance."""
    (low, high), found = bounds, []
    for number, view in enumerate(views):
        other = views[(number + max(1, len(views) // 8)) % len(views)]
        step = max(1, int(np.sqrt(view.depth.size / 1000)))
        part = np.s_[step // 2 :: step, step // 2 :: step]
        points = unproject(torch.from_numpy(view.depth.astype(np.float64, order="C")), view)[part]
        inside = (view.opacity[part] >= 0.5) & ((points.numpy() > low) & (points.numpy() < high)).all(axis=-1)
        place, distance = project(points[torch.from_numpy(inside)], other)
        depth = torch.from_numpy(other.depth.astype(np.float64, order="C"))
        shown = sample(depth[..., None], place, "nearest")[..., 0]
        off = (shown - distance).abs()[(place.abs() < 1).all(dim=-1) & (distance > 0)]
        near = off < SAME_PLACE * distance[(place.abs() < 1).all(dim=-1) & (distance > 0)]
        found.append(off[near].numpy())
    together = np.concatenate(found) if found else np.zeros(0)
    return float(np.median(together)) if len(together) else 0.0


def checked_resolution(resolution: int) -> int:
    """Itself. Raises BadInput where no mesh is made of so many samples: to be asked before anything is rendered."""
    if not COARSEST <= resolution <= FINEST:
        raise BadInput(
            f"A mesh resolution of {resolution} cannot be used; choose {COARSEST} to {FINEST}.", field="resolution"
        )
    return resolution


def _surface(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    distance, known = volume.distances()
    # A cell has a surface only where all eight of its corners are known, else the end of knowledge would be one.
    # skimage asks the mask at a cell's last corner.
    cells = np.zeros_like(known)
    cells[1:, 1:, 1:] = known[1:, 1:, 1:]
    for corner in list(np.ndindex(2, 2, 2))[:-1]:
        cells[1:, 1:, 1:] &= known[tuple(slice(c, n - 1 + c) for c, n in zip(corner, known.shape, strict=True))]
    try:
        vertices, faces, _, _ = marching_cubes(
            distance, 0.0, mask=cells, gradient_direction="descent", allow_degenerate=False
        )
    except (ValueError, RuntimeError):  # no cell, or none with a change of sign
        raise BadInput("The renders show no surface in the box, so there is no mesh; train for longer.") from None
    return vertices * volume.spacing + volume.origin, faces


def _without_floaters(mesh: trimesh.Trimesh, smallest_part: float) -> trimesh.Trimesh:
    part = trimesh.graph.connected_component_labels(mesh.face_adjacency, node_count=len(mesh.faces))
    area = np.bincount(part, weights=mesh.area_faces)
    mesh.update_faces(area[part] >= smallest_part * area.max())
    mesh.remove_unreferenced_vertices()
    return mesh


def write_ply(mesh: trimesh.Trimesh, path: Path) -> None:
    """Writes a binary PLY with vertex colours (uint8, sRGB), whole or not at all. Raises BadInput."""
    write_bytes(Path(path), export_ply(mesh, vertex_normal=False))
