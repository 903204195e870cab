# SPDX-License-Identifier: GPL-3.0-or-later
"""The noise that InstructPix2Pix's networks were trained on, at whatever level an edit begins."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseSchedule:
    """The forward process: how much of the signal is left at each of T timesteps, and what the network predicts."""

    alphas_cumprod: Tensor  # (T,)
    final_alpha_cumprod: float  # what the last step goes to; 1: the clean picture
    prediction_type: str  # epsilon, v_prediction or sample

    def levels(self, t: float, steps: int) -> list[int]:
        """Timesteps from noise level ``t`` (0–1) down, evenly spaced, at most ``steps`` of them, none twice."""
        count = len(self.alphas_cumprod)
        top = min(max(round(t * count), 1), count - 1)
        return list(dict.fromkeys(round(top * (1 - k / steps)) for k in range(steps)))

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: int) -> Tensor:
        alpha = self.alphas_cumprod[timestep]
        return (alpha.sqrt() * clean + (1 - alpha).sqrt() * noise).to(clean.dtype)

    def ddim_step(self, prediction: Tensor, sample: Tensor, timestep: int, following: int | None) -> Tensor:
        """One deterministic DDIM step (Song et al. 2021, eq. 12, σ = 0) from ``timestep`` to ``following`` (None: the
        end). diffusers' own scheduler only steps on its fixed grid, which a drawn t does not lie on."""
        end = torch.as_tensor(self.final_alpha_cumprod) if following is None else self.alphas_cumprod[following]
        clean, noise = self.parts(prediction, sample, timestep)
        return (end.sqrt() * clean + (1 - end).sqrt() * noise).to(sample.dtype)

    def noise_to_signal(self, timestep: int) -> Tensor:
        """The noise's variance over the signal's: (1 − ᾱ)/ᾱ."""
        alpha = self.alphas_cumprod[timestep].float()
        return (1 - alpha) / alpha

    def parts(self, prediction: Tensor, sample: Tensor, timestep: int) -> tuple[Tensor, Tensor]:
        """What the network's ``prediction`` at ``sample`` says: (clean picture, noise), both float32."""
        alpha = self.alphas_cumprod[timestep].float()
        x, p = sample.float(), prediction.float()
        if self.prediction_type == "epsilon":
            return (x - (1 - alpha).sqrt() * p) / alpha.sqrt(), p
        if self.prediction_type == "v_prediction":
            return alpha.sqrt() * x - (1 - alpha).sqrt() * p, alpha.sqrt() * p + (1 - alpha).sqrt() * x
        return p, (x - alpha.sqrt() * p) / (1 - alpha).sqrt()
