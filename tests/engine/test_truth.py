# SPDX-License-Identifier: GPL-3.0-or-later
"""The truth benchmark's harness on a scene whose truth is a closed form: editors that cheat get what they deserve."""

import itertools
import json
import math

import msgspec
import numpy as np
import pytest
import torch

from benchmarks.region import decibels, parts_of
from benchmarks.truth import tables
from benchmarks.truth import worker as worker_module
from benchmarks.truth.__main__ import Options, keep, known_of, methods_of, of_strength, strengths_of, write
from benchmarks.truth.data import TruthScene
from benchmarks.truth.edits import EDITS, SCENES, SMALLEST
from benchmarks.truth.methods import BASELINES, OURS, ROWS, SCHEDULES, SIZES, Row, Size, refuse_what_cannot_be
from benchmarks.truth.region import box_around, measure, subject_points
from benchmarks.truth.run import PINK, Harness, Outcome, approved_picture, cameras_of, key_views, recovery
from benchmarks.truth.worker import Worker
from engine import protocol
from engine.capture import Intrinsics
from engine.edit.region import Region
from engine.edit.settings import EditSettings
from engine.geometry import Viewpoint
from engine.scenes.base import RenderedView
from engine.scenes.settings import LossConfig, OptimiserConfig, TrainingConfig

from .conftest import TINY_NERF, ring, sphere_picture
from .test_consistency import sphere_depth

CAMERA = Intrinsics(24, 20, 30.0, 31.0, 11.0, 10.5)
TRAINING, HELD_OUT = 36, 6
EDIT = "red"


def truth_of(picture):
    """What the edit truly does: less green and blue, everywhere."""
    return (picture * np.float32([1.0, 0.7, 0.7])).astype(np.uint8)


def closed_form(camera=CAMERA, training=TRAINING, held_out=HELD_OUT):
    """The scene from a ring of cameras, and from others between them."""
    between = ring(90)[1 : 1 + held_out]
    poses = np.concatenate([ring(training), between])
    before = np.stack([sphere_picture(pose, camera) for pose in poses])
    depth = np.stack([sphere_depth(pose, camera).numpy() for pose in poses])
    return TruthScene(
        "sphere", training, np.zeros(3), poses, camera, before, {EDIT: truth_of(before)}, depth, depth < 5
    )


@pytest.fixture(scope="module")
def scene():
    return closed_form()


class Oracle:
    """Answers with the right picture of the right view, which it knows by its original."""

    name = "oracle"

    references = 0

    def prepare(self, instruction, options):
        return self

    def view(self, original, references=()):
        return OracleView(self, original)

    def answer(self, truth, original, generator):
        return truth


class OracleView:
    """One view's edits by an oracle, or by one that cheats."""

    relevance = None

    def __init__(self, oracle, original):
        self.oracle, self.original = oracle, original

    def edit(self, picture, t, generator, check=lambda: None, carried=None):
        return self.oracle.answer(self.original * torch.tensor([1.0, 0.7, 0.7]), self.original, generator)


class ReturnsItsInput(Oracle):
    def answer(self, truth, original, generator):
        return original


class WrongView(Oracle):
    """The right answer of whatever view it edited before."""

    last = None

    def answer(self, truth, original, generator):
        wrong, self.last = (self.last if self.last is not None else truth), truth
        return wrong


class Noise(Oracle):
    def answer(self, truth, original, generator):
        return (original + 0.5 * torch.randn(original.shape, generator=generator)).clamp(0, 1)


