# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies in a folder, or is a file, that no reader knows: photos, a video, another program's project; and what to do
with it, as a sentence."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from engine.capture.effort import MOST_FRAMES, told
from engine.capture.lookup import NOT_PHOTOS, masks_among
from engine.capture.photos import RAW, is_picture_name
from engine.capture.texts import read_start
from engine.capture.types import CaptureError
from engine.files import is_pointer

VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".m2ts", ".3gp")
_MOST_FILES = 200_000  # looked at
_FEWEST = 3  # photos that are a capture's; fewer may be a cover beside it
_DEEPEST = 4  # folders below the one chosen
_MOST_LOOKED_INTO = 200  # files, of photos and of others each
_ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst")
_METASHAPE = ("a Metashape project", "in Metashape, File → Export → Export Cameras, as XML, beside the photos")
_ROUND = "export flat (perspective) photos, or a flat video, from the camera's program"
_PROJECTS = {  # another program's own file: what it is, and what to do
    ".psx": _METASHAPE,
    ".psz": _METASHAPE,
    ".rcproj": ("a RealityCapture project", "export “Internal/External camera parameters” as CSV, beside the photos"),
    ".rsproj": ("a RealityScan project", "export “Internal/External camera parameters” as CSV, beside the photos"),
    ".mg": ("a Meshroom graph whose cache is not beside it", "choose the folder StructureFromMotion in MeshroomCache"),
    ".abc": ("an Alembic file", "in Meshroom, let the node ConvertSfMFormat write a .sfm file"),
    ".r3d": ("a packed Record3D capture", "rename it to .zip, unpack it and choose the unpacked folder"),
    ".db": ("COLMAP's database, which holds features and no cameras", "choose the folder of the model (sparse/0)"),
    ".p4d": ("a Pix4D project", "export its cameras to COLMAP or as transforms.json"),
    ".nvm": ("a VisualSFM model", "convert it to COLMAP (colmap model_converter)"),
    ".out": ("perhaps a Bundler model", "convert it to COLMAP (colmap model_converter)"),
    ".insv": ("a 360° recording", _ROUND),
    ".insp": ("a 360° photo", _ROUND),
    ".360": ("a 360° recording", _ROUND),
    ".icloud": ("a photo that is still in iCloud", "download the photos to this computer first"),
    ".blend": ("a Blender file", "open it in Blender and use Photograph Scene"),
} | dict.fromkeys(
    (".crdownload", ".part", ".partial", ".download", ".aria2"),
    ("a download that has not ended", "wait until it has, or begin it again"),
)  # fmt: skip
_WITH_CAMERAS = (".psx", ".psz", ".rcproj", ".rsproj", ".mg", ".abc", ".p4d", ".nvm", ".out")
_TO_COLMAP = "convert it to COLMAP (openMVG_main_openMVG2Colmap)"
_NAMED = (  # files of cameras by their names
    (re.compile(r"(?i)sfm_data.*\.(json|bin|xml)"), ("an openMVG scene", _TO_COLMAP)),
    (re.compile(r"(?i).*_calibrated_(external_)?camera_parameters.*\.txt"),
     ("Pix4D's list of cameras", "export them to COLMAP or as transforms.json")),
    (re.compile(r"(?i)groundtruth.*\.txt"), ("a list of poses without lenses", "make a transforms.json of it")),
)  # fmt: skip
_BLOCKS = ("a BlocksExchange file", "import it in Metashape or RealityCapture and export its cameras there")
_MODELS = (".ply", ".glb", ".gltf", ".obj", ".fbx", ".usdz", ".usd", ".usdc", ".stl", ".splat", ".spz", ".ksplat",
           ".las", ".laz", ".e57", ".sog")  # fmt: skip
_OTHER_PICTURES = (".jxl", ".jp2", ".j2k", ".gif", ".psd", ".psb", ".hdr", ".tga", ".ppm", ".pgm", ".dpx", ".cin",
                   ".svg", ".heics", ".jxr")  # fmt: skip
_JUNK = re.compile(r"(?i)(\.(?!.*\.icloud$).*|thumbs\.db|desktop\.ini|__macosx)")


