# SPDX-License-Identifier: GPL-3.0-or-later
"""The CUDA paths, for mix-ups of device and precision, without a GPU: fake tensors carry shapes, types and devices and
compute nothing."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.editors.guidance import Guidance
from engine.editors.instruct_pix2pix import InstructPix2Pix
from engine.metrics.perceptual import Perceptual
from engine.nerf.config import LossConfig, OptimiserConfig
from engine.nerf.frame import NerfFrame
from engine.nerf.nerfacto import Nerfacto
from engine.nerf.rays import ImageSet, RayBatch, cameras_from
from engine.nerf.rendering import corrected_cameras
from engine.nerf.training import Trainer

from .conftest import TINY_NERF, Intrinsics, ring

CUDA = torch.device("cuda:0")


@pytest.fixture
def fake():
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode


def test_a_training_step_on_patches_with_the_perceptual_loss(fake):
    nerf = Nerfacto(TINY_NERF, 4).to(CUDA)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.LazyLinear(1)).to(CUDA)

    class Distance(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network

        def forward(self, a, b):
            return self.net(a - b).abs()

    perceptual = Perceptual(Distance(), "fake")
    trainer = Trainer(nerf, LossConfig("l1", 1.0), OptimiserConfig(), perceptual)
    frame = NerfFrame(0.25, (0.0, 0.0, 0.0))
    intrinsics = [Intrinsics(16, 12, 20.0, 20.0, 8.0, 6.0)] * 4
    cameras = cameras_from(ring(4), intrinsics, frame, CUDA)
    rays = cameras.generate_rays(
        camera_indices=torch.zeros(128, 1, dtype=torch.long, device=CUDA), coords=torch.rand(128, 2, device=CUDA)
    )
    trainer._begin_step()
    rendered = nerf(rays)
    assert rendered.rgb.device == CUDA and rendered.rgb.dtype == torch.float32
    colours = torch.rand(128, 3, device=CUDA)
    batch = RayBatch(rays, colours, 8)
    shape = (-1, batch.patch, batch.patch, 3)
    loss = perceptual(rendered.rgb.view(shape), colours.view(shape)).mean()
    loss = loss + sum(nerf.regularisers(rendered).values()) + (rendered.rgb - colours).abs().mean()
    loss.backward()
    assert all(p.grad is None or p.grad.device == CUDA for p in nerf.parameters())
    corrected = corrected_cameras(nerf, cameras)
    assert corrected.camera_to_worlds.device == CUDA


def test_batches_are_drawn_on_the_device(fake):
    intrinsics = [Intrinsics(16, 12, 20.0, 20.0, 8.0, 6.0)] * 4
    cameras = cameras_from(ring(4), intrinsics, NerfFrame(0.25, (0.0, 0.0, 0.0)), "cpu").to(CUDA)
    data = ImageSet.__new__(ImageSet)
    data.cameras, data.widths, data.heights = cameras, cameras.width.flatten(), cameras.height.flatten()
    data._starts = np.arange(5) * 192
    data.starts = torch.from_numpy(data._starts[:-1]).to(CUDA)
    data.pixels = torch.zeros(768, 3, dtype=torch.uint8, device=CUDA)
    batch = data.sample_pixels(32, torch.Generator())
    assert batch.colours.device == CUDA and batch.rays.origins.device == CUDA and batch.colours.shape == (32, 3)


def test_an_edit_in_half_precision(fake, tiny_pipeline):
    from diffusers import AutoencoderTiny, UNet2DConditionModel

    unet = UNet2DConditionModel(**{k: v for k, v in tiny_pipeline.unet.config.items() if not k.startswith("_")})
    vae = AutoencoderTiny(**{k: v for k, v in tiny_pipeline.vae.config.items() if k[0] != "_" and k != "block_out_channels"})
    editor = InstructPix2Pix.__new__(InstructPix2Pix)
    editor.device, editor.dtype, editor.native_size, editor._multiple = CUDA, torch.float16, 32, 8
    editor.unet, editor.vae = unet.to(CUDA, torch.float16), vae.to(CUDA, torch.float16)
    from engine.editors.instruct_pix2pix import NoiseSchedule

    editor.schedule = NoiseSchedule(torch.linspace(1, 0, 1000, device=CUDA), 1.0, "v_prediction")
    picture = torch.rand(20, 30, 3, device=CUDA)
    condition = editor.encode_original(picture)
    assert condition.dtype == torch.float16
    text = torch.zeros(3, 12, 16, dtype=torch.float16, device=CUDA)
    edited = editor.edit(picture, condition, text, 0.7, Guidance(), torch.Generator(), 3)
    assert edited.device == CUDA and edited.dtype == torch.float32 and edited.shape == (20, 30, 3)
