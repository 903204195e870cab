# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes as the engine makes and writes them: of a scene in a closed form, a sphere in a room; textures, the part that
an edit is about, other formats, and what cannot be made."""

import json
import shutil

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from engine import cli, protocol
from engine.cli_region import box_solid
from engine.editors import registry
from engine.errors import BadInput
from engine.geometry import pixel_directions
from engine.jobs import output, subject, views
from engine.output import floor
from engine.progress import Job
from engine.records import EditRecord
from engine.scenes.base import RenderedView
from engine.workspace import Workspace

from .test_splats import seen
from .toy_editor import KIND, ToyEditor


class Exact:
    """The sphere in its room (conftest.py), as any camera sees it."""

    def render(self, camera, check=lambda: None, shares=()):
        check()
        view = seen(camera.pose, camera.intrinsics)
        return RenderedView(*(torch.from_numpy(v).float() for v in (view.colour, view.depth, view.opacity)))


@pytest.fixture
def project(trained, tmp_path, monkeypatch):
    folder = tmp_path / "project"
    shutil.copytree(trained, folder)
    monkeypatch.setattr(subject, "kept_scene", lambda *_: Exact())
    monkeypatch.setattr(views, "scene_at", lambda *_: Exact())
    monkeypatch.setattr(registry, "KINDS", [*registry.KINDS, KIND])
    return folder


def edited(project, editor="instruct-pix2pix-small", **more):
    """An edit's id, finished and with the scene of before."""
    workspace = Workspace(project)
    record = EditRecord(
        "", "make it red", None, "tiny", str(editor), "none", [f"{n:02d}" for n in range(1, 8)], {"steps": 3}, 3,
        finished=True, **more,
    )  # fmt: skip
    record = workspace.create_edit(record)
    shutil.copy(workspace.checkpoint(None), workspace.checkpoint(record.id))
    return record.id


def toy(tmp_path):
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": KIND.pipeline}))
    return folder


def make(project, job=None, **asked):
    return output.make_mesh(protocol.MakeMesh(str(project), device="cpu", resolution=48, **asked), job or Job())


def on_ball(mesh):
    return np.linalg.norm(mesh.vertices, axis=1) < 1.7


def test_a_textured_mesh_shows_more_than_its_vertices_and_lies_there_in_every_format(project):
    stages = []
    job = Job(on_progress=lambda progress: stages.append((progress.stage, progress.fraction)), every=0.0)
    made = make(project, job, texture=1024, faces=1500, formats=["glb", "obj"])
    assert {stage for stage, _ in stages} == {"mesh", "texture"} and stages[-1] == ("texture", 1.0)
    assert made.faces <= 1500 and np.asarray(Image.open(made.texture)).shape == (1024, 1024, 3)
    mesh = trimesh.load(made.mesh, process=False)
    ball = on_ball(mesh)
    picture = np.asarray(Image.open(made.texture)) / 255
    place = (np.column_stack([mesh.visual.uv[:, 0], 1 - mesh.visual.uv[:, 1]]) * 1024 - 0.5).round().astype(int)
    shown = picture[place[:, 1].clip(0, 1023), place[:, 0].clip(0, 1023)]
    off = np.abs(shown - (0.5 + 0.5 * mesh.vertices / 1.5))[ball]
    assert np.median(off) < 0.02 and ball.sum() > 100
    workspace = Workspace(project)
    assert set(made.files) == {"glb", "obj"}
    for kind, path in made.files.items():
        assert path == str(workspace.output(None) / f"mesh.{kind}")
        other = trimesh.load(path, process=False, force="mesh")
        # The capture's z is up: here y is.
        turned = np.column_stack([other.vertices[:, 0], -other.vertices[:, 2], other.vertices[:, 1]])
        middle = output.load_opened(workspace).centre
        near = np.linalg.norm(turned + middle, axis=1)
        assert near.max() == pytest.approx(np.linalg.norm(mesh.vertices, axis=1).max(), rel=1e-3)
        low, high = mesh.vertices[:, 2].min(), mesh.vertices[:, 2].max()
        assert other.vertices[:, 1].min() + middle[2] == pytest.approx(low, abs=0.02)
        assert other.vertices[:, 1].max() + middle[2] == pytest.approx(high, abs=0.02)
    assert made.texture == str(next(workspace.output(None).glob("mesh-????????????.png")))


def test_faces_are_as_many_as_blender_bears_unless_others_are_asked_for(project, monkeypatch):
    assert (output.FACES, output.TEXTURED_FACES) == (200_000, 50_000)
    monkeypatch.setattr(output, "FACES", 900)
    monkeypatch.setattr(output, "TEXTURED_FACES", 300)
    every, some, few = make(project, faces=0), make(project), make(project, texture=1024)
    assert every.faces > 1500 and 800 < some.faces <= 900 and 250 < few.faces <= 300


