# SPDX-License-Identifier: GPL-3.0-or-later
"""The words spoken with the engine, written once, and the checks on what it answers (docs/protocol.md).

The engine is another process: whatever it sends is checked here before anything else sees it. Every ``parse_…``
function takes a decoded JSON value and returns a frozen dataclass, or raises :class:`WireError` with a sentence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from .conversion import Camera, Intrinsics, Matrix, matrix_from_row_major
from .messages import (
    Capture,
    Cell,
    Change,
    Device,
    Edit,
    Editor,
    EngineInfo,
    Failure,
    Knob,
    Model,
    Offer,
    Preset,
    Progress,
    Project,
    Rendered,
    TrainedScene,
    Tried,
    View,
    ViewWritten,
    WireError,
)

PROTOCOL: Final = 2

INITIALIZE: Final = "initialize"
DEVICES_READ: Final = "devices/read"
MODEL_DOWNLOAD: Final = "model/download"
CAPTURE_OPEN: Final = "capture/open"
CAPTURE_REGISTER: Final = "capture/register"
CAPTURE_IMAGES: Final = "capture/images"
WORKSPACE_READ: Final = "workspace/read"
SCENE_TRAIN: Final = "scene/train"
EDIT_TRY: Final = "edit/try"
EDIT_DELETE_TRY: Final = "edit/delete_try"
EDIT_KEY: Final = "edit/key"
EDIT_RUN: Final = "edit/run"
EDIT_RESUME: Final = "edit/resume"
EDIT_LABEL: Final = "edit/label"
EDIT_DELETE: Final = "edit/delete"
OUTPUT_MESH: Final = "output/mesh"
OUTPUT_SPLATS: Final = "output/splats"
OUTPUT_FRAMES: Final = "output/frames"
OUTPUT_REPORT: Final = "output/report"
JOB_CANCEL: Final = "job/cancel"
JOB_PAUSE: Final = "job/pause"
JOB_CONTINUE: Final = "job/continue"
JOB_RENDER: Final = "job/render"
JOB_CHANGE: Final = "job/change"
JOB_REMAKE: Final = "job/remake"
RUNTIME_RELEASE: Final = "runtime/release"
SHUTDOWN: Final = "shutdown"

# What may be asked of which running job.
EDITS: Final = (EDIT_RUN, EDIT_RESUME)
LOOKED_AT: Final = (*EDITS, SCENE_TRAIN)
PAUSABLE: Final = (*LOOKED_AT, EDIT_TRY, OUTPUT_MESH, OUTPUT_SPLATS, OUTPUT_FRAMES, OUTPUT_REPORT)

JOB_PROGRESS: Final = "job/progress"
JOB_VIEW: Final = "job/view"
JOB_LOG: Final = "job/log"

DOWNLOADING: Final = "download"  # the stage whose steps are bytes
VIEW_IMAGE: Final = "image"
VIEW_EDITED: Final = "edited"
VIEW_BEFORE: Final = "before"
# Records that can be damaged, and are no edit's.
CAPTURE: Final = "capture"
SCENE: Final = "scene"
# Knobs of every editor that can say where an instruction matters.
KEEP_BACKGROUND: Final = "keep_background"
RELEVANCE: Final = "relevance"
VIEW_AFTER: Final = "after"
VIEW_TRIED: Final = "tried"

PHOTOS: Final = "photos"  # the field at fault where photos have no cameras

CANCELLED: Final = -32800
INTERNAL: Final = -32603
# Not on the wire: this side's own code for requests that a dead engine can no longer answer.
ENGINE_DIED: Final = -1

TEXT_LIMIT: Final = 16_384  # characters of any one string
LIST_LIMIT: Final = 200_000  # entries of any one list

T = TypeVar("T")


# -- lines -------------------------------------------------------------------------------------------------------


def request_line(number: int, method: str, params: Mapping[str, Any]) -> bytes:
    """A request as it is sent. Text that UTF-8 cannot hold (file names in other encodings) is cleaned.

    Raises ``ValueError`` where ``params`` hold what JSON cannot.
    """
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": dict(params)}
    try:
        try:
            line = json.dumps(message, allow_nan=False, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            line = json.dumps(_cleaned_all(message), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"The request {method} cannot be sent: {error}.") from None
    return line + b"\n"


def replaced_key(method: str, params: object) -> Hashable:
    """What a notification tells anew, so that an earlier one of the same key need not be handled any more; None for one
    that is no news of something known."""
    if method not in (JOB_PROGRESS, JOB_VIEW) or not isinstance(params, dict):
        return None
    said = (method, *(params.get(key) for key in ("job", "view", "kind")))
    return said if all(entry is None or isinstance(entry, str | int) for entry in said) else None


def cleaned(text: str) -> str:
    """Text with every lone surrogate written out, so that UTF-8 can hold it."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _cleaned_all(value: Any) -> Any:
    if isinstance(value, str):
        return cleaned(value)
    if isinstance(value, Mapping):
        return {_cleaned_all(key): _cleaned_all(entry) for key, entry in value.items()}
    return [_cleaned_all(entry) for entry in value] if isinstance(value, list | tuple) else value


