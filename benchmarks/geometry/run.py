# SPDX-License-Identifier: GPL-3.0-or-later
"""One way to a mesh on one scene: train, render, fuse, measure."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
import trimesh

from benchmarks.geometry import nerfstudio_mesh
from benchmarks.geometry.data import ExactScene
from engine.capture.types import SparsePoints
from engine.geometry import pixel_directions
from engine.jobs.kept_depths import METHOD
from engine.metrics.image import psnr
from engine.output.floor import flattened
from engine.output.mesh import DepthView, bounds_from_depth, fuse, resolution_for
from engine.output.raster import depth_of
from engine.presets import PREVIEW, STANDARD, Preset
from engine.scenes.base import Scene
from engine.scenes.known_depth import KnownDepth, known_depths
from engine.scenes.nerfacto.config import NerfactoConfig
from engine.scenes.picture_set import PictureSet
from engine.scenes.plain_areas import with_plain_areas
from engine.scenes.registry import begin_scene, open_scene
from engine.scenes.settings import TrainingConfig
from engine.scenes.shrunk import Shrunk
from engine.scenes.skies import skies, with_skies
from engine.scenes.stereo import stereo_depths

SAVED_EVERY = 100  # steps
UP = np.array([0.0, 0.0, 1.0])  # in Blender


@dataclass(frozen=True)
class Row:
    """A way to a mesh. ``nerf`` and ``losses`` replace fields of the ``preset``'s."""

    name: str
    preset: Preset = PREVIEW
    true_depth: bool = False  # the oracle: Blender's own depth in the place of a scene's
    nerf: dict[str, Any] = field(default_factory=dict)
    losses: dict[str, Any] = field(default_factory=dict)
    points: int = 0  # sparse ones, as a program that finds cameras leaves them; 0: depths by comparing the photos
    plain_areas: bool = True  # what follows from those for plain areas, too
    exporter: str = ""  # nerfstudio's, of what its nerfacto learns in the seconds that "preview" takes
    resolution: int | None = None  # None: by the detail that the pictures hold
    flat_floor: bool = False

    def configs(self, steps: int, rays: int) -> tuple[NerfactoConfig, TrainingConfig]:
        """What the preset's become for a training of so many steps of so many rays."""
        replace, own = msgspec.structs.replace, self.preset.train
        optimiser = replace(own.optimiser, decay_steps=steps)
        train = replace(own, steps=steps, rays=rays, optimiser=optimiser, losses=replace(own.losses, **self.losses))
        return replace(self.preset.nerf, **self.nerf), train


ROWS = {
    row.name: row
    for row in (
        Row("oracle", true_depth=True),
        Row("preview"),
        Row("standard", STANDARD),
        Row("oracle, flat floor", true_depth=True, flat_floor=True),
        Row("preview, flat floor", flat_floor=True),
        Row("colors alone", losses={"solid_weight": 0.0, "depth_weight": 0.0, "flat_weight": 0.0}),
        Row("solid", losses={"depth_weight": 0.0, "flat_weight": 0.0}),
        Row("not flat", losses={"flat_weight": 0.0}),
        Row("known points", points=2000),
        Row("no plain areas", plain_areas=False),
        Row("distortion × 10", nerf={"distortion_weight": 0.02}),
        Row("nerfstudio tsdf", exporter="tsdf"),
        Row("nerfstudio poisson", exporter="poisson"),
    )
}


@dataclass(frozen=True, eq=False)
class Made:
    """A mesh, what it took, and the held-out PSNR of the scene it came from (NaN of the oracle)."""

    mesh: trimesh.Trimesh
    seconds: float
    psnr: float


def make(row: Row, scene: ExactScene, steps: int, rays: int, seed: int, folder: Path, device: str) -> Made:
    """The mesh as the engine makes it. Trained scenes are kept in ``folder``."""
    cameras = scene.cameras[: scene.training]
    quality = float("nan")
    if row.exporter:
        return _of_nerfstudio(row, scene, steps, rays, seed, folder, device)
    if row.true_depth:
        began, views = time.monotonic(), oracle_views(scene)
    else:
        trained, took = _trained(row, scene, steps, rays, seed, folder, device)
        began = time.monotonic() - took
        views = [_view(trained, camera) for camera in cameras]
    centre = np.asarray(scene.centre)
    radius = float(np.mean([np.linalg.norm(camera.pose[:3, 3] - centre) for camera in cameras]))
    bounds = bounds_from_depth(views, centre, radius)
    mesh = fuse(views, bounds, row.resolution or resolution_for(views, bounds), up=UP)
    if row.flat_floor:
        mesh = flattened(mesh, UP, radius)
    seconds = time.monotonic() - began
    if not row.true_depth:
        held_out = zip(scene.cameras[scene.training :], scene.pictures[scene.training :], strict=True)
        pairs = [(trained.render(c).rgb.cpu(), torch.from_numpy(p.copy()).float() / 255) for c, p in held_out]
        quality = float(np.mean([float(psnr(a, b)) for a, b in pairs]))
    return Made(mesh, seconds, quality)


