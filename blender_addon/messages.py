# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine says, once checked: one frozen dataclass for every object of docs/protocol.md. Free of bpy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from .conversion import Camera, Vector


class WireError(ValueError):
    """What the engine sent is not what the protocol says; the message names the field."""


@dataclass(frozen=True)
class Failure:
    """Why a request failed: a code, one sentence for the artist, and the field or file at fault, if one is."""

    code: int
    message: str
    field: str = ""
    file: str = ""
    detail: str = ""  # the end of the engine's log, where the engine died


@dataclass(frozen=True)
class View:
    """One picture of a capture; ``image`` is the pinhole picture's path, which may not be written yet."""

    name: str
    image: str
    held_out: bool
    camera: Camera


@dataclass(frozen=True)
class Capture:
    """An opened capture; ``centre``, ``radius`` and ``up`` are in the capture frame."""

    workspace: str
    source: str
    format: str
    views: tuple[View, ...]
    left_out: tuple[tuple[str, str], ...]  # name, reason
    centre: Vector
    radius: float
    up: Vector
    notes: tuple[str, ...]
    points: str = ""  # path of a PLY in the capture frame; empty where the source has no points
    point_count: int = 0


@dataclass(frozen=True)
class TrainedScene:
    """The unedited NeRF; measures are None until measured."""

    steps: int
    of: int
    finished: bool
    preset: str
    measures: Mapping[str, float | str | None]
    views: Mapping[str, str]


@dataclass(frozen=True)
class Change:
    """What an edit was asked while it ran: another instruction from a step on, or a view to be made anew."""

    step: int
    instruction: str
    view: str


@dataclass(frozen=True)
class Edit:
    """One edit of the workspace's tree."""

    id: str
    instruction: str
    preset: str
    chosen: tuple[str, ...]
    steps: int
    of: int
    finished: bool
    images: Mapping[str, str]
    views: Mapping[str, str]
    mesh: str
    seconds: float
    changes: tuple[Change, ...] = ()
    parent: str = ""  # the id of the edit that it stands on; empty: the unedited scene
    name: str = ""  # what the artist calls it
    muted: bool = False
    created: float = 0.0  # seconds since 1970; 0: not known
    editor: str = ""
    seed: int = 0
    options: Mapping[str, bool | int | float | str] = dataclasses.field(default_factory=dict)  # of the editor's knobs
    keep: float = 0.0  # threshold of relevance below which the original stays; 0: nowhere

    @property
    def title(self) -> str:
        """What the artist calls it, or what it was told."""
        return self.name or self.said

    @property
    def said(self) -> str:
        """Its instruction, and those that it was told while it ran."""
        later = (change.instruction for change in self.changes if not change.view and change.instruction)
        return " → ".join(dict.fromkeys((self.instruction, *later)))


@dataclass(frozen=True)
class Cell:
    """One edit of what was tried. ``options``: as they were asked for; ``settings``: a value for every knob. ``box``:
    x and y from the upper left, width and height in the picture that shows all, in pixels."""

    instruction: str
    options: Mapping[str, bool | int | float | str]
    settings: Mapping[str, bool | int | float | str]
    seed: int
    image: str
    box: tuple[float, ...]


@dataclass(frozen=True)
class Tried:
    """What was tried on a view: one edit, or several in rows of ``columns``. ``after``: the picture that shows all."""

    id: str
    view: str
    editor: str
    before: str
    after: str
    columns: int
    cells: tuple[Cell, ...]
    parent: str = ""  # the id of the edit that the one tried would stand on; empty: the captured scene


@dataclass(frozen=True)
class Detached:
    """A job that goes on by itself, or did; ``state`` is running, done, failed, cancelled or lost."""

    id: str
    method: str
    title: str
    edit: str
    state: str
    host: str
    label: str
    fraction: float
    message: str


@dataclass(frozen=True)
class Project:
    """What a workspace holds."""

    capture: Capture | None
    scene: TrainedScene | None
    edits: tuple[Edit, ...]
    damaged: tuple[tuple[str, str], ...] = ()  # records that cannot be read: what it is, a sentence that says why
    tries: tuple[Tried, ...] = ()  # oldest first
    jobs: tuple[Detached, ...] = ()  # oldest first


