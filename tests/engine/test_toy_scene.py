# SPDX-License-Identifier: GPL-3.0-or-later
"""A new representation is one row: Iterative Dataset Update and its baselines edit voxels as they edit a nerfacto."""

import msgspec
import numpy as np
import pytest
import torch

from engine.edit.iterative import ImageUpdated, RelevanceComputed, SceneUpdated
from engine.edit.methods import begin
from engine.edit.prompt import Prompts
from engine.edit.settings import EditSettings
from engine.errors import BadInput, Cancelled
from engine.geometry import Viewpoint
from engine.scenes.picture_set import PictureSet
from engine.scenes.registry import REPRESENTATIONS, begin_scene, open_scene
from engine.scenes.settings import LossConfig, OptimiserConfig, TrainingConfig

from .conftest import ring
from .test_iterative import stopping_at
from .toy_editor import TINTS, ToyEditor
from .voxel_scene import ROW, VoxelConfig, VoxelScene

TRAINING = TrainingConfig(60, 256, optimiser=OptimiserConfig(learning_rate=0.1))
SETTINGS = EditSettings(
    steps=60,
    steps_per_round=3,
    patches=1,
    patch=16,
    losses=LossConfig("mse"),
    optimiser=OptimiserConfig(learning_rate=0.1),
    options={"tint": "red"},
    first_pass=True,
)


class Project:
    """A captured sphere, learned as voxels, and edits of it."""

    def __init__(self, sphere, folder):
        _, views, images = sphere
        self.views, self.images = views[::3], images[::3]
        self.between = Viewpoint(ring(72)[1], views[0].intrinsics)  # where no picture was taken
        trainer = begin_scene(VoxelConfig(), self.views, np.zeros(3), TRAINING, 0, "cpu")
        self.losses = [trainer.step(PictureSet(self.images, "cpu"))["colour"] for _ in range(TRAINING.steps)]
        self.parent, self.saved = folder / "scene.safetensors", folder / "edit.safetensors"
        trainer.save(self.parent)
        self.trained = trainer

    def begin(self, settings=SETTINGS, check=lambda: None, saved=None):
        """(trainer, events, pictures) of an edit, with nothing but the disk."""
        pictures = PictureSet(self.images, "cpu")
        prompts = Prompts(ToyEditor(), settings.told("x"))
        parent = open_scene(self.parent)
        return *begin(settings, parent, self.views, pictures, prompts, None, "cpu", check, saved), pictures


@pytest.fixture
def project(sphere, tmp_path, monkeypatch):
    monkeypatch.setitem(REPRESENTATIONS, "voxels", ROW)
    return Project(sphere, tmp_path)


def away_from(scene, color, camera):
    """How far a view is from being of one color, 0–1."""
    return float((scene.render(camera).rgb - torch.tensor(color)).abs().mean())


def test_it_begins_learns_and_is_saved(project):
    assert np.mean(project.losses[-5:]) < 0.6 * project.losses[0]
    opened = open_scene(project.parent)
    assert list(opened.views) == [view.name for view in project.views] and opened.images() == {}
    scene = opened.scene("cpu")
    assert isinstance(scene, VoxelScene)
    render, expected = (one.render(project.between) for one in (scene, project.trained.scene))
    assert torch.equal(render.rgb, expected.rgb) and torch.equal(render.depth, expected.depth)
    assert render.rgb.shape == (20, 24, 3) and render.depth.shape == render.opacity.shape == (20, 24)


def test_a_file_of_a_representation_that_is_not_there_is_said(project, monkeypatch):
    monkeypatch.delitem(REPRESENTATIONS, "voxels")
    with pytest.raises(BadInput, match="does not know") as caught:
        open_scene(project.parent)
    assert caught.value.file == str(project.parent)


def test_it_is_edited(project):
    trainer, events, _ = project.begin()
    red, blue = TINTS["red"], TINTS["blue"]
    before = away_from(trainer.scene, red, project.between)
    kinds = [type(event) for event in events]
    assert kinds.count(ImageUpdated) == len(project.views) + 20 and kinds.count(SceneUpdated) == 60
    assert away_from(trainer.scene, red, project.between) < 0.35 * before
    assert away_from(trainer.scene, blue, project.between) > before
    unedited = open_scene(project.parent).scene("cpu")  # the parent is what it was
    assert away_from(unedited, red, project.between) == before


@pytest.mark.parametrize(
    ("agreed", "stop_at"), [(0.0, 7), (0.0, 14), (0.0, 38), (0.45, 7), (0.45, 30), (0.45, 38), (0.45, 60)]
)
def test_stopped_and_resumed_it_is_the_unbroken_edit(project, agreed, stop_at):
    """In the first pass, or while views agree; in an edit; between the scene's steps."""
    settings = msgspec.structs.replace(SETTINGS, steps=16, first_pass=not agreed, agreed_relevance=agreed, keep=agreed)
    trainer, events, pictures = project.begin(settings)
    kinds = {type(event) for event in events}
    assert (RelevanceComputed in kinds) is bool(agreed)
    stopped, events, then = project.begin(settings, stopping_at(stop_at))
    edited = set()
    with pytest.raises(Cancelled):
        for event in events:
            if isinstance(event, ImageUpdated):
                edited.add(event.view)
    stopped.save(project.saved, {project.views[v].name: then.image(v) for v in edited})
    saved = open_scene(project.saved)
    assert saved.images().keys() == {project.views[v].name for v in edited}
    again, events, after = project.begin(settings, saved=saved)
    assert again.step_index == stopped.step_index < settings.steps
    list(events)
    assert again.step_index == settings.steps
    assert torch.equal(after.pixels, pictures.pixels)
    assert all(torch.equal(again.weights[name], tensor) for name, tensor in trainer.weights.items())


def test_the_baselines_edit_it_too(project):
    red = TINTS["red"]
    settings = msgspec.structs.replace(SETTINGS, method="one-time")
    trainer, events, pictures = project.begin(settings)
    before = away_from(trainer.scene, red, project.between)
    assert sum(isinstance(event, ImageUpdated) for event in events) == len(pictures)
    assert away_from(trainer.scene, red, project.between) < 0.35 * before

    trainer, events, pictures = project.begin(msgspec.structs.replace(SETTINGS, method="sds"))
    view_class = type(ToyEditor().prepare("x", {}).view(torch.zeros(6, 6, 3)))
    view_class.gradient = lambda self, picture, t, generator: picture - torch.tensor(red)
    try:
        assert all(isinstance(event, SceneUpdated) for event in events)
    finally:
        del view_class.gradient
    assert away_from(trainer.scene, red, project.between) < 0.5 * before
    assert all(torch.equal(pictures.image(k), torch.from_numpy(image)) for k, image in enumerate(project.images))
