# SPDX-License-Identifier: GPL-3.0-or-later
"""The stage in which photos are compared before a scene is trained: what it is told of, and that it can be left out."""

from __future__ import annotations

import time

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image

from engine import protocol
from engine.capture.types import Intrinsics, SparsePoints
from engine.errors import Cancelled
from engine.geometry import Viewpoint
from engine.jobs import capture as capturing
from engine.jobs import depths, scene
from engine.jobs.kept_depths import KeptDepths
from engine.presets import PAPER, PRESETS, PREVIEW, STANDARD
from engine.progress import Job
from engine.scenes import stereo
from engine.scenes.known_depth import KnownDepth, together
from engine.scenes.settings import LossConfig
from engine.scenes.stereo import stereo_depths
from engine.workspace import Workspace
from tests.engine.conftest import PRESET, TINY_NERF
from tests.engine.test_stereo import PINHOLE, arc, cut_out, photograph

SHARP = replace(
    PRESET,
    name="sharp",
    nerf=replace(TINY_NERF, appearance=0, optimise_cameras=False),
    train=replace(PRESET.train, steps=6, losses=LossConfig(depth_weight=0.05, flat_weight=1.0)),
)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of a ball on a floor, nine photos of it and one held out; opened, not trained."""
    return opened(tmp_path, monkeypatch, [photograph(view)[0] for view in arc(10)])


def opened(tmp_path, monkeypatch, photos):
    """A project of these photos from the arc."""
    monkeypatch.setitem(PRESETS, SHARP.name, SHARP)
    frames = []
    for number, (view, photo) in enumerate(zip(arc(len(photos)), photos, strict=True)):
        Image.fromarray(photo).save(tmp_path / f"{number:02d}.png")
        frames.append({"file_path": f"{number:02d}.png", "transform_matrix": view.pose.tolist()})
    numbers = {"w": PINHOLE.width, "h": PINHOLE.height, "fl_x": PINHOLE.fx, "fl_y": PINHOLE.fy}
    numbers |= {"cx": PINHOLE.cx, "cy": PINHOLE.cy}
    import json

    (tmp_path / "transforms.json").write_text(json.dumps({**numbers, "frames": frames}))
    folder = tmp_path / "project"
    capturing.open_into_workspace(protocol.OpenCapture(str(folder), str(tmp_path), SHARP.name))
    return folder


def train(folder, on_progress=lambda progress: None, planes=True, **values):
    """What was said, and the scene's record."""
    said: list[str] = []
    job = Job(log=said.append, on_progress=on_progress)
    scene.train_scene(protocol.TrainScene(str(folder), SHARP.name, "cpu", planes=planes, **values), job)
    return said, Workspace(folder).scene_record()


def test_photos_are_compared_before_a_scene_is_trained(project):
    stages, labels = [], []

    def told(progress):
        stages.append((progress.stage, progress.step))
        labels.append(progress.label)

    said, record = train(project, told)
    assert labels.count("Looking for the sky") == 1 and stages[labels.index("Looking for the sky")] == ("depths", 9)
    compared = [step for stage, step in stages if stage == "depths"]
    assert compared[-1] == 9 and compared == sorted(compared)
    filled = [step for stage, step in stages if stage == "planes"]
    assert filled[-1] == 9 and filled == sorted(filled)
    order = [stage for stage, _ in stages]
    assert order.index("depths") < order.index("planes") < order.index("train")
    known = next(line for line in said if line.startswith("The depth of"))
    assert int(known.split()[3].replace(",", "")) > 3000
    told = next(line for line in said if line.startswith("Photos that were compared"))
    by_photos, with_surfaces = (
        int(told.split(word)[1].split()[0].strip(",").replace(",", "")) for word in ("tell ", "lie ")
    )
    assert 3000 < by_photos < with_surfaces  # the floor between what is known of it
    assert any(line.startswith("5 of 9 photos show a plain sky") for line in said)  # every second stands low
    assert record.depths and record.planes


