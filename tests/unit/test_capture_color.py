# SPDX-License-Identifier: GPL-3.0-or-later
"""Colors as a photo's file says that they are meant; the right ones worked out here from the standards' numbers."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from capture_on_disk import transforms, write
from icc import ADOBE_RGB, DISPLAY_P3, SRGB, gray_profile, ink_profile, rgb_profile, to_d50
from PIL import Image, ImageCms

from engine.capture import open_capture, write_images
from engine.capture.decoding import decode
from engine.capture.photos import stored_size

COLORS = [(200, 90, 60), (60, 160, 90), (30, 40, 200), (128, 128, 128), (250, 250, 245)]
BLACK = (0, 0, 0)


def srgb(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def meant(primaries: tuple[float, ...], gamma: float) -> np.ndarray:
    """(N, 3) sRGB of COLORS."""
    linear = (np.array(COLORS) / 255) ** gamma
    return srgb(linear @ to_d50(primaries).T @ np.linalg.inv(to_d50(SRGB)).T)


def patches(mode: str = "RGB") -> Image.Image:
    """COLORS in patches of 16 × 16 pixels."""
    return Image.fromarray(np.repeat(np.repeat(np.array([COLORS], np.uint8), 16, axis=0), 16, axis=1)).convert(mode)


def shown(path: Path) -> np.ndarray:
    """(N, 3) the color in the middle of each patch."""
    return np.asarray(decode(path, BLACK)).astype(float)[8, 8::16]


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp", "avif", "heic"])
@pytest.mark.parametrize("space", [(DISPLAY_P3, 2.2), (ADOBE_RGB, 2.19921875), (SRGB, 1.0)])
def test_embedded_profiles(tmp_path: Path, ending: str, space: tuple[tuple[float, ...], float]) -> None:
    path = tmp_path / f"a.{ending}"
    if ending == "heic":
        import pillow_heif

        pillow_heif.register_heif_opener()
    saving = {"png": {}, "tif": {}, "webp": {"lossless": True}}.get(ending, {"quality": 100})
    saving |= {"subsampling": 0} if ending == "jpg" else {}
    saving |= {"subsampling": "4:4:4"} if ending == "avif" else {}
    saving |= {"chroma": 444} if ending == "heic" else {}
    patches().save(path, icc_profile=rgb_profile(*space), **saving)
    off = np.abs(shown(path) - meant(*space)).max()
    # What a codec rounds, a linear profile makes four times as large in the darks.
    assert off < {"png": 2, "tif": 2, "webp": 2}.get(ending, 6 if space[1] > 1.5 else 9), off
    assert np.abs(shown(path) - COLORS).max() > 8  # the profile does something


@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_transparent_with_a_profile(tmp_path: Path, ending: str) -> None:
    picture = patches("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 80, 4))
    path = tmp_path / f"a.{ending}"
    saving = {"lossless": True, "exact": True} if ending == "webp" else {}
    picture.save(path, icc_profile=rgb_profile(DISPLAY_P3, 2.2), **saving)
    assert np.abs(shown(path) - meant(DISPLAY_P3, 2.2)).max() < 2
    # The background is sRGB's already.
    assert tuple(np.asarray(decode(path, (10, 200, 30)))[0, 0]) == (10, 200, 30)


def test_palettes_with_a_profile(tmp_path: Path) -> None:
    patches().quantize(16, dither=0).save(tmp_path / "a.png", icc_profile=rgb_profile(DISPLAY_P3, 2.2))
    assert np.abs(shown(tmp_path / "a.png") - meant(DISPLAY_P3, 2.2)).max() < 4


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_gray_profiles(tmp_path: Path, bits: int, ending: str) -> None:
    gray = np.repeat(np.repeat([[20, 90, 128, 200, 250]], 16, axis=0), 16, axis=1)
    pixels = gray.astype(np.uint8) if bits == 8 else (gray * 257).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / f"a.{ending}", icc_profile=gray_profile(1.8))
    right = srgb((gray[8, 8::16] / 255) ** 1.8)
    assert np.abs(shown(tmp_path / f"a.{ending}") - right[:, None]).max() < 2


def test_inks(tmp_path: Path) -> None:
    """A CMYK profile of our own, by which black ink is red: without it Pillow shows black."""
    lab = lambda c, m, y, k: (53.24, 80.0, 67.0) if k else (100.0, 0.0, 0.0)  # noqa: E731  sRGB's red, and white
    inks = np.zeros((16, 32, 4), np.uint8)
    inks[:, 16:, 3] = 255
    Image.fromarray(inks, "CMYK").save(tmp_path / "a.tif", icc_profile=ink_profile(lab))
    left, right = np.asarray(decode(tmp_path / "a.tif", BLACK))[8, [8, 24]].astype(int)
    assert left.min() > 250 and np.abs(right - (255, 0, 0)).max() < 12, right
    Image.fromarray(inks, "CMYK").save(tmp_path / "b.jpg", quality=100)  # none: as Pillow has it
    left, right = np.asarray(decode(tmp_path / "b.jpg", BLACK))[8, [8, 24]]
    assert left.min() > 250 and right.max() < 5


def test_adobe_rgb_that_only_exif_tells(tmp_path: Path) -> None:
    """Cameras set to Adobe RGB embed no profile: EXIF says “uncalibrated”, and R03 among its notes on exchange."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 0xFFFF
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    patches().save(tmp_path / "a.jpg", quality=100, subsampling=0, exif=exif)
    assert np.abs(shown(tmp_path / "a.jpg") - meant(ADOBE_RGB, 2.19921875)).max() < 4
    exif.get_ifd(0x8769)[0xA005] = {1: "R98"}
    patches().save(tmp_path / "b.jpg", quality=100, subsampling=0, exif=exif)
    assert np.abs(shown(tmp_path / "b.jpg") - COLORS).max() < 4


