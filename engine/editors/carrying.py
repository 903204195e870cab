# SPDX-License-Identifier: GPL-3.0-or-later
"""The projected start: pixels of views that were edited before take the render's place in the first denoising steps.

As in DATENeRF (Rojas et al., ECCV 2024). In all steps, the errors of what was carried over would be copied from view to
view; in the first ones it says what the edit is, and the editor repairs the rest.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.editors.base import Carried

FIRST_STEPS = 0.25  # of an edit's denoising steps, after which what was carried over is put back


def with_carried(picture: Tensor, carried: Carried | None) -> Tensor:
    """``picture`` (H, W, 3), where nothing is carried over; elsewhere what is."""
    if carried is None:
        return picture
    return torch.where(carried.seen.to(picture.device)[..., None], carried.picture.to(picture), picture)


def put_back(steps: int) -> int:
    """After how many of ``steps`` denoising steps, the first ones, what was carried over is put back."""
    return max(1, int(FIRST_STEPS * steps)) if steps > 1 else 0


def covered(carried: Carried, height: int, width: int) -> Tensor:
    """Which cells of a map (height, width) over the whole picture are carried over, every pixel of theirs: (1, 1,
    height, width) bool."""
    unseen = (~carried.seen).float()[None, None]
    return F.adaptive_max_pool2d(unseen, (height, width)) == 0