@pytest.mark.parametrize("invert", [False, True])
def test_the_subject_is_what_lies_in_the_edits_region(project, invert):
    region = protocol.Region(solids=[box_solid((-2, -2, 0.4, 2, 2, 2))], invert=invert)
    edit = edited(project, region=region)
    whole, part = (trimesh.load(make(project, edit=edit, part=part).mesh, process=False) for part in ("all", "subject"))
    assert len(whole.faces) > len(part.faces) > 50
    inside = (np.abs(part.vertices[:, :2]) < 2.3).all(axis=1) & (part.vertices[:, 2] > 0.1)
    assert inside.all() if not invert else not (on_ball(part) & (part.vertices[:, 2] > 0.8)).any()
    assert (Workspace(project).output(edit) / "mesh.ply").exists()


class OnABumpyFloor(Exact):
    """The same, with a floor at z = −1.4, whose bumps are 0.03 high."""

    def render(self, camera, check=lambda: None, shares=()):
        view = super().render(camera, check)
        eye, rays = camera.pose[:3, 3], pixel_directions(camera.intrinsics) @ camera.pose[:3, :3].T
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        with np.errstate(divide="ignore"):
            x, y, _ = np.moveaxis(eye + ((-1.4 - eye[2]) / rays[..., 2])[..., None] * rays, -1, 0)
            floor = (-1.4 + 0.03 * np.sin(4 * x) * np.sin(5 * y) - eye[2]) / rays[..., 2]
        floor = torch.from_numpy(np.where(rays[..., 2] < 0, floor, np.inf)).float()
        view.depth = torch.minimum(view.depth, floor)
        return view


def test_a_floor_is_made_flat_where_that_is_asked_for(project, monkeypatch):
    monkeypatch.setattr(views, "scene_at", lambda *_: OnABumpyFloor())
    monkeypatch.setattr(floor, "LEAST", 0.03)  # so few pixels show little of it
    region = protocol.Region(solids=[box_solid((-2, -2, -2, 2, 2, 2))])
    edit = edited(project, region=region)
    spread = {}
    for flat in (False, True):
        for part in ("all", "subject"):
            mesh = trimesh.load(make(project, edit=edit, part=part, flat_floor=flat).mesh, process=False)
            about = np.abs(mesh.vertices[:, 2] + 1.4) < 0.1
            ball = np.linalg.norm(mesh.vertices, axis=1)[mesh.vertices[:, 2] > -1]
            assert about.sum() >= 30 and np.median(np.abs(ball[ball < 1.7] - 1.5)) < 0.05
            heights = mesh.vertices[about, 2]
            spread[flat, part] = float(np.median(np.abs(heights - np.median(heights))))
    assert spread[True, "all"] < 0.5 * spread[False, "all"]
    assert spread[True, "subject"] < 0.8 * spread[False, "subject"]  # of which much is the ball's foot


def test_the_subject_without_a_region_is_where_the_instruction_matters(project, tmp_path):
    """To the toy editor red is what matters: the side of the ball with x more than 0."""
    part = trimesh.load(make(project, edit=edited(project, toy(tmp_path)), part="subject").mesh, process=False)
    ball = part.vertices[on_ball(part)]
    assert len(ball) > 50 and np.quantile(ball[:, 0], 0.1) > 0.0 and ball[:, 0].max() > 1.2


def test_an_editor_that_cannot_say_what_matters_is_one_sentence(project, tmp_path, monkeypatch):
    monkeypatch.setattr(subject, "opened_editor", lambda *_: ToyEditor(relevant=False))
    with pytest.raises(
        BadInput, match=r"What “make it red” is about is not known .* give the edit a region"
    ) as refused:
        make(project, edit=edited(project, toy(tmp_path)), part="subject")
    assert refused.value.field == "part"


@pytest.mark.parametrize(
    ("asked", "field", "words"),
    [
        ({"edit": "0009-nothing"}, "edit", "There is no edit 0009-nothing"),
        ({"part": "subject"}, "part", "The unedited scene has no subject"),
        ({"texture": 1000}, "texture", "choose 1024, 2048 or 4096, or 0 for none"),
        ({"faces": 50}, "faces", "choose 100 to 10,000,000, or 0 for all"),
        ({"faces": -1}, "faces", "A mesh of -1 faces cannot be made"),
        ({"resolution": 1100}, "resolution", "choose 8 to 1024"),
    ],
)
def test_what_cannot_be_made_is_one_sentence(project, asked, field, words):
    with pytest.raises(BadInput) as refused:
        cli.mesh(project, **asked)
    assert refused.value.field == field
    assert words in refused.value.message and "\n" not in refused.value.message
    assert not (project / "scene" / "mesh.ply").exists()


@pytest.mark.parametrize("world", [(1.0,) * 15, tuple(np.diag([1.0, 2, 1, 1]).ravel()), (float("nan"),) * 16])
def test_a_world_that_is_none_is_one_sentence(project, world):
    with pytest.raises(BadInput, match="The mesh's world is") as refused:
        make(project, world=world, formats=["glb"])
    assert refused.value.field == "world"
