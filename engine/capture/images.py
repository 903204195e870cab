# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the pinhole pictures of a capture: undistorted and reduced in one go, once."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import lru_cache, reduce
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageChops, PngImagePlugin

from engine.capture.decoding import decode_layers, decode_mask
from engine.capture.fingerprint import digest_of
from engine.capture.lens import Lens
from engine.capture.masks import Hidden, what_is_hidden
from engine.capture.photos import SkipView, inside, read_header
from engine.capture.pinhole import rays_of, sees
from engine.capture.types import Capture, CaptureError, Intrinsics, SourceView, View
from engine.errors import Cancelled, cannot_write
from engine.files import make_folder, open_file, replacing
from engine.pictures import UNREADABLE

_VERSION = 2  # of what this module makes of a photo; counted up, pictures are made again
_REMEMBERED = 25_000_000  # samples of a map kept in memory, 6 bytes each
_AT_ONCE = 100_000_000  # pixels of photos decoded at the same time

_END = b"\0\0\0\0IEND\xaeB`\x82"  # of every PNG

Tile = tuple[slice, slice, np.ndarray, np.ndarray]


def write_images(
    capture: Capture,
    folder: Path,
    on_image: Callable[[View, Path], None] = lambda view, path: None,
    should_stop: Callable[[], bool] = lambda: False,
    on_bad: Callable[[View, str], None] | None = None,
) -> int:
    """Writes each view's pinhole picture (PNG, RGB, 8 bit) as `folder / view.image`; returns how many were made now.

    Beside it, where there is any: its mask (`<name>.mask.png`, grey: 255 where the picture shows the scene, 0 where
    nothing is known), and its alpha (`<name>.alpha.png`, grey: how much of a pixel is not empty space).

    Pictures that stand there already, made from the same photo in the same way, are kept. `on_image` is called in this
    thread for every view whose picture is there, kept or made. A photo that cannot be read goes to `on_bad` with a
    sentence and the rest go on; without `on_bad` it ends the work with a CaptureError. Raises Cancelled soon after
    `should_stop()` turns true: finished pictures stay, no unfinished one does.
    """
    folder = Path(folder)
    try:
        make_folder(folder)
    except OSError as problem:
        raise cannot_write(folder, problem) from None
    hidden = capture.hidden or find_hidden(capture, should_stop)
    missing: list[tuple[View, SourceView]] = []
    for view, source in zip(capture.views, capture.sources, strict=True):
        if should_stop():
            raise Cancelled("stopped while looking for pictures that exist already")
        if _is_made(folder / view.image, recipe(capture, view, source, hidden)):
            on_image(view, folder / view.image)
        else:
            missing.append((view, source))
    if not missing:
        return 0

    made = 0
    stop = threading.Event()
    largest = max(source.width * source.height for _, source in missing)
    workers = max(1, min(4, os.cpu_count() or 1, _AT_ONCE // largest))
    with ThreadPoolExecutor(workers) as pool:
        running: dict[Future[Path], View] = {
            pool.submit(_write_one, capture, view, source, hidden, folder, stop): view for view, source in missing
        }
        try:
            while running:
                done, _ = wait(running, timeout=0.1, return_when=FIRST_COMPLETED)
                if should_stop():
                    raise Cancelled("stopped while pictures were being made")
                for future in done:
                    view = running.pop(future)
                    try:
                        path = future.result()
                    except CaptureError as problem:
                        if on_bad is None:
                            raise
                        on_bad(view, problem.message)
                        continue
                    made += 1
                    on_image(view, path)
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    return made


def find_hidden(capture: Capture, should_stop: Callable[[], bool] = lambda: False) -> Hidden:
    """What the capture's masks and transparency hide, by looking at some of them."""
    photos, masks = [source.file for source in capture.sources], [source.mask for source in capture.sources]
    return what_is_hidden(capture.masks, capture.root, photos, masks, should_stop)


def alpha_of(image: Path) -> Path:
    """The file beside a view's picture that says how much of each pixel is not empty space."""
    return image.with_name(f"{image.stem}.alpha.png")


def mask_of(image: Path) -> Path:
    """The file beside a view's picture that says where anything is known."""
    return image.with_name(f"{image.stem}.mask.png")


def recipe(capture: Capture, view: View, source: SourceView, hidden: Hidden) -> str:
    """A short text that changes with anything that the view's picture depends on."""
    parts = repr((_VERSION, source, view.intrinsics, capture.background, view.mask, hidden))
    return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()


def beside(image: Path) -> list[Path]:
    """The mask and the alpha that belong to a view's picture, as many as there are. Raises OSError where the picture
    cannot be read."""
    names = str(_info_of(image).get("beside", "")).split("/")
    return [file for file in (mask_of(image), alpha_of(image)) if file.name in names]


def _is_made(image: Path, made_by: str) -> bool:
    """Whether a picture was made by this recipe and all that belongs to it is there."""
    try:
        return {_info_of(file).get("recipe") for file in (image, *beside(image))} == {made_by}
    except UNREADABLE:
        return False


def _info_of(image: Path) -> dict:
    """What a picture's header says. Raises OSError where it is cut off, and what else `UNREADABLE` lists."""
    with open_file(image) as file, Image.open(file, formats=("PNG",)) as picture:
        info = dict(picture.info)
        file.seek(-len(_END), os.SEEK_END)
        if file.read() != _END:  # a loss of power after it was renamed
            raise OSError("cut off")
        return info


def photo_of(image: Path) -> str | None:
    """The digest (`fingerprint.digest_of`) of the photo that a picture was made of; None where there is no such
    picture, or one of an earlier version."""
    try:
        return _info_of(image).get("photo")
    except UNREADABLE:
        return None


def _write_one(
    capture: Capture, view: View, source: SourceView, hidden: Hidden, folder: Path, stop: threading.Event
) -> Path:
    def check() -> None:
        if stop.is_set():
            raise Cancelled("stopped while a picture was being made")

    try:
        digest = digest_of(inside(capture.root, source.file), check, source.file_bytes)
        pixels, mask, alpha = make_picture(capture, view, source, hidden, stop)
    except SkipView as problem:
        raise CaptureError(str(problem), file=capture.root / source.file) from None
    path, made_by = folder / view.image, recipe(capture, view, source, hidden)
    layers = {mask_of(path): mask, alpha_of(path): alpha}
    for file, layer in layers.items():
        if layer is not None:
            _write_png(Image.fromarray(layer), file, made_by)
        else:
            with contextlib.suppress(OSError):  # the picture says what belongs to it
                file.unlink()
    beside = "/".join(file.name for file, layer in layers.items() if layer is not None)
    _write_png(Image.fromarray(pixels), path, made_by, beside=beside, photo=digest)  # last: what is beside it is there
    return path


def make_picture(
    capture: Capture, view: View, source: SourceView, hidden: Hidden, stop: threading.Event | None = None
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """A view's pinhole picture, (H, W, 3) uint8, its mask and its alpha, (H, W) uint8, where it has any.

    Raises SkipView where the photo or its mask cannot be read or has changed, and Cancelled soon after `stop` is set.
    """
    orientation = read_header(inside(capture.root, source.file)).orientation if source.turned else 1
    photo, alpha = decode_layers(inside(capture.root, source.file), capture.background, orientation)
    if photo.size != (source.width, source.height):
        raise SkipView(f"The picture {source.file} has changed since the capture was opened; open it again.")
    mask = None if source.mask is None else decode_mask(inside(capture.root, source.mask), photo.size, orientation)
    layers = [(mask, hidden.masks), (alpha, hidden.alpha)]
    empty = [layer for layer, behind in layers if layer is not None and behind == "empty"]
    unknown = [layer for layer, behind in layers if layer is not None and behind == "unknown"]
    if mask is not None and hidden.masks == "empty":
        photo = Image.composite(photo, Image.new("RGB", photo.size, capture.background), mask)

    def at_working_size(layer: Image.Image) -> np.ndarray:
        return undistort(layer, source.lens, view.intrinsics, stop, smooth=True)

    pixels = undistort(photo, source.lens, view.intrinsics, stop)
    shown = opacity = None
    outside = None if view.mask is None else ~seen_pixels(source, view.intrinsics)
    if outside is not None and outside.any():
        pixels[outside] = capture.background
    if unknown or (outside is not None and (outside.any() or hidden.masks == "unknown")):
        seen = np.ones(pixels.shape[:2], bool) if outside is None else ~outside
        for layer in unknown:
            # A pixel whose area is masked in part shows some of what the mask is to hide.
            seen &= at_working_size(layer) >= 253
        shown = seen.astype(np.uint8) * 255
    if empty:
        opacity = at_working_size(reduce(ImageChops.multiply, empty))
    return pixels, shown, opacity


def _write_png(picture: Image.Image, path: Path, made_by: str, **more: str) -> None:
    info = PngImagePlugin.PngInfo()
    for key, text in {"recipe": made_by, **more}.items():
        info.add_text(key, text)
    with replacing(path, durable=False) as temporary:  # its recipe says, when it is next looked at, whether it is whole
        picture.save(temporary, format="PNG", pnginfo=info, compress_level=2)


def seen_pixels(source: SourceView, intrinsics: Intrinsics) -> np.ndarray:
    """(height, width) bool: the pixels of the pinhole picture whose four corners all fall on the photo."""
    return _seen_pixels(source.lens, source.width, source.height, intrinsics).copy()


@lru_cache(maxsize=2)
def _seen_pixels(lens: Lens, width: int, height: int, intrinsics: Intrinsics) -> np.ndarray:
    seen = np.empty((intrinsics.height, intrinsics.width), dtype=bool)
    x = np.arange(intrinsics.width + 1.0)
    for top in range(0, intrinsics.height, 128):
        y = np.arange(top, min(top + 128, intrinsics.height) + 1.0)
        corners = np.stack(np.meshgrid(x, y), axis=-1)
        good = sees(lens, width, height, rays_of(intrinsics, corners).reshape(-1, 3)).reshape(corners.shape[:2])
        seen[top : top + 128] = good[:-1, :-1] & good[1:, :-1] & good[:-1, 1:] & good[1:, 1:]
    return seen


def undistort(
    photo: Image.Image,
    lens: Lens,
    intrinsics: Intrinsics,
    stop: threading.Event | None = None,
    smooth: bool = False,
) -> np.ndarray:
    """The pinhole picture, (height, width, 3) or (height, width) uint8, of a photo, RGB or L, taken through `lens`.

    Each pixel is the mean over its own area: of n × n samples of the photo, about one for each of the photo's pixels.
    A sample stands where the lens puts it to 1/64 of the photo's pixel, which is OpenCV's grid. `smooth` ones are
    linear between the photo's pixels and overshoot nowhere.
    """
    least, most = _density(lens, intrinsics)
    # Whole pixels are averaged before anything else, while four remain to each of ours.
    whole = max(1, math.floor(least / 4))
    reduced = np.asarray(photo.reduce(whole) if whole > 1 else photo)
    samples = max(1, math.ceil(most / whole - 0.15))
    # Where samples are few, linear would blur; OpenCV's cubic shifts fine detail by a twentieth of a pixel.
    method = cv2.INTER_LANCZOS4 if samples < 3 and not smooth else cv2.INTER_LINEAR
    lens = lens.scaled(1 / whole, 1 / whole)
    out = np.empty((intrinsics.height, intrinsics.width, *reduced.shape[2:]), dtype=np.uint8)
    for rows, columns, map_x, map_y in _tiles(lens, intrinsics, samples):
        if stop is not None and stop.is_set():
            raise Cancelled("stopped while a picture was being made")
        many = cv2.remap(reduced, map_x, map_y, method, borderMode=cv2.BORDER_REPLICATE)
        size = (columns.stop - columns.start, rows.stop - rows.start)
        out[rows, columns] = many if samples == 1 else cv2.resize(many, size, interpolation=cv2.INTER_AREA)
    return out


def _density(lens: Lens, intrinsics: Intrinsics) -> tuple[float, float]:
    """How many of the photo's pixels lie along the side of one of ours, least and most."""
    y, x = np.meshgrid(np.linspace(0, intrinsics.height, 9), np.linspace(0, intrinsics.width, 9), indexing="ij")
    corner = np.stack([x.ravel(), y.ravel()], axis=-1)
    at, right, down = (
        lens.project(rays_of(intrinsics, corner + np.array(step))) for step in ((0, 0), (1e-3, 0), (0, 1e-3))
    )
    sides = np.concatenate([np.linalg.norm(right - at, axis=1), np.linalg.norm(down - at, axis=1)]) / 1e-3
    return float(sides.min()), float(sides.max())


def _tiles(lens: Lens, intrinsics: Intrinsics, samples: int) -> Iterator[Tile] | tuple[Tile, ...]:
    if samples * samples * intrinsics.width * intrinsics.height <= _REMEMBERED:
        return _remembered_tiles(lens, intrinsics, samples)
    return _made_tiles(lens, intrinsics, samples)


@lru_cache(maxsize=1)  # photos of one camera come one after the other
def _remembered_tiles(lens: Lens, intrinsics: Intrinsics, samples: int) -> tuple[Tile, ...]:
    return tuple(_made_tiles(lens, intrinsics, samples))


def _made_tiles(lens: Lens, intrinsics: Intrinsics, samples: int) -> Iterator[Tile]:
    """Where in the photo to sample, in pieces that fit a processor's cache, in OpenCV's compact form."""
    wide, high = max(1, 1024 // samples), max(1, 128 // samples)
    for top in range(0, intrinsics.height, high):
        for left in range(0, intrinsics.width, wide):
            rows = slice(top, min(top + high, intrinsics.height))
            columns = slice(left, min(left + wide, intrinsics.width))
            y, x = np.meshgrid(_sample_centres(rows, samples), _sample_centres(columns, samples), indexing="ij")
            rays = rays_of(intrinsics, np.stack([x, y], axis=-1))
            # OpenCV counts from the centre of the first pixel, we from its corner.
            at = (lens.project(rays.reshape(-1, 3)) - 0.5).astype(np.float32).reshape((*x.shape, 2))
            yield rows, columns, *cv2.convertMaps(at[..., 0], at[..., 1], cv2.CV_16SC2)


def _sample_centres(pixels: slice, samples: int) -> np.ndarray:
    return pixels.start + (np.arange((pixels.stop - pixels.start) * samples) + 0.5) / samples
