# SPDX-License-Identifier: GPL-3.0-or-later
"""The networks of InstructPix2Pix at their full size, those of Stable Diffusion 1.5, with random weights: built from
their configurations, for there is no hub in a test."""

from __future__ import annotations

from types import SimpleNamespace

import torch

UNET = {
    "sample_size": 64,
    "in_channels": 8,  # noise and picture
    "out_channels": 4,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
VAE = {
    "sample_size": 512,
    "latent_channels": 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.18215,
}
TEXT = {
    "vocab_size": 49_408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
}
SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}


def build_parts(dtype: torch.dtype) -> SimpleNamespace:
    """unet, vae, text_encoder and scheduler, as a loaded pipeline has them. Under FakeTensorMode they weigh nothing."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return SimpleNamespace(
            unet=UNet2DConditionModel(**UNET),
            vae=AutoencoderKL(**VAE),
            text_encoder=CLIPTextModel(CLIPTextConfig(**TEXT)),
            tokenizer=None,
            scheduler=DDIMScheduler(**SCHEDULER),
            vae_scale_factor=8,
        )
    finally:
        torch.set_default_dtype(before)