@dataclass
class Contents:
    """What lies in a folder and, where it has no photos itself, below it. Paths in no order."""

    photos: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    folders: int = 0
    passed: set[str] = field(default_factory=set)  # names of folders of what is no photo, not looked into

    def ending(self, *endings: str) -> list[Path]:
        """Those that are no photos, by their endings, in the order of their paths."""
        return sorted(path for path in self.others if path.suffix.lower() in endings)


def look(folder: Path, check: Callable[[], None] = lambda: None) -> Contents:
    """What lies in a folder: its own photos, else those of its folder `images`, else those in folders below, such as a
    memory card's DCIM. Links are followed, hidden folders and projects of this program left alone."""
    contents = Contents()
    levels: dict[Path, list[Path]] = {}
    for place, names in _walk(folder, contents, check):
        for name in names:
            path = place / name
            if not is_picture_name(name):
                contents.others.append(path)
            elif path.is_file():
                levels.setdefault(place, []).append(path)
    for place, pictures in levels.items():
        masks = masks_among([path.name for path in pictures])
        levels[place] = [path for path in pictures if path.name not in masks]
    for place in (folder, folder / "images"):
        if len(levels.get(place, ())) >= _FEWEST:
            contents.photos = levels[place]
            return contents
    contents.photos = [path for paths in levels.values() for path in paths]
    return contents


def nothing_known(source: Path, check: Callable[[], None] = lambda: None) -> CaptureError:
    """What to tell of a folder or file that is no capture; its field is `photos` where cameras can be found for it."""
    if not source.is_dir():
        return _of_file(source)
    try:
        os.scandir(source).close()
    except PermissionError:
        return CaptureError(f"You have no permission to look into the folder {source.name}; change its permissions.",
                            file=source)  # fmt: skip
    contents = look(source, check)
    name = f"The folder {source.name}"
    if pointers := _pointers(contents):
        return CaptureError(
            f"{name} holds pointers of Git LFS or git-annex in place of files ({', '.join(pointers)}); run “git lfs "
            "pull” or “git annex get .” there, or download the files themselves.",
            file=source,
        )
    if contents.photos:
        many = f"{len(contents.photos)} photo{'s' if len(contents.photos) > 1 else ''}"
        said = f"{name} holds {many}{_kinds(contents.photos)}{_where(source, contents.photos)} and no cameras; "
        if (other := _cameras_of_others(contents)) is not None:
            path, (what, do) = other
            said += f"find their cameras first, or use those of {path.name}, {what}: {do}."
        else:
            said += "find their cameras first."
        return CaptureError(f"{said} {told(len(contents.photos))}", file=source, field="photos")
    if videos := contents.ending(*VIDEOS):
        if len(videos) == 1:
            return CaptureError(
                f"{name} holds a video ({videos[0].name}), without cameras; find its cameras first. "
                + told(MOST_FRAMES),
                file=source,
                field="photos",
            )
        return CaptureError(f"{name} holds {len(videos)} videos and no photos; choose one of the videos.", file=source)
    for endings, sentence in (
        (tuple(RAW), "{count} raw photo{s}{kinds} and none developed: export JPEG or TIFF from your raw "
                     "developer and choose their folder"),
        (tuple(_PROJECTS), "{first}, which is {what}: {do}"),
        (_ARCHIVES, "{first}, which is an archive: unpack it and choose the folder that comes out"),
        (_OTHER_PICTURES, "{count} picture{s} of a kind that is not read{kinds}: export JPEG or PNG"),
        (_MODELS, "{first}, a finished model, and neither photos nor cameras: choose the photos that it was made from, "
                  "with their cameras"),
    ):  # fmt: skip
        if found := contents.ending(*endings):
            what, do = _PROJECTS.get(found[0].suffix.lower(), ("", ""))
            said = sentence.format(
                count=len(found),
                s="s" if len(found) > 1 else "",
                first=found[0].name,
                what=what,
                do=do,
                kinds=_kinds(found, True),
            )
            return CaptureError(f"{name} holds {said}.", file=source)
    if (other := _cameras_of_others(contents)) is not None:
        path, (what, do) = other
        return CaptureError(f"{name} holds {path.name}, which is {what}, and no photos: {do}, beside the photos.",
                            file=source)  # fmt: skip
    if not contents.others and not contents.folders and not contents.passed:
        return CaptureError(f"{name} is empty; choose the folder of photos, or of what a capture program wrote.",
                            file=source)  # fmt: skip
    kinds = Counter(path.suffix.lower() or "without ending" for path in contents.others).most_common(4)
    listed = ", ".join(
        [f"{count} {kind}" for kind, count in kinds] + [f"the folder {name}" for name in sorted(contents.passed)[:3]]
    )
    listed = listed or "empty folders"
    return CaptureError(
        f"{name} holds neither photos nor a video nor cameras ({listed}); choose the folder of photos, or of what a "
        "capture program wrote.",
        file=source,
    )


