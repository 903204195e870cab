# SPDX-License-Identifier: GPL-3.0-or-later
"""A region: what lies in it by the solid angle of its surfaces, which needs no ray; and edits that leave the rest."""

from __future__ import annotations

import shutil
import time

import msgspec
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from scipy.spatial import cKDTree

from engine import protocol
from engine.capture import Intrinsics
from engine.edit import solids
from engine.edit.iterative import ImageUpdated
from engine.edit.methods import begin
from engine.edit.nearest import Nearest
from engine.edit.prompt import Prompts
from engine.edit.region import Region
from engine.edit.solids import Solid
from engine.errors import BadInput, Cancelled
from engine.geometry import Viewpoint, pixel_directions
from engine.jobs.capture import load_opened
from engine.jobs.trying import copy_of_try
from engine.presets import PRESETS
from engine.progress import Job
from engine.scenes.base import RenderedView
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.training import Trainer
from engine.scenes.registry import open_scene
from engine.scenes.settings import LossConfig, TrainingConfig
from engine.workspace import Workspace

from .conftest import PRESET, TINY_NERF, looking_at
from .test_iterative import SETTINGS, Run, parent_of
from .toy_editor import ToyEditor

CUBE = trimesh.creation.box((2.0, 1.0, 0.5), trimesh.transformations.euler_matrix(0.4, 1.0, -0.3))


def asked(*meshes: trimesh.Trimesh, **more: object) -> protocol.Region:
    found = [
        protocol.Solid(vertices=m.vertices.ravel().tolist(), triangles=m.faces.ravel().tolist(), name=f"part {i}")
        for i, m in enumerate(meshes)
    ]
    return protocol.Region(solids=found, **more)


def winding(mesh: trimesh.Trimesh, points: np.ndarray) -> np.ndarray:
    """How often a surface winds around points: the sum of the solid angles of its triangles (Van Oosterom)."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]][None] - points[:, None] for i in range(3))
    la, lb, lc = (np.linalg.norm(v, axis=-1) for v in (a, b, c))
    top = np.einsum("...i,...i->...", a, np.cross(b, c))
    bottom = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
    return (2 * np.arctan2(top, bottom)).sum(axis=1) / (4 * np.pi)


def apart(mesh: trimesh.Trimesh, points: np.ndarray) -> np.ndarray:
    """Distances to a surface, at most a hundredth too large: those to very many points on it."""
    on_it, _ = trimesh.sample.sample_surface(mesh, 50_000, seed=1)
    return cKDTree(on_it).query(points)[0]


def moved(mesh: trimesh.Trimesh, by: tuple[float, float, float]) -> trimesh.Trimesh:
    return mesh.copy().apply_translation(by)


BALL, HOLE = trimesh.creation.icosphere(3, 1.0), trimesh.creation.icosphere(2, 0.5)
HOLE.invert()
SHAPES = {
    "box": CUBE,
    "ball": BALL,
    "ring": trimesh.creation.torus(1.0, 0.3),
    "two that overlap": trimesh.util.concatenate([CUBE, moved(CUBE, (0.5, 0.2, 0.1))]),
    "one in another, inside out": trimesh.util.concatenate([BALL, HOLE]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_inside_is_what_the_solid_angle_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solids, "PAIRS", 1000)  # many small lots
    mesh = SHAPES[name]
    points = np.random.default_rng(0).uniform(-1.6, 1.6, (400, 3))
    expected = np.abs(winding(mesh, points)) > 0.5
    assert 5 < expected.sum() < 390
    np.testing.assert_array_equal(Solid(mesh.vertices, mesh.faces).inside(points), expected)


def test_faces_that_turn_any_way_enclose_the_same() -> None:
    mesh, rng = SHAPES["ball"], np.random.default_rng(1)
    faces = mesh.faces.copy()
    turned = rng.random(len(faces)) < 0.5
    faces[turned] = faces[turned][:, ::-1]
    points = rng.uniform(-1.2, 1.2, (1000, 3))
    np.testing.assert_array_equal(
        Solid(mesh.vertices, faces).inside(points), Solid(mesh.vertices, mesh.faces).inside(points)
    )


def test_points_in_line_with_edges_and_corners() -> None:
    """Where rays run along a box's own axes, an implementation that looks along them counts edges twice."""
    box = trimesh.creation.box((2.0, 2.0, 2.0))
    grid = np.stack(np.meshgrid(*[np.linspace(-2, 2, 9) + 1e-9] * 3), axis=-1).reshape(-1, 3)
    np.testing.assert_array_equal(Solid(box.vertices, box.faces).inside(grid), (np.abs(grid) < 1).all(axis=1))


