# SPDX-License-Identifier: GPL-3.0-or-later
"""The geometry benchmark's measures against what is known in closed form."""

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import trimesh

from benchmarks.geometry import run
from benchmarks.geometry.__main__ import COLUMNS, Options, length_of, scenes_of, table
from benchmarks.geometry.data import ExactScene
from benchmarks.geometry.measures import COARSE, NEAR, Truth, measure
from benchmarks.geometry.run import ROWS, make
from engine import presets
from engine.capture import Intrinsics
from engine.geometry import Viewpoint, pixel_directions
from engine.output.raster import depth_of

PINHOLE = Intrinsics(64, 48, 70.0, 65.0, 30.0, 25.0)
DISTANCE = 3.0  # of the cameras: the radius, of which the measures are shares


def looking(at: np.ndarray, target=(0.0, 0.0, 0.0), intrinsics: Intrinsics = PINHOLE) -> Viewpoint:
    back = np.asarray(at, float) - target
    back /= np.linalg.norm(back)
    right = np.cross([0.1, 0.2, 1.0], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, at], axis=1)
    return Viewpoint(pose, intrinsics)


def around(count: int = 14) -> list[Viewpoint]:
    """Cameras at DISTANCE all about the origin."""
    turn = np.arange(count) * np.pi * (3 - 5**0.5)
    z = 1 - 2 * (np.arange(count) + 0.5) / count
    across = np.sqrt(1 - z * z)
    places = DISTANCE * np.stack([across * np.cos(turn), across * np.sin(turn), z], axis=1)
    return [looking(place) for place in places]


def ball(radius: float = 0.3, at=(0.0, 0.0, 0.0)) -> trimesh.Trimesh:
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    mesh.apply_translation(at)
    return mesh


def sheet(low=(-1.0, -1.0), high=(1.0, 1.0), height: float = 0.0) -> trimesh.Trimesh:
    (a, b), (c, d) = low, high
    return trimesh.Trimesh([[a, b, height], [c, b, height], [c, d, height], [a, d, height]], [[0, 1, 2], [0, 2, 3]])


def truth_of(mesh: trimesh.Trimesh, cameras: list[Viewpoint], subject: bool = True) -> Truth:
    chosen = np.full(len(mesh.faces), subject)
    return Truth.of(np.asarray(mesh.vertices), np.asarray(mesh.faces), chosen, cameras, np.zeros(3))


@pytest.fixture(scope="module")
def true_ball() -> Truth:
    return truth_of(ball(), around())


