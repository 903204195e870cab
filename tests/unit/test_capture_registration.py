# SPDX-License-Identifier: GPL-3.0-or-later
"""Photos without cameras: what is found, what is said where nothing is, and a cancel that leaves nothing."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from capture_on_disk import photo, shared
from PIL import Image

from engine import protocol
from engine.capture import CaptureError, open_capture, photos
from engine.capture import registration_worker as worker
from engine.capture.effort import ALL_PAIRS_UP_TO, how_many_pairs, told
from engine.capture.effort import pairs as _pairs
from engine.capture.panorama import panoramas
from engine.capture.photos import SkipView
from engine.capture.registration import find_photos, register
from engine.capture.registration_worker import _blocks, sharpness
from engine.errors import Cancelled
from engine.jobs import registration as job
from engine.progress import Job
from tests.corner import corner, walk


def textured(path: Path, seed: int) -> None:
    """A sharp picture of nothing that any other shows."""
    noise = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC))


def similarity(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """(scale, rotation (3, 3), shift (3,)) that brings points (N, 3) onto others, least squares (Umeyama 1991)."""
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    u, d, vt = np.linalg.svd(b.T @ a / len(a))
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ np.diag(sign) @ vt
    scale = (d * sign).sum() / (a**2).sum(axis=1).mean()
    return scale, rotation, target.mean(axis=0) - scale * rotation @ source.mean(axis=0)


def residuals(found: Path, given: Path) -> tuple[int, np.ndarray, np.ndarray]:
    """Of cameras found and given of the same pictures: how many, distances in % of the scene's radius, degrees."""
    ours = {Path(s.file).name: v.pose for v, s in _of(open_capture(found, 240))}
    opened = open_capture(given, 240)
    theirs = {Path(s.file).name: v.pose for v, s in _of(opened)}
    common = sorted(ours.keys() & theirs.keys())
    a, b = np.stack([ours[name] for name in common]), np.stack([theirs[name] for name in common])
    scale, rotation, shift = similarity(a[:, :3, 3], b[:, :3, 3])
    distances = np.linalg.norm(scale * a[:, :3, 3] @ rotation.T + shift - b[:, :3, 3], axis=1) / opened.radius * 100
    turned = np.einsum("ij,njk,nlk->nil", rotation, a[:, :3, :3], b[:, :3, :3])
    degrees = np.degrees(np.arccos(np.clip((np.trace(turned, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    return len(common), distances, degrees


def _of(capture):
    return zip(capture.views, capture.sources, strict=True)


def test_similarity_is_found_again() -> None:
    rng = np.random.default_rng(0)
    points, (rotation, _) = rng.normal(size=(10, 3)), np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    scale, found, shift = similarity(points, 2.5 * points @ rotation.T + (1, 2, 3))
    assert np.isclose(scale, 2.5) and np.allclose(found, rotation) and np.allclose(shift, (1, 2, 3))


def test_which_photos_are_compared() -> None:
    assert list(_pairs(4)) == list(itertools.combinations(range(4), 2))
    count = ALL_PAIRS_UP_TO + 300
    pairs = set(_pairs(count))
    assert sorted(pair for block in _blocks(iter(pairs)) for pair in block) == sorted(pairs)
    for number in (0, 1, 2, ALL_PAIRS_UP_TO, ALL_PAIRS_UP_TO + 1, count):
        assert how_many_pairs(number) == len(list(_pairs(number)))
    assert len(pairs) < 15 * count * 2 and all((a, a + 1) in pairs for a in range(count - 1)) and (0, 256) in pairs


def test_how_long_it_takes_is_said_before() -> None:
    assert told(3) == "That takes about a minute."
    assert told(50) == "That takes about 4 minutes."  # 50 × 1.4 s and 1,225 × 0.1
    assert told(2000) == "That takes about 2 hours."  # 2,800 s and 49,774 × 0.1


def test_photos_are_found_in_order(tmp_path: Path) -> None:
    for name in ("10.jpg", "9.JPG", ".hidden.jpg", "notes.txt"):
        photo(tmp_path / "images" / name) if "txt" not in name else (tmp_path / "images" / name).write_text("")
    assert [path.name for path in find_photos(tmp_path)] == ["9.JPG", "10.jpg"]
    assert find_photos(tmp_path / "nothing") == []
    with pytest.raises(CaptureError, match=r"holds 2 photos and no cameras.* That takes about a minute\.$") as caught:
        open_capture(tmp_path, 64)
    assert caught.value.field == "photos"
    (tmp_path / "walk.MP4").write_bytes(b"")
    with pytest.raises(CaptureError, match=r"is a video.* That takes about 23 minutes\.$") as caught:
        open_capture(tmp_path / "walk.MP4", 64)
    assert caught.value.field == "photos"


def refused(source: Path, tmp_path: Path) -> str:
    with pytest.raises(CaptureError) as caught:
        register(source, tmp_path / "project/registered", long_side=640, threads=2)
    assert not list((tmp_path / "project").glob("*")) and not list((tmp_path / "project").glob(".*"))
    assert caught.value.field == "photos" and caught.value.file == str(source)
    return caught.value.message


def test_too_few_photos(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    for index in range(2):
        textured(tmp_path / f"photos/{index}.jpg", index)
    (tmp_path / "photos/2.jpg").write_text("not a picture")
    said = refused(tmp_path / "photos", tmp_path)
    assert "holds 2 photos that can be read" in said and "2.jpg" in said


def test_photos_without_detail(tmp_path: Path) -> None:
    for index in range(4):
        photo(tmp_path / f"photos/{index}.jpg", 640, 480)
        cv2.imwrite(str(tmp_path / f"photos/{index}.jpg"), np.full((480, 640, 3), 50 * index, np.uint8))
    assert "Only 0 of 4 photos show enough detail" in refused(tmp_path / "photos", tmp_path)


def test_photos_without_overlap(tmp_path: Path) -> None:
    for index in range(4):
        textured(tmp_path / f"photos/photo {index}.jpg", index)
    assert "No overlap was found between the 4 photos: 0 pairs" in refused(tmp_path / "photos", tmp_path)


def test_a_video_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "walk.mp4").write_bytes(b"not a video" * 100)
    assert "walk.mp4 cannot be read" in refused(tmp_path / "walk.mp4", tmp_path)


def test_the_sharpest_frames_of_a_video(tmp_path: Path) -> None:
    """Frames that show the same, most of them blurred: every fifth is sharp, and those are what is kept."""
    size = (320, 240)
    video = cv2.VideoWriter(str(tmp_path / "walk.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, size)
    rng = np.random.default_rng(0)
    sharp = cv2.resize(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8), size, interpolation=cv2.INTER_CUBIC)
    for index in range(25):
        video.write(sharp if index % 5 == 3 else cv2.GaussianBlur(sharp, (0, 0), 3))
    video.release()
    (tmp_path / "images").mkdir()
    said: list[object] = []
    names = list(worker._frames_of_video(tmp_path / "walk.avi", tmp_path / "images", 5, said.append))
    assert names == [f"{index:05d}.jpg" for index in range(5)] and said[0] == worker.Plan({"video": 25, "features": 5})
    kept = [sharpness(cv2.imread(str(tmp_path / "images" / name))) for name in names]
    assert min(kept) > 0.7 * sharpness(sharp)


def test_a_cancel_leaves_nothing(tmp_path: Path) -> None:
    for index in range(12):
        textured(tmp_path / f"photos/{index}.jpg", index)
    folder = tmp_path / "project/registered"
    folder.mkdir(parents=True)
    (folder / "before.txt").write_text("what was there")
    steps: list[str] = []
    asked = 0.0

    def should_stop() -> bool:
        nonlocal asked
        if steps and not asked:
            asked = time.monotonic()
        return bool(asked)

    with pytest.raises(Cancelled):
        register(tmp_path / "photos", folder, lambda units: None, lambda s, d: steps.append(s), should_stop, 640, 2)
    assert time.monotonic() - asked < 2
    assert [path.name for path in folder.parent.iterdir()] == ["registered"]
    assert [path.name for path in folder.iterdir()] == ["before.txt"] and len(
        list(find_photos(tmp_path / "photos"))
    ) == 12


@pytest.mark.slow
def test_fox_without_its_poses(tmp_path: Path) -> None:
    given = shared("captures/fox")
    shutil.copytree(given / "images", tmp_path / "photos")
    found, left_out = register(tmp_path / "photos", tmp_path / "registered", long_side=1000, threads=2)
    assert (found.photos, left_out) == (50, []) and found.registered >= 48
    count, distances, degrees = residuals(tmp_path / "registered", given)
    print(f"{count} cameras: {np.median(distances):.2f} % (worst {distances.max():.2f} %) of the radius, "
          f"{np.median(degrees):.2f}° (worst {degrees.max():.2f}°)")  # fmt: skip
    assert count == found.registered and np.median(distances) < 0.5 and np.median(degrees) < 0.3


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".heic":
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.fromarray(pixels).save(path, quality=95)


@pytest.mark.slow
@pytest.mark.parametrize(
    "pattern", ["#{:02d} garden.jpg", "a b/{:02d}  #x.webp", "IMG_{:02d}.HEIC", "{:02d}.avif", "DCIM/10{}CANON/IMG.JPG"]
)
def test_names_and_kinds(tmp_path: Path, pattern: str) -> None:
    """Cameras are found for each, and it opens with the photos as they are: their names, pixels and kinds."""
    names = [pattern.format(index) for index in range(6)]
    for name, pixels in zip(names, walk(6), strict=True):
        save(pixels, tmp_path / "photos" / name)
    found, left_out = register(tmp_path / "photos", tmp_path / "registered", threads=1)
    assert (found.photos, found.registered, found.apart, left_out) == (6, 6, 0, [])
    capture = open_capture(tmp_path / "registered", 400)
    own = {Path(name).name if "DCIM" not in name else name for name in names}
    assert {Path(source.file).relative_to("images").as_posix() for source in capture.sources} == own
    assert all((source.width, source.height) == (400, 300) for source in capture.sources)
    assert sorted(path.name for path in (tmp_path / "registered").iterdir()) == ["images", "sparse"]


@pytest.mark.slow
def test_links_and_names_of_other_encodings(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, pixels in enumerate(walk(5)):
        save(pixels, tmp_path / f"disk/{index}.jpg")
        (folder / f"{index}.jpg").symlink_to(Path("../disk") / f"{index}.jpg")
    (folder / "0.jpg").rename(folder / os.fsdecode(b"\xff\xd6.jpg"))
    found, left_out = register(folder, tmp_path / "registered", threads=1)
    assert found.registered == 5 and not left_out
    (tmp_path / "photos").rename(tmp_path / "moved")  # relative links would not lead there any more
    assert len(open_capture(tmp_path / "registered", 400).views) == 5


@pytest.mark.slow
def test_pieces_are_counted_by_their_photos(tmp_path: Path) -> None:
    """Two places that have nothing in common: the smaller one's photos are said to hang together elsewhere."""
    for index, pixels in enumerate(walk(6)):
        save(pixels, tmp_path / f"photos/a{index}.jpg")
    for index, x in enumerate(np.linspace(-0.5, 0.5, 4)):
        save(corner(np.array((x, -0.2 * x, 2.0)), np.array((-3.0, -1.0, -3.0))), tmp_path / f"photos/b{index}.jpg")
    found, _ = register(tmp_path / "photos", tmp_path / "registered", threads=1)
    assert found.registered >= 6 and found.registered + found.apart <= found.photos == 10
    assert found.apart in (0, 4) and (found.apart == 4) == (found.registered == 6)


def test_what_colmap_looks_at(tmp_path: Path) -> None:
    """The photo itself where COLMAP reads its kind, whatever it is called; else a copy, as large and with its EXIF."""
    pixels = walk(1)[0]
    for name, kind, ending in (
        ("a.jpg", "JPEG", ".jpg"), ("b.jpg", "HEIF", ".jpg"), ("c.png", "JPEG", ".jpg"), ("d.TIFF", "TIFF", ".tif"),
        ("e.webp", "WEBP", ".jpg"), ("f.png", "PNG", ".png"), ("g.avif", "AVIF", ".jpg"),
    ):  # fmt: skip
        save(pixels, tmp_path / "warm up.heic")
        exif = Image.Exif()
        exif[271] = "maker"
        exif.get_ifd(0x8769)[0x920A] = 35.0  # focal length
        Image.fromarray(pixels).save(tmp_path / name, format=kind, exif=exif)
        made = tmp_path / worker._compared(tmp_path / name, tmp_path / f"{name}-")
        assert made.suffix == ending
        with Image.open(made) as picture:
            assert picture.format == {".jpg": "JPEG", ".tif": "TIFF", ".png": "PNG"}[ending]
            assert picture.size == (400, 300)
            assert ending != ".jpg" or picture.getexif().get_ifd(0x8769).get(0x920A) == 35.0, name
        assert (made.stat().st_ino == (tmp_path / name).stat().st_ino) == (kind in ("JPEG", "TIFF", "PNG"))


def test_panoramas_get_no_cameras(tmp_path: Path) -> None:
    for index, x in enumerate(np.linspace(-0.5, 0.5, 4)):
        place = np.array((x, 0.1, 0.0))
        save(corner(place, place + np.array((0.3, 0, 1)), (512, 256), around=True), tmp_path / f"photos/{index}.jpg")
    said = refused(tmp_path / "photos", tmp_path)
    assert "360° panoramas" in said and "flat" in said


def test_which_photos_are_panoramas(tmp_path: Path) -> None:
    paths = {}
    for index, x in enumerate(np.linspace(-0.5, 0.5, 4)):
        place = np.array((x, 0.1, 0.0))
        wide = corner(place, place + np.array((0.3, 0, 1)), (512, 256), around=True)
        flat = corner(place, place + np.array((0.3, 0, 1)), (512, 256))
        studio = np.full((256, 512, 3), 240, np.uint8)
        studio[:, 150:350] = flat[:, 150:350]  # an object before an even wall, alike at both edges
        for name, pixels in (("around", wide), ("flat", flat), ("studio", studio)):
            save(pixels, tmp_path / f"{name}{index}.png")
            paths.setdefault(name, []).append(tmp_path / f"{name}{index}.png")
    assert panoramas(paths["around"]) == paths["around"]
    assert panoramas(paths["flat"]) == panoramas(paths["studio"]) == panoramas([tmp_path / "nothing.jpg"]) == []
    # What says so itself, of whatever shape: a part of one, and a phone's.
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><GPano:ProjectionType>equirectangular</GPano:ProjectionType></x:xmpmeta>'
    )
    Image.new("RGB", (300, 200)).save(tmp_path / "said.jpg", xmp=xmp)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA401] = 6
    Image.new("RGB", (800, 200)).save(tmp_path / "phone.jpg", exif=exif)
    both = [tmp_path / "said.jpg", tmp_path / "phone.jpg"]
    assert panoramas([*both, paths["flat"][0]]) == both


def test_a_photo_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not called damaged."""
    photo(tmp_path / "a.jpg")
    monkeypatch.setattr(photos, "open_file", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EACCES, "no")))
    with pytest.raises(SkipView, match=r"no permission to read the picture a\.jpg"):
        photos.read_header(tmp_path / "a.jpg")


def test_what_is_told_of_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces are told of only where photos lie in them."""
    for found, parts in (
        (worker.Found(10, 10, 0), []),
        (worker.Found(10, 7, 0), ["7 of 10"]),
        (worker.Found(10, 6, 4), ["6 of 10", "4 of the others hang together"]),
    ):
        monkeypatch.setattr(job, "register", lambda *_, found=found: (found, []))
        request = protocol.RegisterPhotos(str(tmp_path / "w"), str(tmp_path))
        notes = job.register_photos(request, Job()).notes
        assert len(notes) == len(parts) and all(part in note for part, note in zip(parts, notes, strict=True))
