# SPDX-License-Identifier: GPL-3.0-or-later
"""Photos without cameras: what is found, what is said where nothing is, and a cancel that leaves nothing."""

from __future__ import annotations

import itertools
import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from capture_on_disk import photo, shared

from engine.capture import CaptureError, open_capture
from engine.capture.registration import find_photos, register
from engine.capture.registration_worker import ALL_PAIRS_UP_TO, _blocks, _pairs, sharpness
from engine.errors import Cancelled


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
    assert len(pairs) < 15 * count * 2 and all((a, a + 1) in pairs for a in range(count - 1)) and (0, 256) in pairs


def test_photos_are_found_in_order(tmp_path: Path) -> None:
    for name in ("10.jpg", "9.JPG", ".hidden.jpg", "notes.txt"):
        photo(tmp_path / "images" / name) if "txt" not in name else (tmp_path / "images" / name).write_text("")
    assert [path.name for path in find_photos(tmp_path)] == ["9.JPG", "10.jpg"]
    assert find_photos(tmp_path / "nothing") == []
    with pytest.raises(CaptureError, match="holds 2 photos and no cameras") as caught:
        open_capture(tmp_path, 64)
    assert caught.value.field == "photos"
    (tmp_path / "walk.MP4").write_bytes(b"")
    with pytest.raises(CaptureError, match="is a video") as caught:
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
    from engine.capture import registration_worker as worker

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
