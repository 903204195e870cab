# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh with colour out of depth and colour renders, in the capture frame. Knows nothing of what rendered them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import trimesh
from trimesh.exchange.ply import export_ply
from trimesh.visual.color import ColorVisuals

from engine.errors import BadInput
from engine.files import write_bytes
from engine.geometry import project, sample, unproject
from engine.output.doubt import skylike
from engine.output.isosurface import surface_of
from engine.output.volume import DepthView, Volume

__all__ = ["DepthView", "bounds_from_depth", "checked_resolution", "fuse", "resolution_for", "write_ply"]

SAME_PLACE = 0.1  # of the distance: what is farther apart is hidden from one of two views
NARROWEST, WIDEST = 3.0, 4 / 160  # samples, and share of the box: how far from a surface a view speaks of it
NOISES = 14.0  # times what views disagree by, where that lies between these
COARSEST, FINEST = 8, 1024  # samples along the longest side of a mesh's box
MOST = 40_000_000  # samples near surfaces, unless finer ones are asked for: some 28 bytes each
# Of the largest part, and pixels: a part that has less area than both is left out. One that is larger than a few pixels
# and that the views agree on is there, as a wheel's spokes are that hang together nowhere.
SMALLEST, PIXELS = 0.01, 300.0

Bounds = tuple[np.ndarray, np.ndarray]


def bounds_from_depth(renders: Iterable[DepthView], centre: np.ndarray, radius: float, reach: float = 2.0) -> Bounds:
    """(low, high), each (3,): the box, along the capture frame's axes, of what the cameras see near `centre`.

    Surfaces farther from the centre than `reach` times `radius` (the cameras' mean distance to it) are background. Of
    the rest the outermost hundredth at each side is left out and a twentieth of the box added around. Raises BadInput
    where nothing is seen.
    """
    points = np.concatenate([np.zeros((0, 3)), *(_some_points(view, 4000) for view in renders)])
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
    up: np.ndarray | None = None,
) -> trimesh.Trimesh:
    """The surface that the renders agree on inside `bounds`: vertices in the capture frame, colours uint8 sRGB.

    `resolution` is the number of samples along the longest side of the box; memory is some 28 bytes for each near a
    surface. Small parts are left out as floaters (`SMALLEST`, `PIXELS`), and of known `up` (3,) what is most likely sky
    (`engine/output/doubt.py`). Faces turn counter-clockwise towards the cameras. Raises BadInput where there is no
    surface; whatever `renders` raises passes through, which is how to cancel.
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
    vertices, faces = surface_of(volume)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    mesh = _without_floaters(mesh, PIXELS * pixel_size(views, (low, high)) ** 2)
    colours = np.clip(volume.colours_at(mesh.vertices) * 255 + 0.5, 0, 255).astype(np.uint8)
    mesh.visual = ColorVisuals(mesh, vertex_colors=colours)
    return mesh


def _some_points(view: DepthView, count: int) -> np.ndarray:
    """(N, 3), capture frame: what some `count` of a view's pixels, evenly spread, show of surfaces."""
    step = max(1, int(np.sqrt(view.depth.size / count)))
    part = np.s_[step // 2 :: step, step // 2 :: step]
    points = unproject(torch.from_numpy(view.depth.astype(np.float64, order="C")), view).numpy()
    return points[part][view.full[part]]


def _inside(points: np.ndarray, bounds: Bounds) -> np.ndarray:
    return points[((points > bounds[0]) & (points < bounds[1])).all(axis=-1)]


def pixel_size(renders: Iterable[DepthView], bounds: Bounds) -> float:
    """What half of the pixels that show surfaces in a box are smaller than there; infinite where none does."""
    sizes = [np.zeros(0)]
    for view in renders:
        points = _inside(_some_points(view, 4000), bounds)
        sizes.append((points - view.pose[:3, 3]) @ -view.pose[:3, 2] / max(view.intrinsics.fx, view.intrinsics.fy))
    found = np.concatenate(sizes)
    return float(np.median(found)) if len(found) else np.inf


def resolution_for(renders: Sequence[DepthView], bounds: Bounds) -> int:
    """Samples along the longest side of a box for as much detail as the pictures hold: one a pixel on its surfaces, or
    as many as `MOST` of them lie near surfaces."""
    low, high = bounds
    wanted = int(np.clip(np.ceil(float(np.max(high - low)) / pixel_size(renders, bounds)), COARSEST, FINEST))
    while wanted > COARSEST and (near := _near(renders, bounds, wanted)) > MOST:
        wanted = max(COARSEST, min(wanted - 1, int(wanted * np.sqrt(MOST / near))))  # surfaces grow with its square
    return wanted


def _near(renders: Sequence[DepthView], bounds: Bounds, resolution: int) -> int:
    """How many samples of a box lie near surfaces."""
    volume = Volume(*bounds, resolution)
    for view in renders:
        volume.near(view)
    return volume.points


def disagreement(views: Sequence[DepthView], bounds: Bounds) -> float:
    """By how much views disagree about where surfaces in a box lie: the median distance along the ray between what some
    pixels show and what another view shows there, of those that differ by less than `SAME_PLACE` of the distance."""
    found = []
    for number, view in enumerate(views):
        other = views[(number + max(1, len(views) // 8)) % len(views)]
        place, distance = project(torch.from_numpy(_inside(_some_points(view, 1000), bounds)), other)
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


def _without_floaters(mesh: trimesh.Trimesh, large: float) -> trimesh.Trimesh:
    """Without parts of less area than ``large`` and than `SMALLEST` of the largest."""
    part = trimesh.graph.connected_component_labels(mesh.face_adjacency, node_count=len(mesh.faces))
    area = np.bincount(part, weights=mesh.area_faces)
    mesh.update_faces(area[part] >= min(large, SMALLEST * area.max()))
    mesh.remove_unreferenced_vertices()
    return mesh


def write_ply(mesh: trimesh.Trimesh, path: Path) -> None:
    """Writes a binary PLY with vertex colours (uint8, sRGB), whole or not at all. Raises BadInput."""
    write_bytes(Path(path), export_ply(mesh, vertex_normal=False))