@pytest.mark.parametrize("name", ["box", "ring"])
def test_distances_are_those_to_the_nearest_place_of_the_surface(name: str) -> None:
    mesh = SHAPES[name]
    points = np.random.default_rng(2).uniform(-1.5, 1.5, (200, 3))
    slow, fast = apart(mesh, points), Solid(mesh.vertices, mesh.faces).distance(points, 0.4)
    assert (fast <= np.minimum(slow, 0.4) + 1e-9).all() and (fast >= np.minimum(slow, 0.4) - 0.02).all()
    assert 0.05 < (fast < 0.4).mean() < 0.95


def test_a_soft_edge_wider_than_the_region_is_as_fast() -> None:
    """20,480 triangles, all of them within reach of every point: as many as the add-on sends."""
    ball = trimesh.creation.icosphere(5, 1.0)
    points = np.random.default_rng(2).uniform(-1.5, 1.5, (20_000, 3))
    solid = Solid(ball.vertices, ball.faces)
    solid.distance(points[:1], 3.0)  # compiled
    began = time.process_time()
    found = solid.distance(points, 3.0)
    assert time.process_time() - began < 6  # 0.3 s; all pairs take a minute
    expected = np.abs(np.linalg.norm(points, axis=1) - 1)
    assert np.abs(found - expected).max() < 4e-4  # of triangles so small


def test_a_surface_of_few_long_triangles_among_many_small_ones() -> None:
    """And of some that are none, as meshes come."""
    needle = np.array([[[0, 0, 0], [9, 0, 0], [9, 1e-3, 0]], [[0, 0, 0], [9, 1e-3, 0], [0, 0, 1e-3]]])
    none = np.array([[[0, 2, 0], [1, 2, 0], [2, 2, 0]], [[0, 2, 0]] * 3])
    faces = np.concatenate([BALL.vertices[BALL.faces], needle])
    points = np.random.default_rng(5).uniform(-2, 10, (100, 3))
    nearest = trimesh.triangles.closest_point(np.tile(faces, (100, 1, 1)), np.repeat(points, len(faces), axis=0))
    true = np.linalg.norm(nearest.reshape(100, -1, 3) - points[:, None], axis=-1).min(axis=1)
    along = np.clip(points[:, 0], 0, 2)
    to_line = np.linalg.norm(points - np.stack([along, 2 + 0 * along, 0 * along], axis=1), axis=1)
    found = Nearest(np.concatenate([faces, none])).distance(points, 50.0)
    np.testing.assert_allclose(found, np.minimum(true, to_line), atol=1e-9)
    assert 10 < (to_line < true).sum() < 90


def test_the_cells_that_triangles_are_looked_up_in_may_be_coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(2).uniform(-1.2, 1.2, (300, 3))
    expected = Solid(BALL.vertices, BALL.faces).inside(points)
    monkeypatch.setattr(solids, "MOST_ENTRIES", 2_000)
    coarse = Solid(BALL.vertices, BALL.faces)
    np.testing.assert_array_equal(coarse.inside(points), expected)
    assert len(coarse._columns._owner) <= 2_000


