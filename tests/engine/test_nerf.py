# SPDX-License-Identifier: GPL-3.0-or-later
"""nerfacto as we assemble and step it."""

import copy

import numpy as np
import pytest
import torch
from nerfstudio.field_components.spatial_distortions import SceneContraction

from engine.capture import Intrinsics
from engine.devices import cpu
from engine.errors import BadInput, Cancelled
from engine.geometry import Viewpoint
from engine.presets import PREVIEW, preset_infos
from engine.scenes.nerfacto.checkpoint import Checkpoint
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.nerfacto import CubeContraction, Nerfacto
from engine.scenes.nerfacto.rays import cameras_from, sample_patches, sample_pixels
from engine.scenes.nerfacto.scene import NerfactoScene
from engine.scenes.nerfacto.training import Trainer
from engine.scenes.registry import open_scene
from engine.scenes.settings import LossConfig, OptimiserConfig, TrainingConfig

from .conftest import TINY_NERF, VIEWS, ring

PLAIN = LossConfig()


def training_of(rays=64, losses=PLAIN, **kwargs):
    optimiser = OptimiserConfig(final_learning_rate=1e-3, decay_steps=300)
    return TrainingConfig(500, rays, losses, optimiser, **kwargs)


def trainer_of(frame, views, seed=0, training=None, **kwargs):
    torch.manual_seed(seed)
    nerf = Nerfacto(TINY_NERF, len(views))
    return Trainer(nerf, frame, views, training or training_of(), seed, **kwargs)


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
    frame, views, _ = sphere
    cameras = cameras_from(views, frame, "cpu")
    i, pose = views[5].intrinsics, views[5].pose
    rays = cameras.generate_rays(camera_indices=5)
    for y, x in [(0, 0), (3, 17), (19, 23)]:
        local = np.array([(x + 0.5 - i.cx) / i.fx, -(y + 0.5 - i.cy) / i.fy, -1])
        world = pose[:3, :3] @ local
        np.testing.assert_allclose(rays.directions[y, x], world / np.linalg.norm(world), atol=1e-5)
    np.testing.assert_allclose(rays.origins[2, 3], pose[:3, 3] * frame.scale, atol=1e-5)


def test_views_of_several_sizes_are_rendered_as_rays_among_the_others_are(sphere):
    """As captures have them whose pictures differ by a pixel after the lens was taken out of them: a view on its own
    against nerfstudio's rays of it among cameras of other sizes."""
    frame, views, _ = sphere
    i = views[0].intrinsics
    sizes = [(24, 20), (25, 20), (24, 21)]
    several = [
        Viewpoint(view.pose, Intrinsics(w, h, i.fx, i.fy, i.cx, i.cy))
        for view, (w, h) in zip(views[:3], sizes, strict=True)
    ]
    nerf = trainer_of(frame, several).nerf
    together = cameras_from(several, frame, "cpu")
    for number, (width, height) in enumerate(sizes):
        render = NerfactoScene(nerf, frame).render(several[number])
        assert render.rgb.shape == (height, width, 3)
        nerf.eval()
        with torch.no_grad():
            among = nerf(together.generate_rays(camera_indices=number, keep_shape=True).flatten())
        torch.testing.assert_close(render.rgb, among.rgb.view(height, width, 3).clamp(0, 1))
        torch.testing.assert_close(render.depth * frame.scale, among.depth.view(height, width))
        nerf.train()


def test_batches_bring_the_pixels_that_their_rays_hit(sphere_set, sphere):
    frame, views, pictures = sphere_set
    images = sphere[2]
    cameras = cameras_from(views, frame, "cpu")
    for batch in (
        sample_pixels(pictures, cameras, 64, torch.Generator().manual_seed(0)),
        sample_patches(pictures, cameras, 3, 8, torch.Generator().manual_seed(0)),
    ):
        for n in range(0, len(batch.colours), 7):
            number = int(batch.rays.camera_indices[n])
            local = views[number].pose[:3, :3].T @ batch.rays.directions[n].numpy()
            i = views[number].intrinsics
            x, y = i.cx - local[0] / local[2] * i.fx, i.cy + local[1] / local[2] * i.fy
            pixel = images[number][int(y), int(x)]
            np.testing.assert_allclose(batch.colours[n] * 255, pixel, atol=0.01)
    patch = batch.colours[:64].view(8, 8, 3)
    assert batch.patch == 8 and len(batch.colours) == 3 * 64
    assert patch.std() > 0


