# SPDX-License-Identifier: GPL-3.0-or-later
"""A scene on disk: one safetensors file with weights, optimiser state and, in its header, everything that says what
they mean. One file, so that a rename replaces it whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from engine.errors import BadInput
from engine.files import replacing
from engine.geometry import Camera
from engine.scenes.base import Perceptual
from engine.scenes.nerfacto.config import NerfactoConfig
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.scene import NerfactoScene
from engine.scenes.nerfacto.training import Trainer
from engine.scenes.settings import TrainingConfig

FORMAT = 1
# What a scene learns of each view, a row a view.
CORRECTION = "camera_optimizer.pose_adjustment"
APPEARANCE = "field.embedding_appearance.embedding.weight"


class CheckpointHeader(msgspec.Struct, frozen=True):
    """What a checkpoint's tensors belong to."""

    format: int
    nerf: NerfactoConfig
    frame: NerfFrame
    views: list[str]  # the training views, in the order of the camera corrections
    step: int  # of the run that wrote it
    age: int  # steps that the scene has taken in all


def save_checkpoint(path: Path, trainer: Trainer, images: Mapping[str, Tensor] | None = None) -> None:
    """Write ``path`` atomically. ``images``: edited training images, (H, W, 3) uint8 by view."""
    tensors = {f"nerf.{name}": tensor for name, tensor in _weights(trainer.nerf).items()}
    state = trainer.optimiser.state_dict()["state"]
    for index, moments in state.items():
        for name in ("exp_avg", "exp_avg_sq", "step"):
            tensors[f"adam.{index}.{name}"] = moments[name]
    for name, image in (images or {}).items():
        tensors[f"image.{name}"] = image
    views = [view.name for view in trainer.views]
    config = trainer.nerf.config
    header = CheckpointHeader(FORMAT, config, trainer.scene.frame, views, trainer.step_index, trainer.age)
    with replacing(path) as temporary:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            temporary,
            metadata={"representation": config.representation, "header": msgspec.json.encode(header).decode()},
        )


def _weights(nerf: Nerfacto) -> dict[str, Tensor]:
    """The scene's tensors, each once: nerfstudio registers the proposals' hash tables under two names."""
    seen: set[int] = set()
    weights = {}
    for name, tensor in nerf.state_dict().items():
        if tensor.numel() and tensor.data_ptr() in seen:
            continue
        seen.add(tensor.data_ptr())
        weights[name] = tensor
    return weights


class Checkpoint:
    """An opened checkpoint, its header read and checked; tensors are read when asked for."""

    def __init__(self, path: Path):
        """Raises BadInput where the file is no checkpoint of ours."""
        self.path = path
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                self._names = set(file.keys())
            self.header = msgspec.json.decode(metadata.get("header", "{}"), type=CheckpointHeader)
        except FileNotFoundError:
            raise BadInput(f"There is no checkpoint at {path}; train the scene first.", file=str(path)) from None
        except (SafetensorError, msgspec.MsgspecError, json.JSONDecodeError, OSError) as error:
            raise BadInput(
                f"{path.name} cannot be read as a checkpoint ({error}); delete it and train again.", file=str(path)
            ) from None
        if self.header.format != FORMAT:
            raise BadInput(
                f"{path.name} was written by another version of the engine (format {self.header.format}, this engine "
                f"reads {FORMAT}); train again.",
                file=str(path),
            )

    @property
    def views(self) -> list[str]:
        return self.header.views

    def scene(self, device: str) -> NerfactoScene:
        """The scene, to be looked at."""
        return NerfactoScene(self.nerf(device), self.header.frame)

    def trainer(
        self,
        views: Sequence[Camera],
        training: TrainingConfig,
        seed: int,
        device: str,
        perceptual: Perceptual | None = None,
        resume: bool = False,
    ) -> Trainer:
        """A trainer of this scene on ``views``, each known by its name: a new run or, to ``resume``, the saved one."""
        nerf = self.nerf(device, [view.name for view in views])
        trainer = Trainer(nerf, self.header.frame, views, training, seed, perceptual, earlier_steps=self.header.age)
        if resume:
            self.restore_optimiser(trainer)
        return trainer

    def _tensors(self, prefix: str) -> dict[str, Tensor]:
        with safe_open(self.path, framework="pt") as file:
            return {n.removeprefix(prefix): file.get_tensor(n) for n in self._names if n.startswith(prefix)}

    def images(self) -> dict[str, Tensor]:
        """Edited training images, (H, W, 3) uint8 by view."""
        return self._tensors("image.")

    def nerf(self, device, views: Sequence[str] | None = None) -> Nerfacto:
        """The scene, on ``device``, to be trained on ``views`` (its own when None). What it learnt of each view, camera
        correction and appearance, goes along; a view it never saw gets none and the mean. Raises BadInput where
        weights are missing or of the wrong size."""
        views = self.header.views if views is None else list(views)
        nerf = Nerfacto(self.header.nerf, len(views))
        weights = self._tensors("nerf.")
        if views != self.header.views:
            known = {name: row for row, name in enumerate(self.header.views)}
            for name in {CORRECTION, APPEARANCE} & weights.keys():
                learnt = weights[name]
                unseen = torch.zeros_like(learnt[0]) if name == CORRECTION else learnt.mean(dim=0)
                weights[name] = torch.stack([learnt[known[view]] if view in known else unseen for view in views])
        first_name = {tensor.data_ptr(): name for name, tensor in _weights(nerf).items()}
        for name, tensor in nerf.state_dict().items():
            if (source := first_name.get(tensor.data_ptr())) in weights:
                weights.setdefault(name, weights[source])
        try:
            nerf.load_state_dict(weights)
        except RuntimeError as error:
            raise BadInput(
                f"{self.path.name} does not hold the scene that it describes ({str(error).splitlines()[0]}); train "
                "again.",
                file=str(self.path),
            ) from None
        nerf.at_age(self.header.age)
        return nerf.to(device)

    def restore_optimiser(self, trainer: Trainer) -> None:
        """Put the trainer where the checkpoint's was: steps and Adam's moments (its NeRF must be this one's)."""
        trainer.step_index = self.header.step
        trainer.earlier_steps = self.header.age - self.header.step
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in self._tensors("adam.").items():
            index, _, part = name.partition(".")
            moments.setdefault(int(index), {})[part] = tensor
        state = trainer.optimiser.state_dict()
        state["state"] = moments
        trainer.optimiser.load_state_dict(state)
