# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of COLMAP's models, wherever they and their pictures lie.

COLMAP's poses are world to camera, in axes x right, y down, z forward; the capture frame is COLMAP's world.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from engine.capture.fields import PANORAMA, BadField, checked_lens, checked_side, rigid_pose, rotation_from_quaternion
from engine.capture.formats.colmap_model import (
    Camera,
    Image,
    count_images,
    file_of,
    is_model,
    read_cameras,
    read_images,
    read_points,
)
from engine.capture.lens import COLMAP_MODELS, Lens
from engine.capture.lookup import MOST_ABOVE, Photos, folded, pictures_in
from engine.capture.photos import SkipView, inside
from engine.capture.reading import MOST_VIEWS, Reading, Shot
from engine.capture.texts import shown
from engine.capture.types import CaptureError, LeftOut

FORMAT = "COLMAP"
_PLACES = ("", "sparse", "colmap/sparse", "dense/sparse", "dense/0/sparse", "distorted/sparse")
_PICTURES = ("images", "input", "images_2", "images_4", "images_8", "rgb", "imgs", "color", "frames", "image")
# Folders that stand between a project and its model.
_BETWEEN = re.compile(r"[0-9]{1,3}|(colmap_?)?(sparse|text)|colmap|distorted|dense")
_SOME = 200  # pictures that are looked for, to find their folder


def find(folder: Path) -> Path | None:
    """The folder itself where a model lies in it or where programs put one, else None."""
    return folder if models_in(folder) else None


def read(path: Path) -> Reading:
    """All shots of a model: `path` is a folder that `find` knows, or a file of a model.

    Of several models the one with most pictures is read. Raises CaptureError for what leaves no capture, and lists
    single bad pictures as left out.
    """
    models = models_in(path if path.is_dir() else path.parent)
    if not models:
        raise CaptureError(
            f"{path.name} belongs to no COLMAP model (cameras and images, both .bin or both .txt); choose its folder.",
            file=path,
        )
    return read_models(models, path)


def read_models(models: list[Path], path: Path) -> Reading:
    """As `read`, of models that were found below `path`."""
    reading = Reading(path, FORMAT)
    sizes = []
    problems = []
    for model in models:
        try:
            sizes.append((count_images(model), model))
        except CaptureError as problem:
            problems.append(problem)
            reading.notes.append(f"The model {_place(model, path)} was passed over: {problem.message}")
    if not sizes:
        raise problems[0]
    count, model = max(sizes, key=lambda entry: entry[0])  # of equals the first
    if len(sizes) > 1:
        others = ", ".join(f"{_place(m, path)} ({n})" for n, m in sizes if m != model)
        reading.notes.append(
            f"Of {len(sizes)} models the one with most pictures was opened, {_place(model, path)} ({count}); "
            f"not opened: {others[:1000]}."
        )
    cameras, images = read_cameras(model), read_images(model)
    if not images:
        raise CaptureError(
            f"{file_of(model, 'images').name} lists no pictures.", file=file_of(model, "images"), field="images"
        )
    reading.root, pictures = _where_pictures_are(model, path, images)
    photos = Photos(reading.root)
    lenses = _lenses(cameras)
    for image in images:
        with reading.leaving_out(image.name):
            listed = f"{pictures}/{image.name}" if pictures else image.name
            camera = cameras.get(image.camera)
            size = (float(camera.width), float(camera.height)) if camera is not None else None
            photo = photos.find(listed, size)
            if camera is None or size is None:
                raise SkipView(
                    f"The camera {image.camera} of the picture {shown(image.name)[-120:]} is not in the model."
                )
            lens = lenses[image.camera]
            if isinstance(lens, str):
                raise SkipView(lens)
            reading.shots.append(Shot(listed, photo, _pose(image), lens, *size))
    reading.left_out += _without_camera(reading, pictures, images)
    try:
        reading.points = read_points(model)
    except CaptureError as problem:
        reading.notes.append(f"The sparse points were left out: {problem.message}")
    return reading


# where things are ----------------------------------------------------------------------------------------------------


def models_in(folder: Path) -> list[Path]:
    """The folders of all models that belong to `folder`, by names alone."""
    for place in (folder / place for place in _PLACES):
        if not place.is_dir():
            continue
        inner = sorted((p for p in place.iterdir() if p.name.isdigit()), key=lambda p: (len(p.name), p.name))[:100]
        found = [model for model in (place, *inner) if is_model(model)]
        if found:
            return found
    return []


def _place(model: Path, chosen: Path) -> str:
    return model.relative_to(chosen).as_posix() if model.is_relative_to(chosen) and model != chosen else model.name


