# SPDX-License-Identifier: GPL-3.0-or-later
"""An editor with a diffusion model's faults whose right answer is known: it knows the true edit of every view and gives
it a *look* of its own at each call, so that its edits of two views disagree as a real editor's do.

A look is a color transform, a contrast, a smooth warp of a few pixels and an invented fine texture; now and then there
is no edit at all. ``strength`` scales all of it: at 0 every answer is the true edit, at 1 a look is as strong as the
constants below say.

How much of the render survives an edit from noise level t is Gaussian conditioning, frequency by frequency: where the
editor expects looks of power S about the true edit y and the noise has power N(t), noising a render x and drawing from
the posterior gives y + G·(x − y) + √(1 − G²)·d, with G = S/(S + N(t)) and d a look of its own. Looks, like pictures,
have more power at low frequencies, white noise has as much at all: so coarse things are kept up to high t, fine ones
are invented anew from a low one on. At t = 1 nothing is kept; an editor that is sure (strength 0) keeps nothing either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.truth.data import TruthScene
from benchmarks.truth.edits import EDITS
from engine.editors.base import Carried, Check
from engine.editors.carrying import put_back, with_carried
from engine.protocol import OptionValue

# Standard deviations at strength 1, of colors 0–1.
COLOR = 0.06  # of a color transform's entries about the identity's
SHIFT = 0.05  # of the color added to all pixels
CONTRAST = 0.15  # of the contrast's logarithm
WARP = 0.008  # of where a pixel comes from, in widths of the picture: 4 pixels of 512
TEXTURE = 0.05  # of the invented texture
NO_EDIT = 0.08  # the chance that nothing is edited; with less strength less, with more no more than twice

GRAINS = 21  # of the texture across the picture
BENDS = 4  # of a warp across it
DROWNED = 9.0  # cycles a picture: at strength 1 noise of level 0.5 is as strong as looks there
COARSEST = 2.0  # cycles a picture, below which a look's power no longer grows
SCALES = (7.5, 1.5)  # (s_T, s_I) of a single guided prediction, InstructPix2Pix's own
STEPS = 20  # of an edit's denoising, where no option says it


def kept(t: float, strength: float, height: int, width: int) -> Tensor:
    """G, the share of a render that an edit from noise level ``t`` keeps: (2 height, width + 1), over the frequencies
    of a picture (height, width) that was mirrored at its edges, as torch's rfft2 has them."""
    if t >= 1 or not strength:
        return torch.zeros(2 * height, width + 1)
    up = torch.fft.fftfreq(2 * height) * height
    across = torch.fft.rfftfreq(2 * width) * width
    cycles = (up[:, None].square() + across[None].square()).sqrt().clamp(min=COARSEST)
    noise = math.tan(math.pi / 2 * max(t, 0.0)) ** 2 * (cycles / DROWNED).square()
    return strength**2 / (strength**2 + noise)


def filtered(picture: Tensor, gain: Tensor) -> Tensor:
    """A picture (H, W, 3) whose frequencies are multiplied by ``gain`` (see `kept`), mirrored at its edges."""
    height, width = picture.shape[:2]
    mirrored = torch.cat([picture, picture.flip(0)], dim=0)
    mirrored = torch.cat([mirrored, mirrored.flip(1)], dim=1)
    spectrum = torch.fft.rfft2(mirrored, dim=(0, 1)) * gain.to(picture)[..., None]
    return torch.fft.irfft2(spectrum, s=mirrored.shape[:2], dim=(0, 1))[:height, :width]


def look(picture: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """A picture (H, W, 3), 0–1, with a look drawn from ``random``; the same draws whatever the strength."""
    height, width = picture.shape[:2]

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random).to(picture)

    matrix = torch.eye(3).to(picture) + strength * COLOR * normal(3, 3)
    shift, contrast = strength * SHIFT * normal(3), torch.exp(strength * CONTRAST * normal(1))
    bends = F.interpolate(normal(1, 2, BENDS, BENDS), (height, width), mode="bicubic", align_corners=True)[0]
    texture = F.interpolate(normal(1, 3, GRAINS, GRAINS), (height, width), mode="bicubic", align_corners=False)[0]
    place = F.affine_grid(torch.eye(2, 3)[None].to(picture), [1, 3, height, width], align_corners=False)
    place = place + 2 * strength * WARP * bends.permute(1, 2, 0)[None]
    warped = F.grid_sample(picture.permute(2, 0, 1)[None], place, "bicubic", "reflection", align_corners=False)
    colors = warped[0].permute(1, 2, 0) @ matrix.T + shift
    colors = 0.5 + contrast * (colors - 0.5)
    return colors + strength * TEXTURE * texture.permute(1, 2, 0)


