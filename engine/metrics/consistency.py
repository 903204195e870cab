# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether neighbouring pictures show the same scene: one warped into the other by depth, and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.capture import Intrinsics

SAME_SURFACE = 0.03  # how far, relative to the depth, two cameras may disagree about where a point lies


@dataclass(frozen=True)
class Warped:
    """A neighbour's picture as seen from a camera: colours (H, W, 3), and where they are known (H, W) bool: the
    neighbour sees the same surface there."""

    rgb: Tensor
    known: Tensor


def warp(
    depth: Tensor,
    pose: np.ndarray,
    intrinsics: Intrinsics,
    neighbour: Tensor,
    neighbour_depth: Tensor,
    neighbour_pose: np.ndarray,
    neighbour_intrinsics: Intrinsics,
) -> Warped:
    """The picture ``neighbour`` (H, W, 3), seen from ``pose``.

    Depths (H, W) are distances along the normalised ray, in the capture's units; poses (4, 4) are camera to world in
    the capture frame, OpenGL axes. Colours are read between pixels linearly.
    """
    points = points_of(depth, pose, intrinsics)
    to_neighbour = torch.as_tensor(np.linalg.inv(neighbour_pose), dtype=depth.dtype, device=depth.device)
    local = points @ to_neighbour[:3, :3].T + to_neighbour[:3, 3]
    ahead = -local[..., 2]
    n = neighbour_intrinsics
    safe = ahead.clamp_min(1e-9)
    x = n.fx * local[..., 0] / safe + n.cx
    y = -n.fy * local[..., 1] / safe + n.cy
    grid = torch.stack([2 * x / n.width - 1, 2 * y / n.height - 1], dim=-1)[None]  # edges at ±1, as ours

    def read(picture: Tensor, mode: str) -> Tensor:
        channels = picture.permute(2, 0, 1)[None]
        return F.grid_sample(channels, grid, mode=mode, padding_mode="border", align_corners=False)[0].permute(1, 2, 0)

    seen = read(neighbour_depth[..., None], "nearest")[..., 0]
    distance = local.norm(dim=-1)
    inside = (ahead > 0) & (x > 0.5) & (x < n.width - 0.5) & (y > 0.5) & (y < n.height - 0.5)
    return Warped(read(neighbour, "bilinear"), inside & ((seen - distance).abs() < SAME_SURFACE * distance))


def points_of(depth: Tensor, pose: np.ndarray, intrinsics: Intrinsics) -> Tensor:
    """(H, W, 3) points in the capture frame, of depths (H, W) along the normalised rays."""
    i = intrinsics
    y, x = torch.meshgrid(
        torch.arange(i.height, dtype=depth.dtype, device=depth.device) + 0.5,
        torch.arange(i.width, dtype=depth.dtype, device=depth.device) + 0.5,
        indexing="ij",
    )
    rays = torch.stack([(x - i.cx) / i.fx, -(y - i.cy) / i.fy, -torch.ones_like(x)], dim=-1)
    world = torch.as_tensor(pose, dtype=depth.dtype, device=depth.device)
    return F.normalize(rays, dim=-1) * depth[..., None] @ world[:3, :3].T + world[:3, 3]


def warping_error(
    pictures: Sequence[Tensor], depths: Sequence[Tensor], poses: np.ndarray, intrinsics: Sequence[Intrinsics]
) -> float:
    """Root mean square of what neighbours in a sequence of pictures (H, W, 3), 0–1, differ by where both see the same
    surface: each picture against the one after it, warped into it. ``depths`` are those of the true (or the unedited)
    scene, so that all methods are compared over the same pixels. NaN where no two neighbours see the same."""
    squares, count = 0.0, 0
    for k in range(len(pictures) - 1):
        warped = warp(
            depths[k], poses[k], intrinsics[k], pictures[k + 1], depths[k + 1], poses[k + 1], intrinsics[k + 1]
        )
        if warped.known.any():
            squares += float((pictures[k] - warped.rgb)[warped.known].square().sum())
            count += 3 * int(warped.known.sum())
    return (squares / count) ** 0.5 if count else float("nan")
