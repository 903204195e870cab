# SPDX-License-Identifier: GPL-3.0-or-later
"""Where pictures are plain a scene is taught to be flat: the discs, the lines of three rays, and the loss over them."""

import numpy as np
import pytest
import torch
from msgspec.structs import replace as changed

from engine.capture import Intrinsics
from engine.errors import Cancelled
from engine.geometry import Viewpoint, pixel_directions
from engine.scenes.flatness import plain_discs
from engine.scenes.known_depth import KnownDepth
from engine.scenes.nerfacto.rays import cameras_from, sample_pixels
from engine.scenes.nerfacto.triples import FAR, TOLERANCE, flatness_loss, on_lines
from engine.scenes.picture_set import PictureSet
from engine.scenes.registry import begin_scene, open_scene
from engine.scenes.settings import LossConfig, OptimiserConfig, TrainingConfig
from tests.engine.conftest import TINY_NERF, ring

PINHOLE = Intrinsics(48, 40, 44.0, 41.0, 23.0, 21.0)


def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def training(weight: float = 1.0, steps: int = 40) -> TrainingConfig:
    return TrainingConfig(
        steps, 128, LossConfig(flat_weight=weight), OptimiserConfig(final_learning_rate=1e-2, decay_steps=steps)
    )


@pytest.fixture(scope="module")
def half_plain() -> tuple[list[Viewpoint], list[np.ndarray]]:
    """Cameras on a ring, and pictures that are noise on the left and a ramp on the right."""
    noise = np.random.default_rng(0).integers(0, 255, (8, 40, 48, 3)).astype(np.uint8)
    noise[:, :, 20:] = (np.arange(28) * 2 + 100)[:, None]
    return [Viewpoint(pose, PINHOLE, f"v{k}") for k, pose in enumerate(ring(8))], list(noise)


def begun(views, **how):
    nerf = changed(TINY_NERF, appearance=0, optimise_cameras=False)
    return begin_scene(nerf, views, np.zeros(3), training(**how), 0, "cpu")


def moved(x: float, y: float) -> np.ndarray:
    """(4, 4) of a camera that looks along −z from there."""
    pose = np.eye(4)
    pose[:2, 3] = x, y
    return pose


def on_rays(distances: np.ndarray, samples: np.ndarray) -> torch.Tensor:
    """(R, S) weights: all of a ray is met where it is told to, between the two samples beside."""
    after = np.searchsorted(samples, distances)
    low, high = 1 / samples[after], 1 / samples[after - 1]  # the mean is of inverses
    weights = np.zeros((len(distances), len(samples)))
    share = (1 / distances - low) / (high - low)
    weights[np.arange(len(after)), after], weights[np.arange(len(after)), after - 1] = 1 - share, share
    return torch.from_numpy(weights)


def loss_of(distances: np.ndarray, slants: torch.Tensor) -> float:
    """Of surfaces that rays meet at these distances."""
    samples = np.geomspace(0.1, 100, 4000)  # so close that none is off the surface
    middles = torch.from_numpy(samples).expand(len(distances), -1)
    return float(flatness_loss(on_rays(distances, samples), middles, slants.double()))


def lines(half_plain, count: int = 300):
    """Lines that were drawn, their rays' unit directions in the camera's axes (R, 3), and their slants."""
    views, pictures = half_plain
    data = PictureSet(pictures, "cpu")
    data.find_plain()
    where = data.plain.nonzero()[:, 0]
    drawn = where[torch.randint(len(where), (3 * count,), generator=random())]
    flat, slants = on_lines(data, cameras_from(views, begun(views).scene.frame, "cpu"), drawn, random())
    rays = pixel_directions(PINHOLE).reshape(-1, 3)[flat.numpy() % (40 * 48)]
    return data, flat, rays / np.linalg.norm(rays, axis=1, keepdims=True), slants


