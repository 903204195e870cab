# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras in the NeRF frame, and batches of rays with the colours they should have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from engine.geometry import Camera, camera_rays, pixel_directions, projection_of
from engine.scenes.nerfacto.frame import NerfFrame
from engine.scenes.nerfacto.triples import on_lines
from engine.scenes.picture_set import PictureSet

KNOWN = 0.25  # share of a batch's rays that go through pixels of known depth, where there are any


def cameras_from(views: Sequence[Camera], frame: NerfFrame, device) -> Cameras:
    """nerfstudio's cameras, in the NeRF frame, of cameras in the capture frame."""
    moved = torch.from_numpy(frame.nerf_from_capture(np.stack([view.pose for view in views]))[:, :3]).float()

    def column(name: str, dtype=torch.float32) -> Tensor:
        return torch.tensor([[getattr(view.intrinsics, name)] for view in views], dtype=dtype)

    return Cameras(
        camera_to_worlds=moved,
        fx=column("fx"),
        fy=column("fy"),
        cx=column("cx"),
        cy=column("cy"),
        width=column("width", torch.int64),
        height=column("height", torch.int64),
    ).to(device)


@dataclass
class RayBatch:
    """R rays and their colours. Where they come in patches, patch by patch and row by row."""

    rays: RayBundle
    colours: Tensor  # (R, 3), 0–1
    patch: int = 1  # edge of a patch in pixels; 1: single pixels
    seen: Tensor | None = None  # (R,) bool, false where a mask hides the pixel and its colour says nothing; None: all
    alpha: Tensor | None = None  # (R,) 0–1, how much of the pixel is not empty space; None: all of it
    # Of the last K rays, (K,) how far away what they show is, capture frame, and (K,) how sure that is; None: K is 0.
    known: tuple[Tensor, Tensor] | None = None
    in_patches: int | None = None  # how many of the rays, the first, come in patches; None: all, where patch > 1
    slants: Tensor | None = None  # (T, 3) of the first 3 · T rays: lines over what is plain (triples.py)

    @property
    def of_patches(self) -> int:
        """How many of the rays, the first, come in patches."""
        return 0 if self.patch == 1 else len(self.colours) if self.in_patches is None else self.in_patches

    def over(self, own: Tensor, other: Tensor) -> Tensor:
        """The colours (R, 3) over the background ``other`` (R, 3) in the place of their ``own`` (3,)."""
        if self.alpha is None:
            return self.colours
        alpha = self.alpha[:, None]
        # An edited picture may have changed what is behind the object: of that, nothing is kept.
        premultiplied = torch.minimum((self.colours - (1 - alpha) * own).clamp(min=0), alpha)
        return premultiplied + (1 - alpha) * other


def sample_pixels(
    pictures: PictureSet, cameras: Cameras, count: int, generator: torch.Generator, lines: bool = False
) -> RayBatch:
    """``count`` rays of ``cameras``, uniform over the pixels of all views that no mask hides; where there is empty
    space, half of them over what is not empty; where depths are known, the last of them through pixels of these. Of the
    others, those through what is plain are on ``lines``, where that is asked for."""
    flat, known = _drawn(pictures, count, generator)
    slants = None
    if lines and pictures.plain is not None:
        others = len(flat) - (0 if known is None else len(known[0]))
        drawn, slants = on_lines(pictures, cameras, flat[:others], generator)
        flat = torch.cat([drawn, flat[others:]])
    colours, alpha = _colours(pictures, flat), _alpha(pictures, flat)
    return RayBatch(_through(pictures, cameras, flat), colours, alpha=alpha, known=known, slants=slants)


def _drawn(pictures: PictureSet, count: int, generator: torch.Generator) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    """Which pixels of all these are, (count,), and what is known of the last of them (RayBatch.known)."""
    of_depth = 0 if pictures.known is None else int(KNOWN * count)
    count -= of_depth
    of_object = 0 if pictures.object is None else count // 2
    choices = len(pictures.pixels if pictures.drawn is None else pictures.drawn)
    flat = torch.randint(choices, (count - of_object,), generator=generator).to(pictures.device)
    if pictures.drawn is not None:
        flat = pictures.drawn[flat].long()
    if pictures.object is not None:
        place = torch.randint(len(pictures.object), (of_object,), generator=generator).to(pictures.device)
        flat = torch.cat([flat, pictures.object[place].long()])
    if pictures.known is None:
        return flat, None
    places, distances, sure = pictures.known
    drawn = torch.randint(len(places), (of_depth,), generator=generator).to(pictures.device)
    return torch.cat([flat, places[drawn]]), (distances[drawn], sure[drawn])


def sample_patches(
    pictures: PictureSet, cameras: Cameras, count: int, edge: int, generator: torch.Generator
) -> RayBatch:
    """``count`` square patches of ``edge`` pixels (less where a view is smaller): views uniform, places uniform; masked
    pixels are among them, and said."""
    device = pictures.device
    edge = _fitting(pictures, edge)
    view = torch.randint(len(pictures), (count,), generator=generator).to(device)
    place = torch.rand(2, count, generator=generator).to(device)
    top = (place[0] * (pictures.heights[view] - edge + 1)).long()
    left = (place[1] * (pictures.widths[view] - edge + 1)).long()
    flat = _of_patches(pictures, view, top, left, edge)
    seen = None if pictures.seen is None else pictures.seen[flat]
    return RayBatch(_through(pictures, cameras, flat), _colours(pictures, flat), edge, seen, _alpha(pictures, flat))


