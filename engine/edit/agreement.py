# SPDX-License-Identifier: GPL-3.0-or-later
"""Which part of the scene an instruction is about, agreed upon by all views: a surface is part of it or it is not,
whatever the editor believes of it in a single picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.editors.base import RELEVANCE_TOP
from engine.geometry import Camera, Viewpoint, sample, seen_from, unproject
from engine.scenes.base import Check, Scene

# This share of the views that see a surface may say less. By the mean, what is next to the subject comes with it: each
# view takes another part of it for the subject. With a smaller share a few errors of depth speak for all.
DISSENT = 0.15
SAME_SURFACE = 0.05  # as geometry's, but a map has few cells, and surfaces slope within one


@torch.no_grad()
def agreed_relevance(
    maps: Sequence[Tensor], scene: Scene, cameras: Sequence[Camera], check: Check = lambda: None
) -> list[Tensor]:
    """Each view's relevance map (1, 1, h, w), 0–1, with every cell replaced by what all but a few (DISSENT) of the
    views that see its surface, by the scene's depth, say at least; 1 again where that is most.

    ``cameras`` are the maps' views, of any size; a map covers its picture from edge to edge. ``check`` is called
    between views and may raise Cancelled. Where the field of Mirzaei et al. 2023 ("Watch Your Steps", section 4.2) is
    trained into the NeRF, to the mean, this is one pass.
    """
    cells, depths = [], []
    for relevance, camera in zip(maps, cameras, strict=True):
        height, width = relevance.shape[-2:]
        cells.append(Viewpoint(camera.pose, camera.intrinsics.scaled_to(width, height)))
        depths.append(scene.render(cells[-1], check).depth)

    agreed = []
    for relevance, camera, depth in zip(maps, cells, depths, strict=True):
        check()
        points = unproject(depth, camera)
        said = torch.stack([_said(points, *other) for other in zip(maps, cells, depths, strict=True)])
        low = said.nanquantile(DISSENT, dim=0).view_as(relevance).to(relevance)
        agreed.append(torch.where(low.isnan(), relevance, low))
    top = torch.cat([relevance.flatten() for relevance in agreed]).quantile(RELEVANCE_TOP).clamp_min(1e-6)
    return [(relevance / top).clamp(max=1) for relevance in agreed]


def _said(points: Tensor, relevance: Tensor, camera: Camera, depth: Tensor) -> Tensor:
    """What the map (1, 1, h, w) of ``camera``, whose cells lie at ``depth`` (h, w), says of points (…, 3): (…), NaN
    where it does not see them."""
    place, known = seen_from(points, camera, depth, SAME_SURFACE)
    return torch.where(known, sample(relevance[0, 0][..., None], place)[..., 0], torch.nan)
