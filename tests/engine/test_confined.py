# SPDX-License-Identifier: GPL-3.0-or-later
"""What a step learns from where an edit is confined to a region: patches inside, single rays everywhere."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

from engine.scenes.nerfacto import training
from engine.scenes.nerfacto.nerfacto import Nerfacto
from engine.scenes.nerfacto.rays import RayBatch, sample_confined, sample_pixels
from engine.scenes.picture_set import PictureSet
from engine.scenes.settings import LossConfig, TrainingConfig

from .conftest import TINY_NERF
from .test_empty_space import CAMERAS, FRAME, RAYS_OF, SIZE, VIEWS

EDGE = 8


def pictures(masks: list[np.ndarray] | None = None, seed: int = 0) -> PictureSet:
    random = np.random.default_rng(seed)
    images = [random.integers(0, 256, (SIZE.height, SIZE.width, 3), dtype=np.uint8) for _ in range(VIEWS)]
    return PictureSet(images, "cpu", masks)


def square(view: int, count: int = VIEWS) -> list[np.ndarray]:
    """Masks that let a corner and one pixel of a view change, and nothing of the others."""
    masks = [np.zeros((SIZE.height, SIZE.width), bool) for _ in range(count)]
    masks[view][:4, :5] = True
    masks[view][-1, -1] = True
    return masks


def draw(data: PictureSet, patches: int = 40, singles: int = 300, seed: int = 0) -> RayBatch:
    return sample_confined(data, RAYS_OF, patches, EDGE, singles, torch.Generator().manual_seed(seed))


def places(batch: RayBatch, data: PictureSet) -> torch.Tensor:
    """Which pixel of all each ray is of, by its color: in these pictures nearly every one has its own."""
    whole = (data.pixels.long() * torch.tensor([65536, 256, 1])).sum(dim=1)
    asked = ((batch.colours * 255).round().long() * torch.tensor([65536, 256, 1])).sum(dim=1)
    return (asked[:, None] == whole[None]).float().argmax(dim=1)


def test_each_patch_shows_something_that_may_change_and_no_more_of_it_is_learned() -> None:
    data = pictures()
    data.confine(square(2))
    batch = draw(data)
    assert batch.patch == EDGE and batch.of_patches == 40 * EDGE**2 and len(batch.colours) == 40 * EDGE**2 + 300
    assert (batch.rays.camera_indices[: batch.of_patches] == 2).all()
    seen = batch.seen[: batch.of_patches].view(40, -1)
    assert seen.any(dim=1).all() and not seen.all(dim=1).any()
    may = data.changing[places(batch, data)]
    assert torch.equal(may[: batch.of_patches], batch.seen[: batch.of_patches])
    assert batch.seen[batch.of_patches :].all()


def test_pixels_that_may_change_are_shown_at_every_place_of_a_patch() -> None:
    """Also where they lie at a picture's edge, patches are whole and within it."""
    data = pictures()
    middle = [np.zeros((SIZE.height, SIZE.width), bool) for _ in range(VIEWS)]
    middle[0][10, 12] = True
    data.confine(middle)
    batch = draw(data, 400)
    where = batch.seen[: batch.of_patches].view(400, EDGE, EDGE).float()
    assert (where.sum(dim=(1, 2)) == 1).all() and (where.mean(dim=0) > 0).all()
    assert where.mean(dim=0).max() < 6 / EDGE**2


def test_single_rays_are_of_all_views_as_ever() -> None:
    data = pictures()
    data.confine(square(2))
    batch = draw(data, 1, 3000)
    views = batch.rays.camera_indices[batch.of_patches :, 0].bincount(minlength=VIEWS)
    assert views.min() > 0.8 * 3000 / VIEWS
    hidden = [np.ones((SIZE.height, SIZE.width), bool) for _ in range(VIEWS)]
    for mask in hidden:
        mask[:, :12] = False
    masked = pictures(hidden)
    masked.confine(square(2))
    batch = draw(masked, 40, 500)
    assert batch.seen[batch.of_patches :].all()
    assert torch.equal(batch.seen, masked.seen[places(batch, masked)] & batch.seen)
    assert (batch.seen[: batch.of_patches].sum() > 0).item()  # the corner pixel alone is not hidden