def test_a_scene_is_learnt(sphere_set, sphere):
    """A sphere coloured by its normals: far better than the mean colour, and its depth where it is."""
    frame, views, pictures = sphere_set
    images = sphere[2]
    trainer = trainer_of(frame, views, training=training_of(rays=256))
    for _ in range(500):
        trainer.step(pictures)
    render = trainer.scene.render(views[4])
    truth = torch.from_numpy(images[4]).float() / 255
    error = (render.rgb - truth).square().mean()
    flat = (truth - truth.mean(dim=(0, 1))).square().mean()
    assert error < 0.4 * flat
    middle = render.depth[10, 11].item()
    assert middle == pytest.approx(np.linalg.norm(views[4].pose[:3, 3]) - 1.5, rel=0.15)


def test_losses_on_patches_reach_the_perceptual_measure(sphere_set):
    frame, views, pictures = sphere_set
    seen = []

    def perceptual(a, b):
        seen.append((a.shape, b.detach()))
        return (a - b).abs().mean(dim=(1, 2, 3))

    training = training_of(2 * 8**2, LossConfig("l1", 0.5), single_rays=0.0, patch=8)
    trainer = trainer_of(frame, views, training=training, perceptual=perceptual)
    batch = sample_patches(pictures, cameras_from(views, frame, "cpu"), 2, 8, trainer._generator())
    losses = trainer.step(pictures)
    assert seen[0][0] == (2, 8, 8, 3)
    torch.testing.assert_close(seen[0][1], batch.colours.view(2, 8, 8, 3))
    assert losses["perceptual"] == pytest.approx(0.5 * losses["colour"], rel=1e-5)
    with pytest.raises(ValueError, match="perceptual"):
        trainer_of(frame, views, training=training)


def test_a_step_towards_a_target_goes_there_in_its_view_alone(sphere_set):
    """Rays of one view, through the pixels that the generator draws, towards values that need not be colours."""
    frame, views, _ = sphere_set
    trainer = trainer_of(frame, views)
    height, width = 20, 24
    target = torch.rand(height, width, 3) * 4 - 2
    batches = []
    update = trainer._update
    trainer._update = lambda batch, **how: batches.append(batch) or update(batch, **how)
    losses = trainer.step_towards(5, target, torch.Generator().manual_seed(1))
    (batch,) = batches
    assert trainer.step_index == 1 and losses["colour"] > 0
    assert len(batch.colours) == 64 and set(batch.rays.camera_indices.flatten().tolist()) == {5}
    i = views[5].intrinsics
    local = batch.rays.directions.detach().numpy() @ views[5].pose[:3, :3]
    x, y = i.cx - local[:, 0] / local[:, 2] * i.fx, i.cy + local[:, 1] / local[:, 2] * i.fy
    assert torch.equal(batch.colours, target[y.astype(int), x.astype(int)])
    assert len({(int(a), int(b)) for a, b in zip(y, x, strict=True)}) > 40


def test_a_resumed_training_is_the_unbroken_one(sphere_set, tmp_path):
    frame, views, pictures = sphere_set

    def run(trainer, steps):
        for _ in range(steps):
            trainer.step(pictures)

    unbroken = trainer_of(frame, views)
    run(unbroken, 14)
    first = trainer_of(frame, views)
    run(first, 9)
    image = pictures.image(3).clone()
    first.save(tmp_path / "c.safetensors", {"v3": image})
    torch.rand(100)  # whatever else draws random numbers meanwhile
    opened = open_scene(tmp_path / "c.safetensors")
    second = opened.trainer(views, training_of(), 0, "cpu", resume=True)
    assert second.step_index == 9 and second.scene.frame == frame
    assert list(opened.views) == [view.name for view in views]
    assert torch.equal(opened.images()["v3"], image)
    run(second, 5)
    assert same_weights(second, unbroken)
    other = trainer_of(frame, views, seed=1)
    run(other, 14)
    assert not same_weights(other, unbroken)


def test_a_scene_renders_the_same_when_loaded(sphere_set, tmp_path):
    """Also while its proposals are still being annealed, and at the start of an edit, which counts its steps anew."""
    frame, views, pictures = sphere_set
    trainer = trainer_of(frame, views)
    for _ in range(6):  # TINY_NERF is annealed over 10
        trainer.step(pictures)
    trainer.save(tmp_path / "c.safetensors")
    opened = Checkpoint(tmp_path / "c.safetensors")
    expected = trainer.scene.render(views[0]).rgb
    assert torch.equal(opened.scene("cpu").render(views[0]).rgb, expected)
    edit = opened.trainer(views, training_of(), 0, "cpu")
    assert edit.age == 6 and edit.step_index == 0
    edit._begin_step()
    assert torch.equal(edit.scene.render(views[0]).rgb, expected)


