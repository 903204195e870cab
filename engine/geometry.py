# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras and pixels: project and unproject, written once. Everything is in the capture frame (docs/frames.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.capture import Intrinsics

SAME_SURFACE = 0.03  # how far, relative to the distance, two cameras may disagree about where a point lies


class Camera(Protocol):
    """A pinhole camera in its place. A capture's View is one."""

    @property
    def name(self) -> str: ...

    @property
    def pose(self) -> np.ndarray:
        """(4, 4) camera to world, capture frame, OpenGL axes."""
        ...

    @property
    def intrinsics(self) -> Intrinsics: ...


@dataclass(frozen=True, eq=False)
class Viewpoint:
    """A camera that no picture was taken with.

    What its `intrinsics` mean, its `projection` says: "perspective", a pinhole camera; "orthographic", parallel rays,
    `fx` and `fy` in pixels a unit; "equirectangular", `fx` and `fy` in pixels a radian of longitude (to the right) and
    latitude (up), both zero straight ahead, at (`cx`, `cy`).
    """

    pose: np.ndarray
    intrinsics: Intrinsics
    name: str = ""
    projection: str = "perspective"


def projection_of(camera: Camera) -> str:
    """How a camera projects; those that pictures were taken with are pinhole cameras."""
    return getattr(camera, "projection", "perspective")


def camera_rays(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Where the rays through the pixels' centers begin, (H, W, 3) or (1, 1, 3) where all begin in one place, and their
    unit directions (H, W, 3), in camera axes (x right, y up, z back); float64."""
    i, projection = camera.intrinsics, projection_of(camera)
    if projection == "perspective":
        rays = pixel_directions(i)
        return np.zeros((1, 1, 3)), rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    x, y = np.meshgrid((np.arange(i.width) + 0.5 - i.cx) / i.fx, (i.cy - 0.5 - np.arange(i.height)) / i.fy)
    if projection == "orthographic":
        begin = np.stack([x, y, np.zeros_like(x)], axis=-1)
        return begin, np.broadcast_to([0.0, 0.0, -1.0], begin.shape)
    around = np.stack([np.sin(x) * np.cos(y), np.sin(y), -np.cos(x) * np.cos(y)], axis=-1)
    return np.zeros((1, 1, 3)), around


def pixel_directions(intrinsics: Intrinsics) -> np.ndarray:
    """(H, W, 3) float64: rays through the pixels' centres in camera axes (x right, y up, z back), one unit ahead."""
    i = intrinsics
    x = (np.arange(i.width) + 0.5 - i.cx) / i.fx
    y = -(np.arange(i.height) + 0.5 - i.cy) / i.fy
    return np.stack([*np.meshgrid(x, y), np.full((i.height, i.width), -1.0)], axis=-1)


def unproject(depth: Tensor, camera: Camera) -> Tensor:
    """(H, W, 3) points that the pixels show, of depths (H, W): distances along the normalised rays."""
    rays = torch.as_tensor(pixel_directions(camera.intrinsics), dtype=depth.dtype, device=depth.device)
    world = torch.as_tensor(camera.pose, dtype=depth.dtype, device=depth.device)
    return F.normalize(rays, dim=-1) * depth[..., None] @ world[:3, :3].T + world[:3, 3]


def to_pixels(right, up, ahead, intrinsics: Intrinsics):
    """(x, y) in pixels from the picture's upper left corner of points in camera axes, ``ahead`` of it by that much.
    Arrays or tensors of any one shape."""
    i = intrinsics
    return right / ahead * i.fx + i.cx, i.cy - up / ahead * i.fy


def project(points: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Where ``camera`` sees points (…, 3): (x, y) from −1 to 1 across its picture (…, 2), and how far away they are
    (…), negative behind it."""
    pose = torch.as_tensor(camera.pose, dtype=points.dtype, device=points.device)
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    ahead = -local[..., 2]
    i = camera.intrinsics
    x, y = to_pixels(local[..., 0], local[..., 1], ahead.clamp_min(1e-9), i)
    place = torch.stack([2 * x / i.width - 1, 2 * y / i.height - 1], dim=-1)
    return place, local.norm(dim=-1) * ahead.sign()


def seen_from(points: Tensor, camera: Camera, depth: Tensor, tolerance: float = SAME_SURFACE) -> tuple[Tensor, Tensor]:
    """Where ``camera`` sees points (…, 3), (x, y) from −1 to 1 across its picture (…, 2), and whether it does (…) bool:
    inside its picture, and on the surface that its ``depth`` (h, w) shows there, whatever that map's size, but for a
    share of ``tolerance`` of the distance."""
    place, distance = project(points, camera)
    shown = sample(depth[..., None], place, "nearest")[..., 0]
    inside = (place.abs() < 1).all(dim=-1) & (distance > 0)
    return place, inside & ((shown - distance).abs() < tolerance * distance)


def sample(picture: Tensor, place: Tensor, mode: str = "bilinear") -> Tensor:
    """(…, C) values of a picture (H, W, C) at places (…, 2), (x, y) from −1 to 1 between its edges."""
    grid = place.reshape(1, 1, -1, 2)
    channels = picture.permute(2, 0, 1)[None].to(grid)
    values = F.grid_sample(channels, grid, mode=mode, padding_mode="border", align_corners=False)
    return values[0, :, 0].T.reshape(*place.shape[:-1], picture.shape[-1])


@dataclass(frozen=True)
class Warped:
    """A neighbour's picture as seen from a camera: colours (H, W, 3), and where they are known (H, W) bool: the
    neighbour sees the same surface there."""

    rgb: Tensor
    known: Tensor


def warp(depth: Tensor, camera: Camera, neighbour: Tensor, neighbour_depth: Tensor, neighbours: Camera) -> Warped:
    """The picture ``neighbour`` (H, W, 3), taken by the camera ``neighbours``, seen from ``camera``.

    Depths (H, W) are distances along the normalised ray, in the capture's units. Colours are read between pixels
    linearly.
    """
    place, known = seen_from(unproject(depth, camera), neighbours, neighbour_depth)
    return Warped(sample(neighbour, place), known)