def trainer_of(single_rays: float = 0.0, patches: int = 2) -> training.Trainer:
    torch.manual_seed(3)
    nerf = Nerfacto(msgspec.structs.replace(TINY_NERF, background=None), VIEWS)
    losses = LossConfig("l1", 0.5)
    config = TrainingConfig(100, patches * EDGE**2, losses, single_rays=single_rays, patch=EDGE)
    return training.Trainer(nerf, FRAME, CAMERAS, config, 0, lambda a, b: (a - b).square().mean(dim=(1, 2, 3)))


def weights(trainer: training.Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.nerf.parameters()])


def test_what_lies_outside_in_a_patch_pulls_at_nothing() -> None:
    """Whatever it shows: two sets of pictures that differ there alone, on patches alone."""

    def stepped(seed: int, confined: bool) -> torch.Tensor:
        data, other = pictures(), pictures(seed=seed)
        masks = square(1)
        if confined:
            data.confine(masks)
        inside = torch.from_numpy(np.concatenate([m.reshape(-1) for m in masks]))
        data.pixels[~inside] = other.pixels[~inside]
        trainer = trainer_of()
        data.confine(masks)
        trainer._update(draw(data, 6, 0) if confined else _whole(draw(data, 6, 0)))
        return weights(trainer)

    assert torch.equal(stepped(1, True), stepped(2, True))
    assert not torch.equal(stepped(1, False), stepped(2, False))


def _whole(batch: RayBatch) -> RayBatch:
    batch.seen = None
    return batch


@pytest.mark.parametrize(("single_rays", "step", "confined", "expected"), [
    (0.0, 0, None, (128, 128)), (0.0, 99, None, (128, 128)), (1.0, 0, "square", (128, 0)),
    (0.0, 0, "square", (64 + 64, 64)), (0.5, 49, "square", (128, 0)), (0.5, 50, "square", (64 + 64, 64)),
    (0.0, 84, "square", (64 + 64, 64)), (0.0, 85, "square", (128, 0)), (0.0, 0, "nothing", (128, 0)),
])  # fmt: skip
def test_a_step_draws_patches_where_something_may_change(
    monkeypatch: pytest.MonkeyPatch, single_rays: float, step: int, confined: str | None, expected: tuple[int, int]
) -> None:
    data = pictures()
    if confined:
        data.confine(square(0) if confined == "square" else [np.zeros((SIZE.height, SIZE.width), bool)] * VIEWS)
    drawn: list[RayBatch] = []
    whole = training.Trainer._update
    monkeypatch.setattr(training.Trainer, "_update", lambda self, batch: drawn.append(batch) or whole(self, batch))
    trainer = trainer_of(single_rays)
    trainer.step_index = step
    losses = trainer.step(data)
    assert (len(drawn[0].colours), drawn[0].of_patches) == expected
    assert ("perceptual" in losses) == (expected[1] > 0)


def test_backgrounds_are_one_a_patch_and_one_a_single_ray() -> None:
    from .test_empty_space import cut_out
    from .test_empty_space import trainer_of as before_white

    data = cut_out()
    data.confine(square(0))
    batch = draw(data, 3, 20)
    background, _ = before_white()._background(batch)
    patches = background[: batch.of_patches].view(3, EDGE**2, 3)
    assert (patches == patches[:, :1]).all() and len(patches[:, 0].unique(dim=0)) == 3
    assert len(background[batch.of_patches :].unique(dim=0)) == 20
    plain, _ = before_white()._background(sample_pixels(data, RAYS_OF, 30, torch.Generator().manual_seed(0)))
    assert len(plain.unique(dim=0)) == 30


def test_patches_weigh_as_much_beside_single_rays_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of color of patches and single rays is that of the patches and that of the single rays."""
    data = pictures()
    data.confine(square(2))
    both = draw(data, 6, 500)
    trainer, edge = trainer_of(), both.of_patches
    rendered = trainer.nerf(both.rays, None)
    monkeypatch.setattr(trainer.nerf, "forward", lambda *_: rendered)
    difference = (rendered.rgb - both.colours).detach().abs()
    difference[:edge] *= both.seen[:edge, None]
    expected = float(difference[:edge].mean() + difference[edge:].mean())
    assert trainer._update(both)["colour"] == pytest.approx(expected, rel=1e-5)
    assert expected != pytest.approx(2 * float(difference.mean()), rel=1e-3)
