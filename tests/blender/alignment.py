# SPDX-License-Identifier: GPL-3.0-or-later
"""How well a mesh in Blender lies on what a NeRF sees from the same camera.

Blender's side is Blender's alone: its camera, its renderer, its distances. The pixels of both sides are looked at
through their centres, one ray each.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion, gaussian_filter, map_coordinates

from blender_addon.conversion import Camera
from blender_addon.scene import cameras

# Pixels: detail between these sizes tells where things are. Finer is noise to a mesh whose voxels are two pixels wide;
# coarser is mostly light, which a mesh with one colour a point shows otherwise than a NeRF with one a direction.
FINE, COARSE = 0.7, 3.0


@dataclass(frozen=True)
class Seen:
    """A picture with distances. Where nothing is seen the distance is infinite."""

    colour: np.ndarray  # (H, W, 3) float, 0 to 1, sRGB
    distance: np.ndarray  # (H, W) along the normalised ray, units of the capture


@dataclass(frozen=True)
class Alignment:
    """What is measured in one camera."""

    overlap: float  # of both silhouettes of the subject: intersection over union
    distance: float  # median of |Blender's distance / the NeRF's - 1| on the subject
    shift: tuple[float, float]  # pixels right and down by which Blender's picture has to move onto the NeRF's
    zoom: float  # by which Blender's picture has to grow about its middle, less one

    def __str__(self) -> str:
        return (
            f"overlap {self.overlap:.3f}  distance {100 * self.distance:.2f} %  "
            f"shift {self.shift[0]:+.3f} {self.shift[1]:+.3f} px  zoom {100 * self.zoom:+.2f} %"
        )


def render(scene: bpy.types.Scene, camera: bpy.types.Object, scale: float, folder: Path) -> Seen:
    """What Cycles renders from a capture's camera, `scale` Blender units to one of the capture's."""
    cameras.look_through(scene, camera)
    settings = scene.render
    settings.engine, scene.cycles.device, scene.cycles.samples = "CYCLES", "CPU", 1
    scene.cycles.use_denoising = False
    # One ray through each pixel's centre: a filter without width.
    scene.cycles.pixel_filter_type, scene.cycles.filter_width = "BLACKMAN_HARRIS", 0.01
    settings.film_transparent, settings.dither_intensity = True, 0.0
    scene.view_settings.view_transform, scene.view_settings.look = "Standard", "None"
    picture = _written(scene, folder / "colour.png", "PNG", "8")
    colour = np.asarray(Image.open(picture).convert("RGB"), np.float64) / 255
    scene.view_layers[0].material_override = _distance_material()
    try:
        path = _written(scene, folder / "distance.exr", "OPEN_EXR", "32")
    finally:
        scene.view_layers[0].material_override = None
    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    values = np.array(image.pixels[:]).reshape(image.size[1], image.size[0], 4)[::-1]  # Blender's rows go upward
    bpy.data.images.remove(image)
    distance = np.where(values[..., 3] > 0.5, values[..., 0] / scale, np.inf)
    return Seen(colour, distance)


def _written(scene: bpy.types.Scene, path: Path, form: str, depth: str) -> Path:
    output = scene.render.image_settings
    output.file_format, output.color_mode, output.color_depth = form, "RGBA", depth
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    return path


def _distance_material() -> bpy.types.Material:
    """A material that glows as strongly as the camera is far away, along the ray."""
    material = bpy.data.materials.new("distance")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    camera, glow = nodes.new("ShaderNodeCameraData"), nodes.new("ShaderNodeEmission")
    output = nodes.new("ShaderNodeOutputMaterial")
    links.new(camera.outputs["View Distance"], glow.inputs["Strength"])
    links.new(glow.outputs["Emission"], output.inputs["Surface"])
    return material


def points(camera: Camera, distance: np.ndarray) -> np.ndarray:
    """(H, W, 3) in the capture frame: what a picture's pixels show. Far away where they show nothing."""
    k, pose = camera.intrinsics, np.array(camera.pose)
    v, u = np.mgrid[: k.height, : k.width] + 0.5
    rays = np.stack([(u - k.cx) / k.fx, (k.cy - v) / k.fy, -np.ones_like(u)], axis=-1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    distance = np.where(np.isfinite(distance), distance, 1e9)
    return rays * distance[..., None] @ pose[:3, :3].T + pose[:3, 3]


def measure(camera: Camera, blender: Seen, nerf: Seen, centre: np.ndarray, radius: float) -> Alignment:
    """Compare two pictures from one camera. The subject is what lies within `radius` of `centre`."""
    here, there = (np.linalg.norm(points(camera, s.distance) - centre, axis=-1) < radius for s in (blender, nerf))
    both = np.isfinite(blender.distance) & np.isfinite(nerf.distance)
    on = there & both
    distance = np.median(np.abs(blender.distance[on] / nerf.distance[on] - 1)) if on.any() else np.inf
    shift, zoom = registration(blender.colour, nerf.colour, both)
    return Alignment(float((here & there).sum() / max(1, (here | there).sum())), float(distance), shift, zoom)


def registration(moving: np.ndarray, fixed: np.ndarray, mask: np.ndarray) -> tuple[tuple[float, float], float]:
    """((right, down) in pixels, zoom - 1) that lay `moving` onto `fixed` where `mask` holds.

    Lucas and Kanade's least squares on the luminance of details, iterated, with outliers weighed down; zoom is about
    the picture's middle. Pixels near the end of the mask do not count.
    """
    a, b = (s @ (0.299, 0.587, 0.114) for s in (moving, fixed))
    mean = b[mask].mean() if mask.any() else 0.0
    a, b = (np.where(mask, s, mean) for s in (a, b))
    a, b = (gaussian_filter(s, FINE) - gaussian_filter(s, COARSE) for s in (a, b))
    inner = binary_erosion(mask, iterations=3, border_value=0)
    if inner.sum() < 200:
        return (np.inf, np.inf), np.inf
    rows, columns = np.indices(a.shape)
    y, x = rows - (a.shape[0] - 1) / 2, columns - (a.shape[1] - 1) / 2
    found = np.zeros(3)  # right, down, zoom
    for _ in range(30):
        grow = 1 + found[2]
        back = [(y - found[1]) / grow + (a.shape[0] - 1) / 2, (x - found[0]) / grow + (a.shape[1] - 1) / 2]
        moved = map_coordinates(a, back, order=3, mode="nearest")
        down, right = np.gradient((moved + b) / 2)
        system = np.stack([-right, -down, -(x * right + y * down), moved, np.ones_like(b)], axis=-1)[inner]
        rest = (b - moved)[inner]
        weight = np.ones(len(rest))
        for _ in range(10):
            step = np.linalg.lstsq(system * weight[:, None], rest * weight, rcond=None)[0]
            left = np.abs(rest - system @ step)
            weight = np.sqrt(1 / np.maximum(1, left / (1.5 * np.median(left) + 1e-9)))  # Huber
        found += step[:3]
        if np.abs(step[:2]).max() < 1e-3:
            break
    return (float(found[0]), float(found[1])), float(found[2])