@dataclass(frozen=True)
class SimulatedEditor:
    """The editor, of one scene's edits."""

    scene: TruthScene
    strength: float
    name: str = "simulated"
    references: int = 0
    _before: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def size(self) -> int:
        return max(self.scene.before.shape[1:3])

    def prepare(self, instruction: str, options: Mapping[str, OptionValue]) -> Prepared:
        """The editor, told one of the benchmark's instructions that the scene has. Raises KeyError for any other."""
        key = next((key for key in self.scene.after if EDITS[key].instruction == instruction), instruction)
        return Prepared(self, self.scene.after[key], int(options.get("diffusion_steps", STEPS)))

    def camera_of(self, picture: Tensor) -> int:
        """Which of the scene's cameras a picture (H, W, 3) of the unedited scene was taken from, by the nearest."""
        device = str(picture.device)
        if device not in self._before:
            self._before[device] = torch.from_numpy(self.scene.before).to(picture.device).float() / 255
        apart = (self._before[device] - picture[None]).square().mean(dim=(1, 2, 3))
        return int(apart.argmin())


@dataclass(frozen=True)
class Prepared:
    """The editor, told what to do."""

    editor: SimulatedEditor
    after: object  # (N, H, W, 3) uint8, the true edit from every camera
    steps: int

    def view(self, original: Tensor, references: Sequence[Tensor] = ()) -> ViewEdit:
        """Edits of the view whose unedited picture, or render, is ``original`` (H, W, 3), 0–1."""
        true = torch.from_numpy(self.after[self.editor.camera_of(original)]).to(original.device).float() / 255  # type: ignore[index]
        return ViewEdit(self, original, true)


@dataclass(frozen=True)
class ViewEdit:
    """The editor, told what to do and to which view."""

    prepared: Prepared
    original: Tensor  # (H, W, 3), 0–1
    true: Tensor  # (H, W, 3), 0–1
    relevance: None = None

    def edit(
        self,
        picture: Tensor,
        t: float,
        generator: torch.Generator,
        check: Check = lambda: None,
        carried: Carried | None = None,
    ) -> Tensor:
        """As engine/editors/base.py says. What is carried over is put back when the first steps are done, and the edit
        begins once more from there."""
        check()
        strength, steps = self.prepared.editor.strength, self.prepared.steps
        chance = float(torch.rand((), generator=generator))
        aim = self.original if chance < NO_EDIT * min(strength, 2.0) else self.true
        edited = self._drawn(with_carried(picture, carried), aim, t, generator)
        if carried is not None and carried.seen.any() and (first := put_back(steps)):
            edited = self._drawn(with_carried(edited, carried), aim, t * (1 - first / steps), generator)
        return edited.clamp(0, 1)

    def gradient(self, picture: Tensor, t: float, generator: torch.Generator) -> Tensor:
        """∂L_SDS/∂picture: w(t)·(ε̂ − ε), w(t) = 1 − ᾱ(t), of a single guided prediction: with the scales of
        InstructPix2Pix, its eq. 3, and the answers that the editor would come to without condition (the picture), with
        the original alone (that, as far as the noise hides the picture) and with the instruction."""
        text, image = SCALES
        told = self.edit(picture, t, generator)
        untold = self._kept(picture, self.original, t)
        answer = picture + image * (untold - picture) + text * (told - untold)
        signal = math.cos(math.pi / 2 * t) ** 2
        return math.sqrt(signal * (1 - signal)) * (picture - answer)

    def _kept(self, picture: Tensor, aim: Tensor, t: float) -> Tensor:
        """``aim``, as far as the noise hides ``picture``."""
        aim = aim.to(picture)
        gain = kept(t, self.prepared.editor.strength, *picture.shape[:2])
        return aim + filtered(picture - aim, gain)

    def _drawn(self, picture: Tensor, aim: Tensor, t: float, random: torch.Generator) -> Tensor:
        """A draw about ``aim``, given ``picture`` under noise of level ``t``."""
        strength, aim = self.prepared.editor.strength, aim.to(picture)
        gain = kept(t, strength, *picture.shape[:2])
        own = look(aim, strength, random) - aim
        return self._kept(picture, aim, t) + filtered(own, (1 - gain.square()).sqrt())
