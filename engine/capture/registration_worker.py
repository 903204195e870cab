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
from pathlib import Path, PurePath

import cv2
import msgspec
import numpy as np
from PIL import Image

from engine.capture.decoding import decode
from engine.capture.effort import pairs as pairs_of
from engine.capture.panorama import panoramas
from engine.capture.photos import SkipView, open_picture, stored_size
from engine.files import open_file
from engine.pictures import UNREADABLE

OPENCV_FROM = 20  # photos of one camera: enough to tell its tangential distortion from its poses
MATCHING = 15  # details that two photos must share by one geometry to be said to match; COLMAP's own number
_FULL = re.compile(r"disk is full|no space left", re.IGNORECASE)
_BY_COLMAP = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "TIFF": ".tif", "BMP": ".bmp"}  # what it reads
_LOOKED_AT = 8  # frames of a video for each that is kept
_BLOCK = 8  # photos: what is known of a photo to compare it is worked out once for each two blocks


class Photo(msgspec.Struct):
    """A photo's path, as the system has it, and the name that it gets below `images/`."""

    path: bytes
    name: str


class Request(msgspec.Struct):
    """`photos` are pictures in order, or `video` is the path of one; at most `most_frames` of a video are kept."""

    folder: bytes
    photos: list[Photo]
    video: bytes | None
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
    """Of `photos` pictures, the cameras of `registered` were found. `apart` more hang together with each other and not
    with these; `panoramas` were not looked at."""

    photos: int
    registered: int
    apart: int
    panoramas: list[str] = []


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
    folder = Path(os.fsdecode(request.folder))
    images, compared = folder / "images", folder / "compared"
    for place in (images, compared):
        place.mkdir()  # never the folder itself, which is gone when the engine is
    if request.video is not None:
        kept = list(_frames_of_video(Path(os.fsdecode(request.video)), images, request.most_frames, say))
    else:
        kept = _copied(request.photos, images)
    round_ones = {path.relative_to(images).as_posix() for path in panoramas([images / name for name in kept])}
    for name in round_ones:
        (images / name).unlink()
    kept = [name for name in kept if name not in round_ones]
    if round_ones and len(kept) < 3:
        raise _NoCameras(
            f"{len(round_ones)} of {len(kept) + len(round_ones)} pictures are 360° panoramas, for which no cameras can "
            "be found; cut flat (perspective) views from them first, in the camera's program or with ns-process-data "
            "--camera-type equirectangular."
        )
    # Under names of our own: COLMAP's lists of pairs are parted by spaces and take # for a comment.
    names = [_compared(images / name, compared / f"{index:06d}") for index, name in enumerate(kept)]
    blocks = _blocks(pairs_of(len(names)))
    pairs = sum(map(len, blocks))
    say(Plan({"features": len(names), "matches": pairs, "cameras": len(names)}))
    if len(names) < 3:
        raise _NoCameras(f"There are {len(names)} photos; cameras need at least 3 that show the same things.")

    # Only now: after it, Pillow's encoder of PNG can crash (both bring a zlib).
    import pycolmap

    pycolmap.set_random_seed(0)
    database = folder / "database.db"
    sizes = {stored_size(compared / name) for name in names}
    mode = pycolmap.CameraMode.SINGLE if len(sizes) == 1 else pycolmap.CameraMode.AUTO
    reader = pycolmap.ImageReaderOptions()
    one_camera = len(sizes) == 1 and len(names) >= OPENCV_FROM
    reader.camera_model = "OPENCV" if one_camera else "SIMPLE_RADIAL"
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.num_threads = request.threads
    extraction.max_image_size = request.long_side
    pycolmap.Database.open(database).close()
    pycolmap.import_images(database, compared, mode, names, reader)
    device = pycolmap.Device.cpu
    for done in range(0, len(names), request.threads):
        some = names[done : done + request.threads]
        pycolmap.extract_features(database, compared, some, mode, reader, extraction, device)
        say(Step("features", min(done + request.threads, len(names))))

    matching = pycolmap.FeatureMatchingOptions()
    matching.num_threads = request.threads
    pairing = pycolmap.ImportedPairingOptions()
    pairing.match_list_path = folder / "pairs.txt"
    matched = 0
    for block in blocks:
        pairing.match_list_path.write_text("".join(f"{names[a]} {names[b]}\n" for a, b in block), encoding="utf-8")
        pycolmap.match_image_pairs(database, matching, pairing, device=device)
        matched += len(block)
        say(Step("matches", matched))
    _check_matches(database, len(names))

    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = request.threads
    options.min_model_size = 3
    registered = itertools.count(3)  # the first two are one step, without a call
    models = pycolmap.incremental_mapping(
        database, compared, folder, options,
        next_image_callback=lambda: say(Step("cameras", min(next(registered), len(names)))),
    )  # fmt: skip
    found = _keep_largest(models, folder, dict(zip(names, kept, strict=True)), one_camera)
    found.panoramas = sorted(round_ones)
    return found


def _copied(photos: list[Photo], images: Path) -> list[str]:
    """Each photo in the folder `images`, under its own name: a link to the file where the disk allows it."""
    for photo in photos:
        path, target = Path(os.fsdecode(photo.path)), images / photo.name
        for above in [*PurePath(photo.name).parents][-2::-1]:
            (images / above).mkdir(exist_ok=True)
        try:
            os.link(path, target)
        except OSError:
            shutil.copyfile(path, target)
    return [photo.name for photo in photos]


def _compared(photo: Path, stem: Path) -> str:
    """The picture that COLMAP looks at: a link to the photo, or a copy where it does not read its kind."""
    exif = Image.Exif()
    try:
        with open_file(photo) as stream, open_picture(stream, photo) as opened:
            # By what it is: a HEIC may be called .jpg.
            ending = _BY_COLMAP.get(opened.format or "")
            if ending is None:
                exif = opened.getexif()  # its focal length
    except UNREADABLE:  # EXR, and TIFF of floating point
        ending = ".tif" if photo.suffix.lower() in (".tif", ".tiff") else None
    except SkipView as problem:
        raise _NoCameras(str(problem)) from None
    target = stem.with_name(stem.name + (ending or ".jpg"))
    if ending is None:
        try:
            picture = decode(photo, (255, 255, 255))
        except SkipView as problem:
            raise _NoCameras(str(problem)) from None
        picture.save(target, quality=95, subsampling=0, exif=exif)
        return target.name
    try:
        os.link(photo, target)
    except OSError:
        shutil.copyfile(photo, target)
    return target.name


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


def _keep_largest(models, folder: Path, names: dict[str, str], one_camera: bool) -> Found:
    """Writes the model of most photos, which are then called as they are below `images/`: `names` has that for each."""
    photos = len(names)
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
    rest = set(names) - {image.name for image in best.images.values() if image.has_pose}
    apart = {image.name for model in models.values() for image in model.images.values() if image.has_pose} & rest
    for image in best.images.values():
        image.name = names[image.name]
    best.write_binary(folder / "sparse" / "0")
    return Found(photos, registered, len(apart))


if __name__ == "__main__":
    main()