def test_the_discs_of_a_drawn_picture():
    picture = np.full((60, 80, 3), 90, np.uint8)
    picture[:, 40:] = (200, 90, 90)  # an edge between columns 39 and 40
    discs = plain_discs(picture)
    column = np.arange(80)
    beside = np.where(column < 40, 39 - column, column - 40)  # pixels to the last of the same color
    expected = np.where(beside >= 2, beside, 0)  # of two pixels, a square holds some of the other side
    np.testing.assert_array_equal(discs, np.broadcast_to(expected, (60, 80)))
    ramp = np.broadcast_to((np.arange(60) * 3)[:, None, None], (60, 80, 3)).astype(np.uint8)
    assert (plain_discs(ramp) == 100).all()  # smooth shading is plain
    bend = np.broadcast_to(np.abs(np.arange(60) - 30)[:, None, None] * 6, (60, 80, 3)).astype(np.uint8)
    assert (plain_discs(bend)[29:32] == 0).all() and (plain_discs(bend)[[20, 40]] > 5).all()
    assert not plain_discs(np.zeros((4, 9, 3), np.uint8)).any()  # smaller than a square
    noise = np.random.default_rng(0).normal(128, 8, (60, 80, 3)).clip(0, 255).astype(np.uint8)
    assert (plain_discs(noise) == 0).all()
    assert (plain_discs(np.full((30, 40, 3), 7, np.uint8)) == 50).all()  # the whole picture


def test_no_disc_holds_what_is_not_shown():
    shown = np.ones((50, 50), bool)
    shown[20:24, 30:] = False
    discs = plain_discs(np.full((50, 50, 3), 90, np.uint8), shown)
    rows, columns = np.nonzero(~shown)
    for y, x in np.argwhere(discs > 0):
        assert np.hypot(rows - y, columns - x).min() > discs[y, x] + 0.71  # places are rounded to pixels
    assert discs.max() > 15


def test_finding_what_is_plain_can_be_stopped_at_each_picture():
    data, asked = PictureSet([np.full((40, 48, 3), 90, np.uint8)] * 5, "cpu"), []

    def stop():
        asked.append(1)
        if len(asked) == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        data.find_plain(stop)
    assert data.plain is None


def test_discs_are_no_larger_than_a_byte_holds():
    data = PictureSet([np.full((200, 240, 3), 90, np.uint8), np.full((9, 7, 3), 90, np.uint8)], "cpu")
    data.find_plain()
    assert (data.plain[: 200 * 240] == 255).all() and (data.plain[200 * 240 :] == 11).all()  # the whole pictures


def test_no_line_is_drawn_over_what_is_known_to_be_a_sky():
    data = PictureSet([np.full((40, 48, 3), 90, np.uint8)] * 2, "cpu", masks=[None, np.indices((40, 48))[1] < 30])
    sky = np.arange(10 * 48)  # the uppermost rows of the second picture
    none = KnownDepth(sky[:0], np.float32(sky[:0]), np.float32(sky[:0]))
    data.learn_depths([none, KnownDepth(sky, np.full(480, np.inf, np.float32), np.ones(480, np.float32))])
    data.find_plain()
    view, y, x = data.located(data.plain.nonzero()[:, 0])
    assert y[view == 0].min() == 0 and x[view == 0].max() == 47
    assert y[view == 1].min() == 13 and y[view == 1].max() == 39
    assert x[view == 1].min() == 0 and x[view == 1].max() == 26


def test_lines_stay_within_discs_and_pictures(half_plain):
    data, flat, _, _ = lines(half_plain, 2000)
    view, y, x = (part.view(-1, 3) for part in data.located(flat))
    assert (view == view[:, :1]).all() and len(view.unique()) == 8
    assert (x >= 20).all() and x.max() == 47 and y.min() == 0 and y.max() == 39
    assert (x[:, 0] + x[:, 2] == 2 * x[:, 1]).all() and (y[:, 0] + y[:, 2] == 2 * y[:, 1]).all()
    length = torch.hypot((x[:, 2] - x[:, 1]).float(), (y[:, 2] - y[:, 1]).float())
    most = data.plain[flat.view(-1, 3)[:, 1]]
    assert (length <= most + 0.71).all() and float(length.max()) > 8 and (length == 0).float().mean() < 0.3
    torch.testing.assert_close(data.located(torch.tensor([0, 1919, 1920 + 48])), tuple(
        torch.tensor(each) for each in ([0, 0, 1], [0, 39, 1], [0, 47, 0])
    ))  # fmt: skip