def _where_pictures_are(model: Path, chosen: Path, images: list[Image]) -> tuple[Path, str]:
    """(the project's folder, the folder in it to which the pictures' names are relative).

    Going up from the model, the first folder in which, or in a folder of which, half of the pictures lie where they are
    named; else the first below which they lie anywhere, and no folder in it; else the highest.
    """
    above = [folder for folder in (model, *model.parents) if folder.is_relative_to(chosen)]
    if not above or chosen == model or (chosen == model.parent and model.name.isdigit()):
        above = [model, *model.parents][:4]  # the model itself was chosen: its project lies above
    some = images[:: math.ceil(len(images) / _SOME)]
    best, most = (above[-1], ""), 0
    for root in above:
        for place in _picture_folders(root, model):
            found = sum(_is_there(root, f"{place}/{image.name}" if place else image.name) for image in some)
            if found > most:
                best, most = (root, place), found
        if 2 * most >= len(some):
            return best
    for root in above if most == 0 else ():
        photos = Photos(root) if root.is_relative_to(chosen) else Photos(root, most=MOST_ABOVE)
        if 2 * sum(photos.has(image.name) for image in some) >= len(some):
            return root, ""
    if most == 0 and above[-1] == chosen:
        photos = Photos.near(chosen, [image.name for image in some])
        return photos.root, (*photos.first, "")[0]
    if most == 0:
        return next((folder for folder in above if not _BETWEEN.fullmatch(folder.name)), above[-1]), ""
    return best


def _picture_folders(root: Path, model: Path) -> list[str]:
    folders = [name for name in _PICTURES if (root / name).is_dir()]
    places = [*folders[:1], "", *folders[1:]] if folders[:1] == ["images"] else ["", *folders]
    try:
        others = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))[:100]
    except OSError:
        others = []
    beside = model.relative_to(root).as_posix() if model.is_relative_to(root) else "."
    return places + [name for name in (beside, *others) if name not in places and name != "."]


def _is_there(root: Path, listed: str) -> bool:
    try:
        return inside(root, listed).is_file()
    except (SkipView, OSError, ValueError):
        return False


def _without_camera(reading: Reading, pictures: str, images: list[Image]) -> list[LeftOut]:
    """The pictures beside those of the model that COLMAP found no camera for."""
    if not pictures:
        return []  # the project's folder itself, which may hold any pictures
    used = {folded(shot.photo.file) for shot in reading.shots}
    used |= {folded(f"{pictures}/{image.name}") for image in images}
    left_out = []
    for folder in sorted({Path(shot.photo.file).parent for shot in reading.shots})[:100]:
        for path in pictures_in(reading.root / folder)[:MOST_VIEWS]:
            file = (folder / path.name).as_posix()
            if folded(file) not in used:
                name = file.removeprefix(f"{pictures}/")
                left_out.append(LeftOut(shown(name), "COLMAP found no camera for this picture."))
    return left_out


# what they hold ------------------------------------------------------------------------------------------------------


def _lenses(cameras: dict[int, Camera]) -> dict[int, Lens | str]:
    """Each camera's lens, or the sentence that says why it has none."""
    lenses: dict[int, Lens | str] = {}
    for ident, camera in cameras.items():
        try:
            if camera.model == "EQUIRECTANGULAR":
                raise BadField("model", f"is EQUIRECTANGULAR: its picture is {PANORAMA}")
            if camera.model not in COLMAP_MODELS:
                raise BadField("model", f"is {camera.model[:40]}, which cannot be read yet")
            size = checked_side(camera.width, "width"), checked_side(camera.height, "height")
            lenses[ident] = checked_lens(Lens.from_colmap(camera.model, camera.params), size)
        except BadField as problem:
            lenses[ident] = f"Of the camera {ident}, {problem}."
        except ValueError:
            lenses[ident] = f"The camera {ident} has {len(camera.params)} parameters, which {camera.model} has not."
    return lenses


def _pose(image: Image) -> np.ndarray:
    """(4, 4) camera to world, OpenGL axes. Raises SkipView."""
    what = f"The pose of {shown(image.name)[-120:]}"
    w, x, y, z = image.quaternion
    camera_from_world = rotation_from_quaternion(np.array([x, y, z, w]), what)
    pose = np.eye(4)
    pose[:3, :3] = camera_from_world.T * (1, -1, -1)  # y down, z forward -> y up, z back
    with np.errstate(all="ignore"):
        pose[:3, 3] = -camera_from_world.T @ np.array(image.shift)
    return rigid_pose(pose, what)
