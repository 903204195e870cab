# SPDX-License-Identifier: GPL-3.0-or-later
"""A scene small enough to train in a test, and an editor small enough to run in one."""

from __future__ import annotations

import json
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pytest
import torch
from PIL import Image

from engine import protocol
from engine.capture import Intrinsics
from engine.edit.settings import EditSettings
from engine.geometry import Viewpoint
from engine.jobs import capture, scene
from engine.presets import PRESETS, Preset
from engine.progress import Job
from engine.scenes.nerfacto.config import NerfactoConfig, ProposalConfig
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.picture_set import PictureSet
from engine.scenes.settings import LossConfig, TrainingConfig

VIEWS = 36  # fewer do not tie the sphere down

TINY_NERF = NerfactoConfig(
    levels=4,
    features_per_level=2,
    table_log2=10,
    max_resolution=64,
    hidden=16,
    proposal_samples=(16, 12),
    nerf_samples=8,
    proposals=(ProposalConfig(32, levels=3, table_log2=9), ProposalConfig(64, levels=3, table_log2=9)),
    proposal_warmup=20,
    anneal_steps=10,
    initial_density=1.0,  # a few hundred steps must do
    appearance=4,
)


PRESET = Preset(
    "tiny", "Tiny", "", 64, TINY_NERF, TrainingConfig(5, 128),
    EditSettings(
        steps=24, steps_per_round=4, first_pass=True, agreed_relevance=0.5, patches=1, patch=8, losses=LossConfig("l1")
    ),
    40,
)  # fmt: skip


def looking_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Camera-to-world (4, 4), OpenGL axes, world z up."""
    back = (eye - target) / np.linalg.norm(eye - target)
    right = np.cross([0, 0, 1], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, eye], axis=1)
    return pose


def ring(count: int, distance: float = 4.0) -> np.ndarray:
    """Poses (N, 4, 4) on a circle, looking at the origin from a little above."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([looking_at(np.array([np.cos(a), np.sin(a), 0.4]) * distance, np.zeros(3)) for a in angles])


def sphere_picture(pose: np.ndarray, intrinsics: Intrinsics, radius: float = 1.5) -> np.ndarray:
    """(H, W, 3) uint8: a sphere at the origin, coloured by its normal, in a round room with coloured waves on its wall;
    a closed form."""
    x = (np.arange(intrinsics.width) + 0.5 - intrinsics.cx) / intrinsics.fx
    y = -(np.arange(intrinsics.height) + 0.5 - intrinsics.cy) / intrinsics.fy
    rays = np.stack([*np.meshgrid(x, y), -np.ones((intrinsics.height, intrinsics.width))], axis=-1) @ pose[:3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    eye = pose[:3, 3]
    along = rays @ eye

    def hit(size: float, side: int) -> tuple[np.ndarray, np.ndarray]:
        root = along**2 - (eye @ eye - size**2)
        return root > 0, eye + (side * np.sqrt(np.maximum(root, 0)) - along)[..., None] * rays

    on_ball, ball = hit(radius, -1)
    _, wall = hit(6.0, 1)
    colour = np.where(on_ball[..., None], 0.5 + 0.5 * ball / radius, 0.5 + 0.4 * np.sin(1.3 * wall + [0, 1, 2]))
    return (colour * 255).astype(np.uint8)


@pytest.fixture
def sphere():
    """(frame, views, images): views of a coloured sphere in a room, named v0, v1 …, and what they show."""
    intrinsics = Intrinsics(24, 20, 30.0, 31.0, 11.0, 10.5)
    poses = ring(VIEWS)
    images = [sphere_picture(pose, intrinsics) for pose in poses]
    views = [Viewpoint(pose, intrinsics, f"v{number}") for number, pose in enumerate(poses)]
    return NerfFrame.around(poses, np.zeros(3)), views, images


@pytest.fixture
def sphere_set(sphere):
    """(frame, views, PictureSet) on the CPU."""
    frame, views, images = sphere
    return frame, views, PictureSet(images, "cpu")


def sphere_capture(folder, count, i=Intrinsics(48, 40, 60.0, 62.0, 22.0, 21.0)):  # noqa: B008, it is frozen
    """Write a transforms.json capture of the sphere, ``count`` views of 48×40 or as the intrinsics say."""
    frames = []
    for number, pose in enumerate(ring(count)):
        Image.fromarray(sphere_picture(pose, i)).save(folder / f"{number:02d}.png")
        frames.append({"file_path": f"{number:02d}.png", "transform_matrix": pose.tolist()})
    numbers = {"w": i.width, "h": i.height, "fl_x": i.fx, "fl_y": i.fy, "cx": i.cx, "cy": i.cy}
    (folder / "transforms.json").write_text(json.dumps({**numbers, "frames": frames}))
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A project of nine views with an unedited scene, of PRESET; copy it before anything is written."""
    folder = sphere_capture(tmp_path_factory.mktemp("capture"), 9)
    project = folder / "project"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, PRESET.name, PRESET)
        capture.open_into_workspace(protocol.OpenCapture(str(project), str(folder), PRESET.name))
        scene.train_scene(protocol.TrainScene(str(project), PRESET.name, "cpu"), Job())
    return project


@pytest.fixture(scope="session")
def tiny_pipeline():
    return build_tiny_pipeline()


def build_tiny_pipeline():
    """An untrained InstructPix2Pix pipeline of a few thousand weights, built by diffusers itself."""
    from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=16,
        attention_head_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=300,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=12,
        )
    )
    return StableDiffusionInstructPix2PixPipeline(
        vae, text, Letters(), unet, DDIMScheduler(prediction_type="v_prediction", clip_sample=False), None, None,
        requires_safety_checker=False,
    )  # fmt: skip


class Letters:
    """A tokenizer of single letters."""

    model_max_length = 12

    def __call__(self, texts, max_length, **_):
        rows = [
            ([1, *(ord(c) % 250 + 3 for c in text)][: max_length - 1] + [2] * max_length)[:max_length] for text in texts
        ]
        return _Tokens(torch.tensor(rows))


class _Tokens:
    def __init__(self, input_ids):
        self.input_ids = input_ids