@pytest.mark.parametrize("normal", [(0, 0, 1), (0.3, -0.2, 1), (-0.6, 0.5, 1)])
def test_planes_have_none_at_any_spacing(half_plain, normal):
    _, _, rays, slants = lines(half_plain)
    distances = -1.5 / (rays @ np.array(normal))
    assert distances.min() > 0 and loss_of(distances, slants) < 1e-8
    np.testing.assert_allclose(slants.numpy().ravel(), -1 / rays[:, 2], rtol=1e-5)


@pytest.mark.parametrize("share", [0.25, 3.0])
def test_a_step_and_a_bend_have_what_the_second_difference_says(share):
    one = torch.ones(1, 3)
    off = share * TOLERANCE  # of the mean of the inverse distances
    expected = off**2 / 2 / TOLERANCE if share < 1 else off - TOLERANCE / 2
    middle = 1 / (1 + off / 3)  # inverse distances 1, 1 + e, 1: of their mean, 1 + e / 3, the difference is −2 e
    inverse = np.array([1.0, 1 + off / 2 / (1 - off / 6), 1.0])  # −2 e / (1 + e / 3) = −off
    assert middle < 1 and loss_of(1 / inverse, one) == pytest.approx(expected, rel=1e-4)
    step = np.array([1.0, 1.0, 1 + off / (1 - off / 3)])  # e / (1 + e / 3) = off
    assert loss_of(1 / step, one) == pytest.approx(expected, rel=1e-4)


def test_what_is_far_behind_matters_less():
    one, step = torch.ones(1, 3), np.array([1.0, 1.0, 1.004])
    near, far = loss_of(1 / step, one), loss_of(10 / FAR / step, one)
    assert far == pytest.approx(near / 100, rel=0.02) and near > 1e-4


def test_nothing_is_gained_by_moving_all_away():
    """The same bend at another size of the scene."""
    bend, one = 1 / np.array([1.0, 1.02, 1.01]), torch.ones(1, 3)
    assert loss_of(2 * bend, one) == pytest.approx(loss_of(bend, one), rel=1e-4) and loss_of(bend, one) > 1e-3


def test_its_gradient_is_that_of_finite_differences():
    generator = torch.Generator().manual_seed(1)
    weights = torch.rand(12, 6, generator=generator, dtype=torch.float64).requires_grad_()
    middles = torch.linspace(0.5, 3, 6, dtype=torch.float64).expand(12, 6)
    slants = 1 + torch.rand(4, 3, generator=generator, dtype=torch.float64)
    flatness_loss(weights, middles, slants).backward()
    found, step = torch.zeros_like(weights), 1e-6
    with torch.no_grad():
        for place in np.ndindex(*weights.shape):
            up, down = weights.clone(), weights.clone()
            up[place] += step
            down[place] -= step
            found[place] = (flatness_loss(up, middles, slants) - flatness_loss(down, middles, slants)) / (2 * step)
    torch.testing.assert_close(weights.grad, found, rtol=1e-5, atol=1e-8)
    assert middles.grad is None and float(weights.grad.abs().max()) > 0


