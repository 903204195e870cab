# SPDX-License-Identifier: GPL-3.0-or-later
"""A scene on disk (saving.py), opened and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from engine import typed
from engine.errors import BadInput
from engine.geometry import Camera
from engine.scenes.base import Perceptual
from engine.scenes.nerfacto.beginnings import begun_again
from engine.scenes.nerfacto.limits import problem_of
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.saving import FORMAT, MOMENTS, MOST_STEPS, CheckpointHeader, weights_of
from engine.scenes.nerfacto.scene import NerfactoScene
from engine.scenes.nerfacto.training import Trainer
from engine.scenes.settings import TrainingConfig
from engine.scenes.stored import TensorFile

# What a scene learns of each view, a row a view.
CORRECTION = "camera_optimizer.pose_adjustment"
APPEARANCE = "field.embedding_appearance.embedding.weight"


LARGEST_PICTURE = 16_384  # pixels, either side


class Checkpoint:
    """An opened checkpoint, its header read and checked; tensors are read when asked for."""

    def __init__(self, path: Path):
        """Raises BadInput where the file is no checkpoint of ours."""
        self.path = path
        try:
            self._file = TensorFile(path, "delete it and train again")
        except FileNotFoundError:
            raise BadInput(f"There is no checkpoint at {path}; train the scene first.", file=str(path)) from None
        try:
            self.header = typed.decode(self._file.metadata.get("header", "{}"), CheckpointHeader)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise self._file.damaged(f"its header is none of a checkpoint's: {error}") from None
        if self.header.format != FORMAT:
            raise BadInput(
                f"{path.name} was written by another version of the engine (format {self.header.format}, this engine "
                f"reads {FORMAT}); train again.",
                file=str(path),
            )
        self._check_header()

    def _check_header(self) -> None:
        """Raises BadInput where what is to be built can be no scene of ours: nothing is, before this."""
        header = self.header
        if (why := problem_of(header.nerf, self._file.size)) is not None:
            raise self._file.damaged(why)
        if len(set(header.views)) < len(header.views):
            raise self._file.damaged("it names a view twice")
        if header.step > header.age:
            raise self._file.damaged("it has taken fewer steps in all than in its last run")
        if not (1e-12 < header.frame.scale < 1e12 and all(abs(c) < 1e12 for c in header.frame.centre)):
            raise self._file.damaged("its frame is none")
        per_view = 4 * len(header.views) * (header.nerf.appearance + 6 * header.nerf.optimise_cameras)
        if per_view > self._file.size:
            raise self._file.damaged("it tells of more views than the file holds")

    def _named(self, prefix: str) -> list[str]:
        """The rest of the names that begin so."""
        return [name.removeprefix(prefix) for name in self._file.layouts if name.startswith(prefix)]

    @property
    def views(self) -> list[str]:
        return self.header.views

    @property
    def edited(self) -> list[str]:
        return self._named("image.")

    def scene(self, device: str) -> NerfactoScene:
        """The scene, to be looked at."""
        return NerfactoScene(self.nerf(device), self.header.frame, self.header.learned)

    def trainer(
        self,
        views: Sequence[Camera],
        training: TrainingConfig,
        seed: int,
        device: str,
        perceptual: Perceptual | None = None,
        resume: bool = False,
        attempt: int = 0,
    ) -> Trainer:
        """A trainer of this scene on ``views``, each known by its name: a new run or, to ``resume``, the saved one,
        which was the ``attempt``-th."""
        _, optimiser, seed = begun_again(self.header.nerf, training.optimiser, seed, attempt)
        training = msgspec.structs.replace(training, optimiser=optimiser)
        nerf = self.nerf(device, [view.name for view in views])
        trainer = Trainer(nerf, self.header.frame, views, training, seed, perceptual, earlier_steps=self.header.age)
        if resume:
            self.restore_optimiser(trainer)
        return trainer

    def _tensors(self, prefix: str) -> dict[str, Tensor]:
        names = self._named(prefix)
        return {name.removeprefix(prefix): t for name, t in self._file.read(prefix + n for n in names).items()}

    def images(self, sizes: Mapping[str, tuple[int, int]] | None = None) -> dict[str, Tensor]:
        """Edited training images, (H, W, 3) uint8 by view. ``sizes``: (height, width) that each view's is to have.

        Raises BadInput where one is of no view of the checkpoint's, or of another size.
        """
        known = set(self.header.views)
        for name in self._named("image."):
            layout = self._file.layouts[f"image.{name}"]
            if name not in known or (sizes is not None and name not in sizes):
                raise self._file.damaged(f"it holds a picture of {name[:80]!r}, which is none of its views")
            height, width = (*layout.shape, 0, 0)[:2] if sizes is None else sizes[name]
            if not (0 < height <= LARGEST_PICTURE and 0 < width <= LARGEST_PICTURE):
                raise self._file.damaged(f"the picture of {name[:80]} has no size that a view has")
            self._file.require(f"image.{name}", (height, width, 3), torch.uint8)
        return self._tensors("image.")

    def nerf(self, device, views: Sequence[str] | None = None) -> Nerfacto:
        """The scene, on ``device``, to be trained on ``views`` (its own when None). What it learnt of each view, camera
        correction and appearance, goes along; a view it never saw gets none and the mean. Raises BadInput where
        weights are missing or of the wrong size."""
        views = self.header.views if views is None else list(views)
        nerf = Nerfacto(self.header.nerf, len(views))
        self._check_weights(nerf)
        weights = self._tensors("nerf.")
        if views != self.header.views:
            known = {name: row for row, name in enumerate(self.header.views)}
            for name in {CORRECTION, APPEARANCE} & weights.keys():
                learnt = weights[name]
                unseen = torch.zeros_like(learnt[0]) if name == CORRECTION else learnt.mean(dim=0)
                weights[name] = torch.stack([learnt[known[view]] if view in known else unseen for view in views])
        first_name = {tensor.data_ptr(): name for name, tensor in weights_of(nerf).items()}
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
        moments = self._moments(trainer.optimiser)
        trainer.step_index = self.header.step
        trainer.earlier_steps = self.header.age - self.header.step
        state = trainer.optimiser.state_dict()
        state["state"] = moments
        trainer.optimiser.load_state_dict(state)

    def _check_weights(self, nerf: Nerfacto) -> None:
        """Raises BadInput where a weight in the file is not of the shape that the header's scene has."""
        views = len(self.header.views)
        expected = nerf.state_dict()
        for name in self._named("nerf."):
            if name not in expected:
                raise self._file.damaged(f"its scene has no {name[:80]}")
            shape = expected[name].shape
            if name in (CORRECTION, APPEARANCE):
                shape = (views, *shape[1:])
            self._file.require(f"nerf.{name}", shape, expected[name].dtype)

    def _moments(self, optimiser: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
        """Adam's moments by the number of the parameter. Raises BadInput where one is of another shape than its
        parameter, or is no moment."""
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        found: dict[int, set[str]] = {}
        for name in self._named("adam."):
            number, _, part = name.partition(".")
            if part not in MOMENTS or not number.isdecimal() or len(number) > 6 or int(number) >= len(parameters):
                raise self._file.damaged(f"{name[:80]!r} is no moment of its optimiser's")
            shape = () if part == "step" else parameters[int(number)].shape
            self._file.require(f"adam.{name}", shape, torch.float32)
            found.setdefault(int(number), set()).add(part)
        if any(parts != set(MOMENTS) for parts in found.values()):
            raise self._file.damaged("a moment of its optimiser's is missing")
        tensors = self._tensors("adam.")
        moments = {index: {part: tensors[f"{index}.{part}"] for part in MOMENTS} for index in found}
        for parts in moments.values():
            if not 0 <= float(parts["step"]) <= MOST_STEPS or (parts["exp_avg_sq"] < 0).any():
                raise self._file.damaged("its optimiser's moments are none")
        return moments
