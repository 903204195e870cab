# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files an engine elsewhere needs of a capture: photos, masks, videos, and what programs write of poses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .places import Refused

PICTURES = {
    ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif", ".hif", ".bmp", ".exr",
}  # fmt: skip
VIDEOS = {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".m2ts", ".3gp"}
POSES = {
    ".json", ".xml", ".csv", ".txt", ".bin", ".ply", ".npy", ".npz", ".xmp", ".sfm", ".mg", ".db", ".ini", ".yml",
    ".yaml", ".log", ".out", ".rcinfo",
}  # fmt: skip
MOST, DEEPEST = 200_000, 6  # files of a capture, folders below it
ABOVE = 2  # folders above that photos may lie in, as below COLMAP's sparse/0
MODEL = ("cameras.bin", "images.bin", "cameras.txt", "images.txt")  # of COLMAP


def folder_of(source: str) -> str:
    """The folder whose files make a capture: the source's own or, where that holds poses and no photo, one above. What
    lies above a folder without poses was not chosen by anyone."""
    path = Path(source)
    own = path.parent if path.is_file() else path
    knows_poses = path.is_file() or any((own / name).is_file() for name in MODEL)
    if knows_poses and not files_of(str(own), only=PICTURES | VIDEOS):
        for folder in list(own.parents)[:ABOVE]:
            if any(os.path.splitext(name)[1].lower() in PICTURES for name in _near(folder)):
                return str(folder)
    return str(own)


def _near(folder: Path) -> Iterator[str]:
    """Names of the files in a folder, and in those that it has."""
    try:
        for entry in os.scandir(folder):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from os.listdir(entry.path)
            else:
                yield entry.name
    except OSError:
        return


def files_of(folder: str, only: set[str] = PICTURES | VIDEOS | POSES) -> list[str]:
    """Names, from the folder on, of the files in it that are sent. Links are followed; hidden files and other projects
    are left alone. Raises ``Refused`` where there are too many to be a capture's."""
    found: list[str] = []
    seen: set[str] = set()
    count = 0
    for place, folders, names in os.walk(folder, followlinks=True):
        relative = os.path.relpath(place, folder).replace(os.sep, "/")
        depth = 0 if relative == "." else relative.count("/") + 1
        real = os.path.realpath(place)
        project = "capture" in folders and os.path.isfile(os.path.join(place, "capture", "capture.json"))
        if real in seen or (project and depth):
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = sorted(n for n in folders if not n.startswith(".") and depth < DEEPEST and not project)
        count += len(names)
        if count > MOST:
            raise Refused(f"{folder} has more than {MOST:,} files: choose the folder of one capture.")
        for name in sorted(names):
            if name.startswith(".") or os.path.splitext(name)[1].lower() not in only:
                continue
            whole = name if relative == "." else f"{relative}/{name}"
            if _can_be_sent(whole):
                found.append(whole)
    return found


def _can_be_sent(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # the engine passes over such, too
        return False
    return "\\" not in name and name.isprintable()
