# SPDX-License-Identifier: GPL-3.0-or-later
"""The words spoken with the engine, written once, and the checks on what it answers (docs/protocol.md).

The engine is another process: whatever it sends is checked here before anything else sees it. Every ``parse_…``
function takes a decoded JSON value and returns a frozen dataclass, or raises :class:`WireError` with a sentence.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

from .conversion import Camera, Intrinsics, Matrix, matrix_from_row_major
from .fields import (
    TEXT_LIMIT,
    as_map,
    cleaned,
    flag_of,
    many_of,
    number_of,
    numbers_of,
    one_text,
    paths_of,
    text_of,
    whole_of,
)
from .messages import (
    Capture,
    Cell,
    Change,
    Detached,
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
ENGINE: Final = "0.1.0"  # the version of the engine that comes with this add-on

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
JOB_SURFELS: Final = "job/surfels"
VIEW_RENDER: Final = "view/render"
JOB_CHANGE: Final = "job/change"
JOB_REMAKE: Final = "job/remake"
JOB_DETACH: Final = "job/detach"
JOB_ATTACH: Final = "job/attach"
FILES_LOOK: Final = "files/look"
FILES_WRITE: Final = "files/write"
FILES_READ: Final = "files/read"
RUNTIME_RELEASE: Final = "runtime/release"
SHUTDOWN: Final = "shutdown"

# What may be asked of which running job.
EDITS: Final = (EDIT_RUN, EDIT_RESUME)
LOOKED_AT: Final = (*EDITS, SCENE_TRAIN)
PAUSABLE: Final = (*LOOKED_AT, EDIT_TRY, OUTPUT_MESH, OUTPUT_SPLATS, OUTPUT_FRAMES, OUTPUT_REPORT)

DETACHABLE: Final = (*PAUSABLE, CAPTURE_REGISTER, CAPTURE_IMAGES)

JOB_PROGRESS: Final = "job/progress"
JOB_VIEW: Final = "job/view"
JOB_LOG: Final = "job/log"

DOWNLOADING: Final = "download"  # the stage whose steps are bytes
VIEW_IMAGE: Final = "image"
VIEW_EDITED: Final = "edited"
VIEW_BEFORE: Final = "before"
VIEW_AFTER: Final = "after"
VIEW_TRIED: Final = "tried"

# Knobs of every editor that can say where an instruction matters.
KEEP_BACKGROUND: Final = "keep_background"
RELEVANCE: Final = "relevance"

PHOTOS: Final = "photos"  # the field at fault where photos have no cameras

BAD_INPUT: Final = -32000
CANCELLED: Final = -32800
DETACHED: Final = -32003  # the job goes on by itself
INTERNAL: Final = -32603
# Not on the wire: this side's own code for requests that a dead engine can no longer answer.
ENGINE_DIED: Final = -1


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


def _cleaned_all(value: Any) -> Any:
    if isinstance(value, str):
        return cleaned(value)
    if isinstance(value, Mapping):
        return {_cleaned_all(key): _cleaned_all(entry) for key, entry in value.items()}
    return [_cleaned_all(entry) for entry in value] if isinstance(value, list | tuple) else value


# -- objects -----------------------------------------------------------------------------------------------------


def parse_camera(value: object) -> Camera:
    """A ``camera`` object: camera to world in the capture frame, pixels at the size beside them."""
    data = as_map(value, "camera")
    width, height = whole_of(data, "width"), whole_of(data, "height")
    fx, fy = number_of(data, "fx"), number_of(data, "fy")
    if not (0 < width <= 65536 and 0 < height <= 65536 and fx > 0 and fy > 0):
        raise WireError("The engine sent a camera without a size or focal length.")
    pose = matrix_from_row_major(numbers_of(data.get("pose"), 16, "pose"))
    return Camera(pose, Intrinsics(width, height, fx, fy, number_of(data, "cx"), number_of(data, "cy")))


def parse_view(value: object) -> View:
    """A view of a capture."""
    data = as_map(value, "view")
    return View(text_of(data, "name"), text_of(data, "image", ""), flag_of(data, "held_out"), parse_camera(data))


def _left_out(value: object) -> tuple[str, str]:
    data = as_map(value, "left-out view")
    return text_of(data, "name"), text_of(data, "reason", "")


def parse_capture(value: object) -> Capture:
    """A ``capture`` object; view names must be unique, for everything else is looked up by them."""
    data = as_map(value, "capture")
    views = many_of(data, "views", parse_view)
    if len({view.name for view in views}) != len(views):
        raise WireError("The engine sent two views of the same name.")
    x, y, z = numbers_of(data.get("centre"), 3, "centre")
    u, v, w = numbers_of(data.get("up"), 3, "up")
    return Capture(
        workspace=text_of(data, "workspace"),
        source=text_of(data, "source"),
        format=text_of(data, "format", ""),
        views=views,
        left_out=many_of(data, "left_out", _left_out),
        centre=(x, y, z),
        radius=number_of(data, "radius"),
        up=(u, v, w),
        notes=many_of(data, "notes", one_text),
        points=text_of(data, "points", ""),
        point_count=whole_of(data, "point_count", 0),
    )


def parse_scene(value: object) -> TrainedScene:
    """A ``scene`` object."""
    data = as_map(value, "scene")
    measures: dict[str, float | str | None] = {}
    for key, entry in as_map(data.get("measures") or {}, "measures").items():
        measures[one_text(key)] = entry if entry is None or isinstance(entry, str) else number_of({key: entry}, key)
    return TrainedScene(
        whole_of(data, "steps", 0), whole_of(data, "of", 0), flag_of(data, "finished"), text_of(data, "preset", ""),
        measures, paths_of(data, "views"),
    )  # fmt: skip


def parse_edit(value: object) -> Edit:
    """An ``edit`` object."""
    data = as_map(value, "edit")
    settings = as_map(data.get("settings") or {}, "settings")
    options = as_map(settings.get("options") or {}, "options")
    return Edit(
        id=text_of(data, "id"),
        instruction=text_of(data, "instruction"),
        preset=text_of(data, "preset", ""),
        chosen=many_of(data, "chosen", one_text) if data.get("chosen") is not None else (),
        steps=whole_of(data, "steps", 0),
        of=whole_of(data, "of", 0),
        finished=flag_of(data, "finished"),
        images=paths_of(data, "images"),
        views=paths_of(data, "views"),
        mesh=text_of(data, "mesh", ""),
        seconds=number_of(data, "seconds", 0.0),
        changes=many_of(data, "changes", _change),
        parent=text_of(data, "parent", ""),
        name=text_of(data, "name", ""),
        muted=flag_of(data, "muted"),
        created=number_of(data, "created", 0.0),
        editor=text_of(data, "editor", ""),
        seed=whole_of(settings, "seed", 0),
        options={one_text(k): v for k, v in options.items() if isinstance(v, bool | int | float | str)},
        keep=number_of(settings, "keep", 0.0),
    )


def parse_deleted(value: object) -> tuple[tuple[str, ...], str]:
    """The result of ``edit/delete``: ids of the edits that are gone, and the folder that they lie in; empty: the
    system's trash."""
    data = as_map(value, "result")
    return many_of(data, "edits", one_text), text_of(data, "folder", "")


