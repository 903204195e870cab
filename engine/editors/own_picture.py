# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture of one's own as editor: any image file, painted or made in another program, is the edit of a view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.capture.decoding import decode_layers
from engine.capture.photos import SkipView, read_header
from engine.editors.base import Carried, Check
from engine.errors import BadInput
from engine.protocol import OptionValue

SAME_SHAPE = 0.02  # how far, relative, the picture's aspect may be from its view's


@dataclass(frozen=True)
class OwnPicture:
    """An editor that answers with a picture, whatever it is told and shown; where the picture is transparent, with the
    view's own."""

    name: str
    paint: Tensor  # (H, W, 3), 0–1, times its opacity
    opacity: Tensor  # (H, W, 1), 0–1
    references: int = 0

    @property
    def size(self) -> int:
        return max(self.paint.shape[:2])

    def prepare(self, instruction: str, options: Mapping[str, OptionValue]) -> OwnPicture:
        return self

    def view(self, original: Tensor, references: Sequence[Tensor] = ()) -> ViewEdit:
        """The edit of the view whose unedited picture is ``original`` (H, W, 3), 0–1. Raises BadInput where the picture
        cannot have been made from it."""
        (height, width), (h, w) = original.shape[:2], self.paint.shape[:2]
        if abs((w / h) / (width / height) - 1) > SAME_SHAPE:
            raise BadInput(
                f"{Path(self.name).name} has {w}×{h} pixels, another shape than the view ({width}×{height}); make it "
                "from the view's own picture, whole, at any size.",
                file=self.name,
                field="editor",
            )
        layers = torch.cat([self.paint, self.opacity], dim=-1).permute(2, 0, 1)[None]
        if (h, w) != (height, width):
            layers = F.interpolate(layers, (height, width), mode="bicubic", antialias=True)
        layers = layers[0].permute(1, 2, 0).clamp(0, 1).to(original)
        return ViewEdit((layers[..., :3] + (1 - layers[..., 3:]) * original).clamp(0, 1))


@dataclass(frozen=True)
class ViewEdit:
    """The picture, at its view's size."""

    picture: Tensor  # (H, W, 3), 0–1
    relevance: None = None

    def edit(
        self,
        picture: Tensor,
        t: float,
        generator: torch.Generator,
        check: Check = lambda: None,
        carried: Carried | None = None,
    ) -> Tensor:
        check()
        return self.picture.clone()


def load(source: str, name: str, device: str) -> OwnPicture:
    """Read the image file ``source``, upright as it is shown. Raises BadInput where it cannot be read."""
    path = Path(source)
    try:
        picture, alpha = decode_layers(path, (0, 0, 0), read_header(path).orientation)
    except SkipView as problem:
        raise BadInput(str(problem), file=path, field="editor") from None
    paint = torch.from_numpy(np.array(picture)).float() / 255
    opacity = (
        torch.ones(*paint.shape[:2], 1) if alpha is None else torch.from_numpy(np.array(alpha)).float()[..., None] / 255
    )
    return OwnPicture(name, paint, opacity)