def _of_nerfstudio(row: Row, scene: ExactScene, steps: int, rays: int, seed: int, folder: Path, device: str) -> Made:
    """What nerfstudio makes in the seconds of training that the preset's own row took, which is trained first."""
    _, seconds = _trained(ROWS["preview"], scene, steps, rays, seed, folder, device)
    pictures, cameras = scene.pictures[: scene.training], scene.cameras[: scene.training]
    name = f"nerfstudio-{scene.name.replace(' ', '-')}-{pictures.shape[1]}-{seconds:.0f}-{device.replace(':', '-')}"
    own = folder / name
    nerfstudio_mesh.write_capture(pictures, [c.pose for c in cameras], cameras[0].intrinsics.fx, own)
    report = nerfstudio_mesh.make(own, seconds, device)
    print(
        f"nerfstudio took {report['steps']} steps in {report['seconds']:.0f} s; {row.exporter}: {report[row.exporter]}"
    )
    if isinstance(report[row.exporter], str):  # it found no surface
        empty = trimesh.Trimesh(np.zeros((3, 3)), [[0, 1, 2]], process=False)
        return Made(empty, report["seconds"], float("nan"))
    mesh = trimesh.load(own / f"{row.exporter}.ply", process=False)
    return Made(mesh, report["seconds"] + report[row.exporter], float("nan"))


def oracle_views(scene: ExactScene) -> list[DepthView]:
    """The photos of the training cameras with true depth."""
    small, faces = trimesh.remesh.subdivide_to_size(scene.vertices, scene.faces, 0.5, max_iter=40)
    views = []
    for camera, picture in zip(scene.cameras[: scene.training], scene.pictures, strict=False):
        depth, _ = depth_of(small, faces, camera)
        hit = np.isfinite(depth)
        colour = picture.astype(np.float32) / 255
        views.append(
            DepthView(camera.pose, camera.intrinsics, np.where(hit, depth, 1e6), colour, hit.astype(np.float32))
        )
    return views


def sparse_points(scene: ExactScene, count: int) -> SparsePoints:
    """About as structure from motion leaves them: where training photos have texture, off by 0.2 % of the distance, and
    3 % of them anywhere along their rays."""
    random = np.random.default_rng(0)
    found = []
    views = oracle_views(scene)
    for view in views:
        rows, columns = np.gradient(view.colour.mean(axis=-1))
        texture = (np.hypot(rows, columns) * (view.opacity > 0)).ravel()
        pixels = random.choice(len(texture), -(-count // len(views)), p=texture / texture.sum())
        depth = view.depth.ravel()[pixels] * random.normal(1, 0.002, len(pixels))
        wrong = random.random(len(pixels)) < 0.03
        depth = np.where(wrong, depth * random.uniform(0.4, 1.6, len(pixels)), depth)
        rays = pixel_directions(view.intrinsics).reshape(-1, 3)[pixels]
        rays = rays / np.linalg.norm(rays, axis=1, keepdims=True) @ view.pose[:3, :3].T
        found.append(view.pose[:3, 3] + rays * depth[:, None])
    return SparsePoints(np.concatenate(found))


def _view(scene: Scene, camera) -> DepthView:  # type: ignore[no-untyped-def]
    render = scene.render(camera)
    depth, colour, opacity = (part.cpu().numpy() for part in (render.depth, render.rgb, render.opacity))
    return DepthView(camera.pose, camera.intrinsics, depth, colour, opacity)


def _compared(row: Row, scene: ExactScene) -> list[KnownDepth]:
    """What the training photos tell of their pixels' depths, as the engine finds it (`engine.jobs.depths`)."""
    pairs = zip(scene.cameras[: scene.training], scene.pictures, strict=False)
    small = [Shrunk.of(camera, picture, None) for camera, picture in pairs]
    cameras, photos = [one.camera for one in small], [one.photo for one in small]
    found, sky = stereo_depths(cameras, photos, np.asarray(scene.centre)), skies(cameras, photos, UP)
    if row.plain_areas:
        found = with_plain_areas(cameras, photos, found, shown=[~above for above in sky])
    own = [one.depth_of_photo(depth) for one, depth in zip(small, found, strict=True)]
    return with_skies(own, [one.mask_of_photo(above) for one, above in zip(small, sky, strict=True)])


def _trained(
    row: Row, scene: ExactScene, steps: int, rays: int, seed: int, folder: Path, device: str
) -> tuple[Scene, float]:
    """The scene of a row, trained once, and the seconds that it took."""
    nerf, train = row.configs(steps, rays)
    cameras, pictures = scene.cameras[: scene.training], scene.pictures[: scene.training]
    recipe = repr((nerf, train, seed, device, row.points, row.plain_areas, METHOD)).encode() + pictures.tobytes()
    name = f"{scene.name.replace(' ', '-')}-{hashlib.blake2b(recipe, digest_size=8).hexdigest()}"
    path, took, finished = (folder / f"{name}.{ending}" for ending in ("safetensors", "seconds", "finished"))
    if not finished.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():  # a run that was ended goes on
            trainer = open_scene(path).trainer(cameras, train, seed, device, resume=True)
        else:
            trainer = begin_scene(nerf, cameras, np.asarray(scene.centre), train, seed, device)
        earlier = float(took.read_text()) if path.exists() else 0.0
        began, data = time.monotonic(), PictureSet(list(pictures), device)
        if train.losses.depth_weight and row.points:
            data.learn_depths(known_depths(sparse_points(scene, row.points), cameras))
        elif train.losses.depth_weight:
            data.learn_depths(_compared(row, scene))
        if train.losses.flat_weight:
            data.find_plain()
        while trainer.step_index < train.steps:
            trainer.step(data)
            if trainer.step_index % SAVED_EVERY == 0 or trainer.step_index == train.steps:
                trainer.save(path)
                took.write_text(f"{earlier + time.monotonic() - began:.1f}")
        finished.touch()
    return open_scene(path).scene(device), float(took.read_text())
