# SPDX-License-Identifier: GPL-3.0-or-later
"""What is where: folders here and the folders there that hold the same, and paths in messages translated by them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RECORD = "elsewhere.json"  # in a project's folder: its folder there, and whose captures it has
PROJECTS, CAPTURES = "projects", "captures"  # folders there
# What an engine writes in a project, and what of it is shown here. Nothing else is ever written on this side.
FOLDERS = ("capture", "registered", "scene", "edits", "tries", "looks")
ENDINGS = (
    ".png", ".jpg", ".jpeg", ".webp", ".exr", ".ply", ".bin", ".glb", ".obj", ".mtl", ".html", ".json", ".view",
)  # fmt: skip
# Texts of answers that are no paths, whatever they begin with; what is below “settings” is only kept.
TEXTS = {
    "message", "text", "label", "instruction", "title", "reason", "notes", "name", "view", "parent", "editor",
    "id", "edit", "edits", "chosen", "options", "settings", "method", "host", "preset", "device", "format", "state",
    "detail", "field", "kind", "stage", "measures", "losses",
}  # fmt: skip
_OWN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ABSOLUTE = re.compile(r"[\\/]|[A-Za-z]:[\\/]")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_FORBIDDEN = re.compile(r'[\\/:*?"<>|\x00-\x1f]')


class Refused(Exception):
    """What cannot be done for a request; its text is the sentence for the artist."""


@dataclass
class Place:
    """A folder ``here``, and the one ``there`` (a name in the folder for files) that holds the same."""

    here: str
    there: str
    fetched: bool  # a project's: what is made there comes here


@dataclass
class Places:
    """The pairs that are known. ``root``: the folder for files there, from its root on."""

    root: str = ""
    pairs: list[Place] = field(default_factory=list)
    _naming: threading.Lock = field(default_factory=threading.Lock)

    @property
    def separator(self) -> str:
        return "/" if self.root.startswith("/") else "\\"

    def project(self, here: str) -> str:
        """The name there of a project's folder. One that has none gets one, which is written down in it.

        Raises ``Refused`` where the folder cannot be written.
        """
        with self._naming:
            return self._project(here)

    def _project(self, here: str) -> str:
        for pair in self.pairs:
            if pair.here == here and pair.fetched:
                return pair.there
        record = _read(here)
        known = record or {"folder": "", "captures": {}}
        for pair in [p for p in self.pairs if record and p.there == f"{PROJECTS}/{record['folder']}"]:
            if _read(pair.here) == record:  # this one is a copy: two that are changed cannot be one there
                record = None
            else:
                self.pairs.remove(pair)  # it was moved
        name = record["folder"] if record else f"{_word(here)}-{secrets.token_hex(6)}"
        if record is None:
            _write(here, {**known, "folder": name})
        self.pairs.append(Place(here, f"{PROJECTS}/{name}", fetched=True))
        for capture, source in known["captures"].items():
            self._know(source, f"{CAPTURES}/{capture}")
        return f"{PROJECTS}/{name}"

    def capture(self, here: str, workspace: str) -> str:
        """The name there of a capture's folder, the same for every project of this machine; ``workspace`` knows it
        from then on."""
        own = hashlib.sha256(f"{socket.gethostname()}\0{here}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
        name = f"{_word(here)}-{own}"
        self._know(here, f"{CAPTURES}/{name}")
        record = _read(workspace)
        if record is not None and record["captures"].get(name) != here:
            _write(workspace, {**record, "captures": {**record["captures"], name: here}})
        return f"{CAPTURES}/{name}"

    def _know(self, here: str, there: str) -> None:
        if all(pair.there != there for pair in self.pairs):
            self.pairs.append(Place(here, there, fetched=False))

    def full(self, name: str) -> str:
        """The path there of a name in the folder for files."""
        return self.root + self.separator + name.replace("/", self.separator)

    def there(self, here: str) -> str | None:
        """The path there of a path here; None where it lies in no folder that is known."""
        here = os.path.normpath(here)
        for pair in sorted(self.pairs, key=lambda pair: -len(pair.here)):  # a project may lie in its capture's folder
            folder = os.path.normpath(pair.here)
            if here == folder or here.startswith(folder.rstrip(os.sep) + os.sep):
                rest = here[len(folder.rstrip(os.sep)) :].replace(os.sep, "/").strip("/")
                return self.full(f"{pair.there}/{rest}" if rest else pair.there)
        return None

    def name_of(self, path: str) -> str | None:
        """The name in the folder for files of a path there; None where it leads elsewhere."""
        sep = self.separator
        if not self.root or not path.startswith(self.root + sep):
            return None
        parts = path[len(self.root) + 1 :].split(sep)
        return "/".join(parts) if all(map(_is_plain, parts)) else None

    def here(self, path: str) -> tuple[str, str | None]:
        """The path here of a path there, and its name in the folder for files where it may be fetched. Empty where it
        lies in no folder that is known."""
        name = self.name_of(path)
        for pair in self.pairs if name is not None else ():
            if name == pair.there or name.startswith(pair.there + "/"):
                rest = name[len(pair.there) :].strip("/")
                local = os.path.join(pair.here, *rest.split("/")) if rest else pair.here
                may = pair.fetched and rest.split("/")[0] in FOLDERS and rest.lower().endswith(ENDINGS)
                return local, name if may else None
        return "", None

    def said(self, text: str) -> str:
        """A sentence with the paths in it as they are here."""
        for pair in sorted(self.pairs, key=lambda pair: -len(pair.there)):
            text = text.replace(self.full(pair.there), pair.here)
        return text

    def translated(self, value: Any, path: Callable[[str], str], key: str = "") -> Any:
        """A value of a message, with ``path`` of every path in it."""
        if key == "settings":
            return value
        if isinstance(value, dict):
            # The views of a scene and of an edit are paths by their names.
            inner = "" if key in ("images", "views", "files", "key_views") else None
            return {k: self.translated(v, path, k if inner is None else inner) for k, v in value.items()}
        if isinstance(value, list):
            return [self.translated(entry, path, "" if isinstance(entry, dict) else key) for entry in value]
        if not isinstance(value, str):
            return value
        if key in TEXTS:
            return self.said(value)
        return path(value) if _ABSOLUTE.match(value) else value


def inside(folder: str, local: str) -> bool:
    """Whether a path stays in ``folder`` once links are followed."""
    try:
        real, root = os.path.realpath(os.path.dirname(local)), os.path.realpath(folder)
        return os.path.commonpath([real, root]) == root and not os.path.islink(local)
    except (OSError, ValueError):
        return False


def _is_plain(part: str) -> bool:
    """Whether a part of a name can stand in a path on any system, and leads nowhere else."""
    return not (
        not part or part.startswith(".") or part.endswith((".", " ")) or _FORBIDDEN.search(part)
        or _RESERVED.fullmatch(part)
    )  # fmt: skip


def _word(folder: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", Path(folder).name)[:40].strip("_-") or "project"


def _read(workspace: str) -> dict[str, Any] | None:
    """What a project's folder says of itself; None where that is nothing, or nothing that can be used."""
    try:
        with open(Path(workspace) / RECORD, encoding="utf-8") as file:
            data = json.loads(file.read(2**20))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not isinstance(name := data.get("folder"), str) or not _OWN.fullmatch(name):
        return None
    found = data.get("captures")
    captures = {
        key: path for key, path in (found.items() if isinstance(found, dict) else ())
        if _OWN.fullmatch(key) and isinstance(path, str) and os.path.isabs(path)
    }  # fmt: skip
    return {"folder": name, "captures": captures}


def _write(workspace: str, record: dict[str, Any]) -> None:
    path = Path(workspace) / RECORD
    temporary = path.with_name(f".part-{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise Refused(f"The project's folder {workspace} cannot be written: {error.strerror or error}.") from None