def test_union_invert_and_the_soft_edge() -> None:
    left, right = moved(CUBE, (-0.5, 0, 0)), moved(CUBE, (0.8, 0.3, 0))
    points = np.random.default_rng(3).uniform(-2, 2, (600, 3))
    inside = (np.abs(winding(left, points)) > 0.5) | (np.abs(winding(right, points)) > 0.5)
    np.testing.assert_array_equal(Region(asked(left, right)).may_change(points), inside.astype(float))
    np.testing.assert_array_equal(Region(asked(left, right, invert=True)).may_change(points), 1.0 - inside)
    soft = Region(asked(CUBE, softness=0.4)).may_change(points)
    signed = np.where(np.abs(winding(CUBE, points)) > 0.5, 1, -1) * apart(CUBE, points)
    np.testing.assert_allclose(soft, np.clip(0.5 + signed / 0.4, 0, 1), atol=0.03)
    # Beyond half of the softness, nothing at all is touched.
    assert (soft[signed < -0.21] == 0).all() and (soft[signed > 0.21] == 1).all()


def test_an_uneven_frame_is_undone() -> None:
    frame = np.array([[2.0, 0.3, 0.0, 1.0], [0.0, 0.5, 0.0, -2.0], [0.1, 0.0, 3.0, 0.5], [0, 0, 0, 1]])
    points = np.random.default_rng(4).uniform(-1, 1, (500, 3))
    own = points @ frame[:3, :3].T + frame[:3, 3]
    mesh = moved(trimesh.creation.icosphere(3, 1.5), tuple(frame[:3, 3]))
    expected = Region(asked(mesh, softness=0.3)).may_change(own)
    region = Region(asked(mesh, softness=0.3, frame=tuple(frame.ravel().tolist())))
    np.testing.assert_array_equal(region.may_change(points), expected)
    assert 0.1 < expected.mean() < 0.9


def test_what_is_no_region_is_refused_in_a_sentence() -> None:
    open_box = trimesh.Trimesh(CUBE.vertices, CUBE.faces[1:], process=False)
    for bad, words in (
        (asked(open_box), "“part 0” of the region is not closed"),
        (protocol.Region(solids=[]), "1 to 64"),
        (asked(CUBE, softness=-1.0), "softness"),
        (asked(CUBE, softness=float("nan")), "softness"),
        (asked(CUBE, frame=(0.0,) * 16), "frame"),
        (asked(CUBE, frame=(1.0,) * 4), "frame"),
        (protocol.Region(solids=[protocol.Solid(vertices=[0.0, 0.0], triangles=[0, 0, 0])]), "three numbers"),
        (protocol.Region(solids=[protocol.Solid(vertices=[0.0] * 9, triangles=[0, 1, 7])]), "damaged"),
        (protocol.Region(solids=[protocol.Solid(vertices=[float("nan")] * 9, triangles=[0, 1, 2])]), "damaged"),
        (protocol.Region(solids=[protocol.Solid(vertices=[], triangles=[])]), "no faces"),
    ):
        with pytest.raises(BadInput, match=words) as caught:
            Region(bad)
        assert caught.value.field == "region"


# -- edits -----------------------------------------------------------------------------------------------------------

PILLAR = asked(
    trimesh.creation.box((1.5, 1.5, 10.0))
)  # many pixels look past it, whatever the fog of an untrained scene


def run_with(sphere_set, region: protocol.Region | None, path, settings=SETTINGS, check=lambda: None, saved=None):
    """(trainer, events, pictures) of an edit of the sphere."""
    _, views, pictures = sphere_set
    prompts = Prompts(ToyEditor(), settings.told("darker"))
    parent = parent_of(sphere_set, path) if not path.exists() else open_scene(path)
    made = Region(region) if region else None
    return *begin(settings, parent, views, pictures, prompts, None, "cpu", check, saved, region=made), pictures


