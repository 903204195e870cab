# SPDX-License-Identifier: GPL-3.0-or-later
"""A frame of a film as a compositor takes it: linear color, alpha, depth and normals in Blender's world, as multilayer
OpenEXR with the channels that Blender gives its own."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import OpenEXR

from engine.files import replacing
from engine.geometry import Viewpoint, camera_rays, projection_of
from engine.output.surface import normals_of
from engine.paths import require_file
from engine.scenes.base import RenderedView

NOTHING = np.float32(1e10)  # depth where there is nothing, as in Blender
LARGEST_FILE = 2**32  # bytes
NOTE = "instructNerf"  # an attribute of the header: what the frame was made from
LAYER = "ViewLayer"


@dataclass(frozen=True, eq=False)
class Frame:
    """`color` (H, W, 4) linear, premultiplied by alpha; `depth` (H, W) in Blender's units: ahead of the camera or, of a
    panorama, along the ray; `normal` (H, W, 3) in Blender's world, zero where there is nothing. All float32."""

    color: np.ndarray
    depth: np.ndarray
    normal: np.ndarray


def frame_from(render: RenderedView, camera: Viewpoint, world: np.ndarray) -> Frame:
    """What a camera sees; ``world`` (4, 4): the similarity from the capture frame to Blender's world."""
    return Frame(color_of(render), *surfaces_of(render, camera, world))


def color_of(render: RenderedView, transparent: bool = True) -> np.ndarray:
    """(H, W, 4) float32, linear: premultiplied by alpha or, unless ``transparent``, before the scene's background."""
    if not transparent:
        color = linear(render.rgb.cpu().numpy())
        return np.concatenate([color, np.ones_like(color[..., :1])], axis=-1).astype(np.float32)
    opacity = render.opacity.cpu().numpy().astype(np.float32)[..., None]
    straight = render.before_black.cpu().numpy() / np.maximum(opacity, 1e-6)
    return np.concatenate([linear(straight) * opacity, opacity], axis=-1).astype(np.float32)


def surfaces_of(render: RenderedView, camera: Viewpoint, world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth (H, W) and normal (H, W, 3) as a `Frame` has them."""
    opacity = render.opacity.cpu().numpy()
    depth = render.depth.cpu().numpy().astype(np.float64)
    full = (opacity >= 0.5) & np.isfinite(depth) & (depth > 0)
    scale = np.cbrt(np.linalg.det(world[:3, :3]))
    begin, ahead = camera_rays(camera)
    along = -ahead[..., 2] if projection_of(camera) == "perspective" else 1.0
    points = begin + ahead * np.where(full, depth, 1.0)[..., None]
    turned = normals_of(points, full, -ahead) @ (world[:3, :3] / scale @ camera.pose[:3, :3]).T
    return (
        np.where(full, depth * along * scale, NOTHING).astype(np.float32),
        np.where(full[..., None], turned, 0).astype(np.float32),
    )


def blurred(frames: Sequence[Frame]) -> Frame:
    """The mean color of a frame's moments, with depth and normals of the middle one."""
    return replace(frames[len(frames) // 2], color=np.mean([frame.color for frame in frames], axis=0))


def linear(color: np.ndarray) -> np.ndarray:
    """sRGB, 0 to 1, as linear light."""
    return np.where(color <= 0.04045, color / 12.92, ((np.maximum(color, 0) + 0.055) / 1.055) ** 2.4)


def display(color: np.ndarray) -> np.ndarray:
    """Linear light as sRGB, 0 to 1."""
    color = np.clip(color, 0, 1)
    return np.where(color <= 0.0031308, color * 12.92, 1.055 * color ** (1 / 2.4) - 0.055)


def write_frame(path: Path, frame: Frame, note: str) -> None:
    """Write multilayer OpenEXR, whole or not at all: color in half precision, depth and normals in single. ``note`` is
    kept in the header. Raises BadInput."""
    planes = {f"{LAYER}.Combined.{name}": frame.color[..., k].astype(np.float16) for k, name in enumerate("RGBA")}
    planes[f"{LAYER}.Depth.Z"] = frame.depth
    planes |= {f"{LAYER}.Normal.{name}": np.ascontiguousarray(frame.normal[..., k]) for k, name in enumerate("XYZ")}
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, NOTE: note}
    with replacing(path) as temporary, OpenEXR.File(header, planes) as file:
        file.write(str(temporary))


def encoded(frame: Frame, note: str) -> bytes:
    """A frame as the file that `write_frame` writes. Raises BadInput where there is no room for it meanwhile."""
    with tempfile.TemporaryDirectory() as folder:  # the library writes to a path alone
        write_frame(Path(folder) / "frame.exr", frame, note)
        return (Path(folder) / "frame.exr").read_bytes()


def note_of(path: Path) -> str | None:
    """The note of a frame that `write_frame` wrote; None where there is none, or no such file."""
    try:
        require_file(path, LARGEST_FILE)
        with OpenEXR.File(str(path), header_only=True) as file:
            note = file.header().get(NOTE)
    except Exception:  # the library raises whatever its C++ does; then it is none of ours
        return None
    return note if isinstance(note, str) else None