def test_a_scene_goes_to_other_views_with_what_it_learnt(sphere_set, tmp_path):
    frame, views, _ = sphere_set
    trainer = trainer_of(frame, views)
    with torch.no_grad():
        trainer.nerf.camera_optimizer.pose_adjustment.copy_(torch.arange(6.0 * VIEWS).view(VIEWS, 6) * 1e-3)
    trainer.save(tmp_path / "c.safetensors")
    others = [views[5], Viewpoint(views[1].pose, views[1].intrinsics, "new"), views[0]]
    moved = Checkpoint(tmp_path / "c.safetensors").trainer(others, training_of(), 0, "cpu")
    adjustment = moved.nerf.camera_optimizer.pose_adjustment
    torch.testing.assert_close(adjustment[0], torch.arange(30.0, 36.0) * 1e-3)
    assert adjustment[1].abs().max() == 0
    appearance = trainer.nerf.field.embedding_appearance.embedding.weight
    torch.testing.assert_close(moved.nerf.field.embedding_appearance.embedding.weight[1], appearance.mean(dim=0))
    for mine, theirs in ((0, 5), (2, 0)):
        np.testing.assert_array_equal(moved.camera(mine).pose, trainer.camera(theirs).pose)
    np.testing.assert_array_equal(moved.camera(1).pose, views[1].pose)


def test_corrected_cameras_are_where_training_rays_start(sphere_set):
    """Against nerfstudio's own application of the correction to rays."""
    frame, views, _ = sphere_set
    trainer = trainer_of(frame, views)
    with torch.no_grad():
        trainer.nerf.camera_optimizer.pose_adjustment.normal_(std=0.05)
    rays = cameras_from(views, frame, "cpu").generate_rays(camera_indices=4).flatten()
    before = rays.origins.clone()
    trainer.nerf.camera_optimizer.apply_to_raybundle(rays)
    assert (rays.origins - before).abs().max() > 1e-3
    camera = trainer.camera(4)
    assert camera.name == "v4" and camera.intrinsics == views[4].intrinsics
    corrected = cameras_from([camera], frame, "cpu").generate_rays(camera_indices=0).flatten()
    torch.testing.assert_close(corrected.origins, rays.origins, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(corrected.directions, rays.directions, atol=1e-5, rtol=1e-4)


def test_what_is_no_checkpoint_is_said(sphere_set, tmp_path):
    frame, views, _ = sphere_set
    path = tmp_path / "c.safetensors"
    for opened in (Checkpoint, open_scene):
        with pytest.raises(BadInput, match="no checkpoint"):
            opened(path)
    trainer = trainer_of(frame, views)
    trainer.save(path)
    whole = path.read_bytes()
    for damaged in (b"", b"\x00" * 100, whole[: len(whole) // 2], b"\xff" * 8 + whole[8:]):
        path.write_bytes(damaged)
        for opened in (Checkpoint, open_scene):
            with pytest.raises(BadInput, match="cannot be read as a checkpoint"):
                opened(path)
    lying = copy.copy(trainer)
    lying.nerf = torch.nn.Linear(1, 1)
    lying.nerf.config = TINY_NERF
    lying.optimiser = torch.optim.Adam(lying.nerf.parameters())
    lying.save(path)
    with pytest.raises(BadInput, match="larger tables than the file"):
        Checkpoint(path).nerf("cpu")


@pytest.mark.parametrize("compiled", [True, False])
def test_rendering_stops_between_chunks(compiled, sphere_set, monkeypatch):
    from engine.scenes.nerfacto import scene

    frame, views, _ = sphere_set
    if not compiled:  # as on a GPU
        monkeypatch.setattr(scene, "can_march", lambda _: False)
    monkeypatch.setattr(scene, "MARCHED", 100)
    monkeypatch.setattr(scene, "chunk_of", lambda *_: 100)
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 3:
            raise Cancelled

    trainer = trainer_of(frame, views)
    with pytest.raises(Cancelled):
        trainer.scene.render(views[0], check)
    assert len(calls) == 3
    assert trainer.nerf.training  # as it was
    whole = trainer_of(frame, views).scene.render(views[0])
    monkeypatch.setattr(scene, "MARCHED", 10_000)
    monkeypatch.setattr(scene, "chunk_of", lambda *_: 10_000)
    torch.testing.assert_close(trainer_of(frame, views).scene.render(views[0]).rgb, whole.rgb)


def test_the_bytes_that_presets_tell_are_those_of_their_checkpoints():
    nerf = Nerfacto(PREVIEW.nerf, 1)
    [told] = [preset.bytes for preset in preset_infos(cpu()) if preset.name == "preview"]
    assert told == pytest.approx(12 * sum(p.numel() for p in nerf.parameters()), rel=0.01)
