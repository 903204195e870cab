# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's frames of a sphere, a closed form, in a process of their own: torch and Blender do not share one.

    python sphere_frames.py CAMERAS.json FOLDER

`CAMERAS.json`: the cameras as the add-on sends them, and the sphere's center and radius in the capture frame.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import msgspec
import numpy as np
import torch

from engine import protocol
from engine.geometry import camera_rays
from engine.jobs.asked import viewpoints
from engine.output.frames import frame_from, write_frame
from engine.scenes.base import RenderedView

given = json.loads(Path(sys.argv[1]).read_text())
center, radius = np.array(given["center"]), given["radius"]
cameras = msgspec.convert(given["cameras"], list[protocol.PathCamera])
for number, (camera, said) in enumerate(zip(viewpoints(cameras, "cameras"), cameras, strict=True)):
    begin, ahead = (rays @ camera.pose[:3, :3].T for rays in camera_rays(camera))
    offset = np.broadcast_to(begin + camera.pose[:3, 3] - center, ahead.shape)
    along = np.einsum("hwc,hwc->hw", offset, ahead)
    root = along**2 - np.einsum("hwc,hwc->hw", offset, offset) + radius**2
    hit = (root > 0) & (along < 0)
    depth = torch.tensor(np.where(hit, -along - np.sqrt(np.maximum(root, 0)), 0), dtype=torch.float32)
    opacity = torch.tensor(hit, dtype=torch.float32)
    render = RenderedView(opacity[..., None] * torch.tensor([0.5, 0.25, 1.0]), depth, opacity, torch.zeros(3))
    frame = frame_from(render, camera, np.array(said.world).reshape(4, 4))
    write_frame(Path(sys.argv[2]) / f"{number:04d}.exr", frame, "")