@pytest.mark.parametrize("method", ["iterative", "one-time", "projected"])
def test_outside_the_training_pixels_stay_as_captured(sphere_set, tmp_path, method: str) -> None:
    _, views, pictures = sphere_set
    before = [pictures.image(i).clone() for i in range(len(views))]
    settings = msgspec.structs.replace(SETTINGS, method=method)
    _, events, pictures = run_with(sphere_set, PILLAR, tmp_path / "parent", settings)
    unedited = open_scene(tmp_path / "parent").trainer(views, settings.training, settings.seed, "cpu", None)
    updated = {event.view for event in events if isinstance(event, ImageUpdated)}
    assert updated
    changed = kept = 0
    for view in updated:
        camera = unedited.camera(view)
        mask = Region(PILLAR).mask_of(unedited.scene, camera)[..., 0]
        same = (pictures.image(view) == before[view]).all(dim=-1)
        assert same[mask == 0].all()  # to the last bit
        changed += int((~same[mask == 1]).sum())
        kept += int((mask == 0).sum())
    assert changed > 100 and kept > 100


TWO = asked(CUBE, trimesh.creation.box((1.5, 1.5, 10.0)))
UNEVEN = tuple(np.array([[2.0, 0.3, 0, 0.1], [0, 0.5, 0, 0], [0.1, 0, 3.0, 0], [0, 0, 0, 1]]).ravel().tolist())


@pytest.mark.parametrize(
    ("region", "keep"),
    [
        (PILLAR, 0.45),
        (TWO, 0.0),
        (msgspec.structs.replace(PILLAR, invert=True), 0.45),
        (msgspec.structs.replace(TWO, softness=0.8, frame=UNEVEN), 0.45),
    ],
    ids=["one", "two, without", "inverted", "soft and uneven"],
)
def test_of_an_edit_with_relevance_or_without_as_much_stays_as_the_region_says(
    sphere_set, tmp_path, region: protocol.Region, keep: float
) -> None:
    """The first picture, which every run edits alike: what the editor takes for background stays, and so does what lies
    outside; what is in neither is edited as without a region."""
    _, views, pictures = sphere_set
    before = pictures.pixels.clone()
    settings = msgspec.structs.replace(SETTINGS, keep=keep, agreed_relevance=0.5)
    first = {}
    for name, wanted in (("without", None), ("with", region)):
        pictures.pixels.copy_(before)
        _, events, _ = run_with(sphere_set, wanted, tmp_path / "parent", settings)
        event = next(event for event in events if isinstance(event, ImageUpdated))
        view, first[name] = event.view, event.image.clone()
    unedited = open_scene(tmp_path / "parent").trainer(views, settings.training, settings.seed, "cpu", None)
    mask = Region(region).mask_of(unedited.scene, unedited.camera(view))
    pictures.pixels.copy_(before)
    captured, free = pictures.image(view).float(), first["without"].float()
    expected = torch.where(mask > 0, captured + mask * (free - captured), captured)
    assert (first["with"].float() - expected).abs().max() <= 1
    assert torch.equal(first["with"][mask[..., 0] == 0], pictures.image(view)[mask[..., 0] == 0])
    kept = (free == captured).all(dim=-1)
    assert (mask == 0).sum() > 40 and (mask > 0).sum() > 40
    assert (kept & (mask[..., 0] > 0)).any() == bool(keep)
    assert keep or (~kept & (mask[..., 0] == 0)).any()


def test_a_stopped_edit_goes_on_as_the_unbroken_one(sphere_set, tmp_path) -> None:
    _, views, pictures = sphere_set
    pristine = pictures.pixels.clone()
    region = msgspec.structs.replace(PILLAR, softness=0.5, invert=True)
    trainer, events, _ = run_with(sphere_set, region, tmp_path / "parent")
    list(events)
    whole, weights = pictures.pixels.clone(), {k: v.clone() for k, v in trainer.nerf.state_dict().items()}
    pictures.pixels.copy_(pristine)
    edited: set[int] = set()
    begun: list[Trainer] = []

    def check() -> None:  # in the middle, however often it is asked while masks are rendered
        if begun and begun[0].step_index == SETTINGS.steps // 2:
            raise Cancelled

    trainer, events, _ = run_with(sphere_set, region, tmp_path / "parent", check=check)
    begun.append(trainer)
    with pytest.raises(Cancelled):
        for event in events:
            if isinstance(event, ImageUpdated):
                edited.add(event.view)
    assert 0 < trainer.step_index < SETTINGS.steps
    trainer.save(tmp_path / "edit", {views[v].name: pictures.image(v) for v in edited})
    pictures.pixels.copy_(pristine)
    again, events, _ = run_with(sphere_set, region, tmp_path / "parent", saved=open_scene(tmp_path / "edit"))
    list(events)
    assert torch.equal(pictures.pixels, whole) and not torch.equal(whole, pristine)
    assert all(torch.equal(weights[name], tensor) for name, tensor in again.nerf.state_dict().items())


