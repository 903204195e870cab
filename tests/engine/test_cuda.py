# SPDX-License-Identifier: GPL-3.0-or-later
"""The CUDA paths, for mix-ups of device and precision, without a GPU: fake tensors carry shapes, types and devices and
compute nothing."""

import numpy as np
import pytest
import torch
from engine.editors.guidance import Guidance
from engine.scenes.nerfacto.rendering import corrected_cameras
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.editors.instruct_pix2pix import InstructPix2Pix
from engine.metrics.perceptual import Perceptual
from engine.scenes.nerfacto.config import LossConfig, OptimiserConfig
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.rays import ImageSet, RayBatch, cameras_from
from engine.scenes.nerfacto.training import Trainer

from .conftest import TINY_NERF, Intrinsics, ring

CUDA = torch.device("cuda:0")


@pytest.fixture
def fake():
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode


@pytest.fixture(autouse=True)
def rays_without_questions(monkeypatch):
    """nerfstudio asks the cameras' values, which fake tensors do not have; their devices are checked here instead."""

    def generate_rays(self, camera_indices, coords):
        assert camera_indices.device == coords.device == self.camera_to_worlds.device == CUDA
        count = len(coords)
        return RayBundle(
            origins=torch.rand(count, 3, device=CUDA),
            directions=torch.rand(count, 3, device=CUDA),
            pixel_area=torch.rand(count, 1, device=CUDA),
            camera_indices=camera_indices,
        )

    monkeypatch.setattr(Cameras, "generate_rays", generate_rays)


def on_cuda(module, dtype=None):
    """The module with every weight a fake one on the GPU (Module.to cannot swap fake tensors)."""
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                kind = dtype or value.dtype
                part._parameters[name] = torch.nn.Parameter(torch.empty(value.shape, dtype=kind, device=CUDA))
        for name, value in part._buffers.items():
            if value is not None:
                kind = dtype if dtype and value.is_floating_point() else value.dtype
                part._buffers[name] = torch.empty(value.shape, dtype=kind, device=CUDA)
    return module


def test_a_training_step_on_patches_with_the_perceptual_loss(fake):
    nerf = on_cuda(Nerfacto(TINY_NERF, 4))
    network = on_cuda(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 1)))

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
    assert loss.device == CUDA  # autograd itself asks the driver, so the backward pass needs a real GPU
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
    data.seen = data.drawn = None
    batch = data.sample_pixels(32, torch.Generator())
    assert batch.colours.device == CUDA and batch.rays.origins.device == CUDA and batch.colours.shape == (32, 3)
    data.seen, data.drawn = torch.ones(768, dtype=torch.bool, device=CUDA), torch.arange(700, device=CUDA)
    assert data.sample_pixels(32, torch.Generator()).colours.device == CUDA


def test_an_edit_in_half_precision(fake, tiny_pipeline):
    from diffusers import AutoencoderTiny, UNet2DConditionModel

    unet = UNet2DConditionModel(**{k: v for k, v in tiny_pipeline.unet.config.items() if not k.startswith("_")})
    vae = AutoencoderTiny(
        **{k: v for k, v in tiny_pipeline.vae.config.items() if k[0] != "_" and k != "block_out_channels"}
    )
    editor = InstructPix2Pix.__new__(InstructPix2Pix)
    editor.device, editor.dtype, editor.native_size, editor._multiple = CUDA, torch.float16, 32, 8
    editor.unet, editor.vae = on_cuda(unet, torch.float16), on_cuda(vae, torch.float16)
    from engine.editors.instruct_pix2pix import NoiseSchedule

    editor.schedule = NoiseSchedule(torch.linspace(1, 0, 1000, device=CUDA), 1.0, "v_prediction")
    picture = torch.rand(20, 30, 3, device=CUDA)
    text = torch.zeros(3, 12, 16, dtype=torch.float16, device=CUDA)
    guidance = Guidance(relevance=0.5)
    condition = editor.condition(picture, text, guidance)
    assert condition.latents.dtype == torch.float16 and condition.relevance.device == CUDA
    edited = editor.edit(picture, condition, text, 0.7, guidance, torch.Generator(), 3)
    assert edited.device == CUDA and edited.dtype == torch.float32 and edited.shape == (20, 30, 3)
