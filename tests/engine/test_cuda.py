# SPDX-License-Identifier: GPL-3.0-or-later
"""The CUDA paths, for mix-ups of device and precision, without a GPU: fake tensors carry shapes, types and devices and
compute nothing."""

import numpy as np
import pytest
import torch
import torch.utils._pytree as pytree
from diffusers import EDMEulerScheduler, FlowMatchEulerDiscreteScheduler
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode

from engine.edit.keep import Background
from engine.edit.originals import Originals
from engine.editors.base import Carried
from engine.editors.flux2_klein import Flux2Klein
from engine.editors.flux_kontext import FluxKontext
from engine.editors.instruct_pix2pix import InstructPix2Pix, NoiseSchedule, Options, Prepared
from engine.editors.instruct_pix2pix_xl import InstructPix2PixXL
from engine.editors.placing import networks
from engine.editors.qwen_image_edit import QwenImageEdit
from engine.geometry import Viewpoint, seen_from, unproject
from engine.metrics.perceptual import Perceptual
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.rays import RayBatch, cameras_from, sample_pixels
from engine.scenes.nerfacto.training import Trainer
from engine.scenes.picture_set import PictureSet
from engine.scenes.settings import LossConfig, TrainingConfig

from . import tiny_editors
from .conftest import TINY_NERF, Intrinsics, ring

CUDA = torch.device("cuda:0")
FRAME = NerfFrame(0.25, (0.0, 0.0, 0.0))
CAMERAS = [Viewpoint(pose, Intrinsics(16, 12, 20.0, 20.0, 8.0, 6.0)) for pose in ring(4)]


class NoDoubles(TorchDispatchMode):
    """A Mac's GPU, which runs the same code, has no floats of 64 bits, and others are slow with them: none may be made
    there. (PyTorch's builds for other systems make no fake tensors of its own kind.)"""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in pytree.tree_leaves(made):
            # A single number is one of Python's, which torch takes over as it comes.
            if isinstance(tensor, torch.Tensor) and tensor.device == CUDA and tensor.dim():
                assert tensor.dtype not in (torch.float64, torch.complex128), func
        return made


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr("engine.editors.numbers.all_finite", lambda _: True)  # they have no values
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode


@pytest.fixture
def no_doubles(fake):
    with NoDoubles():
        yield


def test_doubles_on_the_gpu_are_found(fake, no_doubles):
    torch.rand(3, device=CUDA).cpu().double()
    with pytest.raises(AssertionError):
        torch.rand(3, device=CUDA).double()


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