def test_srgb_stays_as_it_is(tmp_path: Path) -> None:
    """Bit for bit, with and without a profile that says so."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=profile)
    Image.fromarray(pixels).save(tmp_path / "b.png")
    assert all((np.asarray(decode(tmp_path / name, BLACK)) == pixels).all() for name in ("a.png", "b.png"))


@pytest.mark.parametrize(
    "profile", [b"nonsense", rgb_profile(DISPLAY_P3, 2.2)[:200], gray_profile(1.8), ink_profile(lambda *_: (50, 0, 0))]
)
def test_profiles_that_are_none_of_its_own_count_for_nothing(tmp_path: Path, profile: bytes) -> None:
    patches().save(tmp_path / "a.png", icc_profile=profile)
    assert np.abs(shown(tmp_path / "a.png") - COLORS).max() == 0


def test_a_png_of_linear_light(tmp_path: Path) -> None:
    patches().save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    body = b"gAMA" + struct.pack(">I", 100_000)
    chunk = struct.pack(">I", 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    assert np.abs(shown(tmp_path / "a.png") - srgb(np.array(COLORS) / 255)).max() <= 1


def test_an_exr_of_other_primaries(tmp_path: Path) -> None:
    linear = ((np.asarray(patches()) / 255.0) ** 2.2).astype(np.float32)
    assert cv2.imwrite(str(tmp_path / "a.exr"), np.ascontiguousarray(linear[..., ::-1]))
    data = (tmp_path / "a.exr").read_bytes()
    assert np.abs(shown(tmp_path / "a.exr") - meant(SRGB, 2.2)).max() < 2
    field = b"chromaticities\0chromaticities\0" + struct.pack("<I8f", 32, *DISPLAY_P3)
    end = data.index(b"compression\0")
    # The table of where rows lie counts from the file's beginning.
    moved = bytearray(data[:end] + field + data[end:])
    head_end = _header_end(bytes(moved))
    count = (struct.unpack_from("<Q", moved, head_end)[0] - (head_end - len(field))) // 8
    for index in range(count):
        (at,) = struct.unpack_from("<Q", moved, head_end + 8 * index)
        struct.pack_into("<Q", moved, head_end + 8 * index, at + len(field))
    (tmp_path / "a.exr").write_bytes(moved)
    assert np.abs(shown(tmp_path / "a.exr") - meant(DISPLAY_P3, 2.2)).max() < 2


def _header_end(data: bytes) -> int:
    at = 8
    while data[at]:
        name = data.index(b"\0", at)
        kind = data.index(b"\0", name + 1)
        at = kind + 5 + struct.unpack_from("<i", data, kind + 1)[0]
    return at + 1


@pytest.mark.parametrize("bits", [12, 16])
def test_gray_tiffs_of_other_depths(tmp_path: Path, bits: int) -> None:
    """Twelve bits in sixteen, and black and white exchanged."""
    levels = np.repeat(np.repeat([[0, 64, 128, 255]], 16, axis=0), 16, axis=1)
    for inverted in (False, True)[: 2 if bits == 16 else 1]:  # which Pillow does not read of twelve
        values = levels * ((1 << bits) - 1) // 255
        values = (1 << bits) - 1 - values if inverted else values
        path = tmp_path / f"{bits}-{inverted}.tif"
        path.write_bytes(_gray_tiff(values, bits, 0 if inverted else 1))
        assert np.abs(np.asarray(decode(path, BLACK)).astype(int)[8, 8::16, 0] - (0, 64, 128, 255)).max() <= 1


def _gray_tiff(values: np.ndarray, bits: int, photometric: int) -> bytes:
    height, width = values.shape
    if bits == 16:
        data = values.astype("<u2").tobytes()
    else:
        pairs = values.reshape(-1, 2)
        packed = [pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255]
        data = np.stack(packed, axis=1).astype(np.uint8).tobytes()
    fields = [(256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 200),
              (277, 3, 1), (278, 3, height), (279, 4, len(data))]  # fmt: skip
    ifd = struct.pack("<H", len(fields)) + b"".join(struct.pack("<HHII", tag, kind, 1, v) for tag, kind, v in fields)
    return (b"II*\0" + struct.pack("<I", 8) + ifd + bytes(4)).ljust(200, b"\0") + data


@pytest.mark.parametrize("channels", [1, 3])
def test_tiffs_of_floating_point_are_linear_light(tmp_path: Path, channels: int) -> None:
    linear = np.repeat(np.repeat(np.float32([[0.0, 0.0030, 0.2140, 0.5, 3.0]]), 16, axis=0), 16, axis=1)
    right = np.array((0, 9.9, 127.5, 188, 255))
    if channels == 1:
        Image.fromarray(linear).save(tmp_path / "a.tif")
    else:
        tifffile.imwrite(tmp_path / "a.tif", np.stack([linear, linear, linear * 0], axis=-1), photometric="rgb")
        assert cv2.imwrite(str(tmp_path / "luv.tif"), np.stack([linear] * 3, axis=-1))  # as logarithms of light
        assert np.abs(shown(tmp_path / "luv.tif") - right[:, None]).max() <= 3
    found = shown(tmp_path / "a.tif")
    assert np.abs(found[:, 0] - right).max() <= 1 and (found[:, 2] == (0 if channels == 3 else found[:, 0])).all()
    linear[0, 0] = np.nan
    Image.fromarray(linear).save(tmp_path / "b.tif")
    assert tuple(np.asarray(decode(tmp_path / "b.tif", BLACK))[0, 0]) == BLACK


def test_pictures_of_several(tmp_path: Path) -> None:
    """Phones and stereo cameras keep several pictures in one JPEG: the first is the photo."""
    others = [Image.new("RGB", (80, 16), "red")]
    patches().save(tmp_path / "a.mpo", save_all=True, append_images=others, quality=100, subsampling=0)
    (tmp_path / "a.mpo").rename(tmp_path / "a.jpg")
    assert stored_size(tmp_path / "a.jpg") == (80, 16)
    assert np.abs(shown(tmp_path / "a.jpg") - COLORS).max() < 4


def test_pinhole_pictures_are_srgb(tmp_path: Path) -> None:
    """What `capture/images` writes, of a capture whose photos have a profile."""
    write(tmp_path, transforms(2, fl_x=60.0, fl_y=60.0))
    for index in range(2):
        picture = Image.new("RGB", (64, 48), COLORS[0])
        picture.save(tmp_path / f"images/{index}.png", icc_profile=rgb_profile(DISPLAY_P3, 2.2))
    capture = open_capture(tmp_path, 64)
    write_images(capture, tmp_path / "made")
    found = np.asarray(Image.open(tmp_path / "made/0.png"))[24, 32]
    assert np.abs(found - meant(DISPLAY_P3, 2.2)[0]).max() < 2
