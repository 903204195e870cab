# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that downloads a model from the hub: `python -m engine.hub_worker`. The only one of the engine's that may
reach a network.

A process of its own, so that it can be stopped at once whatever the connection does, and so that every other one stays
offline. Its first line of input is an `Order`; lines of JSON leave on standard output: a `Plan`, then `Step`s, at the
end `Done` or `Failed`. It ends when its standard input does.

A file is called `….part` until its checksum is the hub's. What is there of one is not asked for again.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from engine.hub import HubModel, wanted_files

PART = ".part"
CHUNK = 2**20  # bytes read at once: what a message tells, and what a kill may lose
_ROOM = 64 * 2**20  # bytes that are left free on the disk


class Order(msgspec.Struct):
    model: HubModel
    folder: str  # what it is downloaded into


class Plan(msgspec.Struct, tag="plan"):
    """What there is to do: bytes in all, and how many of them are there from before."""

    bytes: int
    there: int


class Step(msgspec.Struct, tag="step"):
    file: str
    done: int  # bytes, of all
    checking: bool = False


class Done(msgspec.Struct, tag="done"):
    pass


class Failed(msgspec.Struct, tag="failed"):
    """A sentence for the artist or, where the system failed, the number of its error."""

    sentence: str
    errno: int | None = None


class Refused(Exception):
    """Why a download cannot go on: a sentence."""


class File(msgspec.Struct):
    """A file as the hub has it."""

    name: str
    size: int
    sha256: str | None  # of a large one
    blob: str | None  # git's own hash, of a small one


class _Sink:
    """A file that tells how far it is. What `http_get` writes into."""

    def __init__(self, file: BinaryIO, tell: Any):
        self.file, self.report = file, tell

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        while view:  # an unbuffered file may take less
            view = view[self.file.write(view) :]
        self.report(self.file.tell())
        return len(data)

    def seek(self, *place: int) -> int:
        return self.file.seek(*place)

    def tell(self) -> int:
        return self.file.tell()

    def truncate(self, *size: int) -> int:
        return self.file.truncate(*size)


def download(order: Order, say: Any) -> None:
    """Bring every file of the model into the folder. Raises Refused, OSError, and what the hub's library raises."""
    model, folder = order.model, Path(order.folder)
    files = files_of(model)
    total = sum(file.size for file in files)
    there = sum(_there(folder, file) for file in files)
    _make_room(folder, total - there)
    say(Plan(total, there))
    done = 0
    for file in files:
        path = folder / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not (path.exists() and path.stat().st_size == file.size):
            for last in (False, True):
                _fetch(model, file, path, lambda at, file=file, before=done: say(Step(file.name, before + at)))
                say(Step(file.name, done + file.size, checking=True))
                part = path.with_name(path.name + PART)
                if _is_right(part, file):
                    os.replace(part, path)
                    break
                part.unlink()
                if last:
                    raise Refused(
                        f"{file.name} of {model.name} arrived damaged twice (its checksum is not the hub's): try again "
                        "later, or over another connection; the other files are kept."
                    )
        done += file.size
        say(Step(file.name, done))
    say(Done())


def files_of(model: HubModel) -> list[File]:
    """What is downloaded of a model, as the hub lists it at the row's revision; small files first. Raises Refused where
    that is another model than the row's."""
    from huggingface_hub import HfApi

    found = HfApi(token=None if model.gated else False).model_info(
        model.name, revision=model.revision, files_metadata=True, timeout=20
    )
    if found.sha != model.revision:
        raise Refused(f"The hub answers with another version of {model.name} than was asked for; try again later.")
    listed = {}
    for sibling in found.siblings or ():
        lfs = sibling.lfs
        listed[sibling.rfilename] = File(
            sibling.rfilename, sibling.size or 0, lfs.sha256 if lfs else None, None if lfs else sibling.blob_id
        )
    files = [listed[name] for name in wanted_files(listed, model)]
    if not any(file.name.endswith(".safetensors") for file in files):
        raise Refused(f"The hub has no weights of {model.name} that can be used (.safetensors).")
    return sorted(files, key=lambda file: (file.size, file.name))


