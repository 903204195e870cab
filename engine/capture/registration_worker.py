# SPDX-License-Identifier: GPL-3.0-or-later
"""The process in which pycolmap finds the cameras of photos: `python -m engine.capture.registration_worker`.

A process of its own, because pycolmap's calls cannot be interrupted and may end it. Its first line of input is a
`Request`; lines of JSON leave on standard output, one of `Plan`, `Step`, `Failed` and `Found` each. Everything is made
in the folder given: `images/`, `sparse/0/` and the database. It ends when its standard input does, so that it outlives
nobody.
"""

from __future__ import annotations

import errno
import itertools
import math
import os
import re
import shutil
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import cv2
import msgspec
import numpy as np

from engine.capture.photos import stored_size

OPENCV_FROM = 20  # photos of one camera: enough to tell its tangential distortion from its poses
ALL_PAIRS_UP_TO = 200  # photos; of more, each is compared with those near it in order
NEIGHBOURS = 20
MATCHING = 15  # details that two photos must share by one geometry to be said to match; COLMAP's own number
_FULL = re.compile(r"disk is full|no space left", re.IGNORECASE)
_LOOKED_AT = 8  # frames of a video for each that is kept
_BLOCK = 8  # photos: what is known of a photo to compare it is worked out once for each two blocks


class Request(msgspec.Struct):
    """`photos` are paths of pictures in order, or `video` is one; at most `most_frames` of a video are kept."""

    folder: str
    photos: list[str]
    video: str | None
    most_frames: int
    long_side: int  # of the pictures as they are compared, pixels
    threads: int


class Plan(msgspec.Struct, tag="plan"):
    """Units of work ahead, by stage."""

    units: dict[str, int]


class Step(msgspec.Struct, tag="step"):
    stage: str
    done: int


class Failed(msgspec.Struct, tag="failed"):
    """A sentence about the photos or, where the system failed, the number of its error."""

    sentence: str
    errno: int | None = None


class Found(msgspec.Struct, tag="found"):
    """Of `photos` pictures, the cameras of `registered` were found; all in `pieces` that do not hang together."""

    photos: int
    registered: int
    pieces: int


class _NoCameras(Exception):
    """The photos cannot be used; the message is a sentence for the artist."""


def main() -> None:
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print
    request = msgspec.json.decode(sys.stdin.buffer.readline(), type=Request)
    threading.Thread(target=_leave_with_parent, daemon=True).start()

    def say(message: Plan | Step | Failed | Found) -> None:
        out.write(msgspec.json.encode(message) + b"\n")

    try:
        say(_find_cameras(request, say))
    except _NoCameras as problem:
        say(Failed(str(problem)))
    except BaseException as problem:
        traceback.print_exc()
        code = problem.errno if isinstance(problem, OSError) else None
        if code is None and _FULL.search(str(problem)):  # SQLite's, by COLMAP
            code = errno.ENOSPC
        if code is not None:
            say(Failed(str(problem), code))
        os._exit(1)
    os._exit(0)  # without waiting for the thread that reads


def _leave_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def _find_cameras(request: Request, say) -> Found:
    import pycolmap

    folder, images = Path(request.folder), Path(request.folder) / "images"
    images.mkdir(parents=True)
    if request.video is not None:
        names = list(_frames_of_video(Path(request.video), images, request.most_frames, say))
    else:
        names = _copied(request.photos, images)
    blocks = _blocks(_pairs(len(names)))
    pairs = sum(map(len, blocks))
    say(Plan({"features": len(names), "matches": pairs, "cameras": len(names)}))
    if len(names) < 3:
        raise _NoCameras(f"There are {len(names)} photos; cameras need at least 3 that show the same things.")

    pycolmap.set_random_seed(0)
    database = folder / "database.db"
    sizes = {stored_size(images / name) for name in names}
    mode = pycolmap.CameraMode.SINGLE if len(sizes) == 1 else pycolmap.CameraMode.AUTO
    reader = pycolmap.ImageReaderOptions()
    one_camera = len(sizes) == 1 and len(names) >= OPENCV_FROM
    reader.camera_model = "OPENCV" if one_camera else "SIMPLE_RADIAL"
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.num_threads = request.threads
    extraction.max_image_size = request.long_side
    pycolmap.Database.open(database).close()
    pycolmap.import_images(database, images, mode, names, reader)
    device = pycolmap.Device.cpu
    for done in range(0, len(names), request.threads):
        some = names[done : done + request.threads]
        pycolmap.extract_features(database, images, some, mode, reader, extraction, device)
        say(Step("features", min(done + request.threads, len(names))))

    matching = pycolmap.FeatureMatchingOptions()
    matching.num_threads = request.threads
    pairing = pycolmap.ImportedPairingOptions()
    pairing.match_list_path = folder / "pairs.txt"
    compared = 0
    for block in blocks:
        pairing.match_list_path.write_text("".join(f"{names[a]} {names[b]}\n" for a, b in block), encoding="utf-8")
        pycolmap.match_image_pairs(database, matching, pairing, device=device)
        compared += len(block)
        say(Step("matches", compared))
    _check_matches(database, len(names))

    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = request.threads
    options.min_model_size = 3
    registered = itertools.count(3)  # the first two are one step, without a call
    models = pycolmap.incremental_mapping(
        database, images, folder, options,
        next_image_callback=lambda: say(Step("cameras", min(next(registered), len(names)))),
    )  # fmt: skip
    return _keep_largest(models, folder, len(names), one_camera)