def _cameras_of_others(contents: Contents) -> tuple[Path, tuple[str, str]] | None:
    """The first file in which another program keeps cameras that are not read here: what it is, and what to do."""
    some = sorted(contents.others)[:_MOST_FILES]
    for path in some:
        if path.suffix.lower() in _WITH_CAMERAS:
            return path, _PROJECTS[path.suffix.lower()]
        for name, known in _NAMED:
            if name.fullmatch(path.name):
                return path, known
    lists = [path for path in some if path.suffix.lower() == ".xml"][:_MOST_LOOKED_INTO]
    return next(((path, _BLOCKS) for path in lists if "<BlocksExchange" in read_start(path)), None)


def _pointers(contents: Contents) -> list[str]:
    """Names of the first few files that are not there themselves."""
    some = sorted(contents.others)[:_MOST_LOOKED_INTO] + sorted(contents.photos)[:_MOST_LOOKED_INTO]
    return [path.name for path in some if path.is_file() and is_pointer(path)][:3]


def _of_file(source: Path) -> CaptureError:
    ending, field = source.suffix.lower(), None
    if ending in VIDEOS:
        said, field = f"is a video, without cameras; find its cameras first. {told(MOST_FRAMES)[:-1]}", "photos"
    elif ending in _PROJECTS:
        said = "is {}; {}".format(*_PROJECTS[ending])
    elif ending in _ARCHIVES:
        said = "is an archive; unpack it and choose the folder that comes out"
    elif ending in RAW:
        said = (f"is a raw photo ({ending[1:].upper()}); export JPEG or TIFF from your raw developer and choose their "
                "folder")  # fmt: skip
    elif is_picture_name(source.name) or ending in _OTHER_PICTURES:
        said = "is a single picture; choose the folder that it lies in"
    elif ending in _MODELS:
        said = "is a finished model; choose the photos that it was made from, with their cameras"
    elif not source.is_file():
        said = "is no file that can be read; choose the folder of a capture"
    else:
        said = "is no capture; choose the folder of photos, or of what a capture program wrote"
    return CaptureError(f"{source.name} {said}.", file=source, field=field)


def _kinds(paths: list[Path], always: bool = False) -> str:
    """Their kinds, in brackets, where they are not the usual ones."""
    kinds = Counter(path.suffix[1:].upper() for path in paths)
    if not always and not kinds.keys() - {"JPG", "JPEG", "PNG"}:
        return ""
    return f" ({', '.join(kind for kind, _ in kinds.most_common(3))})"


def _where(folder: Path, photos: list[Path]) -> str:
    places = sorted({path.parent.relative_to(folder).as_posix() for path in photos} - {".", "images"})
    if not places:
        return ""
    return f" in {places[0]}" if len(places) == 1 else f" in {len(places)} folders ({places[0]}, …)"


def _walk(folder: Path, contents: Contents, check: Callable[[], None]) -> Iterator[tuple[Path, list[str]]]:
    seen, count = set(), 0
    for place, folders, files in os.walk(folder, followlinks=True):
        check()
        path = Path(place)
        depth = len(path.relative_to(folder).parts)
        try:
            status = os.stat(place)
        except OSError:
            folders.clear()
            continue
        if (status.st_dev, status.st_ino) in seen or (depth and _is_project(path)):  # a link in a circle
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        passed = {name for name in folders if NOT_PHOTOS.fullmatch(name) and name.lower() != "__macosx"}
        folders[:] = sorted(
            name
            for name in folders
            if depth < _DEEPEST
            and not name.startswith(".")
            and not NOT_PHOTOS.fullmatch(name)
            and name.lower() != "misc"
        )
        contents.folders += len(folders)
        contents.passed |= passed
        count += len(files) + len(folders)
        yield path, [name for name in files if not _JUNK.fullmatch(name)]
        if count > _MOST_FILES:
            return


def _is_project(folder: Path) -> bool:
    return (folder / "capture" / "capture.json").is_file()