@dataclass(frozen=True)
class Device:
    """A device the engine can run on, the engine's own choice first; sizes in bytes, 0 where unknown. ``preset`` and
    ``editor`` name what it would choose on it. ``slow``: presets that take days on it, each with a sentence that says
    so; they are refused unless asked for a second time."""

    name: str
    label: str
    free_bytes: int
    total_bytes: int
    preset: str = ""
    editor: str = ""
    slow: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Knob:
    """Something of an editor that an artist may turn; ``kind`` is float, int, bool or choice."""

    name: str
    label: str
    description: str
    kind: str
    default: bool | int | float | str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    advanced: bool


@dataclass(frozen=True)
class Offer:
    """On what terms an editor can be had; empty texts where that is not known. ``page`` is empty where it cannot be
    downloaded; ``folder`` is where it lies, or will."""

    licence: str = ""
    licence_url: str = ""
    commercial: bool = True
    gated: bool = False
    bytes: int = 0
    page: str = ""
    folder: str = ""
    downloaded: bool = False

    @property
    def missing(self) -> bool:
        """Whether it can be downloaded, and was not."""
        return bool(self.page) and not self.downloaded


@dataclass(frozen=True)
class Editor:
    """An image editor; ``vocabulary`` is empty where any instruction may be given. ``wordings`` are other ways to say
    what it knows, where “{noun}” stands for any words."""

    name: str
    label: str
    size: int
    available: bool
    reason: str
    vocabulary: tuple[str, ...]
    knobs: tuple[Knob, ...] = ()  # their defaults are what it recommends
    wordings: tuple[str, ...] = ()
    offer: Offer = Offer()


@dataclass(frozen=True)
class Model:
    """What is no editor and can be downloaded; ``use`` says what it is good for."""

    name: str
    label: str
    use: str
    offer: Offer


@dataclass(frozen=True)
class Preset:
    """Settings by name; ``long_side`` in pixels, ``min_views`` the fewest views that hold a scene together; guesses of
    the seconds that a CPU trains the scene, before it compares a photo with others and finds its flat surfaces (of
    ``most_compared`` at most), makes an edit with the small editor, and of that for each view, tries an edit and
    renders a view, 0 where there is none; ``bytes`` that the scene is kept in, and each edit again."""

    name: str
    label: str
    description: str
    default: bool
    long_side: int
    min_views: int
    train_seconds: float = 0.0
    compare_seconds: float = 0.0
    flat_seconds: float = 0.0
    most_compared: int = 0
    edit_seconds: float = 0.0
    view_seconds: float = 0.0
    try_seconds: float = 0.0
    render_seconds: float = 0.0
    bytes: int = 0


@dataclass(frozen=True)
class EngineInfo:
    """What the engine said of itself at the start. ``computing``: a sentence on what computes, and why; ``settled``:
    whether it knows, else the devices are still to be asked for."""

    protocol: int
    version: str
    devices: tuple[Device, ...]
    editors: tuple[Editor, ...]
    presets: tuple[Preset, ...]
    computing: str = ""
    settled: bool = True
    models: tuple[Model, ...] = ()

    def with_devices(self, devices: tuple[Device, ...], computing: str) -> EngineInfo:
        """The same, once it is known what computes."""
        return dataclasses.replace(self, devices=devices, computing=computing, settled=True)


@dataclass(frozen=True)
class Progress:
    """One ``job/progress``; ``fraction`` and ``seconds_left`` are of the whole job. ``loss``: the sum of those that
    were weighted; ``held_out``: dB; ``change``: 0–1. None where they are not said."""

    job: int
    stage: str
    label: str
    step: int
    of: int
    fraction: float
    seconds_left: float | None
    loss: float | None = None
    held_out: float | None = None
    change: float | None = None


@dataclass(frozen=True)
class ViewWritten:
    """One ``job/view``: a picture of a view was written."""

    job: int
    view: str
    kind: str
    image: str


@dataclass(frozen=True)
class Rendered:
    """The result of ``job/render``: a picture of the scene after so many steps."""

    image: str
    step: int