def _copied(photos: list[str], images: Path) -> list[str]:
    """Each photo in the folder `images`, under its own name: a link to the file where the disk allows it."""
    names = []
    for photo in map(Path, photos):
        # COLMAP's lists of pairs are parted by spaces.
        name = "_".join(photo.name.split())
        while name in names:
            name = f"_{name}"
        try:
            os.link(photo, images / name)
        except OSError:
            shutil.copyfile(photo, images / name)
        names.append(name)
    return names


def _pairs(count: int) -> Iterator[tuple[int, int]]:
    """Which photos to compare: all with all where they are few, else near ones, and ever fewer farther ones."""
    for a in range(count):
        far = {a + 2**power for power in range(5, 20)}
        for b in range(a + 1, count):
            if count <= ALL_PAIRS_UP_TO or b - a <= NEIGHBOURS or b in far:
                yield a, b


def _blocks(pairs: Iterator[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """The pairs, those of the same two blocks of photos together."""
    blocks: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for a, b in pairs:
        blocks.setdefault((a // _BLOCK, b // _BLOCK), []).append((a, b))
    return list(blocks.values())


def _frames_of_video(path: Path, images: Path, most: int, say) -> Iterator[str]:
    """Keeps the sharpest frame of each of `most` equal stretches of a video, or of fewer. Raises _NoCameras."""
    video = cv2.VideoCapture(str(path))
    try:
        total = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        if not video.isOpened() or total <= 0:
            raise _NoCameras(f"The video {path.name} cannot be read; convert it to MP4 (H.264).")
        stretch = max(1, math.ceil(total / most))
        every = max(1, stretch // _LOOKED_AT)
        say(Plan({"video": total, "features": math.ceil(total / stretch)}))
        best: tuple[float, np.ndarray] | None = None
        kept = 0
        for index in itertools.count():
            good = video.grab()
            if index % stretch == 0 or not good:
                if best is not None:
                    name = f"{kept:05d}.jpg"
                    if not cv2.imwrite(str(images / name), best[1], [cv2.IMWRITE_JPEG_QUALITY, 95]):
                        raise _NoCameras(f"The frames of {path.name} cannot be written; is the disk full?")
                    yield name
                    kept += 1
                    say(Step("video", min(index, total)))
                best = None
            if not good or kept >= 2 * most:  # more than it said that it has
                break
            if index % every == 0:
                read, frame = video.retrieve()
                if read and (best is None or sharpness(frame) > best[0]):
                    best = sharpness(frame), frame
    finally:
        video.release()


def sharpness(frame: np.ndarray) -> float:
    """Variance of the Laplacian of a picture reduced to about 640 pixels."""
    scale = max(1, max(frame.shape[:2]) // 640)
    small = cv2.resize(frame, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY) if small.ndim == 3 else small
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


def _check_matches(database: Path, photos: int) -> None:
    """Raises _NoCameras where mapping has nothing to begin with, saying what is wrong with the photos."""
    import pycolmap

    with pycolmap.Database.open(database) as db:
        details = sum(db.num_keypoints_for_image(image.image_id) >= 100 for image in db.read_all_images())
        _, inliers = db.read_two_view_geometry_num_inliers()
        pairs = sum(count >= MATCHING for count in inliers)
    if details < 3:
        raise _NoCameras(
            f"Only {details} of {photos} photos show enough detail to recognise; use sharp, well-lit photos of things "
            "with texture."
        )
    if pairs < 2:
        raise _NoCameras(
            f"No overlap was found between the {photos} photos: {pairs} pairs of them match; take them so that each "
            "shows most of what the one before shows."
        )


def _refined(model):
    """Adjusts all once more, the lens's centre besides, which many photos of one camera tell; mapping holds it fixed.

    Returns the new model, or the same where the centre wandered off.
    """
    import pycolmap

    refined = pycolmap.Reconstruction(model)
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_principal_point = True
    options.print_summary = False
    pycolmap.bundle_adjustment(refined, options)
    for camera in refined.cameras.values():
        off = np.array([camera.principal_point_x / camera.width, camera.principal_point_y / camera.height]) - 0.5
        if not np.abs(off).max() < 0.1:
            return model
    return refined


def _keep_largest(models, folder: Path, photos: int, one_camera: bool) -> Found:
    best = max(models.values(), key=lambda model: model.num_reg_images(), default=None)
    registered = 0 if best is None else best.num_reg_images()
    if best is None or registered < 3:
        raise _NoCameras(
            f"Photos match, but cameras were found for {registered} of {photos} only: walk around the scene rather "
            "than turning on the spot, and take more photos that overlap."
        )
    for place in folder.iterdir():
        if place.name == "images":
            continue
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink()
    (folder / "sparse" / "0").mkdir(parents=True)
    if one_camera and registered >= OPENCV_FROM:
        best = _refined(best)
    best.write_binary(folder / "sparse" / "0")
    return Found(photos, registered, len(models))


if __name__ == "__main__":
    main()