def _change(value: object) -> Change:
    data = as_map(value, "change")
    return Change(whole_of(data, "step"), text_of(data, "instruction", ""), text_of(data, "view", ""))


def _values(data: Mapping[str, Any], key: str) -> dict[str, bool | int | float | str]:
    found = {one_text(name): entry for name, entry in as_map(data.get(key) or {}, key).items()}
    for name, entry in found.items():
        if isinstance(entry, str):
            found[name] = one_text(entry)
        elif not isinstance(entry, bool):
            number_of(found, name)
    return found


def _cell(value: object) -> Cell:
    data = as_map(value, "cell")
    return Cell(
        text_of(data, "instruction"), _values(data, "options"), _values(data, "settings"), whole_of(data, "seed"),
        text_of(data, "image"), numbers_of(data.get("box"), 4, "box"),
    )  # fmt: skip


def parse_tried(value: object) -> Tried:
    """A ``tried`` object."""
    data = as_map(value, "try")
    found = Tried(
        text_of(data, "id"), text_of(data, "view"), text_of(data, "editor", ""), text_of(data, "before", ""),
        text_of(data, "after"), whole_of(data, "columns"), many_of(data, "cells", _cell),
        text_of(data, "parent", ""),
    )  # fmt: skip
    if not found.cells or found.columns < 1:
        raise WireError("The engine sent a try without an edit.")
    return found


