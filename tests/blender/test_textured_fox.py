# SPDX-License-Identifier: GPL-3.0-or-later
"""What a texture brings on real photographs: Blender's render of the textured mesh from cameras that were held out of
training, against the NeRF's picture there, beside the mesh with colors a vertex, of as many faces.

Training takes minutes: INSTRUCT_NERF_FOX_WORKSPACE may name a workspace in which the fox is trained already (it is
copied, not written to). `pytest -m slow -rP` shows the values.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import bpy
import numpy as np
import pytest
from alignment import render
from PIL import Image
from scipy import ndimage
from test_mesh_alignment import FOX, TRAINED

from blender_addon import conversion, wire
from blender_addon.scene import cameras, mesh
from blender_addon.trajectories import exhausted

SAME = 0.1  # share of the distance: where mesh and NeRF are farther apart they show different things
DETAIL = 0.04  # of the photo's brightness from pixel to pixel
FACES = 50_000  # as a textured mesh has unless others are asked for
LEAST_GAIN = 2.0  # dB, where the photo holds detail

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.usefixtures("empty")]


def detail(photo: np.ndarray) -> np.ndarray:
    """(H, W) how much a photo's brightness changes from pixel to pixel."""
    gray = photo @ (0.299, 0.587, 0.114)
    return np.hypot(ndimage.sobel(gray, 0), ndimage.sobel(gray, 1)) / 8


def test_a_texture_is_nearer_to_the_nerf_than_colors_of_vertices(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the engine's packages are not installed")
    if not (FOX / "transforms.json").exists():
        pytest.skip("the fox capture is not here")
    import msgspec

    from engine import protocol
    from engine.jobs import output
    from engine.jobs.capture import load_opened, open_into_workspace, write_images
    from engine.jobs.scene import train_scene
    from engine.progress import Job
    from engine.scenes.registry import open_scene
    from engine.workspace import Workspace

    folder, job = tmp_path / "workspace", Job(log=print)
    if TRAINED:
        for part in ("capture", "scene"):
            shutil.copytree(Path(TRAINED) / part, folder / part)
    opened = open_into_workspace(protocol.OpenCapture(str(folder), str(FOX), "preview"))
    if not TRAINED:
        write_images(protocol.WriteImages(str(folder)), job)
        train_scene(protocol.TrainScene(str(folder), "preview", "cpu"), job)
    made = {}
    for name, texture in (("vertices", 0), ("texture", 2048)):
        asked = protocol.MakeMesh(str(folder), device="cpu", faces=FACES, texture=texture)
        path = Path(output.make_mesh(asked, job).mesh)
        rest = shutil.ignore_patterns("views", "*.safetensors")
        made[name] = shutil.copytree(path.parent, tmp_path / name, ignore=rest)
    workspace = Workspace(folder)
    scene = open_scene(workspace.checkpoint(None)).scene("cpu")
    held_out = [view for view in load_opened(workspace).views if view.held_out]
    seen = {view.name: scene.render(view) for view in held_out}
    capture = wire.parse_capture(msgspec.json.decode(msgspec.json.encode(opened)))
    views = [(view.name, view.camera) for view in capture.views]
    root = cameras.build(bpy.context.scene, "fox", capture.workspace, views, capture.up, capture.centre, capture.radius)
    found: dict[str, list[tuple[float, float]]] = {}
    for name, where in made.items():
        exhausted(mesh.importing(root, str(Path(where) / "mesh.ply"), name, ""))
        bpy.context.view_layer.update()
        scale = conversion.scale_of_similarity(conversion.matrix_from_rows(root.matrix_world))
        for view in held_out:
            nerf, camera = seen[view.name], cameras.camera_of(root, view.name)
            blender = render(bpy.context.scene, camera, scale, tmp_path)
            depth = np.where(nerf.opacity.numpy() >= 0.5, nerf.depth.numpy(), np.inf)
            with np.errstate(invalid="ignore"):
                both = np.abs(blender.distance / depth - 1) < SAME
            photo = np.asarray(Image.open(workspace.images / view.image).convert("RGB"), float) / 255
            error = ((blender.colour - nerf.rgb.numpy()) ** 2).mean(axis=-1)
            parts = both, both & (detail(photo) > DETAIL)
            found.setdefault(name, []).append(tuple(-10 * np.log10(error[part].mean()) for part in parts))
            print(f"{name:10} {view.name}  " + "  ".join(f"{value:.2f} dB" for value in found[name][-1]))
    gain = np.mean(found["texture"], axis=0) - np.mean(found["vertices"], axis=0)
    print(f"gain: {gain[0]:.2f} dB, where the photo holds detail {gain[1]:.2f} dB")
    assert gain[1] >= LEAST_GAIN
