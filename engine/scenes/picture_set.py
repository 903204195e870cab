# SPDX-License-Identifier: GPL-3.0-or-later
"""The pictures that a scene is trained on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.capture import View
from engine.capture.images import alpha_of, beside, mask_of
from engine.errors import BadInput
from engine.pictures import load_alpha, load_mask, read_picture
from engine.scenes.flatness import plain_discs
from engine.scenes.known_depth import KnownDepth

LEAST_EMPTY = 0.01  # of all pixels, or what is transparent is an edge, not the space around a scene


class PictureSet:
    """The training pictures, one flat run of pixels on the device, so that a batch is one gather.

    Pixels are 8-bit, as the files are: what is trained on, what is saved and what a resumed run loads are the same.
    """

    def __init__(
        self,
        images: Iterable[np.ndarray],
        device,
        masks: Iterable[np.ndarray | None] | None = None,
        alphas: Iterable[np.ndarray | None] | None = None,
        shapes: Sequence[tuple[int, int]] | None = None,
    ):
        """``images``: N arrays (H, W, 3) uint8; asked for one by one where their ``shapes`` (H, W) are given.
        ``masks``: for each, (H, W) bool, false where nothing is known; None where all of it is. ``alphas``: for each,
        (H, W) uint8, how much of a pixel is not empty space; None where all is full. Raises ValueError where no pixel
        is left."""
        if shapes is None:
            images = list(images)
            shapes = [image.shape[:2] for image in images]
        self._shapes = [(int(height), int(width)) for height, width in shapes]
        self._starts = np.concatenate([[0], np.cumsum([height * width for height, width in self._shapes])])
        self.starts = torch.from_numpy(self._starts[:-1]).to(device)
        self.heights = torch.tensor([height for height, _ in self._shapes], device=device)
        self.widths = torch.tensor([width for _, width in self._shapes], device=device)
        self.pixels = self._together(images, np.zeros((1, 3), np.uint8)).to(device)

        # Pixels whose depth is known, (K,) of all: where they are, (K,) how far away what they show is, capture frame,
        # and (K,) how sure that is.
        self.known: tuple[Tensor, Tensor, Tensor] | None = None
        # (pixels,) uint8, how many pixels about each a picture is plain; None: nowhere.
        self.plain: Tensor | None = None
        self.seen: Tensor | None = None  # (pixels,) bool, false where a mask hides one; None: all are seen
        self.alpha: Tensor | None = None  # (pixels,) uint8; None: there is no empty space
        self.drawn: Tensor | None = None  # which pixels single ones are drawn from; None: all
        self.object: Tensor | None = None  # and half of them where there is empty space: those that are not empty
        # (pixels,) bool, where edits are confined: which pixels an edit may change, and where these are. None: all may.
        self.changing: Tensor | None = None
        self.confined: Tensor | None = None
        seen = None if masks is None else self._together(masks, np.ones(1, bool))
        if seen is not None and not seen.all():
            self.seen, self.drawn = seen.to(device), _places(seen).to(device)
            if not len(self.drawn):
                raise ValueError("the masks leave no pixel to train on")
        alpha = None if alphas is None else self._together(alphas, np.full(1, 255, np.uint8))
        if alpha is not None and (alpha == 0).float().mean() >= LEAST_EMPTY:
            full = (alpha > 0) if seen is None else (alpha > 0) & seen
            if not full.any():
                raise ValueError("they are transparent everywhere")
            self.alpha, self.object = alpha.to(device), _places(full).to(device)

    @classmethod
    def read(
        cls, folder: Path, views: Sequence[View], device: str, others: Mapping[str, Path] | None = None
    ) -> PictureSet:
        """The captured pictures of ``views``, from the ``folder`` of pinhole pictures or, by the view's name, those at
        ``others``. Raises BadInput where one cannot be read or has another size than its camera."""
        shapes = [(view.intrinsics.height, view.intrinsics.width) for view in views]

        def images() -> Iterator[np.ndarray]:
            for shape, view in zip(shapes, views, strict=True):
                path = (others or {}).get(view.name, folder / view.image)
                image = read_picture(path)
                if image.shape[:2] != shape:
                    raise BadInput(f"{path} is not of its camera's size; open the capture again.", file=path)
                yield image

        masks, alphas = zip(*(view_layers(folder, view) for view in views), strict=True)
        try:
            return cls(images(), device, masks, alphas, shapes)
        except ValueError as error:
            raise BadInput(f"The pictures cannot be trained on: {error}.", field="views") from None

    def shown(self, view: int) -> np.ndarray | None:
        """(H, W) bool, which pixels of a view's picture show what was photographed and nothing else: no mask hides
        them, and no empty space is seen in part; None where all do."""
        inside, shown = slice(self._starts[view], self._starts[view + 1]), None
        for layer, least in ((self.seen, 1), (self.alpha, 255)):
            if layer is not None:
                full = layer[inside] >= least
                shown = full if shown is None else shown & full
        return None if shown is None else shown.view(self._shapes[view]).cpu().numpy()

    def learn_depths(self, depths: Sequence[KnownDepth]) -> None:
        """Let some pixels of each picture have a known depth; those that a mask hides, or that show empty space in
        part, are left out."""
        place = np.concatenate([start + d.pixels for start, d in zip(self._starts, depths, strict=False)])
        kept = np.ones(len(place), bool)
        for layer, least in ((self.seen, 1), (self.alpha, 255)):
            if layer is not None:
                kept &= layer[torch.from_numpy(place).to(self.device)].cpu().numpy() >= least
        if kept.any():
            values = (place, np.concatenate([d.distances for d in depths]), np.concatenate([d.sure for d in depths]))
            self.known = tuple(torch.from_numpy(value[kept]).to(self.device) for value in values)

    def find_plain(self, check: Callable[[], None] = lambda: None) -> None:
        """Let flatness be taught where the pictures, as they are now, are plain, but for what is known to be a sky.
        ``check`` is called between pictures and may raise Cancelled."""
        kept = np.ones(self._starts[-1], bool)
        if self.known is not None:
            places, distances, _ = (value.cpu().numpy() for value in self.known)
            kept[places[np.isinf(distances)]] = False
        whole = np.empty(self._starts[-1], np.uint8)
        for view, (begin, shape) in enumerate(zip(self._starts, self._shapes, strict=False)):
            check()
            inside, shown = slice(begin, self._starts[view + 1]), self.shown(view)
            own = kept[inside].reshape(shape)
            radii = plain_discs(self.image(view).cpu().numpy(), own if shown is None else own & shown)
            whole[inside] = radii.clip(max=255).ravel()
        self.plain = torch.from_numpy(whole).to(self.device) if whole.any() else None

    def confine(self, masks: Iterable[np.ndarray]) -> None:
        """Say for each picture which pixels an edit may change, (H, W) bool. What patches show of the others teaches
        nothing then: single pixels do, of all views at once, so that they stay as they were learned."""
        changing = self._together(masks, np.zeros(1, bool))
        self.changing, self.confined = changing.to(self.device), _places(changing).to(self.device)

    def _together(self, parts: Iterable[np.ndarray | None], blank: np.ndarray) -> Tensor:
        """The views' pictures or masks in one run, on the CPU; ``blank`` (1, …) everywhere in the place of None."""
        whole = np.empty((self._starts[-1], *blank.shape[1:]), blank.dtype)
        for view, part in zip(range(len(self)), parts, strict=True):
            whole[self._starts[view] : self._starts[view + 1]] = (
                blank if part is None else part.reshape(-1, *blank.shape[1:])
            )
        return torch.from_numpy(whole)

    def copied(self, device: str) -> PictureSet:
        """The same pictures on a device, to be changed there."""
        other = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(other, name, value.to(device, copy=True))
        if self.known is not None:
            other.known = tuple(value.to(device, copy=True) for value in self.known)
        return other

    def located(self, flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The view, row and column of pixels that are counted through all views."""
        view = torch.bucketize(flat, self.starts, right=True) - 1
        inside, width = flat - self.starts[view], self.widths[view]
        y = torch.div(inside, width, rounding_mode="floor")
        return view, y, inside - y * width

    def __len__(self) -> int:
        return len(self._shapes)

    @property
    def device(self) -> torch.device:
        return self.pixels.device

    def image(self, view: int) -> Tensor:
        """(H, W, 3) uint8."""
        height, width = self._shapes[view]
        return self.pixels[self._starts[view] : self._starts[view + 1]].view(height, width, 3)

    def replace(self, view: int, image: Tensor) -> None:
        """Put ``image`` (H, W, 3) uint8 in the place of the view's training picture."""
        self.image(view).copy_(image)


def view_layers(folder: Path, view: View) -> tuple[np.ndarray | None, np.ndarray | None]:
    """What belongs to a view's picture in the ``folder`` of pinhole pictures: (H, W) bool, where anything is known, and
    (H, W) uint8, how much of each pixel is not empty space; None where that is all of it. Raises BadInput."""
    path, width, height = folder / view.image, view.intrinsics.width, view.intrinsics.height
    try:
        files = beside(path)
    except (OSError, ValueError, SyntaxError) as error:
        raise BadInput(f"{path} cannot be read ({error}); open the capture again.", file=path) from None
    mask, alpha = mask_of(path), alpha_of(path)
    return (
        load_mask(mask, width, height) if mask in files else None,
        load_alpha(alpha, width, height) if alpha in files else None,
    )


def _places(where: Tensor) -> Tensor:
    """Which elements of a flat mask are true, in as few bytes as they fit."""
    places = where.nonzero()[:, 0]
    return places.int() if len(where) < 2**31 else places