def parse_project(value: object) -> Project:
    """The result of ``workspace/read``."""
    data = as_map(value, "workspace")
    capture, scene = data.get("capture"), data.get("scene")
    return Project(
        None if capture is None else parse_capture(capture),
        None if scene is None else parse_scene(scene),
        many_of(data, "edits", parse_edit),
        many_of(data, "damaged", _left_out) if "damaged" in data else (),
        many_of(data, "tries", parse_tried) if data.get("tries") else (),
        many_of(data, "jobs", _detached) if data.get("jobs") else (),
    )


def _detached(value: object) -> Detached:
    data = as_map(value, "job")
    return Detached(
        text_of(data, "id"), text_of(data, "method"), text_of(data, "title"), text_of(data, "edit", ""),
        text_of(data, "state"), text_of(data, "host"), text_of(data, "label", ""), number_of(data, "fraction", 0.0),
        text_of(data, "message", ""),
    )  # fmt: skip


def parse_let_go(value: object) -> str:
    """The result of ``job/detach``: the detached job's id."""
    return text_of(as_map(value, "detached job"), "id")


def parse_followed(value: object) -> object:
    """The result of ``job/attach``: what the detached job itself answered. Nothing of it is checked yet."""
    return as_map(value, "detached job").get("result")


def _device(value: object) -> Device:
    data = as_map(value, "device")
    return Device(
        text_of(data, "name"), text_of(data, "label", ""), whole_of(data, "free_bytes", 0),
        whole_of(data, "total_bytes", 0),
        text_of(data, "preset", ""), text_of(data, "editor", ""), paths_of(data, "slow"),
    )  # fmt: skip


def _editor(value: object) -> Editor:
    data = as_map(value, "editor")
    return Editor(
        text_of(data, "name"), text_of(data, "label", ""), whole_of(data, "size", 0), flag_of(data, "available", True),
        text_of(data, "reason", ""), many_of(data, "vocabulary", one_text) if data.get("vocabulary") else (),
        many_of(data, "knobs", _knob) if data.get("knobs") else (),
        many_of(data, "wordings", one_text) if data.get("wordings") else (),
        Offer() if data.get("offer") is None else _offer(data["offer"]),
    )  # fmt: skip


def _offer(value: object) -> Offer:
    data = as_map(value, "offer")
    size = whole_of(data, "bytes", 0)
    if size < 0:
        raise WireError("The engine's “bytes” is less than nothing.")
    return Offer(
        text_of(data, "licence", ""), text_of(data, "licence_url", ""), flag_of(data, "commercial", True),
        flag_of(data, "gated", False), size, text_of(data, "page", ""), text_of(data, "folder", ""),
        flag_of(data, "downloaded", False),
    )  # fmt: skip


def _model(value: object) -> Model:
    data = as_map(value, "model")
    return Model(text_of(data, "name"), text_of(data, "label", ""), text_of(data, "use", ""), _offer(data.get("offer")))


def _knob(value: object) -> Knob:
    data = as_map(value, "knob")
    default = data.get("default")
    if not isinstance(default, (bool, int, float, str)):
        raise WireError("The engine sent a knob without a default.")

    def bound(key: str) -> float | None:
        return None if data.get(key) is None else number_of(data, key)

    return Knob(
        text_of(data, "name"), text_of(data, "label", ""), text_of(data, "description", ""), text_of(data, "kind"),
        default,
        bound("minimum"), bound("maximum"), many_of(data, "choices", one_text) if data.get("choices") else (),
        flag_of(data, "advanced", False),
    )  # fmt: skip


