# SPDX-License-Identifier: GPL-3.0-or-later
"""The pictures of a capture, found by what its files call them; one way for every format.

Programs write down where pictures lay on the machine that they ran on, relative to some other folder, in another case
or encoding, or as a bare label. A picture is the one whose path agrees with that longest, from its end.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import unicodedata
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from engine.capture.photos import EXTENSIONS, RAW, Photo, SkipView, find_mask, find_photo, inside, is_picture_name
from engine.capture.texts import is_kept, readings_of, shown

_MOST_FILES = 200_000  # looked at in a capture's folder
MOST_ABOVE = 3_000  # … and in a folder above it, which may be a whole disk
_DEEPEST = 6  # folders below it
_ENDINGS = (".jpg", ".jpeg", *dict.fromkeys(extension.lower() for extension in EXTENSIONS))  # the likelier first
_FIRST = ("images", "input", "images_2", "images_4", "images_8", "rgb", "rgbd", "imgs", "color", "frames", "image",
          "photos")  # fmt: skip
_MASKS = re.compile(r"((images?|photos?|objects?|input|rgb)_)?masks?(_[0-9]{1,2})?")
_MASK_OF = re.compile(r"mask[._-](.+)|(.+)[._-]mask")  # how masks beside their photos are called, without the ending
_SPLITS = frozenset(("train", "val", "test"))
# Folders of what is called like the photos and is none of them.
NOT_PHOTOS = re.compile(
    r"(?i)((dynamic|images?|photos?|objects?|input|rgb)_)?masks?(_[0-9]{1,2})?|depths?(_?maps?)?(_[0-9]{1,2})?|confidence|normals?|thumb(nail)?s?|thmbnl"
    r"|segmentations?|semantics?|alphas?|mattes?|__macosx"
)


def folded(text: str) -> str:
    """The same for names that Windows and macOS take for one: whatever the case and the form of accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def pictures_in(folder: Path) -> list[Path]:
    """The pictures that lie directly in a folder, by their extension, in the order of their names' characters; but not
    masks of others of them."""
    try:
        with os.scandir(folder) as entries:
            found = [Path(entry.path) for entry, _ in zip(entries, range(_MOST_FILES), strict=False)]
    except (OSError, ValueError):  # a NUL in its name
        return []
    found = [path for path in found if is_picture_name(path.name) and not path.name.startswith(".")]
    masks = masks_among([path.name for path in found])
    return sorted(path for path in found if path.name not in masks)


def masks_among(names: list[str]) -> dict[str, list[str]]:
    """Those of the pictures in one folder that are called masks of others there (X_mask.png, X.jpg.mask.png), each with
    what it is a mask of."""
    found: dict[str, list[str]] = {}
    called: dict[str, list[str]] = {}
    for name in names:
        for each in _names(folded(name)):
            called.setdefault(each, []).append(name)
    for name in names:
        of = _MASK_OF.fullmatch(_stem(folded(name)))
        if of and (photos := called.get(of[1] or of[2])):
            found[name] = photos
    return found


def agreement(listed: str, file: str) -> int:
    """How many names at the end of a picture's path agree with those at the end of what is listed; the last are taken
    to do so."""
    found = _parts(PurePosixPath(file))
    most = 1
    for path in _paths(listed):
        wanted, same = _parts(path), 1
        while same < min(len(wanted), len(found)) and wanted[-1 - same] == found[-1 - same]:
            same += 1
        most = max(most, same)
    return most


def key_of(listed: str) -> tuple[str, ...]:
    """The same for all ways to write one path."""
    return tuple(_parts(_paths(listed)[0]))


class Missing(SkipView):
    """A picture that is nowhere in the capture's folder."""