# -- checks ------------------------------------------------------------------------------------------------------


def _map(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise WireError(f"The engine's {what} is not an object.")
    return value


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > LIST_LIMIT:
        raise WireError(f"The engine's {what} is not a list of at most {LIST_LIMIT} entries.")
    return value


def _text(data: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = data.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or len(value) > TEXT_LIMIT:
        raise WireError(f"The engine's “{key}” is not a text.")
    return cleaned(value)


def _number(data: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = data.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise WireError(f"The engine's “{key}” is not a number.")
    try:
        return float(value)
    except OverflowError:
        raise WireError(f"The engine's “{key}” is too large a number.") from None


def _whole(data: Mapping[str, Any], key: str, default: int | None = None) -> int:
    return int(_number(data, key, None if default is None else float(default)))


def _flag(data: Mapping[str, Any], key: str, default: bool = False) -> bool:
    value = data.get(key, default)
    if not isinstance(value, bool):
        raise WireError(f"The engine's “{key}” is neither true nor false.")
    return value


def _numbers(value: object, count: int, what: str) -> tuple[float, ...]:
    entries = _list(value, what)
    if len(entries) != count:
        raise WireError(f"The engine's {what} has {len(entries)} numbers instead of {count}.")
    if all(type(entry) in (float, int) and abs(entry) < 1e300 for entry in entries):  # nearly always, of thousands
        return tuple(map(float, entries))
    return tuple(_number({what: entry}, what) for entry in entries)


def _many(data: Mapping[str, Any], key: str, parse: Callable[[object], T]) -> tuple[T, ...]:
    return tuple(parse(entry) for entry in _list(data.get(key, []), key))


def _one_text(value: object) -> str:
    return _text({"entry": value}, "entry")


def _paths(data: Mapping[str, Any], key: str) -> dict[str, str]:
    value = data.get(key)
    return {} if value is None else {_one_text(k): _one_text(v) for k, v in _map(value, key).items()}


# -- objects -----------------------------------------------------------------------------------------------------


def parse_camera(value: object) -> Camera:
    """A ``camera`` object: camera to world in the capture frame, pixels at the size beside them."""
    data = _map(value, "camera")
    width, height = _whole(data, "width"), _whole(data, "height")
    fx, fy = _number(data, "fx"), _number(data, "fy")
    if not (0 < width <= 65536 and 0 < height <= 65536 and fx > 0 and fy > 0):
        raise WireError("The engine sent a camera without a size or focal length.")
    pose = matrix_from_row_major(_numbers(data.get("pose"), 16, "pose"))
    return Camera(pose, Intrinsics(width, height, fx, fy, _number(data, "cx"), _number(data, "cy")))


def parse_view(value: object) -> View:
    """A view of a capture."""
    data = _map(value, "view")
    return View(_text(data, "name"), _text(data, "image", ""), _flag(data, "held_out"), parse_camera(data))


def _left_out(value: object) -> tuple[str, str]:
    data = _map(value, "left-out view")
    return _text(data, "name"), _text(data, "reason", "")


def parse_capture(value: object) -> Capture:
    """A ``capture`` object; view names must be unique, for everything else is looked up by them."""
    data = _map(value, "capture")
    views = _many(data, "views", parse_view)
    if len({view.name for view in views}) != len(views):
        raise WireError("The engine sent two views of the same name.")
    x, y, z = _numbers(data.get("centre"), 3, "centre")
    u, v, w = _numbers(data.get("up"), 3, "up")
    return Capture(
        workspace=_text(data, "workspace"),
        source=_text(data, "source"),
        format=_text(data, "format", ""),
        views=views,
        left_out=_many(data, "left_out", _left_out),
        centre=(x, y, z),
        radius=_number(data, "radius"),
        up=(u, v, w),
        notes=_many(data, "notes", _one_text),
        points=_text(data, "points", ""),
        point_count=_whole(data, "point_count", 0),
    )


def parse_scene(value: object) -> TrainedScene:
    """A ``scene`` object."""
    data = _map(value, "scene")
    measures: dict[str, float | str | None] = {}
    for key, entry in _map(data.get("measures") or {}, "measures").items():
        measures[_one_text(key)] = entry if entry is None or isinstance(entry, str) else _number({key: entry}, key)
    return TrainedScene(
        _whole(data, "steps", 0), _whole(data, "of", 0), _flag(data, "finished"), _text(data, "preset", ""),
        measures, _paths(data, "views"),
    )  # fmt: skip


def parse_edit(value: object) -> Edit:
    """An ``edit`` object."""
    data = _map(value, "edit")
    settings = _map(data.get("settings") or {}, "settings")
    options = _map(settings.get("options") or {}, "options")
    return Edit(
        id=_text(data, "id"),
        instruction=_text(data, "instruction"),
        preset=_text(data, "preset", ""),
        chosen=_many(data, "chosen", _one_text) if data.get("chosen") is not None else (),
        steps=_whole(data, "steps", 0),
        of=_whole(data, "of", 0),
        finished=_flag(data, "finished"),
        images=_paths(data, "images"),
        views=_paths(data, "views"),
        mesh=_text(data, "mesh", ""),
        seconds=_number(data, "seconds", 0.0),
        changes=_many(data, "changes", _change),
        parent=_text(data, "parent", ""),
        name=_text(data, "name", ""),
        muted=_flag(data, "muted"),
        created=_number(data, "created", 0.0),
        editor=_text(data, "editor", ""),
        seed=_whole(settings, "seed", 0),
        options={_one_text(k): v for k, v in options.items() if isinstance(v, bool | int | float | str)},
        keep=_number(settings, "keep", 0.0),
    )


def parse_deleted(value: object) -> tuple[tuple[str, ...], str]:
    """The result of ``edit/delete``: ids of the edits that are gone, and the folder that they lie in; empty: the
    system's trash."""
    data = _map(value, "result")
    return _many(data, "edits", _one_text), _text(data, "folder", "")


def _change(value: object) -> Change:
    data = _map(value, "change")
    return Change(_whole(data, "step"), _text(data, "instruction", ""), _text(data, "view", ""))


def _values(data: Mapping[str, Any], key: str) -> dict[str, bool | int | float | str]:
    found = {_one_text(name): entry for name, entry in _map(data.get(key) or {}, key).items()}
    for name, entry in found.items():
        if isinstance(entry, str):
            found[name] = _one_text(entry)
        elif not isinstance(entry, bool):
            _number(found, name)
    return found


def _cell(value: object) -> Cell:
    data = _map(value, "cell")
    return Cell(
        _text(data, "instruction"), _values(data, "options"), _values(data, "settings"), _whole(data, "seed"),
        _text(data, "image"), _numbers(data.get("box"), 4, "box"),
    )  # fmt: skip


def parse_tried(value: object) -> Tried:
    """A ``tried`` object."""
    data = _map(value, "try")
    found = Tried(
        _text(data, "id"), _text(data, "view"), _text(data, "editor", ""), _text(data, "before", ""),
        _text(data, "after"), _whole(data, "columns"), _many(data, "cells", _cell),
        _text(data, "parent", ""),
    )  # fmt: skip
    if not found.cells or found.columns < 1:
        raise WireError("The engine sent a try without an edit.")
    return found


def parse_project(value: object) -> Project:
    """The result of ``workspace/read``."""
    data = _map(value, "workspace")
    capture, scene = data.get("capture"), data.get("scene")
    return Project(
        None if capture is None else parse_capture(capture),
        None if scene is None else parse_scene(scene),
        _many(data, "edits", parse_edit),
        _many(data, "damaged", _left_out) if "damaged" in data else (),
        _many(data, "tries", parse_tried) if data.get("tries") else (),
    )


def _device(value: object) -> Device:
    data = _map(value, "device")
    return Device(
        _text(data, "name"), _text(data, "label", ""), _whole(data, "free_bytes", 0), _whole(data, "total_bytes", 0),
        _text(data, "preset", ""), _text(data, "editor", ""), _paths(data, "slow"),
    )  # fmt: skip


def _editor(value: object) -> Editor:
    data = _map(value, "editor")
    return Editor(
        _text(data, "name"), _text(data, "label", ""), _whole(data, "size", 0), _flag(data, "available", True),
        _text(data, "reason", ""), _many(data, "vocabulary", _one_text) if data.get("vocabulary") else (),
        _many(data, "knobs", _knob) if data.get("knobs") else (),
        _many(data, "wordings", _one_text) if data.get("wordings") else (),
        Offer() if data.get("offer") is None else _offer(data["offer"]),
    )  # fmt: skip


def _offer(value: object) -> Offer:
    data = _map(value, "offer")
    size = _whole(data, "bytes", 0)
    if size < 0:
        raise WireError("The engine's “bytes” is less than nothing.")
    return Offer(
        _text(data, "licence", ""), _text(data, "licence_url", ""), _flag(data, "commercial", True),
        _flag(data, "gated", False), size, _text(data, "page", ""), _text(data, "folder", ""),
        _flag(data, "downloaded", False),
    )  # fmt: skip


def _model(value: object) -> Model:
    data = _map(value, "model")
    return Model(_text(data, "name"), _text(data, "label", ""), _text(data, "use", ""), _offer(data.get("offer")))


def _knob(value: object) -> Knob:
    data = _map(value, "knob")
    default = data.get("default")
    if not isinstance(default, (bool, int, float, str)):
        raise WireError("The engine sent a knob without a default.")

    def bound(key: str) -> float | None:
        return None if data.get(key) is None else _number(data, key)

    return Knob(
        _text(data, "name"), _text(data, "label", ""), _text(data, "description", ""), _text(data, "kind"), default,
        bound("minimum"), bound("maximum"), _many(data, "choices", _one_text) if data.get("choices") else (),
        _flag(data, "advanced", False),
    )  # fmt: skip


def _preset(value: object) -> Preset:
    data = _map(value, "preset")
    return Preset(
        _text(data, "name"), _text(data, "label", ""), _text(data, "description", ""), _flag(data, "default"),
        _whole(data, "long_side", 0), _whole(data, "min_views", 0), _number(data, "train_seconds", 0.0),
        _number(data, "edit_seconds", 0.0), _number(data, "view_seconds", 0.0), _whole(data, "bytes", 0),
    )  # fmt: skip


def parse_engine(value: object) -> EngineInfo:
    """The result of ``initialize``."""
    data = _map(value, "answer to initialize")
    info = EngineInfo(
        _whole(data, "protocol"), _text(data, "engine", ""), _many(data, "devices", _device),
        _many(data, "editors", _editor), _many(data, "presets", _preset), _text(data, "computing", ""),
        _flag(data, "settled", True), _many(data, "models", _model) if data.get("models") else (),
    )  # fmt: skip
    if info.protocol != PROTOCOL:
        raise WireError(
            f"The engine speaks protocol {info.protocol}, this add-on {PROTOCOL}: install the engine again."
        )
    return info


def parse_devices(value: object, info: EngineInfo) -> EngineInfo:
    """What the engine said at the start, with the result of ``devices/read``."""
    data = _map(value, "answer to devices/read")
    devices = _many(data, "devices", _device)
    return replace(info, devices=devices, computing=_text(data, "computing", ""), settled=True)


def parse_progress(value: object) -> Progress:
    """A ``job/progress``; the fraction is clamped to 0–1."""
    data = _map(value, "progress")
    left = data.get("seconds_left")
    return Progress(
        _whole(data, "job"), _text(data, "stage", ""), _text(data, "label", ""), _whole(data, "step", 0),
        _whole(data, "of", 0), min(1.0, max(0.0, _number(data, "fraction", 0.0))),
        None if left is None else max(0.0, _number(data, "seconds_left")),
    )  # fmt: skip


def parse_view_written(value: object) -> ViewWritten:
    """A ``job/view``."""
    data = _map(value, "view notice")
    return ViewWritten(_whole(data, "job"), _text(data, "view"), _text(data, "kind"), _text(data, "image"))


def parse_images(value: object, *keys: str) -> tuple[list[str], ...]:
    """Lists of paths out of a result, one list a key; all lists have the same length."""
    data = _map(value, "result")
    lists = tuple(list(_many(data, key, _one_text)) for key in keys)
    if len({len(entries) for entries in lists}) > 1:
        raise WireError("The engine sent different numbers of frames before and after.")
    return lists


def parse_rendered(value: object) -> Rendered:
    """The result of ``job/render``."""
    data = _map(value, "result")
    return Rendered(_text(data, "image"), _whole(data, "step"))


def parse_paused(value: object) -> bool:
    """The result of ``job/pause`` and ``job/continue``: whether the job is to wait."""
    return _flag(_map(value, "result"), "paused")


def parse_step(value: object) -> int:
    """The step from which on holds what a running edit was asked."""
    return _whole(_map(value, "result"), "step")


def parse_path(value: object, key: str) -> str:
    """One path out of a result."""
    return _text(_map(value, "result"), key)


def parse_failure(value: object) -> Failure:
    """An ``error`` object; never raises, for an error about an error helps nobody."""
    if not isinstance(value, dict):
        return Failure(INTERNAL, "The engine failed without saying why.")
    code, message, data = value.get("code"), value.get("message"), value.get("data")
    data = data if isinstance(data, dict) else {}
    field, file = data.get("field"), data.get("file")
    sentence = message[:TEXT_LIMIT] if isinstance(message, str) and message else "The engine failed without saying why."
    return Failure(
        code if isinstance(code, int) else INTERNAL,
        cleaned(sentence),
        cleaned(field) if isinstance(field, str) else "",
        cleaned(file) if isinstance(file, str) else "",
    )


def region_object(
    solids: Sequence[tuple[str, list[float], list[int]]], softness: float, invert: bool, frame: Matrix
) -> dict[str, Any]:
    """A ``region`` object to send: surfaces by name, vertices and triangles, and what leads to their frame from the
    capture's."""
    return {
        "solids": [{"name": n, "vertices": v, "triangles": t} for n, v, t in solids],
        "softness": softness, "invert": invert, "frame": [entry for row in frame for entry in row],
    }  # fmt: skip


def camera_object(camera: Camera) -> dict[str, Any]:
    """A ``camera`` object to send."""
    k = camera.intrinsics
    sent: dict[str, Any] = {
        "pose": [entry for row in camera.pose for entry in row],
        "width": k.width, "height": k.height, "fx": k.fx, "fy": k.fy, "cx": k.cx, "cy": k.cy,
    }  # fmt: skip
    if camera.projection != "perspective":
        sent["projection"] = camera.projection
    if camera.world is not None:
        sent["world"] = [entry for row in camera.world for entry in row]
    return sent