def _there(folder: Path, file: File) -> int:
    """How much of a file is there from before; what cannot be of it goes."""
    path = folder / file.name
    part = path.with_name(path.name + PART)
    if path.is_file() and path.stat().st_size == file.size:
        return file.size
    size = part.stat().st_size if part.is_file() else 0
    if size > file.size:
        part.unlink()
        return 0
    return size


def _make_room(folder: Path, needed: int) -> None:
    import shutil

    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed + _ROOM:
        raise Refused(
            f"The disk with {folder.parent} has {free / 1e9:.2f} GB free, and {(needed + _ROOM) / 1e9:.2f} GB are "
            "needed: make room and download again, or name another folder in the environment variable "
            "INSTRUCT_NERF_MODELS."
        )


def _fetch(model: HubModel, file: File, path: Path, tell: Any) -> None:
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    constants.DOWNLOAD_CHUNK_SIZE = CHUNK
    url = hf_hub_url(model.name, file.name, revision=model.revision)
    headers = build_hf_headers(token=None if model.gated else False) | {"Accept-Encoding": "identity"}
    with open(path.with_name(path.name + PART), "ab", buffering=0) as part:
        http_get(
            url,
            _Sink(part, tell),  # type: ignore[arg-type]
            resume_size=part.tell(),
            headers=headers,
            expected_size=file.size,
            tqdm_class=_Silent,
        )
        os.fsync(part.fileno())


class _Silent:
    """In place of a bar on the terminal."""

    def __init__(self, *_: Any, **__: Any):
        pass

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def update(self, _: float = 1) -> None:
        pass

    def close(self) -> None:
        pass


def _is_right(path: Path, file: File) -> bool:
    """Whether what arrived is what the hub says it has."""
    with open(path, "rb") as data:
        if file.sha256 is not None:
            return hashlib.file_digest(data, "sha256").hexdigest() == file.sha256
        content = data.read()
        return file.blob is None or hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == file.blob


def explained(error: BaseException, model: HubModel, host: str) -> Failed:
    """What an error means to the artist."""
    from huggingface_hub import errors

    if isinstance(error, Refused):
        return Failed(str(error))
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError) or (model.gated and status in (401, 403)):
        return Failed(
            f"{model.label} is given only to those who accept its terms ({model.licence}): sign in at {model.page}, "
            "accept them there, put an access token of yours into the environment variable HF_TOKEN (or run "
            "`hf auth login`), restart the engine, and download again."
        )
    if isinstance(error, errors.RevisionNotFoundError | errors.EntryNotFoundError):
        return Failed(f"The hub no longer has the version of {model.name} that this engine knows: update the add-on.")
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403, 404):
        return Failed(f"The hub does not give {model.name} out (any more): see {model.page}.")
    kinds = {cls.__name__ for cls in type(error).__mro__}
    number = getattr(error, "errno", None)
    if isinstance(error, errors.HfHubHTTPError):
        return Failed(f"The hub ({host}) answers with an error ({status}): download again later; what arrived is kept.")
    if "TransportError" in kinds or "Consistency check" in str(error) or isinstance(error, ConnectionError):
        return Failed(
            f"The connection to the hub ({host}) failed or was cut off: check it, and download again; what arrived is "
            "kept."
        )
    if isinstance(error, OSError) and number is not None:
        return Failed(str(error), number)
    said = str(error).strip().splitlines() or [type(error).__name__]
    return Failed(f"Downloading {model.name} failed ({said[0]}).")


def main() -> None:
    """Do what the first line of standard input asks for."""
    os.environ |= {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
    os.environ |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    source = sys.stdin.buffer
    order = msgspec.json.decode(source.readline(), type=Order)

    def end_with_input() -> None:
        source.read()
        os._exit(3)

    threading.Thread(target=end_with_input, daemon=True).start()

    def say(message: Any) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
        sys.stdout.buffer.flush()

    try:
        download(order, say)
    except Exception as error:
        traceback.print_exc()
        from huggingface_hub import constants

        say(explained(error, order.model, constants.ENDPOINT))


if __name__ == "__main__":
    main()