class Photos:
    """The pictures below a folder. It is walked once, when one is first asked for by its name."""

    def __init__(self, root: Path, first: tuple[str, ...] = (), most: int = _MOST_FILES) -> None:
        """`first` are the folders, relative to `root`, in which listed paths are looked up before all others; of about
        `most` files below it pictures are found by their names."""
        self.root, self.first, self._most = root, first, most
        self._by_end: dict[tuple[str, ...], list[str]] | None = None  # the end of a path, folded -> relative paths
        self._folders: set[str] = set()  # names of folders in which pictures lie

    @classmethod
    def near(cls, folder: Path, listed: list[str], first: tuple[str, ...] = ()) -> Photos:
        """The pictures of a file's folder; where none of those listed is below it and most lie in one of the two above,
        or in a folder there that is called as they are listed or as pictures' folders are, that folder's."""
        some = [path for text in listed[:: len(listed) // 50 + 1] for path in _paths(text)[:1] if path.name]
        here = cls(folder, first)
        if not some or any(here.has(str(path)) for path in some):
            return here
        names = {name for path in some for name in path.parts[-2:-1] if name not in ("", "/", "//", "..")}
        for above in list(folder.parents)[:2]:
            for place in (*sorted(names), *_FIRST, ""):
                found = {end for path in pictures_in(above / place) for end in _names(folded(path.name))}
                if 2 * sum(not found.isdisjoint(_names(folded(path.name))) for path in some) >= len(some):
                    return cls(above, (place,) if place else ())
        return here

    def find(self, listed: str, size: tuple[float, float] | None = None) -> Photo:
        """The picture that `listed` (a path of any machine, a file name, or a name without extension) means.

        Of several that agree with it equally, the one whose pixels are `size`, then the one in a folder called as
        pictures' folders are. Raises SkipView where that does not decide, and Missing where there is none.
        """
        if not listed.strip():
            raise SkipView("A camera names no picture.")
        paths = _paths(listed)
        unreadable: SkipView | None = None
        for path in paths:
            for place in (*self.first, ""):
                try:
                    there = "" if path.is_absolute() else f"{place}/{path}" if place else str(path)
                    if there and inside(self.root, there).is_file():
                        return find_photo(self.root, there)
                except OSError:
                    continue
                except SkipView as problem:
                    unreadable = problem if "outside" not in str(problem) else unreadable
        for path in paths:
            found = self._best(path, size)
            if found is not None:
                return found
        if unreadable is not None:
            raise unreadable
        if is_kept(listed):  # what one of the code pages makes of it need not be what it says
            name = shown(PurePosixPath(listed.replace("\\", "/")).name)[-120:]
            raise Missing(
                f"The picture {name} does not exist in the capture's folder: its name is listed in an encoding that is "
                "not UTF-8; give the photos plain names and export the cameras again."
            )
        name = shown(PurePosixPath(paths[0]).name or listed)[-120:]
        raise Missing(
            f"The picture {name} does not exist in the capture's folder; copy the photos there, into a folder “images”."
        )

    def has(self, listed: str) -> bool:
        """Whether there is a picture, or several, that `listed` may mean."""
        return any(self._agreeing(path) for path in _paths(listed))

    def _best(self, path: PurePosixPath, size: tuple[float, float] | None) -> Photo | None:
        files = self._agreeing(path)
        if len(files) > 1:
            files = self._of_size(files, size)
            for rank in (lambda file: PurePosixPath(file).name != path.name, _place, _ending):
                ranks = [rank(file) for file in files]
                files = [file for file, own in zip(files, ranks, strict=True) if own == min(ranks)]
        if len(files) > 1:
            raise SkipView(
                f"Several pictures are called {shown(path.name)[:120]} ({files[0]}, {files[1]}), and which is meant is "
                "not said; keep one folder of them."
            )
        return find_photo(self.root, files[0]) if files else None

    def _agreeing(self, path: PurePosixPath) -> list[str]:
        """The pictures that agree longest with a path from its end: with their extension, else without it."""
        parts = _parts(path)
        if self._by_end is None:
            self._by_end = {}
            for file in walk(self.root, self._most):
                own = _parts(PurePosixPath(file))
                self._folders.update(own[-2:-1])
                for end in range(1, len(own) + 1):
                    self._by_end.setdefault((*own[-end:],), []).append(file)
                    self._by_end.setdefault((*own[-end:-1], "", _stem(own[-1])), []).append(file)
        # A photo that is missing from its own folder is no other folder's.
        least = 2 if len(parts) > 1 and parts[-2] in self._folders else 1
        raw: list[str] = []  # found only to be said that they are
        for last in ((parts[-1],), ("", parts[-1]), ("", _stem(parts[-1]))):
            for end in range(len(parts), least - 1, -1):
                files = self._by_end.get((*parts[len(parts) - end : -1], *last), ())
                files = [file for file in files if not _is_other(file, {*parts[:-1]})]
                if any(is_picture_name(file) for file in files):
                    return [file for file in files if is_picture_name(file)]
                raw = raw or files[:1]
        return raw

    def _of_size(self, files: list[str], size: tuple[float, float] | None) -> list[str]:
        """Those whose pixels are as many as said, where there are such."""
        fit = []
        for file in files[:50] if size is not None else ():
            try:
                photo = find_photo(self.root, file)
            except SkipView:
                continue
            stored = (photo.width, photo.height)
            if size in (stored, stored[::-1] if photo.orientation >= 5 else stored):
                fit.append(file)
        return fit or files


class MaskFinder:
    """The masks of a capture: pictures called like the photos, in folders `masks` beside or above theirs, or beside the
    photos with `mask` in their names."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._places: set[str] = set()
        self._files: dict[tuple[str, ...], str] = {}
        self._taken: dict[str, str] = {}  # a mask -> the photo that it belongs to
        self._beside: dict[str, str] = {}  # a photo -> its mask in the same folder
        folders: dict[str, list[str]] = {}
        files = walk(root)
        for file in files:
            folders.setdefault(posixpath.dirname(file), []).append(posixpath.basename(file))
        for folder, names in folders.items():
            for mask, photos in masks_among(names).items():
                self._beside |= {posixpath.join(folder, photo): posixpath.join(folder, mask) for photo in photos}
        for file in files:
            parts = tuple(map(folded, PurePosixPath(file).parts))
            places = {part for part in parts[:-1] if _MASKS.fullmatch(part)}
            if not places:
                continue
            self._places |= places
            stem = PurePosixPath(parts[-1]).stem
            for name in (stem, re.sub(r"^mask[._-]|[._-]?mask$", "", stem)):
                self._files.setdefault((*parts[:-1], name), file)

    def of(self, photo: Photo) -> str | None:
        """The mask of a photo, relative to the root; None where there is none.

        Raises SkipView where it is no picture, or not of the photo's shape.
        """
        if photo.file in self._beside:
            return find_mask(self.root, [self._beside[photo.file]], photo)
        if not self._files:
            return None
        *folders, name = map(folded, PurePosixPath(photo.file).parts)
        for kept in range(len(folders), -1, -1):
            for before in range(kept + 1):
                after = folders[len(folders) - (kept - before) :] if kept > before else []
                for place in self._places:
                    for called in (name, PurePosixPath(name).stem):
                        file = self._files.get((*folders[:before], place, *after, called))
                        if file not in (None, photo.file) and self._taken.setdefault(file, photo.file) == photo.file:
                            return find_mask(self.root, [file], photo)
        return None


def _paths(listed: str) -> list[PurePosixPath]:
    """The paths that a text may mean, the likeliest first: as it stands, of an address, of other encodings."""
    found: list[str] = []
    for text in _readings(listed.strip()):
        text = text.replace("\\", "/")
        if re.match(r"(?i)file:/", text):
            text = unquote(re.sub(r"(?i)^file:/+(?=[a-z]:)|^file:(?=/)", "", text))
            text = re.sub(r"^//+[^/]*", "", text) if text.startswith("//") else text
        text = re.sub(r"^[A-Za-z]:(?=/)", "", text)
        found += [text, unquote(text)] if re.search("%[0-9A-Fa-f]{2}", text) else [text]
    return [PurePosixPath(text) for text in dict.fromkeys(found)]


_ESCAPED = str.maketrans({"\b": "/b", "\t": "/t", "\n": "/n", "\f": "/f", "\r": "/r"})
_UTF8_AS = ("cp1252", "latin-1", "cp437", "cp850", "mac_roman")
_ZIPPED_AS = ("gb18030", "cp932", "cp949", "cp1251", "cp866", "cp1252", "cp850")


def _readings(listed: str) -> list[str]:
    """What a listed name may say: in other encodings, and as it or the file's own name may have been misread on their
    way, the latter by what unpacked an archive."""
    found = readings_of(listed)
    plain = listed.translate(_ESCAPED)  # the backslashes of .\train\r_0, taken for escapes
    found += [plain] if plain != listed else []
    if not listed.isascii():
        ways = [(page, "utf-8") for page in _UTF8_AS] + [("utf-8", page) for page in _UTF8_AS]
        for written, read in ways + [(page, "cp437") for page in _ZIPPED_AS]:
            with contextlib.suppress(ValueError):
                found.append(listed.encode(written).decode(read))
    return list(dict.fromkeys(found))


def _parts(path: PurePosixPath) -> list[str]:
    plain = PurePosixPath(posixpath.normpath(str(path)))
    return [folded(part) for part in plain.parts if part not in ("/", "//", ".", "..")] or [""]


def _stem(name: str) -> str:
    return PurePosixPath(name).stem if is_picture_name(name) or _is_raw(name) else name


def _names(name: str) -> set[str]:
    return {name, _stem(name)}


def _is_raw(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in RAW


def _place(file: str) -> tuple[int, int]:
    """The likelier a folder is to be the photos', the less."""
    folders = _parts(PurePosixPath(file))[:-1]
    return min((_FIRST.index(part) for part in folders if part in _FIRST), default=len(_FIRST)), len(folders)


def _ending(file: str) -> int:
    return _ENDINGS.index(PurePosixPath(file).suffix.lower())


def _is_other(file: str, wanted: set[str]) -> bool:
    """Whether a picture lies in a folder of masks, depths and the like, or of another split, that is not asked for."""
    others = _parts(PurePosixPath(file))[:-1]
    splits = bool(wanted & _SPLITS)
    return any(part not in wanted and (NOT_PHOTOS.fullmatch(part) or (splits and part in _SPLITS)) for part in others)


def walk(root: Path, most: int = _MOST_FILES) -> list[str]:
    """Relative paths of the pictures and raw photos below `root`, of about `most` files at most. Links are followed,
    hidden folders and projects of this program left alone, and names that are no Unicode passed over."""
    found: list[str] = []
    count = 0
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        depth = 0 if relative == "." else relative.count("/") + 1
        project = "capture" in folders and os.path.isfile(os.path.join(folder, "capture", "capture.json"))
        if real in seen or (project and depth):
            folders[:] = []
            continue
        seen.add(real)
        if project:
            folders[:] = []
        folders[:] = sorted(name for name in folders if not name.startswith(".") and depth < _DEEPEST)
        for name in files[: max(0, most - count)]:
            if name.startswith(".") or not (is_picture_name(name) or _is_raw(name)):
                continue
            if _is_text(name) and _is_text(relative):
                found.append(name if relative == "." else f"{relative}/{name}")
        count += len(files) + len(folders)
        if count > most:
            break
    return found


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
