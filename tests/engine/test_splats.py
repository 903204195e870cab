# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats of a closed-form scene, drawn by a splatter of the tests' own; what other views contradict; the job."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion
from scipy.spatial import cKDTree

from engine import cli, protocol
from engine.capture import Intrinsics
from engine.errors import BadInput, Cancelled
from engine.geometry import Viewpoint, pixel_directions
from engine.jobs import capture, scene
from engine.jobs import splats as jobs
from engine.jobs.capture import load_opened
from engine.jobs.scene import kept_scene
from engine.output.splat_cloud import gather
from engine.output.splat_fit import Fit
from engine.output.splats import OPACITY, Splats, splats_of, write_splats
from engine.output.splatting import composite, project_splats, shares
from engine.output.standpoints import between
from engine.output.volume import DepthView
from engine.progress import Job
from engine.workspace import Workspace
from tests import splatter
from tests.engine.conftest import ring, sphere_picture

FOX = Path(__file__).parents[3] / "shared" / "captures" / "fox"
LENS = Intrinsics(48, 40, 60.0, 62.0, 22.0, 21.0)


def seen(pose, lens=LENS, room=True):
    """What a camera sees of the sphere in its room (tests/engine/conftest.py), with exact depth."""
    rays = pixel_directions(lens) @ pose[:3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    eye = pose[:3, 3]
    along = rays @ eye
    root = along**2 - (eye @ eye - 1.5**2)
    ball = -along - np.sqrt(np.maximum(root, 0))
    wall = -along + np.sqrt(along**2 - (eye @ eye - 36.0))
    depth = np.where(root > 0, ball, wall)
    opacity = np.ones_like(depth) if room else (root > 0).astype(float)
    return DepthView(pose, lens, depth, sphere_picture(pose, lens) / 255, opacity)


def beside_the_edge(shape):
    """Pixels that are not within two of a shape's edge: splats are wider than a pixel, and many meet there."""
    return ~(binary_dilation(shape, iterations=2) & ~binary_erosion(shape, iterations=2))


def as_camera(view):
    return Viewpoint(view.pose, view.intrinsics)


def test_a_plane_is_covered_by_splats_that_lie_in_it(tmp_path):
    """Read by their names: on the plane, flat along its normal, of its color, touching each other."""
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, [5.0, -2.0, 1.0]
    normal = turn @ [0.3, -0.2, np.sqrt(1 - 0.13)]  # towards the camera
    middle = pose[:3, 3] - 4.0 * turn[:, 2]
    rays = pixel_directions(LENS) @ turn.T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    depth = ((middle - pose[:3, 3]) @ normal) / (rays @ normal)
    color = np.broadcast_to([0.2, 0.5, 0.9], (40, 48, 3))
    write_splats(splats_of(DepthView(pose, LENS, depth, color, np.ones_like(depth))), tmp_path / "plane.ply")
    file = splatter.read(tmp_path / "plane.ply")
    means, covariances, opacity = splatter.gaussians(file)
    assert len(means) == 40 * 48
    np.testing.assert_allclose((means - middle) @ normal, 0, atol=1e-5)
    written = np.stack([file[axis] for axis in ("nx", "ny", "nz")], axis=1)
    np.testing.assert_allclose(written, np.tile(normal, (1920, 1)), atol=1e-4)
    across = np.einsum("i,nij,j->n", normal, covariances, normal)
    within = np.linalg.eigvalsh(covariances)[:, 1]
    assert (across < 0.02 * within).all()
    spacing = np.linalg.norm(means.reshape(40, 48, 3)[:, 1:] - means.reshape(40, 48, 3)[:, :-1], axis=-1)
    np.testing.assert_allclose(np.sqrt(within).reshape(40, 48)[:, 1:] / spacing, 0.6, atol=0.15)
    np.testing.assert_allclose(opacity, OPACITY, atol=1e-5)
    ways = means - pose[:3, 3]
    np.testing.assert_allclose(splatter.colors(file, ways), np.tile([0.2, 0.5, 0.9], (1920, 1)), atol=1e-5)


def test_a_picture_falls_on_the_pixels_it_came_from(tmp_path):
    """Half a pixel's shift, a mirrored axis or a transposed turn would each halve what the own view is worth."""
    view = seen(ring(7)[2])
    write_splats(splats_of(view), tmp_path / "own.ply")
    picture, opacity = splatter.draw(tmp_path / "own.ply", view.pose, LENS)
    shifted = np.roll(view.colour, 1, axis=1)
    assert splatter.psnr(picture, view.colour) > 26
    assert splatter.psnr(picture, view.colour) > splatter.psnr(picture, shifted) + 3
    assert opacity.mean() > 0.98


def test_a_held_out_view_of_a_scene_is_drawn_as_it_is(tmp_path):
    views = [seen(pose) for pose in ring(36)]
    cloud = gather(views, 100_000)
    fit = Fit(cloud, 72)
    full = np.ones((40, 48), np.float32)
    errors = [fit.step(as_camera(view), view.colour.astype(np.float32), full) for view in views * 2]
    write_splats(fit.splats, tmp_path / "room.ply")
    [held, *_] = between([as_camera(view) for view in views])
    truth = sphere_picture(held.pose, LENS) / 255
    picture, opacity = splatter.draw(tmp_path / "room.ply", held.pose, LENS)
    inside = beside_the_edge(seen(held.pose).depth < 4.5)
    assert splatter.psnr(picture[inside], truth[inside]) > 26
    assert splatter.psnr(picture, truth) > 20
    assert opacity.mean() > 0.98
    assert np.mean(errors[-36:]) < 0.95 * np.mean(errors[:36])
    # And what the fit itself draws is what any viewer will.
    splats = fit.splats
    drawn = project_splats(splats.means, splats.axes, held.pose, LENS)
    ways = splats.means - held.pose[:3, 3]
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    shade = splatter.colors(splatter.read(tmp_path / "room.ply"), ways).astype(np.float32)
    own, _ = composite(drawn, shade, splats.opacity.astype(np.float32))
    assert np.abs(own - picture).max() < 0.03  # a splat that is almost too faint, or a pixel at its rim
    assert np.abs(own - picture).mean() < 1e-4


def test_a_cut_out_object_has_nothing_around_it(tmp_path):
    views = [seen(pose, room=False) for pose in ring(12)]
    views = [replace(view, colour=view.colour * view.opacity[..., None]) for view in views]
    fit = Fit(gather(views, 100_000), 60)
    for n in range(60):
        view = views[n % 12]
        fit.step(as_camera(view), view.colour.astype(np.float32), view.opacity.astype(np.float32))
    write_splats(fit.splats, tmp_path / "ball.ply")
    means, _, _ = splatter.gaussians(splatter.read(tmp_path / "ball.ply"))
    np.testing.assert_allclose(np.linalg.norm(means, axis=1), 1.5, atol=1e-3)
    held = seen(ring(24)[1], room=False)
    alpha, inside = held.opacity[..., None], beside_the_edge(held.opacity > 0.5)
    picture, opacity = splatter.draw(tmp_path / "ball.ply", held.pose, LENS, behind=(1.0, 0.0, 1.0))
    truth = held.colour * alpha + (1 - alpha) * [1.0, 0.0, 1.0]
    assert splatter.psnr(picture[inside], truth[inside]) > 26
    assert splatter.psnr(opacity[inside], held.opacity[inside]) > 26


def test_what_other_views_look_past_is_left_out():
    views = [seen(pose) for pose in ring(12)]
    wrong = views[3].depth.copy()
    wrong[16:26, 18:28] *= 0.7  # floats before the sphere
    floating = replace(views[3], depth=wrong)
    cloud = gather([*views[:3], floating, *views[4:]], 100_000)
    distance = np.linalg.norm(cloud.means, axis=1)
    assert ((np.abs(distance - 1.5) < 0.05) | (np.abs(distance - 6) < 0.05)).all()
    single = gather([floating], 100_000)  # nobody contradicts a view that is alone
    assert len(single) > 0.8 * 40 * 48


def test_no_more_splats_than_asked_for_and_no_hole():
    views = [seen(pose) for pose in ring(12)]
    cloud = gather(views, 3000)
    assert 1000 < len(cloud) <= 3000
    drawn = project_splats(cloud.means, cloud.axes, views[5].pose, LENS)
    _, light = composite(drawn, np.zeros((len(cloud), 3), np.float32), cloud.opacity.astype(np.float32))
    assert (light < 0.5).mean() > 0.97


def test_derivatives_are_those_of_the_picture():
    generator = np.random.default_rng(0)
    count = 40
    means = generator.normal(size=(count, 3)) * 0.6 - [0, 0, 4]
    turns = generator.normal(size=(count, 4))
    turns /= np.linalg.norm(turns, axis=1, keepdims=True)
    scales, opacity = generator.uniform(0.05, 0.3, (count, 3)), generator.uniform(0.5, 0.8, count)
    splats = Splats(means, scales, turns, opacity, np.zeros((count, 1, 3)))
    drawn = project_splats(splats.means, splats.axes, np.eye(4), LENS)
    colors = generator.uniform(0, 1, (count, 3)).astype(np.float32)
    opacity = splats.opacity.astype(np.float32)
    weight, dim = (generator.uniform(0.5, 1.5, size).astype(np.float32) for size in ((40, 48, 3), (40, 48)))

    def loss(colors, opacity, drawn=drawn):
        picture, light = composite(drawn, colors, opacity)
        return float((picture * weight).astype(np.float64).sum() + (light * dim).astype(np.float64).sum())

    def moved(n, k, by):
        colored, dimmed, axes = colors.copy(), opacity.copy(), splats.axes
        if k < 3:
            colored[n, k] += by
        elif k == 3:
            dimmed[n] += by
        else:
            axes[n] *= np.exp(by)
        return loss(colored, dimmed, project_splats(splats.means, axes, np.eye(4), LENS))

    picture, light = composite(drawn, colors, opacity)
    each = shares(drawn, colors, opacity, picture, light, weight, dim)
    for n in range(0, count, 7):
        for k in range(5):
            slope = (moved(n, k, 0.02) - moved(n, k, -0.02)) / 0.04
            assert each[n, k] == pytest.approx(slope, rel=0.06, abs=1)  # at their rims they end all at once


def test_half_way_between_neighbours():
    poses = ring(8)
    found = between([Viewpoint(pose, LENS) for pose in poses])
    assert len(found) == 8  # each with the next, once
    for view in found:
        rest = np.linalg.norm(poses[:, :3, 3] - view.pose[:3, 3], axis=1)
        np.testing.assert_allclose(*np.sort(rest)[:2], rtol=1e-6)
        np.testing.assert_allclose(view.pose[:3, :3] @ view.pose[:3, :3].T, np.eye(3), atol=1e-9)
    assert between([Viewpoint(poses[0], LENS)]) == []
    assert between([Viewpoint(poses[0], LENS), Viewpoint(poses[4], LENS)]) == []  # they look at each other


# the job


@pytest.fixture
def project(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "project")


def test_the_job_writes_what_other_programs_read(project):
    told = []
    result = jobs.make_splats(protocol.MakeSplats(str(project), count=2000), Job(on_progress=told.append, every=0))
    assert result.splats == str(project / "scene" / "splats.ply")
    assert 0 < result.count <= 2000
    assert len(splatter.read(project / "scene" / "splats.ply")["x"]) == result.count
    data = (project / "scene" / "surfels.bin").read_bytes()
    assert data[:12] == b"INSURFEL\x01\x00\x00\x00" and result.surfels == str(project / "scene" / "surfels.bin")
    [drawn] = np.frombuffer(data[12:16], "<u4")
    assert 0 < drawn <= result.count and len(data) == 16 + 20 * drawn
    places = np.frombuffer(data[16 : 16 + 16 * drawn], "<f4").reshape(-1, 4)
    file = splatter.read(project / "scene" / "splats.ply")
    nearest = cKDTree(np.stack([file[axis] for axis in "xyz"], axis=1)).query(places[:, :3])[0]
    assert nearest.max() < 1e-5 and (places[:, 3] > 0).all()
    assert {progress.stage for progress in told} == {"splats", "fit"}
    assert [p.fraction for p in told] == sorted(p.fraction for p in told) or told[-1].fraction == 1
    again = (project / "scene" / "splats.ply").read_bytes()
    jobs.make_splats(protocol.MakeSplats(str(project), count=2000), Job())
    assert (project / "scene" / "splats.ply").read_bytes() == again


@pytest.mark.parametrize("stage", ["splats", "fit"])
def test_a_cancel_leaves_the_file_as_it_was(project, stage):
    (project / "scene" / "splats.ply").write_bytes(b"earlier")
    told = []
    job = Job(on_progress=lambda p: told.append(p.stage), cancelled=lambda: stage in told, every=0)
    with pytest.raises(Cancelled):
        jobs.make_splats(protocol.MakeSplats(str(project), count=2000), job)
    assert (project / "scene" / "splats.ply").read_bytes() == b"earlier"
    assert [path.name for path in (project / "scene").iterdir() if path.name.startswith(".part")] == []


@pytest.mark.parametrize(
    ("asked", "field", "words"),
    [
        ({"count": 999}, "count", "choose 1,000 to 5,000,000"),
        ({"count": 5_000_001}, "count", "choose 1,000 to 5,000,000"),
        ({"edit": "0009-none"}, "edit", "There is no edit 0009-none"),
        ({"edit": "../scene"}, "edit", "cannot be the name of a edit"),
        ({"device": "cuda:9"}, "device", "cuda:9"),
    ],
)
def test_what_cannot_be_made_is_one_sentence(project, asked, field, words):
    with pytest.raises(BadInput) as refused:
        cli.splats(project, **asked)
    assert refused.value.field == field
    assert words in refused.value.message and "\n" not in refused.value.message
    assert not (project / "scene" / "splats.ply").exists()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not FOX.is_dir(), reason="the fox's photos are not beside this checkout")
def test_real_photos_as_splats(tmp_path):
    """Six held-out cameras of a scene learned in Preview: what any viewer draws against the NeRF's own frames."""
    project = tmp_path / "fox"
    capture.open_into_workspace(protocol.OpenCapture(str(project), str(FOX), "preview"))
    scene.train_scene(protocol.TrainScene(str(project), "preview", "cpu"), Job())
    made = jobs.make_splats(protocol.MakeSplats(str(project), device="cpu"), Job())
    nerf = kept_scene(Workspace(project), None, "cpu", Job())
    found = {}
    for view in load_opened(Workspace(project)).views:
        if view.held_out:
            picture, _ = splatter.draw(made.splats, view.pose, view.intrinsics)
            found[view.name] = splatter.psnr(picture, nerf.render(view).rgb.numpy())
    print(made.count, found)
    assert len(found) == 6 and np.mean(list(found.values())) >= 26
