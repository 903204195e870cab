# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh against the true surface: distances, F-score, normals, silhouettes, loose parts.

All lengths are in shares of the scene's radius, the mean distance of its cameras to what they look at. What lies
outside the ball of that radius is background and not measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import trimesh
from scipy.spatial import cKDTree

from engine.geometry import Camera, to_pixels, unproject
from engine.output.raster import depth_of

NEAR = 0.01  # of the radius: how far from the true surface a point may lie for the F-score
FINE, COARSE = 0.0015, 0.003  # of the radius: spacing of points on the surface that is searched, and of those measured
EDGE = 0.05  # of the radius: longest edge of a face that is sampled, so that those outside the ball fall away
THIN = 30  # points, of which one is enough to search what is farther than five times that
SAME = 0.03  # of the radius: how far from the subject what covers its silhouette may be
HIDDEN = 0.005  # of the radius, behind what a camera sees, from which on a point is hidden from it
SEEN_BY = 2  # cameras, at least: one tells no depth


@dataclass(frozen=True, eq=False)
class Surface:
    """Triangles within a ball, and points on them. ``chosen`` (F,) bool: those of the subject, of the truth."""

    vertices: np.ndarray
    faces: np.ndarray
    chosen: np.ndarray
    points: np.ndarray  # (N, 3), evenly at random over the area
    of_face: np.ndarray  # (N,)
    tree: cKDTree
    thinned: cKDTree  # each `THIN`-th
    exact: float  # how far away all of them are searched

    @classmethod
    def within(
        cls, vertices: np.ndarray, faces: np.ndarray, centre: np.ndarray, radius: float, spacing: float,
        chosen: np.ndarray | None = None,
    ) -> Surface:  # fmt: skip
        """What of the triangles lies about ``centre`` as far as ``radius``, a point for each square of ``spacing``
        (a share of the radius)."""
        chosen = np.zeros(len(faces), bool) if chosen is None else chosen
        # Faces that do not come so near are not divided first: a mesh of fog can be a thousand times as large.
        middles = vertices[faces].mean(axis=1)
        reach = np.linalg.norm(vertices[faces] - middles[:, None], axis=-1).max(axis=1)
        reaching = np.linalg.norm(middles - centre, axis=1) - reach < radius
        faces, chosen = faces[reaching], chosen[reaching]
        vertices, faces, origin = trimesh.remesh.subdivide_to_size(
            vertices, faces, EDGE * radius, max_iter=40, return_index=True
        )
        near = np.linalg.norm(vertices - centre, axis=1) < radius
        kept = near[faces].all(axis=1)
        faces, chosen = faces[kept], chosen[origin[kept]]
        corners = vertices[faces]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
        random = np.random.default_rng(0)
        count = int(np.ceil(area.sum() / (spacing * radius) ** 2)) if len(faces) else 0
        of_face = np.zeros(0, np.int64)
        if count and area.sum() > 0:
            of_face = np.searchsorted(area.cumsum() / area.sum(), (np.arange(count) + random.random()) / count)
            of_face = np.minimum(of_face, len(faces) - 1)
        u, v = random.random((2, len(of_face), 1))
        u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
        a, b, c = np.moveaxis(corners[of_face], 1, 0)
        points = a + u * (b - a) + v * (c - a)
        return cls(
            vertices, faces, chosen, points, of_face, cKDTree(points), cKDTree(points[::THIN]), 5 * NEAR * radius
        )

    def nearest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of points (N, 3), the distance to the surface and the face that it is to; infinite and 0 where there is no
        surface. The nearest sample says which face is looked at, so a distance is at most a spacing too large; where it
        is more than five times `NEAR`, the nearest of one in `THIN` samples does."""
        if not len(self.points) or not len(points):
            return np.full(len(points), np.inf), np.zeros(len(points), np.int64)
        _, place = self.tree.query(points, distance_upper_bound=self.exact, workers=-1)
        far = place == len(self.points)  # where the very nearest of many about as far away is long to be found
        place[far] = THIN * self.thinned.query(points[far], workers=-1)[1]
        face = self.of_face[place]
        closest = trimesh.triangles.closest_point(self.vertices[self.faces[face]], points)
        return np.linalg.norm(points - closest, axis=1), face

    def normals(self, face: np.ndarray) -> np.ndarray:
        """(N, 3) of faces, of length 1; zeros of those without area."""
        a, b, c = np.moveaxis(self.vertices[self.faces[face]], 1, 0)
        normal = np.cross(b - a, c - a)
        return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)


@dataclass(frozen=True, eq=False)
class Truth:
    """The true surface as its training cameras see it."""

    centre: np.ndarray
    radius: float
    cameras: Sequence[Camera]
    surface: Surface
    subject: Surface  # its part
    subjects: list[np.ndarray]  # (H, W) bool of each camera, where it sees the subject
    seen: np.ndarray  # (N, 3) points of the surface that cameras see
    of_subject: np.ndarray  # (N,) bool

    @classmethod
    def of(
        cls, vertices: np.ndarray, faces: np.ndarray, subject: np.ndarray, cameras: Sequence[Camera],
        centre: np.ndarray,
    ) -> Truth:  # fmt: skip
        """``vertices`` (V, 3) and ``faces`` (F, 3) in the cameras' frame, ``subject`` (F,) bool."""
        radius = float(np.mean([np.linalg.norm(camera.pose[:3, 3] - centre) for camera in cameras]))
        fine, small, origin = trimesh.remesh.subdivide_to_size(
            vertices, faces, 0.1 * radius, max_iter=40, return_index=True
        )  # what reaches behind a camera is not drawn
        views = [depth_of(fine, small, camera) for camera in cameras]
        depths = [depth for depth, _ in views]
        subjects = [(face >= 0) & subject[origin[face]] for _, face in views]
        surface = Surface.within(vertices, faces, centre, radius, FINE, subject)
        itself = Surface.within(vertices, faces[subject], centre, radius, COARSE)
        every = slice(None, None, round((COARSE / FINE) ** 2))
        points, of_subject = surface.points[every], surface.chosen[surface.of_face[every]]
        times = sum(
            sees(camera, depth, points, HIDDEN * radius).astype(int)
            for camera, depth in zip(cameras, depths, strict=True)
        )
        seen = times >= min(SEEN_BY, len(cameras))
        return cls(centre, radius, cameras, surface, itself, subjects, points[seen], of_subject[seen])


