# SPDX-License-Identifier: GPL-3.0-or-later
"""nerfacto as we assemble and step it."""

import copy

import numpy as np
import pytest
import torch
from nerfstudio.field_components.spatial_distortions import SceneContraction

from engine.capture import Intrinsics
from engine.errors import BadInput, Cancelled
from engine.scenes.nerfacto.checkpoint import Checkpoint, save_checkpoint
from engine.scenes.nerfacto.config import LossConfig, OptimiserConfig
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.nerfacto import CubeContraction, Nerfacto
from engine.scenes.nerfacto.rays import cameras_from
from engine.scenes.nerfacto.rendering import corrected_cameras, render_view
from engine.scenes.nerfacto.training import Trainer

from .conftest import TINY_NERF, VIEWS, ring

NAMES = [f"v{i}" for i in range(VIEWS)]


PLAIN = LossConfig()


def trainer_of(views=VIEWS, seed=0, losses=PLAIN, **kwargs):
    torch.manual_seed(seed)
    optimiser = OptimiserConfig(final_learning_rate=1e-3, decay_steps=300)
    return Trainer(Nerfacto(TINY_NERF, views), losses, optimiser, seed=seed, **kwargs)


def same_weights(a, b):
    mine, other = a.nerf.state_dict(), b.nerf.state_dict()
    return all(torch.equal(mine[name], other[name]) for name in mine)


def test_contraction_is_nerfstudios():
    points = torch.randn(200, 3) * 3
    points[:3] = torch.tensor([[0.0, 0, 0], [0.5, -0.2, 0.1], [1.0, 0, 0]])
    expected = SceneContraction(order=float("inf"))(points)
    torch.testing.assert_close(CubeContraction(order=float("inf"))(points), expected)


def test_frame_puts_cameras_in_the_cube_and_lengths_come_back():
    poses = ring(7) + 0.0
    poses[:, :3, 3] += [10, -5, 2]
    frame = NerfFrame.around(poses, np.array([10, -5, 2]))
    moved = frame.nerf_from_capture(poses)
    assert np.abs(moved[:, :3, 3]).max() == pytest.approx(1)
    np.testing.assert_array_equal(moved[:, :3, :3], poses[:, :3, :3])
    before = np.linalg.norm(poses[0, :3, 3] - poses[3, :3, 3])
    after = np.linalg.norm(moved[0, :3, 3] - moved[3, :3, 3])
    assert frame.capture_from_nerf_distance(after) == pytest.approx(before)


def test_rays_are_the_cameras_rays(sphere):
    """Every ray's direction against a pinhole written out; origins are the cameras'."""
    frame, poses, intrinsics, _ = sphere
    cameras = cameras_from(poses, intrinsics, frame, "cpu")
    i = intrinsics[0]
    rays = cameras.generate_rays(camera_indices=5)
    for y, x in [(0, 0), (3, 17), (19, 23)]:
        local = np.array([(x + 0.5 - i.cx) / i.fx, -(y + 0.5 - i.cy) / i.fy, -1])
        world = poses[5, :3, :3] @ local
        np.testing.assert_allclose(rays.directions[y, x], world / np.linalg.norm(world), atol=1e-5)
    np.testing.assert_allclose(rays.origins[2, 3], poses[5, :3, 3] * frame.scale, atol=1e-5)


def test_views_of_several_sizes_are_rendered_as_they_are_alone(sphere):
    """As captures have them whose pictures differ by a pixel after the lens was taken out of them."""
    frame, poses, intrinsics, _ = sphere
    sizes = [(24, 20), (25, 20), (24, 21)]
    several = [
        Intrinsics(w, h, intrinsics[0].fx, intrinsics[0].fy, intrinsics[0].cx, intrinsics[0].cy) for w, h in sizes
    ]
    nerf = trainer_of(len(sizes)).nerf
    together = cameras_from(poses[:3], several, frame, "cpu")
    for view, (width, height) in enumerate(sizes):
        alone = cameras_from(poses[view : view + 1], several[view : view + 1], frame, "cpu")
        render = render_view(nerf, together, view, frame)
        assert render.rgb.shape == (height, width, 3)
        torch.testing.assert_close(render.rgb, render_view(nerf, alone, 0, frame).rgb)