def test_a_training_step_on_patches_with_the_perceptual_loss(fake, no_doubles, monkeypatch):
    nerf = on_cuda(Nerfacto(TINY_NERF, 4))
    network = on_cuda(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 1)))

    class Distance(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network

        def forward(self, a, b):
            return self.net(a - b).abs()

    perceptual = Perceptual(Distance(), "fake")
    training = TrainingConfig(4, 128, LossConfig("l1", 1.0), single_rays=0.0, patch=8)
    trainer = Trainer(nerf, FRAME, CAMERAS, training, perceptual=perceptual)
    rays = trainer._cameras.generate_rays(
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

    taken = []

    def numpy(tensor):  # fake tensors hold no numbers
        taken.append(tensor.device.type)
        return np.zeros(tensor.shape)

    monkeypatch.setattr(torch.Tensor, "numpy", numpy)
    corrected = trainer.camera(2)
    assert taken == ["cpu"] and corrected.pose.shape == (4, 4)
    np.testing.assert_array_equal(corrected.pose[:3, 3], CAMERAS[2].pose[:3, 3])


def test_batches_are_drawn_on_the_device(fake, no_doubles):
    cameras = cameras_from(CAMERAS, FRAME, CUDA)
    pictures = PictureSet([np.zeros((12, 16, 3), np.uint8)] * 4, CUDA)
    assert pictures.pixels.device == pictures.starts.device == pictures.widths.device == CUDA
    batch = sample_pixels(pictures, cameras, 32, torch.Generator())
    assert batch.colours.device == CUDA and batch.rays.origins.device == CUDA and batch.colours.shape == (32, 3)
    pictures.seen, pictures.drawn = torch.ones(768, dtype=torch.bool, device=CUDA), torch.arange(700, device=CUDA)
    assert sample_pixels(pictures, cameras, 32, torch.Generator()).colours.device == CUDA
    pictures.object = torch.arange(300, device=CUDA)
    pictures.alpha = torch.zeros(768, dtype=torch.uint8, device=CUDA)
    batch = sample_pixels(pictures, cameras, 32, torch.Generator())
    assert batch.alpha is not None and batch.alpha.device == CUDA and batch.colours.shape == (32, 3)


def test_what_another_camera_sees_is_found_on_the_device(fake, no_doubles):
    depth = torch.rand(12, 16, device=CUDA)
    points = unproject(depth, CAMERAS[0])
    place, known = seen_from(points, CAMERAS[1], depth)
    assert points.device == place.device == known.device == CUDA and known.dtype == torch.bool


def test_an_edit_in_half_precision(fake, tiny_pipeline):
    from diffusers import AutoencoderTiny, UNet2DConditionModel

    unet = UNet2DConditionModel(**{k: v for k, v in tiny_pipeline.unet.config.items() if not k.startswith("_")})
    vae = AutoencoderTiny(
        **{k: v for k, v in tiny_pipeline.vae.config.items() if k[0] != "_" and k != "block_out_channels"}
    )
    editor = InstructPix2Pix.__new__(InstructPix2Pix)
    editor.device, editor.dtype, editor.size, editor._multiple = CUDA, torch.float16, 32, 8
    editor.name = "tiny"
    editor.unet, editor.vae = on_cuda(unet, torch.float16), on_cuda(vae, torch.float16)
    editor.schedule = NoiseSchedule(torch.linspace(1, 0, 1000, device=CUDA), 1.0, "v_prediction")
    picture = torch.rand(20, 30, 3, device=CUDA)
    text = torch.zeros(3, 12, 16, dtype=torch.float16, device=CUDA)
    view = Prepared(editor, text, Options(diffusion_steps=3)).view(picture)
    assert view.condition.dtype == torch.float16 and view.relevance.device == CUDA
    # What has to stay waits on the CPU.
    waiting = Originals([torch.zeros(20, 30, 3, dtype=torch.uint8)], None, CUDA)
    assert waiting.pictures[0].device.type == "cpu" and waiting[0].device == CUDA
    edited = view.edit(picture, 0.7, torch.Generator())
    background = Background(view.relevance, 0.5)
    for one in (edited, background.put_back(edited, picture), background.put_back(edited, picture.cpu())):
        assert one.device == CUDA and one.dtype == torch.float32 and one.shape == (20, 30, 3)


@pytest.fixture
def schedules_without_values(monkeypatch):
    """diffusers' schedulers compute with their numbers, which fake tensors do not have: those are made by true tensors,
    and then put, without them, where the scheduler was asked for them."""
    for kind in (FlowMatchEulerDiscreteScheduler, EDMEulerScheduler):
        began, set_timesteps = kind.__init__, kind.set_timesteps

        def init(self, *args, began=began, **more):
            with unset_fake_temporarily():
                began(self, *args, **more)

        def steps(self, *args, device, set_timesteps=set_timesteps, **more):
            with unset_fake_temporarily():
                set_timesteps(self, *args, device="cpu", **more)
            self.timesteps = torch.empty(self.timesteps.shape, device=device)
            self.sigmas = torch.empty(self.sigmas.shape, device=device if "Flow" in type(self).__name__ else "cpu")

        monkeypatch.setattr(kind, "__init__", init)
        monkeypatch.setattr(kind, "set_timesteps", steps)
    monkeypatch.setattr(EDMEulerScheduler, "init_noise_sigma", 120.0)
    monkeypatch.setattr(EDMEulerScheduler, "step", lambda self, out, timestep, sample, **_: (sample - out * timestep,))


@pytest.mark.parametrize("name", tiny_editors.BUILD)
def test_the_editors_of_today_in_bfloat16(name, fake, monkeypatch, schedules_without_values):
    """Whatever lies where: pictures on the CPU or the card, references, what is carried over."""
    pipeline = tiny_editors.BUILD[name]()
    for network in networks(pipeline).values():
        on_cuda(network, torch.bfloat16)
    if name == "qwen_image_edit":  # whose words are cut to their length, and whose pictures are turned into Pillow's
        words = torch.zeros(1, 5, 16, dtype=torch.bfloat16, device=CUDA)
        monkeypatch.setattr(type(pipeline), "encode_prompt", lambda *_, **__: (words, None))
        monkeypatch.setattr("torchvision.transforms.functional.to_pil_image", lambda _: Image.new("RGB", (60, 40)))
    kind = {
        "flux2_klein": Flux2Klein,
        "flux_kontext": FluxKontext,
        "qwen_image_edit": QwenImageEdit,
        "instruct_pix2pix_xl": InstructPix2PixXL,
    }[name]
    editor = kind(pipeline, name, CUDA, torch.bfloat16)
    options = {"diffusion_steps": 4, "text_guidance": 4.0, "image_guidance": 1.5, "working_size": 64}
    prepared = editor.prepare("make it gold", options)
    for where in ("cpu", CUDA):
        picture = torch.rand(40, 60, 3, device=where)
        view = prepared.view(picture, [torch.rand(30, 30, 3)])
        if name != "instruct_pix2pix_xl":
            assert view.condition.pictures.device.type == "cpu"  # a view waits there between its edits
        carried = Carried(torch.rand(40, 60, 3), torch.ones(40, 60, dtype=torch.bool, device=where))
        for more in ({}, {"carried": carried}):
            edited = view.edit(picture, 0.7, torch.Generator(), **more)
            assert edited.device == CUDA and edited.dtype == torch.float32 and edited.shape == (40, 60, 3)
