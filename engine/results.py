# SPDX-License-Identifier: GPL-3.0-or-later
"""What each request is answered with (docs/protocol.md); the objects that several of them share are in protocol.py."""

from __future__ import annotations

from typing import Any, TypedDict

import msgspec

from engine.protocol import (
    CHANGE,
    LOOK,
    LOOK_AT_FILES,
    READ_FILE,
    REMAKE,
    RENDER,
    SURFELS,
    WRITE_FILE,
    Capture,
    Device,
    Edit,
    Editor,
    Model,
    OptionValue,
    PresetInfo,
    Registered,
    Scene,
)


class Started(TypedDict):
    """Of `initialize`."""

    protocol: int
    engine: str
    devices: list[Device]
    computing: str
    settled: bool
    editors: list[Editor]
    models: list[Model]
    presets: list[PresetInfo]
    files: str | None  # the folder for files of another machine, from the root on, where one was named


class Computing(TypedDict):
    """Of `devices/read`."""

    devices: list[Device]
    computing: str
    settled: bool


class Damaged(msgspec.Struct, frozen=True):
    """A record that cannot be used: an edit's id, `scene` or `capture`, and a sentence that says why."""

    name: str
    reason: str


class Cell(msgspec.Struct, frozen=True):
    """One edit of what was tried. ``options``: as they were asked for; ``settings``: a value for every knob. ``box``:
    where it is in the picture that shows all, x and y from the upper left, width and height, pixels."""

    instruction: str
    options: dict[str, OptionValue]
    settings: dict[str, OptionValue]
    seed: int
    image: str
    box: tuple[int, int, int, int]


class Tried(msgspec.Struct, frozen=True):
    """A view before and after: ``after`` is the edited picture or, of more than one cell, the contact sheet.
    ``parent``: the edit that the one tried would stand on, whose picture then is ``before``."""

    id: str
    view: str
    editor: str
    parent: str | None
    before: str
    after: str
    columns: int
    cells: list[Cell]


class Detached(msgspec.Struct, frozen=True):
    """A job that outlives who began it, and how far it is. ``state``: "running", "done", "failed", "cancelled" or
    "lost"; ``message``: a sentence, where it did not end well."""

    id: str
    method: str
    title: str
    edit: str | None
    state: str
    host: str
    began: float
    label: str
    step: int
    of: int
    fraction: float
    seconds_left: float | None
    message: str


class Project(TypedDict):
    """What a workspace holds."""

    capture: Capture | None
    scene: Scene | None
    edits: list[Edit]
    tries: list[Tried]
    damaged: list[Damaged]
    jobs: list[Detached]


class Mesh(msgspec.Struct, frozen=True):
    """A PLY file with vertex colors, vertices in the capture frame; its texture, a PNG; and by their formats the files
    that were asked for besides."""

    mesh: str
    vertices: int
    faces: int
    texture: str | None = None
    files: dict[str, str] = {}


class Splats(msgspec.Struct, frozen=True):
    """A PLY file of 3D Gaussians, in the capture frame, and the same as a viewport draws them."""

    splats: str
    count: int
    surfels: str


class Deleted(msgspec.Struct, frozen=True):
    """The edits that are gone, and the folder that they lie in now; None: the system's trash."""

    edits: list[str]
    folder: str | None


class Frames(msgspec.Struct, frozen=True):
    """Pictures on disk, one a camera: of what the edit stands on, and of the edited scene."""

    before: list[str]
    after: list[str]


class Report(msgspec.Struct, frozen=True):
    """The report card's files, and its measures by method."""

    html: str
    json: str
    measures: dict[str, dict[str, float]]


class Cancelling(TypedDict):
    cancelling: bool  # false where no such job runs


class Paused(TypedDict):
    paused: bool


class LetGo(TypedDict):
    """Of `job/detach`: the detached job's id, and the process that does it."""

    id: str
    pid: int


class Followed(msgspec.Struct, frozen=True):
    """A detached job's own result, and the request that it answers."""

    method: str
    result: Any


class Downloaded(msgspec.Struct, frozen=True):
    """A model of the hub's is on this computer, whole."""

    model: str
    folder: str


class Rendered(msgspec.Struct, frozen=True):
    """A picture of the scene as it was after ``step`` steps."""

    image: str
    step: int


class Viewed(msgspec.Struct, frozen=True):
    """A file of pixels (engine/output/view_file.py), and after how many steps of the running job they are what the
    scene shows; None: of a scene as it was saved."""

    pixels: str
    step: int | None


class Surfels(msgspec.Struct, frozen=True):
    """A file of surfels of the scene as it was after ``step`` steps."""

    surfels: str
    step: int


class Noted(msgspec.Struct, frozen=True):
    """What was asked of an edit holds from this step on."""

    step: int


class Proposed(TypedDict):
    """Of `edit/key`: the view's name."""

    view: str


class DeletedTry(TypedDict):
    deleted: bool  # false where there was no such


class FileState(msgspec.Struct, frozen=True):
    """``size`` in bytes; ``changed``: when it was, nanoseconds since 1970."""

    size: int
    changed: int


class LookedAt(msgspec.Struct, frozen=True):
    """A state for each name that was asked for; None where there is no such file."""

    files: list[FileState | None]


class Written(msgspec.Struct, frozen=True):
    """How many bytes of the file are there, and whether that is all of it."""

    size: int
    whole: bool


class FilePart(msgspec.Struct, frozen=True):
    """A part of a file, and the whole file's size and time as they were when it was read."""

    data: bytes
    size: int
    changed: int


class Released(TypedDict):
    released: list[str]


class Nothing(TypedDict):
    pass


RESULTS: dict[str, type] = {
    "initialize": Started,
    "devices/read": Computing,
    "model/download": Downloaded,
    "capture/open": Capture,
    "capture/register": Registered,
    "capture/images": Capture,
    "workspace/read": Project,
    "scene/train": Scene,
    "edit/try": Tried,
    "edit/key": Proposed,
    "edit/delete_try": DeletedTry,
    "edit/run": Edit,
    "edit/resume": Edit,
    "edit/label": Edit,
    "edit/delete": Deleted,
    "output/mesh": Mesh,
    "output/splats": Splats,
    "output/frames": Frames,
    "output/report": Report,
    "job/cancel": Cancelling,
    "job/pause": Paused,
    "job/continue": Paused,
    "job/detach": LetGo,
    "job/attach": Followed,
    LOOK: Viewed,
    RENDER: Rendered,
    SURFELS: Surfels,
    CHANGE: Noted,
    REMAKE: Noted,
    LOOK_AT_FILES: LookedAt,
    WRITE_FILE: Written,
    READ_FILE: FilePart,
    "runtime/release": Released,
    "shutdown": Nothing,
}