def test_without_a_region_nothing_is_rendered_for_it(sphere_set) -> None:
    run = Run(sphere_set)
    assert run.originals.mask(0) is None
    picture = torch.rand(4, 4, 3)
    assert run.originals.outside_kept(0, picture) is picture


def test_the_mask_of_a_view_is_what_shows_the_region() -> None:
    """A ball before a far wall, whose true depth is a closed form; what shows no surface lies outside."""
    camera = Viewpoint(looking_at(np.array([3.0, 2.0, 1.5]), np.zeros(3)), Intrinsics(48, 40, 60.0, 62.0, 22.0, 21.0))
    rays = pixel_directions(camera.intrinsics) @ camera.pose[:3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    eye = camera.pose[:3, 3]
    root = (rays @ eye) ** 2 - (eye @ eye - 1.0)
    depth = np.where(root > 0, -(rays @ eye) - np.sqrt(np.maximum(root, 0)), 9.0)
    seen = RenderedView(torch.zeros(40, 48, 3), torch.from_numpy(depth), torch.ones(40, 48))
    seen.opacity[:, :5] = 0.1
    ball = asked(trimesh.creation.icosphere(4, 1.05))
    expected = torch.from_numpy(root > 0) & (seen.opacity > 0.5)
    assert 100 < int(expected.sum()) < 1500
    assert torch.equal(Region(ball).mask(seen, camera)[..., 0], expected.float())
    inverted = Region(msgspec.structs.replace(ball, invert=True)).mask(seen, camera)[..., 0]
    assert torch.equal(inverted, 1 - expected.float())


def test_a_pixel_lies_as_far_inside_as_the_quarter_of_it_that_does_most() -> None:
    """Fog before a surface, or the edge of one, takes nothing from the region; a wisp of an eighth changes nothing."""
    camera = Viewpoint(np.eye(4), Intrinsics(6, 1, 6.0, 6.0, 3.0, 0.5))
    box = asked(moved(trimesh.creation.box((20.0, 20.0, 2.0)), (0, 0, -6.0)))  # 5 to 7 away, ahead
    near, far = 3.0, 9.0
    # By pixel, where its eighths lie: how many before the box, in it, behind it.
    parts = torch.tensor([[near] * a + [6.0] * b + [far] * c for a, b, c in
                          ((6, 2, 0), (0, 2, 6), (3, 2, 3), (4, 1, 3), (7, 1, 0), (0, 8, 0))])[None]  # fmt: skip
    opacity = torch.tensor([[1.0, 1.0, 1.0, 1.0, 1.0, 0.1]])  # the last is nearly empty
    seen = RenderedView(torch.zeros(1, 6, 3), parts[..., 4], opacity, met=parts)
    assert Region(box).mask(seen, camera)[0, :, 0].tolist() == [1, 1, 1, 0, 0, 0]
    inverted = Region(msgspec.structs.replace(box, invert=True)).mask(seen, camera)
    assert inverted[0, :, 0].tolist() == [0, 0, 0, 1, 1, 1]
    soft = Region(msgspec.structs.replace(box, softness=2.0))  # 5.25 away lies a quarter of that inside the surface
    seen = RenderedView(torch.zeros(1, 6, 3), parts[..., 4], torch.ones(1, 6), met=torch.full((1, 6, 8), 5.25))
    middle = soft.may_change(np.array([[0.0, 0.0, -5.25]]))[0]
    assert soft.mask(seen, camera)[0, 2:4, 0].numpy() == pytest.approx(middle, abs=0.03) and 0.5 < middle < 0.9
    seen.met = None  # a scene that knows the median alone
    seen.depth = torch.tensor([[near, near, 6.0, far, 6.0, near]])
    assert Region(box).mask(seen, camera)[0, :, 0].tolist() == [0, 0, 1, 0, 1, 0]


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("trained_yet", [True, False])
def test_a_try_leaves_what_lies_outside(trained, tmp_path, monkeypatch, trained_yet: bool, invert: bool) -> None:
    """By the scene; before there is one, whatever looks through the region is tried on."""
    monkeypatch.setitem(PRESETS, PRESET.name, PRESET)
    project = Workspace(shutil.copytree(trained, tmp_path / "project"))
    view = load_opened(project).views[2]
    half = trimesh.creation.box((60.0, 60.0, 60.0)).apply_translation((30.0, 0, 0)).apply_transform(view.pose)
    region = asked(half, invert=invert)  # the right half of the picture, however deep it is
    if trained_yet:
        mask = Region(region).mask_of(open_scene(project.checkpoint(None)).scene("cpu"), view)
    else:
        shutil.rmtree(project.checkpoint(None).parent)
        mask = Region(region).outline(view)
    photo = np.array(Image.open(project.images / view.image).convert("RGB")).astype(int)
    Image.new("RGB", photo.shape[1::-1], (255, 0, 255)).save(tmp_path / "painted.png")
    request = protocol.TryEdit(
        instruction="x", editor=str(tmp_path / "painted.png"), workspace=str(project.folder), view=view.name,
        device="cpu", region=region,
    )  # fmt: skip
    said = []
    copy_of_try(request, tmp_path / "out.png", Job(log=said.append))
    tried = np.array(Image.open(tmp_path / "out.png")).astype(int)
    allowed = mask.numpy()
    assert (allowed == 0).sum() > 100 and (allowed == 1).sum() > 20
    expected = np.where(allowed > 0, photo + allowed * ((255, 0, 255) - photo), photo)
    assert np.abs(tried - expected).max() <= 1 and (tried == photo)[(allowed == 0)[..., 0]].all()
    assert any("not trained yet" in line for line in said) != trained_yet


@pytest.mark.parametrize("softness", [0.0, 0.4])
def test_the_outline_is_what_looks_through_the_region(softness: float) -> None:
    """A ball's, in the closed form, under an uneven frame, beside another one behind the camera."""
    pose = looking_at(np.array([3.0, 2.0, 1.5]), np.zeros(3))
    camera = Viewpoint(pose, Intrinsics(300, 200, 330.0, 340.0, 140.0, 105.0))
    rays = pixel_directions(camera.intrinsics) @ pose[:3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    frame = np.diag([2.0, 0.5, 1.0, 1.0])
    ball = trimesh.creation.icosphere(3, 0.8)
    balls = asked(ball, moved(ball, (20.0, 5.0, 9.0)), softness=softness, frame=tuple(frame.ravel().tolist()))
    ways, eye = rays @ frame[:3, :3].T, frame[:3, :3] @ pose[:3, 3]
    ways /= np.linalg.norm(ways, axis=-1, keepdims=True)
    nearest = np.linalg.norm(eye - (ways @ eye)[..., None] * ways, axis=-1)
    expected = (nearest < 0.8) if not softness else np.clip(0.5 - (nearest - 0.8) / softness, 0, 1)
    outline = Region(balls).outline(camera)[..., 0].numpy()
    assert outline.shape == (200, 300) and 0.05 < expected.mean() < 0.6
    away = np.abs(nearest - 0.8) > 0.06  # an outline is coarse
    assert np.abs(outline - expected)[away].max() < 0.1
    inverted = Region(msgspec.structs.replace(balls, invert=True)).outline(camera)[..., 0].numpy()
    np.testing.assert_allclose(inverted, 1 - outline, atol=1e-6)


class Knowing(ToyEditor):
    """Answers with the true edit of the picture that it is asked for."""

    def __init__(self, true: list[tuple[torch.Tensor, torch.Tensor]]):
        super().__init__()
        self.true = true

    def prepare(self, instruction, options):
        return self

    def view(self, original, references=()):
        self.answer = next(after for before, after in self.true if torch.equal(before, original))
        return _Known(self.answer)


class _Known:
    relevance = None

    def __init__(self, answer: torch.Tensor):
        self.answer = answer

    def edit(self, picture, t, generator, check=lambda: None, carried=None):
        return self.answer


@pytest.mark.slow
def test_inside_the_edit_recovers_as_much_as_without_the_region(sphere_set, tmp_path) -> None:
    """By an editor that is right, on a scene that is little trained, whose median depth lies in fog before the surface
    more often than not: what the region was laid around is changed as far as without it, what is not stays."""
    frame, views, pictures = sphere_set
    before = pictures.pixels.clone()
    ball = trimesh.creation.icosphere(4, 1.65)
    inside = [Region(asked(ball)).mask(truth_of(view), view)[..., 0] == 1 for view in views]
    captured = [pictures.image(view).float() / 255 for view in range(len(views))]
    true = [torch.where(m[..., None], 0.4 * p, p) for m, p in zip(inside, captured, strict=True)]
    torch.manual_seed(0)
    training = TrainingConfig(200, 256)
    trainer = Trainer(Nerfacto(TINY_NERF, len(views)), frame, views, training, 0, None)
    for _ in range(200):
        trainer.step(pictures)
    trainer.save(tmp_path / "parent")
    settings = msgspec.structs.replace(
        SETTINGS, steps=120, method="one-time", patches=4, single_rays=1.0, losses=LossConfig("mse")
    )

    def errors(scene) -> tuple[float, float]:
        shown = [scene.render(view).rgb for view in views[::4]]
        within = [(a - b).square()[m] for a, b, m in zip(shown, true[::4], inside[::4], strict=True)]
        beyond = [(a - b).square()[~m] for a, b, m in zip(shown, captured[::4], inside[::4], strict=True)]
        return float(torch.cat(within).mean()), float(torch.cat(beyond).mean())

    unedited = errors(trainer.scene)
    recovered = {}
    for region in (None, asked(ball)):
        pictures.pixels.copy_(before)
        editor = Knowing(list(zip(captured, true, strict=True)))
        prompts = Prompts(editor, settings.told("darker"))
        made = Region(region) if region else None
        edited, events = begin(
            settings, open_scene(tmp_path / "parent"), views, pictures, prompts, None, "cpu", region=made
        )
        list(events)
        within, beyond = errors(edited.scene)
        recovered[made is not None] = (unedited[0] - within) / unedited[0]
        lost = 10 * np.log10(beyond / unedited[1])
        print(f"{'with' if made else 'without'} a region: {recovered[made is not None]:.3f} inside, lost {lost:.2f} dB")
        assert lost < 1
    assert recovered[False] > 0.5
    assert recovered[True] >= recovered[False] - 0.03


def truth_of(camera: Viewpoint) -> RenderedView:
    """How far away the fixture's sphere of radius 1.5 is, in the closed form; the room's wall is far."""
    rays = pixel_directions(camera.intrinsics) @ camera.pose[:3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    eye = camera.pose[:3, 3]
    root = (rays @ eye) ** 2 - (eye @ eye - 1.5**2)
    depth = torch.from_numpy(np.where(root > 0, -(rays @ eye) - np.sqrt(np.maximum(root, 0)), 9.0))
    return RenderedView(torch.zeros(*depth.shape, 3), depth, torch.ones_like(depth))