def sample_confined(
    pictures: PictureSet, cameras: Cameras, count: int, edge: int, singles: int, generator: torch.Generator
) -> RayBatch:
    """``count`` patches of ``edge`` pixels, each with a pixel that edits may change at some place in it, uniform over
    these, and after them ``singles`` single rays as of :func:`sample_pixels`. In patches, what may not change counts as
    masked: one patch of one view a step would unlearn what was learned of it."""
    assert pictures.confined is not None and pictures.changing is not None
    device = pictures.device
    edge = _fitting(pictures, edge)
    number = torch.randint(len(pictures.confined), (count,), generator=generator).to(device)
    view, y, x = pictures.located(pictures.confined[number].long())
    off = torch.randint(edge, (2, count), generator=generator).to(device)
    top = torch.minimum((y - off[0]).clamp(min=0), pictures.heights[view] - edge)
    left = torch.minimum((x - off[1]).clamp(min=0), pictures.widths[view] - edge)
    patches = _of_patches(pictures, view, top, left, edge)
    single, known = _drawn(pictures, singles, generator)
    flat = torch.cat([patches, single])
    seen = torch.ones(len(flat), dtype=torch.bool, device=device)
    seen[: len(patches)] = pictures.changing[patches]
    if pictures.seen is not None:
        seen &= pictures.seen[flat]
    return RayBatch(
        _through(pictures, cameras, flat), _colours(pictures, flat), edge, seen, _alpha(pictures, flat), known,
        len(patches),
    )  # fmt: skip


def _fitting(pictures: PictureSet, edge: int) -> int:
    """A patch's edge that is no longer than any picture's."""
    return min(edge, int(pictures.widths.min()), int(pictures.heights.min()))


def _of_patches(pictures: PictureSet, view: Tensor, top: Tensor, left: Tensor, edge: int) -> Tensor:
    """Which pixels of all those of patches are, patch by patch and row by row: of views (P,), from these corners on."""
    step = torch.arange(edge, device=pictures.device)
    y = (top[:, None, None] + step[None, :, None]).expand(-1, -1, edge).flatten()
    x = (left[:, None, None] + step[None, None, :]).expand(-1, edge, -1).flatten()
    view = view.repeat_interleave(edge * edge)
    return pictures.starts[view] + y * pictures.widths[view] + x


def _through(pictures: PictureSet, cameras: Cameras, flat: Tensor) -> RayBundle:
    """The rays through pixels that are counted through all views."""
    return rays_through(cameras, *pictures.located(flat))


def rays_through(cameras: Cameras, view: Tensor, y: Tensor, x: Tensor) -> RayBundle:
    """Rays through the centres of pixels (R,), of ``cameras`` by number (R,)."""
    coords = torch.stack([y, x], dim=-1) + 0.5  # pixel centres at half-integers
    return cameras.generate_rays(camera_indices=view[:, None], coords=coords)


def bundle_of(camera: Camera, frame: NerfFrame, device) -> RayBundle:
    """The rays through all pixels of a camera, row by row, as nerfstudio has them."""
    if projection_of(camera) == "perspective":
        return cameras_from([camera], frame, device).generate_rays(camera_indices=0, keep_shape=True).flatten()
    origins, directions = (rays.to(device) for rays in pixel_rays(camera, frame))
    one = torch.ones_like(directions[:, :1])
    return RayBundle(origins.expand_as(directions), directions, one, camera_indices=torch.zeros_like(one).long())


def pixel_rays(camera: Camera, frame: NerfFrame) -> tuple[Tensor, Tensor]:
    """Origins, (1, 3) where all have the same or (H · W, 3), and directions (H · W, 3) of the rays through all pixels
    of a camera, row by row, NeRF frame, on the CPU."""
    pose = frame.nerf_from_capture(camera.pose)
    if projection_of(camera) != "perspective":
        begin, ahead = camera_rays(camera)
        begin = begin.reshape(-1, 3) * frame.scale @ pose[:3, :3].T + pose[:3, 3]
        ahead = ahead.reshape(-1, 3) @ pose[:3, :3].T
        return torch.from_numpy(begin).float(), torch.from_numpy(ahead).float()
    directions = pixel_directions(camera.intrinsics).reshape(-1, 3) @ pose[:3, :3].T
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    return torch.from_numpy(pose[None, :3, 3]).float(), torch.from_numpy(directions).float()


def _colours(pictures: PictureSet, flat: Tensor) -> Tensor:
    return pictures.pixels[flat].float() / 255


def _alpha(pictures: PictureSet, flat: Tensor) -> Tensor | None:
    return None if pictures.alpha is None else pictures.alpha[flat].float() / 255
