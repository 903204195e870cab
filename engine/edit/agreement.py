# SPDX-License-Identifier: GPL-3.0-or-later
"""Which part of the scene an instruction is about, agreed upon by all views: a surface is part of it or it is not,
whatever the editor believes of it in a single picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from engine.editors.instruct_pix2pix import RELEVANCE_TOP
from engine.scenes.nerfacto.nerfacto import Nerfacto

SAME_SURFACE = 0.05  # how far, relative to the distance, two cameras may disagree about where a point lies
# This share of the views that see a surface may say less. By the mean, what is next to the subject comes with it: each
# view takes another part of it for the subject. With a smaller share a few errors of depth speak for all.
DISSENT = 0.15


@torch.no_grad()
def agreed_relevance(
    maps: Sequence[Tensor], nerf: Nerfacto, cameras: Cameras, check: Callable[[], None] = lambda: None
) -> list[Tensor]:
    """Each view's relevance map (1, 1, h, w), 0–1, with every cell replaced by what all but a few (DISSENT) of the
    views that see its surface, by the NeRF's depth, say at least; 1 again where that is most.

    ``cameras`` (NeRF frame) are the maps' views, of any size; a map covers its picture from edge to edge. ``check`` is
    called between views and may raise Cancelled. Where the field of Mirzaei et al. 2023 ("Watch Your Steps", section
    4.2) is trained into the NeRF, to the mean, this is one pass.
    """
    was_training = nerf.training
    nerf.eval()
    try:
        points, distances = [], []
        for view, relevance in enumerate(maps):
            check()
            rays = cameras.generate_rays(camera_indices=view, coords=cell_centres(relevance, cameras, view)).flatten()
            depth = nerf(rays).depth
            points.append(rays.origins + rays.directions * depth)
            distances.append(depth.view(1, 1, *relevance.shape[-2:]))
    finally:
        nerf.train(was_training)

    agreed = []
    for relevance, own in zip(maps, points, strict=True):
        check()
        said = torch.stack(
            [_said(own, *other, cameras, k) for k, other in enumerate(zip(maps, distances, strict=True))]
        )
        low = said.nanquantile(DISSENT, dim=0).view_as(relevance).to(relevance)
        agreed.append(torch.where(low.isnan(), relevance, low))
    top = torch.cat([relevance.flatten() for relevance in agreed]).quantile(RELEVANCE_TOP).clamp_min(1e-6)
    return [(relevance / top).clamp(max=1) for relevance in agreed]


def _said(points: Tensor, relevance: Tensor, distance: Tensor, cameras: Cameras, view: int) -> Tensor:
    """What the map of camera ``view`` says of points (P, 3): (P,), NaN where it does not see them. ``distance``
    (1, 1, h, w): how far away what it sees is."""
    place, away = project(points, cameras, view)
    grid = place[None, :, None]
    said, nearest = (
        F.grid_sample(picture.to(grid), grid, mode=mode, padding_mode="border", align_corners=False)[0, 0]
        for picture, mode in ((relevance, "bilinear"), (distance, "nearest"))
    )
    inside = (place.abs() < 1).all(-1, keepdim=True) & (away > 0)
    known = inside & ((nearest - away).abs() < SAME_SURFACE * away)
    return torch.where(known, said, torch.nan)[:, 0]


def cell_centres(relevance: Tensor, cameras: Cameras, view: int) -> Tensor:
    """Where the centres of a map's cells lie in the view's picture: (h, w, 2), (y, x) in pixels from its edge."""
    height, width = relevance.shape[-2:]
    device = cameras.device
    y = (torch.arange(height, device=device) + 0.5) * (float(cameras.height[view]) / height)
    x = (torch.arange(width, device=device) + 0.5) * (float(cameras.width[view]) / width)
    return torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)


def project(points: Tensor, cameras: Cameras, view: int) -> tuple[Tensor, Tensor]:
    """Where camera ``view`` sees points (P, 3): (x, y) from −1 to 1 across its picture (P, 2), and how far away they
    are (P, 1), negative behind it."""
    pose = cameras.camera_to_worlds[view]
    local = (points - pose[:, 3]) @ pose[:, :3]
    ahead = -local[:, 2:]
    safe = ahead.clamp_min(1e-9)
    x = cameras.fx[view] * local[:, :1] / safe + cameras.cx[view]
    y = -cameras.fy[view] * local[:, 1:2] / safe + cameras.cy[view]
    place = torch.cat([2 * x / cameras.width[view] - 1, 2 * y / cameras.height[view] - 1], dim=-1)
    return place, local.norm(dim=-1, keepdim=True) * ahead.sign()
