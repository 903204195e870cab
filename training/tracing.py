"""Rays through a scene, once for each view: what every shading of that view shares."""

from dataclasses import dataclass

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from .scenes import NOTHING, Camera, Scene


@dataclass
class View:
    """Per-pixel buffers of one view, H x W.

    ids (H, W) uint8, parts (H, W) int32, positions, normals and ray directions (H, W, 3) float32 in the world,
    depth (H, W) in units along the ray, sun (H, W) 0 in shadow and 1 in light,
    sky (H, W, D) cosine-weighted visibility of the ambient directions, open (H, W) their mean: ambient occlusion.
    """

    ids: np.ndarray
    parts: np.ndarray
    positions: np.ndarray
    normals: np.ndarray
    rays: np.ndarray
    depth: np.ndarray
    sun: np.ndarray
    sky: np.ndarray
    open: np.ndarray


def ambient_directions() -> np.ndarray:
    """Directions (D, 3) spread over the sphere, a little more of them above the horizon."""
    count = 14
    k = np.arange(count) + 0.5
    z = 1 - 1.6 * k / count
    angle = np.pi * (1 + 5**0.5) * k
    return np.stack([np.cos(angle) * np.sqrt(1 - z * z), np.sin(angle) * np.sqrt(1 - z * z), z], -1).astype(np.float32)


AMBIENT = ambient_directions()


class Tracer:
    """An Embree scene of all meshes of a Scene."""

    def __init__(self, scene: Scene):
        self.embree = EmbreeScene()
        self.numbers = np.full(len(scene.meshes) + 1, NOTHING, np.uint8)
        self.meshes = list(scene.meshes.values())
        self._held = []  # Embree keeps pointers into these
        for k, (number, mesh) in enumerate(scene.meshes.items()):
            vertices, faces = np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int32)
            self._held.append(TriangleMesh(self.embree, vertices, faces))
            self.numbers[k] = number

    def _occluded(self, origins: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Whether anything lies in that direction (3,) of each of the points (N, 3)."""
        origins = np.ascontiguousarray(origins, np.float32)
        directions = np.ascontiguousarray(np.broadcast_to(direction, origins.shape), np.float32)
        return self.embree.run(origins, directions, query="OCCLUDED") >= 0

    def trace(self, camera: Camera, size: int, sun_direction: np.ndarray) -> View:
        """Buffers of `size` x `size` pixels. sun_direction (3,) points to the sun."""
        v, u = np.meshgrid((np.arange(size) + 0.5) / size - 0.5, (np.arange(size) + 0.5) / size - 0.5, indexing="ij")
        rays = np.stack([u, v, np.full_like(u, camera.focal)], -1) @ camera.rotation
        rays = (rays / np.linalg.norm(rays, axis=-1, keepdims=True)).astype(np.float32)
        origins = np.broadcast_to(camera.position.astype(np.float32), rays.shape)
        flat = np.ascontiguousarray(origins.reshape(-1, 3)), np.ascontiguousarray(rays.reshape(-1, 3))
        hit = self.embree.run(*flat, query="INTERSECT", output=True)
        geometry = hit["geomID"].reshape(size, size)
        found = geometry >= 0
        geometry = np.where(found, geometry, len(self.meshes)).astype(int)
        depth = np.where(found, hit["tfar"].reshape(size, size), 1e3).astype(np.float32)
        normals = np.zeros_like(rays)
        parts = np.zeros(geometry.shape, np.int32)
        triangle = hit["primID"].reshape(size, size)
        uv = np.stack([hit["u"], hit["v"]], -1).reshape(size, size, 2)
        for k, mesh in enumerate(self.meshes):
            here = geometry == k
            corners = mesh.faces[triangle[here]]
            weight = uv[here]
            w = np.stack([1 - weight.sum(-1), weight[:, 0], weight[:, 1]], -1)
            n = np.einsum("nk,nkc->nc", w, mesh.normals[corners])
            normals[here] = n / np.maximum(np.linalg.norm(n, axis=-1, keepdims=True), 1e-6)
            parts[here] = mesh.parts[corners[:, 0]]
        positions = origins + depth[..., None] * rays
        surface = positions[found] + 0.012 * normals[found]
        toward = normals[found] @ sun_direction.astype(np.float32)
        sun = np.zeros(geometry.shape, np.float32)
        sun[found] = np.where(toward > 0, ~self._occluded(surface, sun_direction), False)
        cosine = np.maximum(normals[found] @ AMBIENT.T, 0)
        visible = np.stack([~self._occluded(surface, d) for d in AMBIENT], -1)
        sky = np.zeros((*geometry.shape, len(AMBIENT)), np.float32)
        sky[found] = cosine * visible
        openness = np.ones(geometry.shape, np.float32)
        openness[found] = sky[found].sum(-1) / np.maximum(cosine.sum(-1), 1e-3)
        return View(self.numbers[geometry], parts, positions, normals, rays, depth, sun, sky, openness)