def test_batches_bring_the_pixels_that_their_rays_hit(sphere_set, sphere):
    _, data = sphere_set
    _, poses, intrinsics, images = sphere
    for batch in (
        data.sample_pixels(64, torch.Generator().manual_seed(0)),
        data.sample_patches(3, 8, torch.Generator().manual_seed(0)),
    ):
        for n in range(0, len(batch.colours), 7):
            view = int(batch.rays.camera_indices[n])
            local = poses[view, :3, :3].T @ batch.rays.directions[n].numpy()
            i = intrinsics[view]
            x, y = i.cx - local[0] / local[2] * i.fx, i.cy + local[1] / local[2] * i.fy
            pixel = images[view][int(y), int(x)]
            np.testing.assert_allclose(batch.colours[n] * 255, pixel, atol=0.01)
    patch = batch.colours[:64].view(8, 8, 3)
    assert batch.patch == 8 and len(batch.colours) == 3 * 64
    assert patch.std() > 0


def test_a_scene_is_learnt(sphere_set, sphere):
    """A sphere coloured by its normals: far better than the mean colour, and its depth where it is."""
    frame, data = sphere_set
    _, poses, _, images = sphere
    trainer = trainer_of()
    for _ in range(500):
        trainer.step(data.sample_pixels(256, trainer.generator()))
    render = render_view(trainer.nerf, data.cameras, 4, frame)
    truth = torch.from_numpy(images[4]).float() / 255
    error = (render.rgb - truth).square().mean()
    flat = (truth - truth.mean(dim=(0, 1))).square().mean()
    assert error < 0.4 * flat
    middle = render.depth[10, 11].item()
    assert middle == pytest.approx(np.linalg.norm(poses[4, :3, 3]) - 1.5, rel=0.15)


def test_losses_on_patches_reach_the_perceptual_measure(sphere_set):
    _, data = sphere_set
    seen = []

    def perceptual(a, b):
        seen.append((a.shape, b.detach()))
        return (a - b).abs().mean(dim=(1, 2, 3))

    trainer = trainer_of(losses=LossConfig("l1", 0.5), perceptual=perceptual)
    batch = data.sample_patches(2, 8, trainer.generator())
    losses = trainer.step(batch)
    assert seen[0][0] == (2, 8, 8, 3)
    torch.testing.assert_close(seen[0][1], batch.colours.view(2, 8, 8, 3))
    assert losses["perceptual"] == pytest.approx(0.5 * losses["colour"], rel=1e-5)
    with pytest.raises(ValueError, match="perceptual"):
        trainer_of(losses=LossConfig("l1", 0.5))


def test_a_resumed_training_is_the_unbroken_one(sphere_set, tmp_path):
    frame, data = sphere_set

    def run(trainer, steps):
        for _ in range(steps):
            trainer.step(data.sample_pixels(64, trainer.generator()))

    unbroken = trainer_of()
    run(unbroken, 14)
    first = trainer_of()
    run(first, 9)
    image = data.image(3).clone()
    save_checkpoint(tmp_path / "c.safetensors", first, frame, NAMES, {"v3": image})
    torch.rand(100)  # whatever else draws random numbers meanwhile
    opened = Checkpoint(tmp_path / "c.safetensors")
    second = Trainer(opened.nerf("cpu"), first.losses, first.config, seed=0)
    opened.restore_optimiser(second)
    assert second.step_index == 9 and opened.header.frame == frame
    assert torch.equal(opened.images()["v3"], image)
    run(second, 5)
    assert same_weights(second, unbroken)
    other = trainer_of(seed=1)
    run(other, 14)
    assert not same_weights(other, unbroken)