def test_rays_through_what_is_plain_come_as_lines(half_plain):
    views, pictures = half_plain
    cameras, data = cameras_from(views, begun(views).scene.frame, "cpu"), PictureSet(pictures, "cpu")
    none = [KnownDepth(np.arange(9), np.ones(9, np.float32), np.ones(9, np.float32))] * 8
    data.learn_depths(none)
    assert sample_pixels(data, cameras, 120, random(), lines=True).slants is None
    data.find_plain()
    before = sample_pixels(data, cameras, 120, random())
    batch = sample_pixels(data, cameras, 120, random(), lines=True)
    assert before.slants is None and batch.slants.shape == (30, 3) and len(batch.colours) == 120
    are = (batch.slants > 0).all(dim=1)
    count = int(are.sum())
    assert are[:count].all() and (batch.slants[count:] == 0).all()
    gray = (batch.colours[:, 0] == batch.colours[:, 1]) & (batch.colours[:, 1] == batch.colours[:, 2])
    plain = int((before.colours[:90, 0] == before.colours[:90, 1]).sum())
    assert 5 < count <= plain // 3 and gray[: 3 * count].all()  # of the ramp's pixels those that are drawn
    red = batch.colours[: 3 * count, 0].view(-1, 3) * 255
    torch.testing.assert_close(red[:, 0] + red[:, 2], 2 * red[:, 1])
    kept = sorted(batch.colours[3 * count : 90].tolist())
    assert all(colour in before.colours[:90].tolist() for colour in kept)
    torch.testing.assert_close(batch.colours[90:], before.colours[90:])  # those of known depth
    noise = PictureSet([np.random.default_rng(0).integers(0, 255, (40, 48, 3)).astype(np.uint8)], "cpu")
    noise.find_plain()
    assert noise.plain is None


def test_what_is_no_line_adds_nothing():
    slants, bend = torch.ones(2, 3), 1 / np.array([1.0, 1.02, 1.01])
    slants[1] = 0
    assert loss_of(np.tile(bend, 2), slants) == pytest.approx(loss_of(bend, slants[:1]) / 2, rel=1e-6)


@pytest.mark.parametrize("appearance", [0, 4])  # by the compiled networks, and by nerfstudio's own
def test_a_plain_wall_is_learned_from_its_edges(appearance):
    """Pictures of one gray, of which the depth is known along two edges alone."""
    views = [Viewpoint(moved(x, y), PINHOLE, f"w{x}{y}") for x in (-0.5, 0.5) for y in (-0.5, 0.5)]
    pictures, rays = [np.full((40, 48, 3), 128, np.uint8)] * 4, pixel_directions(PINHOLE)
    lengths = np.linalg.norm(rays, axis=-1)
    known = np.flatnonzero((np.abs(np.indices((40, 48))[1] - 23.5) > 19).ravel())
    depths = KnownDepth(known, 3 * lengths.ravel()[known].astype(np.float32), np.ones(len(known), np.float32))

    def off(weight: float) -> float:
        how = training(weight, 120)
        how = changed(how, losses=changed(how.losses, depth_weight=0.1))
        nerf = changed(TINY_NERF, appearance=appearance, optimise_cameras=False)
        trainer = begin_scene(nerf, views, np.array([0.0, 0.0, -3.0]), how, 0, "cpu")
        data = PictureSet(pictures, "cpu")
        data.learn_depths([depths] * 4)
        data.find_plain()
        for _ in range(120):
            losses = trainer.step(data)
        assert ("flat" in losses) == (weight > 0)
        z = trainer.scene.render(views[0]).depth.numpy() / lengths
        return float(np.median(np.abs(z[:, 12:36] / 3 - 1)))

    assert off(1.0) < 0.09 < 0.12 < off(0.0)


def test_a_resumed_training_is_the_unbroken_one(half_plain, tmp_path):
    views, pictures = half_plain
    data = PictureSet(pictures, "cpu")
    data.find_plain()
    unbroken, first = begun(views), begun(views)
    taught = ["flat" in unbroken.step(data) for _ in range(28)]
    assert not any(taught[:13]) and all(taught[13:])  # from three tenths of the forty steps on
    for _ in range(24):
        first.step(data)
    first.save(tmp_path / "c.safetensors")
    second = open_scene(tmp_path / "c.safetensors").trainer(views, training(), 0, "cpu", resume=True)
    for _ in range(4):
        second.step(data)
    for name, value in unbroken.nerf.state_dict().items():
        assert torch.equal(value, second.nerf.state_dict()[name]), name