def sees(camera: Camera, depth: np.ndarray, points: np.ndarray, behind: float) -> np.ndarray:
    """(N,) whether a camera sees points (N, 3): in its picture, and no more than ``behind`` behind its ``depth``."""
    local = (points - camera.pose[:3, 3]) @ camera.pose[:3, :3]
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = to_pixels(local[:, 0], local[:, 1], -local[:, 2], camera.intrinsics)
    height, width = depth.shape
    inside = (local[:, 2] < 0) & (x >= 0) & (y >= 0) & (x < width) & (y < height)
    column, row = np.where(inside, x, 0).astype(int), np.where(inside, y, 0).astype(int)
    return inside & (np.linalg.norm(local, axis=1) <= depth[row, column] + behind)


def measure(mesh: trimesh.Trimesh, truth: Truth) -> dict[str, float]:
    """The measures of the whole and, ``subject_…``, of the subject: see docs/geometry.md. Shares are 0 to 1; chamfer in
    hundredths of the radius; normals in degrees."""
    ours = Surface.within(mesh.vertices, mesh.faces, truth.centre, truth.radius, COARSE)
    to_truth, face = truth.surface.nearest(ours.points)
    to_ours, _ = ours.nearest(truth.seen)
    turned = np.abs(np.sum(ours.normals(ours.of_face) * truth.surface.normals(face), axis=1)).clip(0, 1)
    angle, on_subject = np.degrees(np.arccos(turned)), truth.surface.chosen[face]
    measures = {}
    for name, made, true in (
        ("", np.ones(len(face), bool), np.ones(len(truth.seen), bool)),
        ("subject_", on_subject & bool(len(ours.points)), truth.of_subject),
    ):
        own, other, near = to_truth[made], to_ours[true], made & (to_truth < NEAR * truth.radius)
        precision, recall = _mean(own < NEAR * truth.radius), _mean(other < NEAR * truth.radius)
        measures |= {
            f"{name}precision": precision,
            f"{name}recall": recall,
            f"{name}f_score": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
            f"{name}chamfer": 50 * (float(own.mean()) + float(other.mean())) / truth.radius if len(own) else np.inf,
            f"{name}normals": float(angle[near].mean()) if near.any() else 90.0,
        }
    hits = []
    for camera, subject in zip(truth.cameras, truth.subjects, strict=True):
        depth = np.where(subject, depth_of(mesh.vertices, mesh.faces, camera)[0], np.inf)
        hits.append(unproject(torch.from_numpy(depth), camera).numpy()[np.isfinite(depth)])
    off, _ = truth.subject.nearest(np.concatenate(hits))
    pixels = sum(int(subject.sum()) for subject in truth.subjects)
    parts = trimesh.graph.connected_component_labels(mesh.face_adjacency, node_count=len(mesh.faces))
    return measures | {
        "covered": float((off < SAME * truth.radius).sum()) / pixels if pixels else 1.0,
        "parts": float(parts.max() + 1) if len(parts) else 0.0,
        "faces": float(len(mesh.faces)),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
