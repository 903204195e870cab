# SPDX-License-Identifier: GPL-3.0-or-later
"""What the edits of all views agree about. An editor gives each view a look of its own, other colours and things a few
pixels off, which a scene that learns from them can only average. Here each edit is brought to what the others say of
the surfaces that it shows, before the scene learns from any: what a picture shows stays its own, its look does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.edit.overlap import Overlap
from engine.geometry import Viewpoint, sample, warp
from engine.scenes.base import Check

PASSES = 3  # each edit is brought to the others, and these have moved meanwhile
LONG_SIDE = 128  # pixels of the pictures that looks are found in
OTHERS = 48  # views, at most, that an edit is brought to, near and far: the nearest alone agree about too little
LEAST = 3  # of them that see a surface, for it to count
USUAL = 2.0  # times the middle edit's distance to the others: those farther away have no say in the colors of all
CELLS = 16  # along the longer side, whose mean colors are compared: in finer ones it matters what lies a pixel off
POINTS = 9  # of a bend along each side of a picture
REWEIGHTED = 5  # times, so that what is far from the fit has little say: sums of distances, not of their squares
# How strongly a look is held to none, as if so many equations a cell or pixel said so: of a color transform's entries
# (of the color added, less), of a bend in halves of a picture's sides.
COLOR_RIDGE = (1e-3, 1e-3, 1e-3, 3e-4)
BEND_RIDGE = 2.0


@dataclass(frozen=True)
class Look:
    """What is to be done to a picture: colors (r, g, b, 1) @ ``colors`` (4, 3) of what lies ``bend`` (2, POINTS,
    POINTS; right and down, in halves of its sides) away from each pixel, straight between the points."""

    colors: Tensor
    bend: Tensor

    @classmethod
    def none(cls, device: torch.device | str) -> Look:
        return cls(torch.eye(4, 3, device=device), torch.zeros(2, POINTS, POINTS, device=device))

    def of(self, picture: Tensor) -> Tensor:
        """The picture (H, W, 3), 0–1, so changed."""
        bent = self.bent(picture) if self.bend.any() else picture
        return recolored(bent, self.colors).clamp(0, 1)

    def bent(self, picture: Tensor) -> Tensor:
        height, width = picture.shape[:2]
        size = {"size": (height, width), "mode": "bilinear", "align_corners": True}
        moved = F.interpolate(self.bend.to(picture)[None], **size)[0].permute(1, 2, 0)
        down, right = ((torch.arange(n, device=picture.device) + 0.5) / n * 2 - 1 for n in (height, width))
        place = torch.stack(torch.broadcast_tensors(right, down[:, None]), dim=-1)
        return sample(picture, place + moved, "bicubic")


def recolored(picture: Tensor, colors: Tensor) -> Tensor:
    """Colors (…, 3) by an affine transform (4, 3)."""
    colors = colors.to(picture)
    return picture @ colors[:3] + colors[3]


@torch.no_grad()
def agreed_looks(
    pictures: Mapping[int, Tensor],
    overlap: Overlap,
    keys: Sequence[int] = (),
    mask: Callable[[int], Tensor | None] = lambda view: None,
    check: Check = lambda: None,
) -> dict[int, Look]:
    """What brings the edits (H, W, 3), 0–1, of some views to a look that all agree about: the middle of all or, where
    some are ``keys``, which stay as they are, the colors of these. ``mask`` says how much of each pixel of a view
    (H, W, 1), 0–1, was edited at all; None: all. ``check`` is called between views and may raise Cancelled."""
    device = overlap.device
    small = {view: _smaller(picture.to(device)) for view, picture in pictures.items()}
    edited = {view: None if (where := mask(view)) is None else _smaller(where.to(device))[..., 0] for view in small}
    looks = {view: Look.none(device) for view in small if view not in keys}

    def others_say(view: int, shown: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
        """What is said of a view (h, w, 3), and where that counts (h, w)."""
        said, weight = _said_by_others(view, small[view], shown, overlap)
        where = edited[view]
        return said, weight if where is None else weight * where

    none = Look.none(device).colors
    for _ in range(PASSES if looks else 0):
        shown = {view: look.of(small[view]) for view, look in looks.items()}
        found, left = {}, {}
        for view in looks:
            check()
            said, weight = others_say(view, shown)
            if not weight.any():
                continue  # nothing is said of it: it has no say in what is usual, and stays as it is
            colors = colors_towards(small[view], said, weight)
            toned = recolored(small[view], colors)
            found[view] = Look(colors, bend_towards(toned, said, weight))
            apart = (toned - said).abs().mean(dim=-1)
            left[view] = float((weight * apart).sum() / weight.sum().clamp_min(1e-6))
        if not found:
            break
        # A fit to what is known less well is too flat: what all are brought to is no change of them all, but for those
        # that are far from the others still, which show something else.
        most = USUAL * median(left.values())
        usual = torch.stack([found[view].colors for view in found if left[view] <= most]).mean(dim=0)
        looks |= {view: Look(look.colors - usual + none, look.bend) for view, look in found.items()}
    if keys and looks:
        shown = {view: look.of(small[view]) for view, look in looks.items()}
        said = [(key, *others_say(key, shown)) for key in keys]
        theirs = [colors_towards(picture, small[key], weight) for key, picture, weight in said if weight.any()]
        if theirs:
            to_keys = torch.stack(theirs).mean(dim=0)
            looks = {view: Look(_then(look.colors, to_keys), look.bend) for view, look in looks.items()}
    return looks


def _then(first: Tensor, second: Tensor) -> Tensor:
    """Two color transforms (4, 3), one after the other, as one."""
    both = first @ second[:3]
    both[3] += second[3]
    return both


def colors_towards(picture: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The affine color transform (4, 3) that brings a picture (H, W, 3) nearest to another, by the mean colors of
    cells, where ``weight`` (H, W) says."""
    cell = max(1, max(picture.shape[:2]) // CELLS)
    share = _cells(weight[..., None], cell)
    ones = torch.ones_like(share)
    source = torch.cat([_cells(picture * weight[..., None], cell) / share.clamp_min(1e-6), ones], dim=-1).view(-1, 4)
    wanted = (_cells(target * weight[..., None], cell) / share.clamp_min(1e-6)).view(-1, 3)
    share, none = share.view(-1, 1), torch.eye(4, 3).to(picture)
    ridge = torch.diag(torch.tensor(COLOR_RIDGE).to(picture)) * share.sum().clamp_min(1e-6)
    colors, counts = none, share
    for _ in range(REWEIGHTED):
        weighted = (source * counts).T
        colors = none + torch.linalg.solve(weighted @ source + ridge, weighted @ (wanted - source[:, :3]))
        counts = _robust((source @ colors - wanted).abs().mean(dim=-1, keepdim=True), share)
    return colors


def bend_towards(picture: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The bend (2, POINTS, POINTS) of a picture (H, W, 3) that brings it nearest to another, where ``weight`` (H, W)
    says: steps of Lucas and Kanade (1981), of the straight lines between a few points."""
    height, width = picture.shape[:2]
    down, right = _hats(height).to(picture), _hats(width).to(picture)
    count = POINTS**2
    ridge = BEND_RIDGE * height * width / count * torch.eye(2 * count).to(picture)
    bend = torch.zeros(2 * count).to(picture)

    def at_points(values: Tensor) -> Tensor:
        """Sums of values (H, W) about each point."""
        return (down.T @ values @ right).reshape(-1)

    def between_points(values: Tensor) -> Tensor:
        """Sums of values (H, W) about each two of the points."""
        rows = torch.einsum("ya,yb,yx->abx", down, down, values)
        return torch.einsum("abx,xc,xd->acbd", rows, right, right).reshape(count, count)

    for _ in range(PASSES):
        now = Look(torch.eye(4, 3), bend.view(2, POINTS, POINTS)).bent(picture)
        by_y, by_x = torch.gradient(now, dim=(0, 1))
        by_x, by_y, left = by_x * width / 2, by_y * height / 2, target - now
        counts = _robust(left.abs().mean(dim=-1), weight)
        xx, xy, yy = (between_points((one * other).sum(-1) * counts) for one, other in
                      ((by_x, by_x), (by_x, by_y), (by_y, by_y)))  # fmt: skip
        both = torch.cat([torch.cat([xx, xy], dim=1), torch.cat([xy.T, yy], dim=1)])
        wanted = torch.cat([at_points((by * left).sum(-1) * counts) for by in (by_x, by_y)])
        bend = bend + torch.linalg.solve(both + ridge, wanted - ridge @ bend)
    return bend.view(2, POINTS, POINTS)


def _said_by_others(view: int, own: Tensor, pictures: Mapping[int, Tensor], overlap: Overlap) -> tuple[Tensor, Tensor]:
    """What others' ``pictures`` (h, w, 3), smaller ones than the cameras', say of what a view shows, whose own is as
    large as ``own``: the median (h, w, 3), and where enough of them say anything (h, w), 0 or 1."""
    camera, depth = _seen_by(view, own, overlap)
    others = [other for other in overlap.nearest(view, list(pictures)) if overlap.shares[view, other] > 0]
    said = [torch.full_like(own, torch.nan)]
    for other in others[:: -(-len(others) // OTHERS) or 1]:
        its_camera, behind = _seen_by(other, pictures[other], overlap)
        warped = warp(depth, camera, pictures[other], behind, its_camera)
        said.append(torch.where((warped.known & (depth > 0))[..., None], warped.rgb, torch.nan))
    every = torch.stack(said)
    enough = (~every[..., 0].isnan()).sum(dim=0) >= LEAST
    return every.nanmedian(dim=0).values.nan_to_num(0.5), enough.float()


def _seen_by(view: int, picture: Tensor, overlap: Overlap) -> tuple[Viewpoint, Tensor]:
    """A view's camera and depth (h, w), as large as its picture."""
    height, width = picture.shape[:2]
    camera = overlap.cameras[view]
    depth = F.interpolate(overlap.depths[view][None, None].to(picture), (height, width), mode="nearest-exact")[0, 0]
    return Viewpoint(camera.pose, camera.intrinsics.scaled_to(width, height)), depth


def _smaller(picture: Tensor) -> Tensor:
    """A picture (H, W, C) of no more than LONG_SIDE pixels."""
    height, width = picture.shape[:2]
    share = min(1.0, LONG_SIDE / max(height, width))
    size = max(2, round(height * share)), max(2, round(width * share))
    return F.interpolate(picture.permute(2, 0, 1)[None], size, mode="area")[0].permute(1, 2, 0)


def _cells(values: Tensor, cell: int) -> Tensor:
    """The means (h, w, C) of values (H, W, C) over square cells."""
    return F.avg_pool2d(values.permute(2, 0, 1)[None], cell, ceil_mode=True)[0].permute(1, 2, 0)


def _robust(distances: Tensor, weight: Tensor) -> Tensor:
    """Weights of a fit by squares that make it one by distances: less where these are longer than is usual."""
    usual = (weight * distances).sum() / weight.sum().clamp_min(1e-6) + 1e-4
    counts = weight * usual / distances.clamp_min(0.5 * usual)
    return counts * weight.sum() / counts.sum().clamp_min(1e-6)


def _hats(size: int) -> Tensor:
    """(size, POINTS): how much each point along a side says of each pixel, straight between them, as `Look.bent`."""
    place = torch.linspace(0, POINTS - 1, size)
    return (1 - (place[:, None] - torch.arange(POINTS)).abs()).clamp(min=0)