SIZE = Size(
    24,
    TINY_NERF,
    TrainingConfig(500, 256, optimiser=OptimiserConfig(final_learning_rate=1e-3, decay_steps=300)),
    EditSettings(steps=160, steps_per_round=4, patches=4, patch=8, losses=LossConfig("l1"),
                 optimiser=OptimiserConfig(learning_rate=5e-3, final_learning_rate=1e-3, decay_steps=160)),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("unedited")


@pytest.fixture(scope="module")
def run(scene, folder):
    def distance(a, b):
        return (a - b).abs().mean(dim=(1, 2, 3))

    def one(editor, row):
        harness = Harness(editor, distance, SIZE, folder)
        return harness.measure(harness.run(row, scene, EDIT, 0), None, scene, EDIT)

    return one


@pytest.fixture(scope="module")
def ends(run):
    """(unedited, oracle): the two ends of the scale."""
    return run(Oracle(), ROWS["unedited"]), run(Oracle(), ROWS["oracle"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_editors_that_cheat_are_caught(run, ends):
    unedited, oracle = ends
    assert oracle["mse"] < 0.4 * unedited["mse"] and oracle["psnr"] > unedited["psnr"] + 4
    found = {}
    for editor in (Oracle(), ReturnsItsInput(), WrongView(), Noise()):
        measures = run(editor, ROWS["Iterative DU"])
        found[type(editor).__name__] = (
            recovery(unedited["mse"], measures["mse"], oracle["mse"]), measures["inconsistency"], measures
        )  # fmt: skip
    share = {name: entry[0] for name, entry in found.items()}
    print(share)
    assert share["Oracle"] > 0.85
    assert abs(share["ReturnsItsInput"]) < 0.15
    assert share["Noise"] < 0.1
    assert share["WrongView"] < share["Oracle"] - 0.15
    assert found["Oracle"][2]["edits"] == SIZE.edit.image_updates and found["Oracle"][2]["seconds"] > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_per_frame_noise_is_inconsistent_and_a_right_answer_is_not(run, ends):
    unedited, _ = ends
    noisy, right = (run(editor, ROWS["per-frame"]) for editor in (Noise(), Oracle()))
    assert noisy["inconsistency"] > 0.2 > 5 * right["inconsistency"]
    assert right["mse"] < 0.5 * unedited["mse"] < noisy["mse"]


def test_key_views_are_the_proposed_one_and_those_far_from_it(scene):
    assert key_views(scene, 0) == []
    four = key_views(scene, 4)
    assert len(set(four)) == 4 and max(four) < TRAINING and four[:1] == key_views(scene, 1)
    gaps = sorted((b - a) % TRAINING for a, b in itertools.pairwise([*sorted(four), sorted(four)[0] + TRAINING]))
    assert gaps[0] >= TRAINING // 4 - 1  # on a ring, in its quarters


def test_a_key_picture_is_the_true_edit_or_that_with_a_disk_painted_over_the_subject(scene):
    plain, drawn = (approved_picture(scene, EDIT, 3, over).numpy() for over in (False, True))
    assert np.array_equal(plain, scene.after[EDIT][3])
    over = (plain != drawn).any(axis=-1)
    assert 5 < over.sum() < 0.1 * over.size and (drawn[over] == PINK).all()
    assert scene.subject[3][over].mean() > 0.9
    assert np.array_equal(scene.after[EDIT][3], truth_of(scene.before[3]))  # the truth itself is not painted over


def test_recovery():
    assert recovery(4.0, 4.0, 1.0) == 0 and recovery(4.0, 1.0, 1.0) == 1 and recovery(4.0, 7.0, 1.0) == -1
    assert math.isnan(recovery(1.0, 1.0, 1.0))


def test_the_summary_is_the_mean_and_the_spread_over_seeds():
    def record(method, seed, scene, mse):
        own = {"mse": mse, "perceptual": mse, "psnr": 10 * mse}
        ends = {"unedited": {"mse": 1.0, "perceptual": 1.0}, "oracle": {"mse": 0.0, "perceptual": 0.0}}
        return {"method": method, "seed": seed, "scene": scene, "edit": "red", "measures": own, **ends}

    records = [record("a", seed, scene, 0.1 + 0.2 * seed + 0.1 * scene) for seed in (0, 1) for scene in (0, 1)]
    (row,) = tables.summary(records)
    assert row["recovery_mse"] == pytest.approx(1 - (0.15 + 0.35) / 2)
    assert row["recovery_mse_spread"] == pytest.approx(math.sqrt(2) * 0.1)
    assert row["psnr"] == pytest.approx(2.5) and row["runs"] == 4
    json.dumps(row)
    table = tables.markdown([row])
    assert "| a | 0.75 ± 0.14 | 0.75 ± 0.14 | 2.5 ± 1.4 |" in table


def test_rows_and_scenes_are_whole():
    assert set(BASELINES) | set(SCHEDULES) | {OURS} <= set(ROWS)
    assert methods_of(Options()) == [*BASELINES, OURS]
    assert methods_of(Options(strengths=(1.0,))) == ["unedited", "oracle", *SCHEDULES]
    assert methods_of(Options(strengths=(1.0,), methods=("SDS",))) == ["unedited", "oracle", "SDS"]
    for row in ROWS.values():
        assert msgspec.to_builtins(row.settings(SIZES["quick"].edit, 3))["seed"] == 3
    with pytest.raises(SystemExit, match="--size small"):
        refuse_what_cannot_be(ROWS, "small")  # OURS compares patches by LPIPS, and these are too small for it
    refuse_what_cannot_be(SCHEDULES, "small")
    assert isinstance(ROWS["SDS"], Row) and ROWS["SDS"].settings(SIZE.edit, 0).losses.pixel == "mse"
    halves = [half for half, _ in SCENES.values()]
    assert halves.count("reporting") == halves.count("development") == 3
    for _, edits in SCENES.values():
        assert len(edits) >= 4 and set(edits) <= set(EDITS)
        assert len({EDITS[key].family for key in edits}) >= 3
    assert sum(map(len, SMALLEST.values())) == 4
    assert all(set(edits) <= set(SCENES[name][1]) for name, edits in SMALLEST.items())


def test_a_run_that_goes_on_runs_only_the_rows_that_it_lacks(scene, monkeypatch, tmp_path):
    ran = []

    class Stand:
        def run(self, row, scene, key, seed):
            ran.append(row.name)
            return Outcome([torch.zeros(20, 24, 3)] * HELD_OUT, 1.0, 0, 0)

        def measure(self, outcome, unedited, scene, key):
            return {"psnr": 20.0, "perceptual": 0.25, "mse": 0.01}

    monkeypatch.setattr(worker_module, "load", lambda name, pixels: scene)
    worker = Worker.__new__(Worker)
    worker.methods, worker.size, worker.unedited, worker.harness = ["unedited", "oracle", "SDS"], SIZE, {}, Stand()
    first, _ = worker.run("sphere", EDIT, 0, {})
    assert ran == ["unedited", "oracle", "SDS"] and [r["method"] for r in first] == ran
    worker.methods.append("Iterative DU")
    ran.clear()
    job = ("sphere", EDIT, 0)
    elsewhere = [r | {"seed": 1} for r in first]
    more, shown = worker.run(*job, known_of((*job, None), first + elsewhere))
    assert ran == ["Iterative DU"] and [r["method"] for r in more] == ran and "Iterative DU" in shown
    assert more[0]["oracle"] == first[1]["measures"]
    assert known_of(("sphere", EDIT, 2, None), first + elsewhere) == {}

    worker.methods = ["unedited", "oracle", "SDS"]
    ran.clear()
    weak, _ = worker.run(*job, known_of((*job, 0.5), first), 0.5)
    assert ran == ["SDS"]  # the ends of the scale need no editor
    assert worker.harness.editor.strength == 0.5 and worker.harness.editor.scene is scene
    strong, _ = worker.run(*job, known_of((*job, 2.0), first + weak), 2.0)
    records = first + weak + strong
    assert [(r["method"], r.get("strength")) for r in records[2:]] == [("SDS", None), ("SDS", 0.5), ("SDS", 2.0)]
    assert strengths_of(records) == [0.5, 2.0] and strengths_of(first) == [None]
    assert [r.get("strength") for r in of_strength(records, 2.0)] == [None, None, 2.0]
    gone = records[0] | {"method": "a row of last year's"}
    write(tmp_path / "results.json", {"size": "small"}, [gone, *records[:2], *weak, *strong], 1.0)
    assert json.loads((tmp_path / "results.json").read_text())["records"][0]["method"] == "unedited"
    assert list(json.loads((tmp_path / "results.json").read_text())["summary"]) == ["strength 0.5", "strength 2"]


def test_a_sheet_has_a_picture_for_each_method_and_edit(tmp_path):
    for edit, shade in (("a, red", 10), ("b, gold", 200)):
        keep(tmp_path / "pictures", edit, {name: np.full((16, 16, 3), shade, np.uint8) for name in ("truth", "oracle")})
    tables.sheet(tmp_path / "pictures", tmp_path / "sheet.png")
    from PIL import Image

    picture = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert picture.shape[0] > 2 * 16 and {10, 200} <= set(np.unique(picture[:, 190:, 0]))
    assert np.array_equal(np.unique(picture[26:34, 194:200]), [10])  # the first row's first column


def test_a_region_is_measured_on_either_side_of_it(scene):
    """By pictures that are right inside, right nowhere, and right inside but spilt over the rest."""
    region = Region(box_around(subject_points(scene), 0.03))
    held = scene.held_out
    cameras = cameras_of(scene, held)
    depths = [torch.from_numpy(depth) for depth in scene.depth[held]]
    inside = [region.mask(RenderedView(d, d, torch.ones_like(d)), c) > 0 for d, c in zip(depths, cameras, strict=True)]
    before, after = (torch.from_numpy(p[held]).float() / 255 for p in (scene.before, scene.after[EDIT]))
    assert 0.1 < float(torch.stack(inside).float().mean()) < 0.9

    def outcome(pictures):
        return Outcome(list(pictures), 1.0, 0, 0)

    unedited, oracle = outcome(before + 0.03), outcome(after + 0.01)
    for pictures, recovered, lost in (
        ([torch.where(m, a, b) for m, a, b in zip(inside, oracle.pictures, unedited.pictures, strict=True)], 1.0, 0.0),
        (unedited.pictures, 0.0, 0.0),
        ([torch.where(m, a, a + 0.03) for m, a in zip(inside, oracle.pictures, strict=True)], 1.0, None),
        ([torch.where(m, b, b + 0.03) for m, b in zip(inside, unedited.pictures, strict=True)], 0.0, 6.02),
    ):
        found = measure(outcome(pictures), oracle, unedited, scene, EDIT, region)
        assert found["recovery inside"] == pytest.approx(recovered, abs=2e-3)
        if lost is None:
            assert found["lost outside, dB"] > 3
        else:
            assert found["lost outside, dB"] == pytest.approx(lost, abs=0.02)


def test_on_photos_a_region_is_measured_by_what_it_lets_change_and_by_median_depth():
    """A pixel of fog, of which a quarter lies inside, is both; errors are taken over all pixels of a side at once."""
    camera = Viewpoint(np.eye(4), Intrinsics(3, 1, 3.0, 3.0, 1.5, 0.5))
    corners = np.array([[x, y, z] for x in (-9, 9) for y in (-9, 9) for z in (-7, -5)], float)
    region = Region(protocol.Region(solids=box_around(corners, 0.0).solids))
    near, there = [3.0] * 8, [6.0] * 8
    met = torch.tensor([[there, [3.0] * 5 + [6.0] * 3, near]])
    inside, outside = parts_of(region, RenderedView(met[..., :3], met[..., 4], torch.ones(1, 3), met=met), camera)
    assert inside.tolist() == [[True, True, False]] and outside.tolist() == [[False, True, True]]
    pictures = [torch.zeros(1, 3, 3), torch.zeros(1, 3, 3)]
    photos = [torch.full((1, 3, 3), 0.1), torch.full((1, 3, 3), 0.3)]
    where = [torch.tensor([[True, False, False]]), torch.tensor([[True, True, True]])]
    assert decibels(pictures, photos, where) == pytest.approx(-10 * math.log10((0.01 + 3 * 0.09) / 4), abs=1e-4)