def test_depth_is_that_of_the_rays():
    camera = looking([1.0, -2.0, 2.0])
    mesh = ball()
    depth, face = depth_of(np.asarray(mesh.vertices), np.asarray(mesh.faces), camera)
    rays = pixel_directions(PINHOLE) @ camera.pose[:3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    along = -rays @ camera.pose[:3, 3]
    inside = 0.09 - (9.0 - along**2)  # of the sphere of 0.3 about the origin, seen from 3 away
    hit = inside > 0.005  # but for its edge, where triangles are not the sphere
    assert hit.sum() > 100 and np.array_equal(face >= 0, np.isfinite(depth))
    assert np.abs(depth[hit] - (along - np.sqrt(inside.clip(0)))[hit]).max() < 2e-3
    assert not np.isfinite(depth[inside < -0.005]).any()


def test_the_nearer_of_two_sheets_is_seen_and_what_lies_behind_a_camera_is_not():
    camera = looking([0.3, 0.0, 2.0], target=(0.3, 0.0, 0.0))
    sheets = [sheet(height=0.5), sheet(height=0.0), sheet(height=4.0)]
    mesh = trimesh.util.concatenate(sheets)
    depth, face = depth_of(np.asarray(mesh.vertices), np.asarray(mesh.faces), camera)
    ahead = 1 / np.linalg.norm(pixel_directions(PINHOLE), axis=-1)
    seen = np.isfinite(depth)
    assert seen.mean() > 0.9 and set(face[seen].tolist()) == {0, 1}
    np.testing.assert_allclose((depth * ahead)[seen], 1.5, rtol=1e-6)


def test_the_truth_itself_is_without_fault(true_ball):
    found = measure(ball(), true_ball)
    for name in ("", "subject_"):
        assert found[f"{name}f_score"] == found[f"{name}precision"] == found[f"{name}recall"] == 1
        assert found[f"{name}chamfer"] < 0.02 and found[f"{name}normals"] < 2
    assert found["covered"] == 1 and found["parts"] == 1


@pytest.mark.parametrize("share", [0.3, 0.8, 1.3, 2.5])
def test_a_ball_that_is_too_large_is_off_by_that_everywhere(true_ball, share):
    found = measure(ball(0.3 + share * NEAR * DISTANCE), true_ball)
    assert found["chamfer"] == pytest.approx(share, abs=0.02)
    assert found["f_score"] == (1 if share < 1 else 0)
    assert found["normals"] < 3 if share < 1 else found["normals"] == 90
    assert found["covered"] > 0.95


def test_half_a_sheet_finds_half_of_it():
    cameras = [looking([x, y, (DISTANCE**2 - x * x - y * y) ** 0.5]) for x in (-0.5, 0.5) for y in (-0.5, 0.5)]
    truth = truth_of(sheet(), cameras)
    found = measure(sheet(low=(0.0, -1.0)), truth)
    assert found["precision"] == 1
    edge = NEAR * DISTANCE / 2  # of what is missing, this share of all lies near enough to what is there
    assert found["recall"] == pytest.approx(0.5 + edge, abs=0.01)
    assert found["f_score"] == pytest.approx(2 * found["recall"] / (1 + found["recall"]))
    # Distances to the truth are 0; to what is there, 0 in one half and evenly 0 to 1 in the other.
    assert found["chamfer"] == pytest.approx(50 * 0.25 / DISTANCE, rel=0.03)
    assert found["covered"] == pytest.approx(0.5, abs=0.06)  # what is near enough beyond the edge counts


def test_normals_are_measured_in_degrees():
    truth = truth_of(sheet(), around())
    stairs = []  # each 0.02 long and tilted by 20 degrees
    for k in range(-50, 50):
        step = sheet(low=(-0.01, -1.0), high=(0.01, 1.0))
        step.apply_transform(trimesh.transformations.rotation_matrix(np.radians(20), [0, 1, 0]))
        step.apply_translation([0.02 * k + 0.01, 0, 0])
        stairs.append(step)
    found = measure(trimesh.util.concatenate(stairs), truth)
    assert found["normals"] == pytest.approx(20, abs=0.5)
    assert found["parts"] == 100


def test_what_the_truth_has_not_costs_precision_and_what_cameras_do_not_see_costs_nothing():
    truth = truth_of(ball(), around())
    extra = measure(trimesh.util.concatenate([ball(), ball(at=(0.0, 0.0, 1.5))]), truth)
    assert extra["precision"] == pytest.approx(0.5, abs=0.01) and extra["recall"] == 1 and extra["parts"] == 2
    nested = trimesh.util.concatenate([ball(), ball(0.15)])  # the inner one is seen by nobody
    inside = truth_of(nested, around())
    assert measure(ball(), inside)["recall"] == 1
    assert measure(nested, inside)["precision"] == 1


def test_what_lies_far_away_is_not_divided_and_changes_nothing(true_ball, monkeypatch):
    near, divided = ball(0.301), []
    fog = trimesh.Trimesh(np.random.default_rng(0).normal(size=(6, 3)) * 1e4 + 1e5, [[0, 1, 2], [3, 4, 5]])
    original = trimesh.remesh.subdivide_to_size
    monkeypatch.setattr(
        trimesh.remesh, "subdivide_to_size", lambda v, f, *a, **k: divided.append(len(f)) or original(v, f, *a, **k)
    )
    alone, both = measure(near, true_ball), measure(trimesh.util.concatenate([fog, near]), true_ball)
    assert divided == [len(near.faces)] * 2
    assert {key: both[key] for key in both if key not in {"parts", "faces"}} == {
        key: alone[key] for key in alone if key not in {"parts", "faces"}
    }


def test_the_subject_is_measured_apart():
    both = trimesh.util.concatenate([ball(), sheet(low=(-0.9, -0.9), high=(0.9, 0.9), height=-0.4)])
    subject = np.arange(len(both.faces)) < len(ball().faces)
    truth = Truth.of(np.asarray(both.vertices), np.asarray(both.faces), subject, around(), np.zeros(3))
    found = measure(sheet(low=(-0.9, -0.9), high=(0.9, 0.9), height=-0.4), truth)  # the subject is missing
    assert found["precision"] == 1 and 0.5 < found["recall"] < 1
    assert found["subject_f_score"] == found["subject_recall"] == found["covered"] == 0
    found = measure(ball(), truth)
    assert found["subject_f_score"] == 1 and found["covered"] == 1 and found["recall"] < 0.6


def test_nothing_is_measured_as_nothing(true_ball):
    far = ball(at=(50.0, 0.0, 0.0))  # outside of what is measured
    found = measure(far, true_ball)
    assert found["f_score"] == found["subject_f_score"] == found["covered"] == 0
    assert set(COLUMNS) - {"psnr", "seconds"} <= set(found)


def ball_scene() -> ExactScene:
    mesh, cameras = ball(), around(24)
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    pictures = np.full((len(cameras), PINHOLE.height, PINHOLE.width, 3), 128, np.uint8)
    return ExactScene("ball", 20, np.zeros(3), cameras, pictures, vertices, faces, np.ones(len(faces), bool))


def test_the_oracle_finds_a_scene_again(tmp_path):
    scene = ball_scene()
    made = make(replace(ROWS["oracle"], resolution=48), scene, 1, 1, 0, tmp_path, "cpu")
    truth = Truth.of(scene.vertices, scene.faces, scene.subject, scene.cameras[: scene.training], np.zeros(3))
    found = measure(made.mesh, truth)
    assert found["f_score"] > 0.99 and found["covered"] > 0.97 and found["parts"] == 1
    assert np.isnan(made.psnr) and not list(tmp_path.iterdir())


def test_a_trainings_seconds_count_once(tmp_path, monkeypatch):
    scene = ball_scene()
    views = run.oracle_views(scene)

    def trained(*_: object) -> tuple[object, float]:
        time.sleep(1.5)
        return SimpleNamespace(render=lambda _: SimpleNamespace(rgb=torch.full((48, 64, 3), 0.5))), 1.5

    monkeypatch.setattr(run, "_trained", trained)
    monkeypatch.setattr(run, "_view", lambda _, camera: views[scene.cameras.index(camera)])
    began = time.monotonic()
    made = make(replace(ROWS["colors alone"], resolution=48), scene, 1, 1, 0, tmp_path, "cpu")
    assert 1.5 < made.seconds <= time.monotonic() - began


def test_ways_are_chosen_and_reported_on_different_scenes():
    development, reporting = (set(scenes_of(Options(half=half))) for half in ("development", "reporting"))
    assert development and reporting and not development & reporting
    assert set(scenes_of(Options(smallest=True))) <= development


def test_a_row_is_trained_as_its_preset_says_or_as_is_asked():
    assert length_of("preview", Options()) == (presets.PREVIEW.train.steps, presets.PREVIEW.train.rays)
    assert length_of("standard", Options()) == (presets.STANDARD.train.steps, presets.STANDARD.train.rays)
    assert length_of("standard", Options(steps=7, rays=9)) == (7, 9)
    nerf, train = ROWS["standard"].configs(7, 9)
    assert nerf == presets.STANDARD.nerf and train.losses == presets.STANDARD.train.losses
    assert (train.steps, train.rays, train.optimiser.decay_steps) == (7, 9, 7)


def test_the_table_has_means_over_scenes():
    measures = dict.fromkeys(COLUMNS, 1.0) | {"psnr": float("nan")}
    records = [{"scene": name, "row": "oracle", "measures": measures | {"f_score": f}} for name, f in (("a", 0.5), ("b", 1.0))]  # noqa: E501  # fmt: skip
    lines = table(records).splitlines()
    assert len(lines) == 5 and lines[-1].startswith("| mean | oracle | 0.750 | 1.000") and "| – |" in lines[-1]
    assert COARSE < NEAR