def test_flat_surfaces_are_found_where_that_is_asked_for(project):
    stages = []
    said, record = train(project, lambda progress: stages.append(progress.stage), planes=False)
    assert "depths" in stages and "planes" not in stages and not any("flat" in line for line in said)
    assert record.depths and not record.planes


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_plain_pictures_teach_flatness_where_a_preset_says_so(project, monkeypatch, weight):
    own = replace(SHARP, train=replace(SHARP.train, losses=LossConfig(flat_weight=weight)))
    monkeypatch.setitem(PRESETS, SHARP.name, own)
    taught = []
    train(project, lambda progress: taught.append("flat" in (progress.losses or {})), planes=False)
    assert any(taught) == (weight > 0)


def test_it_can_be_left_out_and_a_scene_goes_on_as_it_was_begun(project):
    stages = []
    said, record = train(project, lambda progress: stages.append(progress.stage), depths=False, steps=3)
    assert "depths" not in stages and not any(line.startswith("The depth of") for line in said)
    assert not record.depths and not record.planes and record.steps == 3 and "planes" not in stages
    said, record = train(project, lambda progress: stages.append(progress.stage), depths=True, steps=6)
    assert "depths" not in stages and not record.depths and record.steps == 6


def test_a_training_that_was_cut_off_goes_on_as_the_unbroken_one(project, tmp_path):
    import shutil

    from safetensors.numpy import load_file

    other = tmp_path / "other"
    shutil.copytree(project, other)
    train(project)

    def cut(progress):
        if progress.stage == "train" and progress.step >= 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        train(other, cut)
    record = Workspace(other).scene_record()
    assert 0 < record.steps < 6 and record.depths and record.planes
    train(other, planes=False)
    mine, theirs = (load_file(Workspace(folder).checkpoint(None)) for folder in (project, other))
    assert mine.keys() == theirs.keys() and all(np.array_equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("stage", ["depths", "planes"])
def test_it_can_be_cancelled_between_two_photos(project, stage):
    def cut(progress):
        if progress.stage == stage and progress.step >= 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        train(project, cut)
    assert Workspace(project).scene_record() is None


def known_of(folder):
    """What training pictures are told, by a job of its own."""
    workspace, job = Workspace(folder), Job()
    plan = job.plan(scene.Stage("images", "", 10, 0.1), *depths.depths_stages(9, depths.Compared(planes=True)))
    capture = capturing.ensure_images(workspace, capturing.load_opened(workspace), plan, job)
    views = scene.training_views(capture)
    pictures = scene.PictureSet.read(workspace.images, views, "cpu")
    depths.learn_depths(pictures, capture, views, True, workspace.scene, plan, job)
    return [value.numpy() for value in pictures.known]


def refuse(*_):
    raise AssertionError("it was compared again")


def test_what_was_compared_before_a_cancel_is_not_compared_again(project, monkeypatch):
    def cut(progress):
        if progress.stage == "planes" and progress.step >= 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        train(project, cut)
    monkeypatch.setattr(depths, "stereo_depths", refuse)
    first = known_of(project)
    monkeypatch.setattr(depths, "with_plain_areas", refuse)
    again = known_of(project)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    stages = []
    _, record = train(project, lambda progress: stages.append((progress.stage, progress.step)))
    assert ("depths", 9) in stages and ("planes", 9) in stages and record.steps == 6


@pytest.mark.parametrize("harm", ["", "photos", "a byte", "pixels", "twice", "behind", "far", "sure"])
def test_what_was_kept_is_used_where_it_is_whole_and_of_these_photos(project, monkeypatch, harm):
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    first = known_of(project)
    monkeypatch.setattr(depths, "with_plain_areas", refuse)
    file = Workspace(project).scene / "planes.safetensors"
    tensors = load_file(file)
    with safe_open(file, "np") as whole:
        of = whole.metadata()
    if harm == "photos":
        for photo in project.parent.glob("*.png"):
            Image.fromarray(255 - np.asarray(Image.open(photo))).save(photo)
        capturing.open_into_workspace(protocol.OpenCapture(str(project), str(project.parent), SHARP.name))
    elif harm == "a byte":
        file.write_bytes(file.read_bytes()[:-1])
    elif harm:
        name = {"twice": "pixels", "behind": "distances", "far": "distances"}.get(harm, harm)
        value = {"pixels": 10**6, "twice": tensors["pixels"][1], "behind": -1, "far": 3e38, "sure": 1.5}[harm]
        tensors[name][0] = value
        save_file(tensors, file, of)
    if harm:
        with pytest.raises(AssertionError, match="compared again"):
            known_of(project)
    else:
        assert all(np.array_equal(a, b) for a, b in zip(first, known_of(project), strict=True))


def test_what_was_kept_is_of_photos_cameras_masks_and_up(tmp_path):
    def of(aside=0.0, focal=50.0, gray=0, shown=None, centre=0.0, up=1.0) -> str:
        pose, picture = np.eye(4), np.full((4, 6, 3), gray, np.uint8)
        pose[0, 3] = aside
        view = Viewpoint(pose, Intrinsics(6, 4, focal, focal, 3, 2), "one")
        return KeptDepths.made_of(tmp_path, [view], [picture], [shown], np.full(3, centre), np.full(3, up)).of

    mask = np.ones((4, 6), bool)
    others = [of(aside=0.01), of(focal=51.0), of(gray=1), of(shown=mask), of(shown=~mask)]
    others += [of(centre=1.0), of(up=2.0)]
    assert of() == of() and len({of(), *others}) == 8


def test_what_cannot_be_kept_is_said_and_the_scene_is_learned(project):
    (Workspace(project).scene / "depths.safetensors").mkdir(parents=True)
    said, record = train(project)
    assert record.steps == 6 and sum("is not kept for later" in line for line in said) == 1


def test_nothing_is_kept_once_the_scene_is_learned(project):
    train(project)
    assert sorted(file.name for file in Workspace(project).scene.glob("*.safetensors")) == ["checkpoint.safetensors"]


def test_a_cancel_is_heard_as_views_are_compared_with_each_other(monkeypatch):
    views = arc(4)
    pictures, told, agreed = [photograph(view)[0] for view in views], [], stereo._agreed
    monkeypatch.setattr(stereo, "_agreed", lambda *view: time.sleep(1) or agreed(*view))

    def done(count: int) -> None:
        told.append(count)
        if told.count(4) == 3:  # all views are matched, and compared with each other
            raise Cancelled

    with pytest.raises(Cancelled):
        stereo_depths(views, pictures, np.zeros(3), done)


def test_of_many_photos_some_are_compared(project, monkeypatch):
    monkeypatch.setattr(depths, "MOST_COMPARED", 5)
    steps = {"depths": [], "planes": []}
    train(project, lambda progress: steps.get(progress.stage, []).append(progress.step))
    assert max(steps["depths"]) == max(steps["planes"]) == 5


def test_a_sources_points_are_known_beside_what_photos_tell(project, monkeypatch):
    import dataclasses

    def known(points) -> int:
        opened = dataclasses.replace(capturing.load_opened(Workspace(project)), points=points)
        opened = capturing.ensure_images(Workspace(project), opened, plan := job.plan(*stages), job)
        views = scene.training_views(opened)
        pictures = scene.PictureSet.read(Workspace(project).images, views, "cpu")
        depths.learn_depths(pictures, opened, views, True, Workspace(project).scene, plan, job)
        return len(pictures.known[0])

    job, stages = Job(), (scene.Stage("images", "", 10, 0.1), *depths.depths_stages(9, depths.Compared(planes=True)))
    ball = np.random.default_rng(0).normal(size=(300, 3))
    ball *= 0.8 / np.linalg.norm(ball, axis=1, keepdims=True)
    assert known(None) + 300 < known(SparsePoints(ball))


def test_outlines_of_what_is_cut_out_tell_no_depth(tmp_path, monkeypatch):
    """Each known pixel has two others on every side of it that show the ball alone."""
    cut = [cut_out(view) for view in arc(10)]
    alpha = [np.where(ball, 255, 0)[..., None].astype(np.uint8) for _, _, ball in cut]
    photos = [np.concatenate([photo, a], axis=-1) for (photo, _, _), a in zip(cut, alpha, strict=True)]
    folder, job = opened(tmp_path, monkeypatch, photos), Job()
    plan = job.plan(scene.Stage("images", "", 10, 0.1), *depths.depths_stages(9, depths.Compared(planes=True)))
    capture = capturing.ensure_images(Workspace(folder), capturing.load_opened(Workspace(folder)), plan, job)
    views = scene.training_views(capture)
    pictures = scene.PictureSet.read(Workspace(folder).images, views, "cpu")
    depths.learn_depths(pictures, capture, views, True, Workspace(folder).scene, plan, job)
    assert pictures.alpha is not None and pictures.known is not None
    shape = (len(views), views[0].intrinsics.height, views[0].intrinsics.width)
    full = np.pad(pictures.alpha.numpy().reshape(shape) == 255, ((0, 0), (2, 2), (2, 2)), constant_values=True)
    view, row, column = np.unravel_index(pictures.known[0].numpy(), shape)
    assert len(row) > 1000
    for down in range(5):
        for right in range(5):
            assert full[view, row + down, column + right].all()


def test_larger_photos_are_compared_as_smaller_ones(project, monkeypatch):
    job = Job()
    plan = job.plan(scene.Stage("images", "", 10, 0.1), *depths.depths_stages(9, depths.Compared()))
    capture = capturing.ensure_images(Workspace(project), capturing.load_opened(Workspace(project)), plan, job)
    views = scene.training_views(capture)
    pictures = scene.PictureSet.read(Workspace(project).images, views, "cpu")
    shrunk, compared = depths.Shrunk.of, []

    def smaller(*photo):
        compared.append(shrunk(*photo, most=max(photo[1].shape) * 3 // 4))
        return compared[-1]

    monkeypatch.setattr(depths.Shrunk, "of", smaller)
    depths.learn_depths(pictures, capture, views, True, Workspace(project).scene, plan, job)
    places, distances, _ = (value.numpy() for value in pictures.known)
    assert {one.photo.shape[:2] for one in compared} == {(40, 48)}  # of 64 × 53
    truth = np.concatenate([photograph(view)[1].ravel() for view in views])[places]
    told = np.isfinite(distances)
    assert told.sum() > 3000 and (np.abs(distances[told] / truth[told] - 1) < 0.02).mean() > 0.9
    assert (~told).sum() > 1000 and np.isinf(truth[~told]).mean() > 0.9  # of the sky, all pixels are


def test_what_sources_know_together():
    one = KnownDepth(np.array([3, 5]), np.float32([1, 2]), np.float32([0.5, 1]))
    none = KnownDepth(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32))
    both = together([one, none, one])
    assert both.pixels.tolist() == [3, 5, 3, 5] and both.pixels.dtype == np.int64
    assert both.distances.tolist() == [1, 2, 1, 2] and both.sure.tolist() == [0.5, 1, 0.5, 1]
    assert len(together([]).pixels) == 0


def test_preview_and_standard_ask_for_it_and_paper_does_not():
    """Measured on these two (docs/geometry.md); the paper's own numbers are its own."""
    asked = depths.Compared()
    for preset in (PREVIEW, STANDARD):
        assert depths.compared_for(None, preset, asked) == (True, True)
        assert preset.train.losses.solid_weight > 0 and preset.train.losses.flat_weight > 0
        assert depths.compared_for(None, preset, depths.Compared(planes=True)) == (True, True)
        assert depths.compared_for(None, preset, depths.Compared(photos=False, planes=True)) == (False, False)
    assert not depths.compared_for(None, PAPER, asked).photos and not PAPER.train.losses.solid_weight
    assert not PAPER.train.losses.flat_weight
    for preset in (PREVIEW, STANDARD):  # an edit may change shapes
        edit = preset.edit.losses
        assert not edit.depth_weight and not edit.solid_weight and not edit.flat_weight


def test_a_scene_lies_where_its_cameras_are_but_for_papers():
    """Cameras that move while a scene is learned take it along, and views that look each in their own way are compared
    with what none of them looks like (docs/geometry.md)."""
    for preset in (PREVIEW, STANDARD):
        assert not preset.nerf.optimise_cameras and not preset.nerf.appearance
    assert PAPER.nerf.optimise_cameras and PAPER.nerf.appearance
