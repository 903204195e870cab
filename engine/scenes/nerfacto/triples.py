# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of three pixels over what is plain in a picture, and how far what they show is from flat.

The inverse of the distance along a camera's axis is linear over the picture of a plane, so its second difference is 0
at any spacing.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from engine.scenes.picture_set import PictureSet

TOLERANCE = 0.02  # of the inverse distance: a second difference from which on it may as well be a bend
FAR = 0.3  # inverse distance, NeRF frame, of what is far behind all that cameras look at: how even that is matters less
ABOUT = 0.1  # of the distance to a ray's median: what counts as the surface there
THINNEST = 1e-3  # opacity of a ray that shows next to nothing


def on_lines(pictures: PictureSet, cameras: Cameras, flat: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Of pixels (N,) that were drawn, three by three of those where a picture is plain put on a line: the middle one
    stays, in any direction, as long as the plain disc about it and the picture allow, or shorter; so as many rays go
    through what is plain as before. Returns all pixels, N // 3 lines first, and (N // 3, 3) how much longer rays
    through those are than along the camera's axis; 0 of the last lines, for which there were no plain pixels left: they
    are none, and their pixels stay."""
    assert pictures.plain is not None
    flat = flat[torch.argsort((pictures.plain[flat] == 0).to(torch.uint8), stable=True)]
    count = len(flat) // 3
    own, after = flat[: 3 * count].view(-1, 3), flat[3 * count :]
    middle = own[:, 1].contiguous()
    are_lines = (pictures.plain[own] > 0).all(dim=1, keepdim=True)
    turn, share = torch.rand(2, count, generator=generator).to(pictures.device)
    view, y, x = pictures.located(middle)
    width, height = pictures.widths[view], pictures.heights[view]
    across, down = torch.cos(2 * math.pi * turn), torch.sin(2 * math.pi * turn)
    room_x, room_y = torch.minimum(x, width - 1 - x), torch.minimum(y, height - 1 - y)
    longest = torch.minimum(room_x / across.abs().clamp(min=1e-6), room_y / down.abs().clamp(min=1e-6))
    length = torch.minimum(pictures.plain[middle], longest) * share.sqrt()  # long ones reach what is known beside
    off_x, off_y = (length * across).round().long(), (length * down).round().long()
    side = torch.tensor([-1, 0, 1], device=pictures.device)
    columns, rows = x[:, None] + side * off_x[:, None], y[:, None] + side * off_y[:, None]
    lines = torch.where(are_lines, pictures.starts[view][:, None] + rows * width[:, None] + columns, own)
    right = (columns + 0.5 - cameras.cx[view]) / cameras.fx[view]
    below = (rows + 0.5 - cameras.cy[view]) / cameras.fy[view]
    slants = torch.where(are_lines, (1 + right.square() + below.square()).sqrt(), 0)
    return torch.cat([lines.flatten(), after]), slants


def flatness_loss(weights: Tensor, middles: Tensor, slants: Tensor) -> Tensor:
    """How far lines of three rays are from showing something flat: the second difference of the inverse of the distance
    along the camera's axis, relative to that, squared where it is small and as it is where it is large; the mean over
    the lines, those that are none (slants of 0) among them. ``weights``, ``middles`` (3 · T, S): of the rays' samples,
    and where they lie, NeRF frame; ``slants`` (T, 3): what `on_lines` says.

    A ray's distance is the mean about its median: of all of it, nothing would be flatter than what is far behind, and
    surfaces would be thinned."""
    weights, middles = _about_the_median(weights, middles.detach()), middles.detach()
    inverse = ((weights / middles).sum(dim=1) / weights.sum(dim=1).clamp(min=THINNEST)).view(-1, 3) * slants
    bend = inverse[:, 0] - 2 * inverse[:, 1] + inverse[:, 2]
    relative = bend / inverse.mean(dim=1).clamp(min=FAR)  # nor is anything flatter for being farther away
    return F.smooth_l1_loss(relative, torch.zeros_like(relative), beta=TOLERANCE)


def _about_the_median(weights: Tensor, middles: Tensor) -> Tensor:
    """The weights (R, S) of samples near the one in which half of what a ray meets is met."""
    met = weights.detach().cumsum(dim=1)
    half = torch.searchsorted(met, met[:, -1:] / 2).clamp(max=weights.shape[1] - 1)
    off = middles / middles.gather(1, half) - 1
    return weights * torch.exp(-(off / ABOUT).square() / 2)