def _preset(value: object) -> Preset:
    data = as_map(value, "preset")
    return Preset(
        text_of(data, "name"), text_of(data, "label", ""), text_of(data, "description", ""), flag_of(data, "default"),
        whole_of(data, "long_side", 0), whole_of(data, "min_views", 0), number_of(data, "train_seconds", 0.0),
        number_of(data, "compare_seconds", 0.0), number_of(data, "flat_seconds", 0.0),
        whole_of(data, "most_compared", 0), number_of(data, "edit_seconds", 0.0),
        number_of(data, "view_seconds", 0.0), number_of(data, "try_seconds", 0.0),
        number_of(data, "render_seconds", 0.0), whole_of(data, "bytes", 0),
    )  # fmt: skip


def parse_engine(value: object) -> EngineInfo:
    """The result of ``initialize``."""
    data = as_map(value, "answer to initialize")
    info = EngineInfo(
        whole_of(data, "protocol"), text_of(data, "engine", ""), many_of(data, "devices", _device),
        many_of(data, "editors", _editor), many_of(data, "presets", _preset), text_of(data, "computing", ""),
        flag_of(data, "settled", True), many_of(data, "models", _model) if data.get("models") else (),
    )  # fmt: skip
    if info.protocol != PROTOCOL:
        raise WireError(
            f"The engine speaks protocol {info.protocol}, this add-on {PROTOCOL}: install the engine again."
        )
    return info


def parse_devices(value: object) -> tuple[tuple[Device, ...], str]:
    """The result of ``devices/read``: what there is, and what computes."""
    data = as_map(value, "answer to devices/read")
    return many_of(data, "devices", _device), text_of(data, "computing", "")


def parse_progress(value: object) -> Progress:
    """A ``job/progress``; the fraction is clamped to 0–1."""
    data = as_map(value, "progress")
    left = data.get("seconds_left")

    def maybe(key: str) -> float | None:
        return None if data.get(key) is None else number_of(data, key)

    losses = as_map(data.get("losses") or {}, "losses")
    return Progress(
        whole_of(data, "job"), text_of(data, "stage", ""), text_of(data, "label", ""), whole_of(data, "step", 0),
        whole_of(data, "of", 0), min(1.0, max(0.0, number_of(data, "fraction", 0.0))),
        None if left is None else max(0.0, number_of(data, "seconds_left")),
        sum(number_of(losses, name) for name in losses) if losses else None, maybe("held_out"), maybe("change"),
    )  # fmt: skip


def parse_view_written(value: object) -> ViewWritten:
    """A ``job/view``."""
    data = as_map(value, "view notice")
    return ViewWritten(whole_of(data, "job"), text_of(data, "view"), text_of(data, "kind"), text_of(data, "image"))


def parse_images(value: object, *keys: str) -> tuple[list[str], ...]:
    """Lists of paths out of a result, one list a key; all lists have the same length."""
    data = as_map(value, "result")
    lists = tuple(list(many_of(data, key, one_text)) for key in keys)
    if len({len(entries) for entries in lists}) > 1:
        raise WireError("The engine sent different numbers of frames before and after.")
    return lists


def parse_rendered(value: object) -> Rendered:
    """The result of ``job/render``."""
    data = as_map(value, "result")
    return Rendered(text_of(data, "image"), whole_of(data, "step"))


def parse_viewed(value: object) -> tuple[str, int | None]:
    """The result of ``view/render``: a file of pixels and, where a job works on what they show, after which step."""
    data = as_map(value, "result")
    return text_of(data, "pixels"), None if data.get("step") is None else whole_of(data, "step")


def parse_paused(value: object) -> bool:
    """The result of ``job/pause`` and ``job/continue``: whether the job is to wait."""
    return flag_of(as_map(value, "result"), "paused")


def parse_step(value: object) -> int:
    """The step from which on holds what a running edit was asked."""
    return whole_of(as_map(value, "result"), "step")


def parse_paths(value: object, key: str) -> dict[str, str]:
    """Paths out of a result, by what they are of; none where it has none."""
    return paths_of(as_map(value, "result"), key)


def parse_path(value: object, key: str) -> str:
    """One path out of a result."""
    return text_of(as_map(value, "result"), key)


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
