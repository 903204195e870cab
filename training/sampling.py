"""Edits in batches with an exported model: the sampler of InstructPix2Pix from any noise level."""

from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionInstructPix2PixPipeline

from .models import tokens
from .paths import read_json


class Editor:
    """An exported folder, loaded as its users load it, in single precision."""

    def __init__(self, folder: Path):
        self.pipe = StableDiffusionInstructPix2PixPipeline.from_pretrained(
            folder, torch_dtype=torch.float32, safety_checker=None, local_files_only=True
        )
        self.pipe.unet.to(memory_format=torch.channels_last)
        self.empty = self.words([""])
        self.steps = read_json(folder / "guidance.json")["steps"]

    @torch.inference_mode()
    def words(self, texts: list[str]) -> torch.Tensor:
        return self.pipe.text_encoder(tokens(self.pipe.tokenizer, texts)).last_hidden_state

    @torch.inference_mode()
    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in 0..1 to latents."""
        return self.pipe.vae.encode(pictures * 2 - 1).latents

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return (self.pipe.vae.decode(latents).sample * 0.5 + 0.5).clamp(0, 1)

    @torch.inference_mode()
    def edit(
        self,
        pictures: torch.Tensor,
        texts: list[str],
        text_guidance: float,
        image_guidance: float,
        steps: int | None = None,
        level: float = 1.0,
        current: torch.Tensor | None = None,
        seed: int = 0,
    ) -> torch.Tensor:
        """Edit pictures (B, 3, H, W) in 0..1, one text each, in as many steps as the model recommends if None.

        level: the noise that `current` (the pictures themselves if None) starts with; 1 is pure noise.
        """
        steps = steps or self.steps
        scheduler = DDIMScheduler.from_config(self.pipe.scheduler.config)
        condition = self.encode(pictures)
        words = torch.cat([self.words(texts), self.empty.expand(2 * len(texts), -1, -1)])
        conditions = torch.cat([condition, condition, torch.zeros_like(condition)])
        passes = 1 if text_guidance == image_guidance == 1 else 3  # else the other two cancel out
        words, conditions = words[: passes * len(texts)], conditions[: passes * len(texts)]
        last = max(round(level * scheduler.config.num_train_timesteps) - 1, 0)
        times = np.unique(np.linspace(last, 0, steps + 1).round().astype(int))[::-1][:-1] if last else np.array([0])
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(condition.shape[1:], generator=generator).expand_as(condition)
        start = condition if current is None else self.encode(current)
        alpha = scheduler.alphas_cumprod[last]
        x = alpha.sqrt() * start + (1 - alpha).sqrt() * noise
        for k, time in enumerate(times):
            given = torch.cat([torch.cat([x] * passes), conditions], 1).contiguous(memory_format=torch.channels_last)
            predicted = self.pipe.unet(given, int(time), words, return_dict=False)[0]
            full, image, neither = predicted.chunk(3) if passes == 3 else (predicted,) * 3
            clean = neither + image_guidance * (image - neither) + text_guidance * (full - image)
            here = scheduler.alphas_cumprod[int(time)]
            after = scheduler.alphas_cumprod[int(times[k + 1])] if k + 1 < len(times) else torch.tensor(1.0)
            noise_part = (x - here.sqrt() * clean) / (1 - here).sqrt()
            x = after.sqrt() * clean + (1 - after).sqrt() * noise_part
        return self.decode(x)
