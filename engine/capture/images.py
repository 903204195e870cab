# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the pinhole pictures of a capture: undistorted and reduced in one go, once."""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, PngImagePlugin

from engine.capture.lens import Lens
from engine.capture.photos import EXR, FORMATS, UNREADABLE, SkipView, inside
from engine.capture.pinhole import rays_of, sees
from engine.capture.types import Capture, CaptureError, Intrinsics, SourceView, View
from engine.errors import Cancelled, cannot_write
from engine.files import make_folder, open_file, replacing

os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")  # asked for when OpenCV first meets such a picture

_VERSION = 1  # of what this module makes of a photo; counted up, pictures are made again
_REMEMBERED = 25_000_000  # samples of a map kept in memory, 6 bytes each
_AT_ONCE = 100_000_000  # pixels of photos decoded at the same time

Tile = tuple[slice, slice, np.ndarray, np.ndarray]


def write_images(
    capture: Capture,
    folder: Path,
    on_image: Callable[[View, Path], None] = lambda view, path: None,
    should_stop: Callable[[], bool] = lambda: False,
    on_bad: Callable[[View, str], None] | None = None,
) -> int:
    """Writes each view's pinhole picture (PNG, RGB, 8 bit) as `folder / view.image`; returns how many were made now.

    A view's mask, where it has one, is written beside (PNG, grey: 255 where the picture shows the scene, else 0).

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
    missing: list[tuple[View, SourceView]] = []
    for view, source in zip(capture.views, capture.sources, strict=True):
        if should_stop():
            raise Cancelled("stopped while looking for pictures that exist already")
        names = [view.image] if view.mask is None else [view.image, view.mask]
        if all(_recipe_of(folder / name) == recipe(capture, view, source) for name in names):
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
            pool.submit(_write_one, capture, view, source, folder, stop): view for view, source in missing
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


def recipe(capture: Capture, view: View, source: SourceView) -> str:
    """A short text that changes with anything that the view's picture depends on."""
    parts = repr((_VERSION, source, view.intrinsics, capture.background, *([view.mask] if view.mask else [])))
    return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()


def _recipe_of(path: Path) -> str | None:
    """The recipe that a picture was made by, None where there is no such picture."""
    try:
        with open_file(path) as file, Image.open(file, formats=("PNG",)) as picture:
            return picture.info.get("recipe")
    except UNREADABLE:
        return None


def _write_one(capture: Capture, view: View, source: SourceView, folder: Path, stop: threading.Event) -> Path:
    try:
        photo = decode(inside(capture.root, source.file), capture.background)
        if photo.size != (source.width, source.height):
            raise SkipView(f"The picture {source.file} has changed since the capture was opened; open it again.")
        mask = None if source.mask is None else decode_mask(inside(capture.root, source.mask), photo.size)
    except SkipView as problem:
        raise CaptureError(str(problem), file=capture.root / source.file) from None
    pixels = undistort(photo, source.lens, view.intrinsics, stop)
    if view.mask is not None:
        seen = seen_pixels(source, view.intrinsics)
        pixels[~seen] = capture.background
        if mask is not None:
            # A pixel whose area is masked in part shows some of what the mask is to hide.
            seen &= undistort(mask, source.lens, view.intrinsics, stop, smooth=True)[..., 0] >= 253
        _write_png(Image.fromarray(seen.astype(np.uint8) * 255), folder / view.mask, recipe(capture, view, source))
    path = folder / view.image  # last: where it is, its mask is
    _write_png(Image.fromarray(pixels), path, recipe(capture, view, source))
    return path


def _write_png(picture: Image.Image, path: Path, made_by: str) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("recipe", made_by)
    with replacing(path, durable=False) as temporary:  # its recipe says, when it is next looked at, whether it is whole
        picture.save(temporary, format="PNG", pnginfo=info, compress_level=2)


def decode(path: Path, background: tuple[int, int, int]) -> Image.Image:
    """A photo as stored (no EXIF rotation), RGB, 8 bit, over `background` where it is transparent. Raises SkipView."""
    try:
        with path.open("rb") as stream:
            exr = stream.read(4) == EXR
        if exr:
            return _decode_exr(path, background)
        with Image.open(path, formats=FORMATS) as picture:
            picture.load()
            if picture.mode == "F":
                raise ValueError("floating point")
            if picture.mode.startswith("I"):  # 16 bit, grey; Pillow reads 16 bit in colour as 8
                grey = np.asarray(picture).astype(np.float32) / 257
                return Image.fromarray(np.clip(grey + 0.5, 0, 255).astype(np.uint8)).convert("RGB")
            if picture.has_transparency_data:
                under = Image.new("RGBA", picture.size, (*background, 255))
                return Image.alpha_composite(under, picture.convert("RGBA")).convert("RGB")
            return picture.convert("RGB")
    except FileNotFoundError:
        raise SkipView(f"The picture {path.name} does not exist any more.") from None
    except UNREADABLE as problem:
        raise SkipView(f"The picture {path.name} cannot be read ({problem}); save it again.") from None


def _decode_exr(path: Path, background: tuple[int, int, int]) -> Image.Image:
    """An OpenEXR picture: linear, with premultiplied alpha, as such files are; what is brighter than white is white."""
    try:
        pixels = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as problem:
        raise ValueError(problem.err or "damaged") from None
    if pixels is None:
        raise ValueError("its pixels are damaged or of a kind that is not known")
    pixels = np.nan_to_num(pixels.astype(np.float32), posinf=1.0, neginf=0.0)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    colour = pixels[..., 2::-1] if pixels.shape[2] >= 3 else pixels[..., :1].repeat(3, axis=2)  # from OpenCV's BGR
    if pixels.shape[2] == 4:
        under = np.asarray(background, np.float32) / 255
        linear = np.where(under <= 0.04045, under / 12.92, ((under + 0.055) / 1.055) ** 2.4)
        colour = colour + (1 - np.clip(pixels[..., 3:], 0, 1)) * linear
    colour = np.clip(colour, 0, 1)
    encoded = np.where(colour <= 0.0031308, colour * 12.92, 1.055 * colour ** (1 / 2.4) - 0.055)
    return Image.fromarray((encoded * 255 + 0.5).astype(np.uint8))


def decode_mask(path: Path, size: tuple[int, int]) -> Image.Image:
    """A mask at the size of its photo, RGB: white where it is at least half as bright as at its brightest, else black.

    Raises SkipView.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            picture.load()
            values = np.asarray(picture if picture.mode.startswith(("I", "F")) else picture.convert("L"))
    except FileNotFoundError:
        raise SkipView(f"The mask {path.name} does not exist any more.") from None
    except UNREADABLE as problem:
        raise SkipView(f"The mask {path.name} cannot be read ({problem}); save it again.") from None
    top = float(values.max())
    white = (values >= top / 2).astype(np.uint8) * (255 if top > 0 else 0)
    mask = Image.fromarray(white)
    return (mask if mask.size == size else mask.resize(size, Image.Resampling.NEAREST)).convert("RGB")


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
    """The pinhole picture, (height, width, 3) uint8, of an RGB photo taken through `lens`.

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
    out = np.empty((intrinsics.height, intrinsics.width, 3), dtype=np.uint8)
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