def test_a_scene_renders_the_same_when_loaded(sphere_set, tmp_path):
    """Also while its proposals are still being annealed, and at the start of an edit, which counts its steps anew."""
    frame, data = sphere_set
    trainer = trainer_of()
    for _ in range(6):  # TINY_NERF is annealed over 10
        trainer.step(data.sample_pixels(64, trainer.generator()))
    save_checkpoint(tmp_path / "c.safetensors", trainer, frame, NAMES)
    opened = Checkpoint(tmp_path / "c.safetensors")
    expected = render_view(trainer.nerf, data.cameras, 0, frame).rgb
    assert torch.equal(render_view(opened.nerf("cpu"), data.cameras, 0, frame).rgb, expected)
    edit = Trainer(opened.nerf("cpu"), PLAIN, trainer.config, earlier_steps=opened.header.age)
    assert edit.age == 6 and edit.step_index == 0
    edit._begin_step()
    assert torch.equal(render_view(edit.nerf, data.cameras, 0, frame).rgb, expected)


def test_a_scene_goes_to_other_views_with_what_it_learnt(sphere_set, tmp_path):
    frame, _ = sphere_set
    trainer = trainer_of()
    with torch.no_grad():
        trainer.nerf.camera_optimizer.pose_adjustment.copy_(torch.arange(6.0 * VIEWS).view(VIEWS, 6) * 1e-3)
    save_checkpoint(tmp_path / "c.safetensors", trainer, frame, NAMES)
    nerf = Checkpoint(tmp_path / "c.safetensors").nerf("cpu", views=["v5", "new", "v0"])
    adjustment = nerf.camera_optimizer.pose_adjustment
    torch.testing.assert_close(adjustment[0], torch.arange(30.0, 36.0) * 1e-3)
    assert adjustment[1].abs().max() == 0
    appearance = trainer.nerf.field.embedding_appearance.embedding.weight
    torch.testing.assert_close(nerf.field.embedding_appearance.embedding.weight[1], appearance.mean(dim=0))


def test_corrected_cameras_are_where_training_rays_start(sphere_set):
    """Against nerfstudio's own application of the correction to rays."""
    _, data = sphere_set
    nerf = trainer_of().nerf
    with torch.no_grad():
        nerf.camera_optimizer.pose_adjustment.normal_(std=0.05)
    rays = data.cameras.generate_rays(camera_indices=4).flatten()
    nerf.camera_optimizer.apply_to_raybundle(rays)
    corrected = corrected_cameras(nerf, data.cameras).generate_rays(camera_indices=4).flatten()
    torch.testing.assert_close(corrected.origins, rays.origins, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(corrected.directions, rays.directions, atol=1e-5, rtol=1e-4)


def test_what_is_no_checkpoint_is_said(sphere_set, tmp_path):
    frame, _ = sphere_set
    path = tmp_path / "c.safetensors"
    with pytest.raises(BadInput, match="no checkpoint"):
        Checkpoint(path)
    trainer = trainer_of()
    save_checkpoint(path, trainer, frame, NAMES)
    whole = path.read_bytes()
    for damaged in (b"", b"\x00" * 100, whole[: len(whole) // 2], b"\xff" * 8 + whole[8:]):
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match="cannot be read as a checkpoint"):
            Checkpoint(path)
    lying = copy.copy(trainer)
    lying.nerf = torch.nn.Linear(1, 1)
    lying.nerf.config = TINY_NERF
    lying.optimiser = torch.optim.Adam(lying.nerf.parameters())
    save_checkpoint(path, lying, frame, NAMES)
    with pytest.raises(BadInput, match="larger tables than the file"):
        Checkpoint(path).nerf("cpu")


def test_rendering_stops_between_chunks(sphere_set, monkeypatch):
    from engine.scenes.nerfacto import rendering

    frame, data = sphere_set
    monkeypatch.setitem(rendering.CHUNK, "cpu", 100)
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        render_view(trainer_of().nerf, data.cameras, 0, frame, check)
    assert len(calls) == 3
    whole = render_view(trainer_of().nerf, data.cameras, 0, frame)
    monkeypatch.setitem(rendering.CHUNK, "cpu", 10_000)
    torch.testing.assert_close(render_view(trainer_of().nerf, data.cameras, 0, frame).rgb, whole.rgb)
