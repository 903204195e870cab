# SPDX-License-Identifier: GPL-3.0-or-later
"""The wire's messages (docs/protocol.md): every name once, every message's shape."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from engine.offers import Device as Device
from engine.offers import Editor as Editor
from engine.offers import Knob as Knob
from engine.offers import Model as Model
from engine.offers import Offer as Offer
from engine.offers import OptionValue as OptionValue
from engine.offers import PresetInfo as PresetInfo

VERSION = 2

Ident = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)] | str
"""The id of a request; a job's is that of the request that began it."""

# Names of notifications that the engine sends.
PROGRESS = "job/progress"
VIEW = "job/view"
LOG = "job/log"

# Names of what a running job is asked for.
RENDER = "job/render"
SURFELS = "job/surfels"
CHANGE = "job/change"
REMAKE = "job/remake"
PAUSE = "job/pause"
CONTINUE = "job/continue"
CANCEL = "job/cancel"
ATTACH = "job/attach"

MOST_REGIONS = 200  # that an edit is given while it runs

LOOK = "view/render"  # asked at any time, whether a job runs or not

# Names of what is asked of the folder for files of another machine.
LOOK_AT_FILES = "files/look"
WRITE_FILE = "files/write"
READ_FILE = "files/read"

# Error codes.
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
UNKNOWN_METHOD = -32601
INVALID_PARAMS = -32602
INTERNAL = -32603
BAD_INPUT = -32000
BUSY = -32001
OUT_OF_MEMORY = -32002
DETACHED = -32003
CANCELLED = -32800


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of what comes in: unknown fields are the sender's mistake and are said."""


class Camera(msgspec.Struct, frozen=True):
    """``pose``: 16 numbers, row-major, camera to world, capture frame, OpenGL axes. Intrinsics in pixels."""

    pose: tuple[float, ...]
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float


MOST_ALONG = 16  # columns, or rows, of a contact sheet
MOST_CELLS = 64  # of one


# What comes in: parameters of the requests ---------------------------------------------------------------------------


class Initialize(Message, frozen=True):
    """May be asked again, as when the artist allows or forbids online access."""

    protocol: int
    online: bool = False  # whether the artist lets programs reach the network
    own: Annotated[list[str], msgspec.Meta(max_length=64)] = []  # editors of the artist's own that are to be described
    outlive: bool = False  # a job goes on by itself where the connection is cut without `shutdown`
    # The folder for files that Blender sends from another machine, from the root or the user's home on.
    files: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)] | None = None


class DownloadModel(Message, frozen=True):
    """Download a model of the hub's. ``licence`` and ``bytes``: what the artist was shown, and agreed to."""

    model: str
    licence: str
    bytes: int


class OpenCapture(Message, frozen=True):
    workspace: str
    source: str
    preset: str | None = None
    long_side: int | None = None
    all_pixels: bool = False
    background: tuple[int, int, int] = (255, 255, 255)
    masks: Literal["auto", "object", "unknown", "ignore"] = "auto"


class RegisterPhotos(Message, frozen=True):
    workspace: str
    source: str


class WriteImages(Message, frozen=True):
    workspace: str


class ReadWorkspace(Message, frozen=True):
    workspace: str


class ReadDevices(Message, frozen=True):
    """What can compute here, once PyTorch says so."""


class ProposeKey(Message, frozen=True):
    """Which view makes a good first key view."""

    workspace: str


class TrainScene(Message, frozen=True):
    """``even_on_cpu``: also with a preset that takes days there, which is refused otherwise. ``depths``: where the
    preset asks for it, photos are compared beforehand to know some pixels' depth; ``planes``: and the flat surfaces are
    found on which those lie, plain walls with them. A scene goes on as it was begun."""

    workspace: str
    preset: str | None = None
    device: str | None = None
    seed: int = 0
    steps: int | None = None
    even_on_cpu: bool = False
    depths: bool = True
    planes: bool = True


class Solid(Message, frozen=True, kw_only=True):
    """A closed surface: ``vertices`` three numbers each, ``triangles`` the numbers of three vertices each."""

    vertices: Annotated[list[float], msgspec.Meta(max_length=900_000)]
    triangles: Annotated[list[int], msgspec.Meta(max_length=300_000)]
    name: str = ""


class Region(Message, frozen=True, kw_only=True):
    """Where alone an edit may change the scene: inside any of the ``solids``, or with ``invert`` outside all of them.
    ``frame`` leads from the capture frame to that of their vertices, any affine transform (16 numbers, row-major);
    ``softness`` is the width, in that frame's units, over which the edge is blended."""

    solids: Annotated[list[Solid], msgspec.Meta(max_length=64)]
    softness: float = 0.0
    invert: bool = False
    frame: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)


class Instruct(Message, frozen=True, kw_only=True):
    """What every request to edit says: the one place that an instruction and its options are written."""

    instruction: str
    editor: str | None = None  # an id; None: the device's default
    options: dict[str, OptionValue] = {}  # of the editor's knobs; what is missing is as the editor recommends
    seed: int = 0
    device: str | None = None
    region: Region | None = None  # None: the whole scene may change


class KeyView(Message, frozen=True):
    """A view whose edit the artist approved: a try's picture, or any image file."""

    view: str
    picture: str


class Axis(Message, frozen=True):
    """What differs from one column, or row, of a contact sheet to the next: a knob of the editor by its name, "seed" or
    "instruction"; and the values that it takes."""

    name: str
    values: Annotated[list[OptionValue], msgspec.Meta(min_length=1, max_length=MOST_ALONG)]


class TryEdit(Instruct, frozen=True, kw_only=True):
    """Edit one view; with ``across`` (the columns), and ``down`` (the rows) beside it, a contact sheet of edits."""

    workspace: str
    view: str
    parent: str | None = None  # the edit that the one tried would stand on; None: the captured photo is edited
    across: Axis | None = None
    down: Axis | None = None


class DeleteTry(Message, frozen=True):
    """Delete what was tried, with its pictures."""

    workspace: str
    id: str


class RunEdit(Instruct, frozen=True, kw_only=True):
    workspace: str
    views: list[str] | None = None
    preset: str | None = None
    steps: int | None = None
    parent: str | None = None  # the edit that this one stands on; None: the unedited scene
    like: str | None = None  # an edit whose parent, views, settings, region and key views hold where none are said
    # "paper": Iterative DU as published; "projected": as it settles sooner, from key views where there are any.
    schedule: Literal["paper", "projected"] | None = None  # None: projected with key views, else the preset's
    key_views: Annotated[list[KeyView], msgspec.Meta(max_length=4)] = []
    even_on_cpu: bool = False  # as in TrainScene
    depths: bool = True  # as in TrainScene
    planes: bool = True  # as in TrainScene
    staleness: int = 0  # rounds that a render may be old when its edit takes its place


class TryPhoto(Instruct, frozen=True, kw_only=True):
    """Edit a photo without any NeRF (command line only). ``sheet``: over ``across`` and ``down`` or, where neither is
    given, over the editor's first two numbers; an axis without values is filled."""

    photo: str
    out: str
    sheet: bool = False
    across: Axis | None = None
    down: Axis | None = None


class ResumeEdit(Message, frozen=True):
    """``steps``: how many it is to have in all, where those that it was begun with are not enough."""

    workspace: str
    edit: str
    device: str | None = None
    even_on_cpu: bool = False
    steps: int | None = None


class LabelEdit(Message, frozen=True):
    """What the artist calls an edit (empty: by its instruction), and whether it is muted; None: as it is."""

    workspace: str
    edit: str
    name: str | None = None
    muted: bool | None = None


class DeleteEdit(Message, frozen=True):
    """Put an edit into the trash; ``with_children``: and those that stand on it, else it is refused."""

    workspace: str
    edit: str
    with_children: bool = False


class MakeMesh(Message, frozen=True):
    """``faces``: at most about so many; 0: all; None: 200,000, or 50,000 with a texture, which shows what they do not.
    ``flat_floor``: put what lies on a floor but for noise onto a plane, where there is one. ``texture``: its side in
    texels, 0: colors a vertex. ``material``: of GLB and OBJ, "unlit": colors as captured, or "lit": by lamps. ``part``:
    "subject": the edit's region or, without, what its instruction is about. ``formats``: files beside the PLY, in
    ``world``: the similarity from the capture frame to one with z up, 16 numbers."""

    workspace: str
    edit: str | None = None
    resolution: int | None = None  # None: as fine as the pictures
    device: str | None = None
    faces: int | None = None
    fill_holes: bool = False
    texture: int = 0
    material: Literal["unlit", "lit"] = "unlit"
    part: Literal["all", "subject"] = "all"
    formats: list[Literal["glb", "obj"]] = []
    world: tuple[float, ...] | None = None  # None: upright about what the cameras look at
    flat_floor: bool = False


class MakeSplats(Message, frozen=True):
    """``count``: at most so many Gaussians."""

    workspace: str
    edit: str | None = None
    count: int | None = None
    device: str | None = None


class PathCamera(Camera, frozen=True, kw_only=True):
    """A camera of a film. ``projection`` says what the intrinsics mean: of an orthographic camera fx and fy are pixels
    a unit, of an equirectangular one pixels a radian of longitude and latitude, which are zero at (cx, cy). ``world``:
    the similarity from the capture frame to Blender's world, 16 numbers, row-major; none when absent."""

    projection: Literal["perspective", "orthographic", "equirectangular"] = "perspective"
    world: tuple[float, ...] | None = None


class RenderFrames(Message, frozen=True):
    """``step``: between two frames' numbers. ``samples``: so many cameras, one after the other, are moments of one
    frame, whose colors are averaged. ``overwrite``: also those that are there already, of the same scene and camera."""

    workspace: str
    edit: str | None  # None: the unedited scene
    name: str
    cameras: list[PathCamera]
    first_frame: int = 1
    device: str | None = None
    step: int = 1
    format: Literal["png", "exr"] = "png"
    overwrite: bool = False
    samples: int = 1


class RenderView(Message, frozen=True):
    """See a scene through a camera now. ``live``: the scene that a job trains or edits in the workspace, as it is,
    where one does. ``transparent``: premultiplied by its opacity; else before its own background. ``primaries``: 9
    numbers, row-major, from linear Rec. 709 to the color that is wanted."""

    workspace: str
    camera: PathCamera
    edit: str | None = None  # None: the unedited scene
    live: bool = False
    surfaces: bool = False  # depth and normals, too
    transparent: bool = False
    primaries: tuple[float, float, float, float, float, float, float, float, float] | None = None
    device: str | None = None


class MakeReport(Message, frozen=True):
    """Run the paper's baselines beside an edit and write the report card (engine/jobs/report.py)."""

    workspace: str
    edit: str
    device: str | None = None
    even_on_cpu: bool = False


class CancelJob(Message, frozen=True):
    job: Ident


class PauseJob(Message, frozen=True):
    """Have a job wait at its next step; it keeps all that it holds."""

    job: Ident


class ContinueJob(Message, frozen=True):
    job: Ident


class DetachJob(Message, frozen=True):
    """Have a job go on by itself, whatever becomes of who began it."""

    job: Ident


class AttachJob(Message, frozen=True):
    """Follow a detached job to its end, as if it were one's own."""

    workspace: str
    id: str


class RenderNow(Message, frozen=True):
    """Render a camera from the scene that a job works on, as it is."""

    job: Ident
    camera: Camera


class ShowSurfels(Message, frozen=True):
    """Write surfels of the scene that a job works on, as it is."""

    job: Ident


class ChangeEdit(Message, frozen=True):
    """Have a running edit follow another instruction, other options of its editor, or keep to another region, from its
    next step on."""

    job: Ident
    instruction: str | None = None  # None: as it was
    options: dict[str, OptionValue] = {}  # those that change
    region: Region | msgspec.UnsetType | None = msgspec.UNSET  # None: everywhere; absent: as it was


class RemakeView(Message, frozen=True):
    """Have a running edit make the edited picture of a view anew, with other noise; or (``captured``) put the view's
    own picture back, and leave it until it is to be made anew."""

    job: Ident
    view: str
    captured: bool = False


FileName = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
"""Of a file in the folder that `initialize` named for files, from there on, with “/”."""


class LookAtFiles(Message, frozen=True):
    names: Annotated[list[FileName], msgspec.Meta(max_length=10_000)]


class WriteFile(Message, frozen=True):
    """A part of a file, from its byte ``offset`` on. ``size``, ``changed`` (nanoseconds since 1970) and ``digest``
    (SHA-256) are the whole file's."""

    name: FileName
    offset: int
    data: bytes
    size: int
    changed: Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
    digest: str


class ReadFile(Message, frozen=True):
    """At most ``length`` bytes of a file, from ``offset`` on."""

    name: FileName
    offset: Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
    length: Annotated[int, msgspec.Meta(ge=1, le=2**24)]


class ReleaseRuntime(Message, frozen=True):
    """Let go of the models that stay loaded between jobs."""


class Shutdown(Message, frozen=True):
    pass


REQUESTS: dict[str, type[Message]] = {
    "initialize": Initialize,
    "devices/read": ReadDevices,
    "model/download": DownloadModel,
    "capture/open": OpenCapture,
    "capture/register": RegisterPhotos,
    "capture/images": WriteImages,
    "workspace/read": ReadWorkspace,
    "scene/train": TrainScene,
    "edit/try": TryEdit,
    "edit/key": ProposeKey,
    "edit/delete_try": DeleteTry,
    "edit/run": RunEdit,
    "edit/resume": ResumeEdit,
    "edit/label": LabelEdit,
    "edit/delete": DeleteEdit,
    "output/mesh": MakeMesh,
    "output/splats": MakeSplats,
    "output/frames": RenderFrames,
    "output/report": MakeReport,
    CANCEL: CancelJob,
    PAUSE: PauseJob,
    CONTINUE: ContinueJob,
    "job/detach": DetachJob,
    ATTACH: AttachJob,
    LOOK: RenderView,
    RENDER: RenderNow,
    SURFELS: ShowSurfels,
    CHANGE: ChangeEdit,
    REMAKE: RemakeView,
    LOOK_AT_FILES: LookAtFiles,
    WRITE_FILE: WriteFile,
    READ_FILE: ReadFile,
    "runtime/release": ReleaseRuntime,
    "shutdown": Shutdown,
}

# What goes out -------------------------------------------------------------------------------------------------------


class LeftOut(msgspec.Struct, frozen=True):
    name: str
    reason: str


class View(Camera, frozen=True, kw_only=True):
    """A camera with its name, its pinhole picture's path and whether it is held out of training."""

    name: str
    image: str
    held_out: bool


class Capture(msgspec.Struct, frozen=True):
    """``masked``: how many views have a mask. ``masks``: as asked when opened; ``masks_hide``: what that came to,
    "empty", "unknown" or "ignored", once the pictures are made."""

    workspace: str
    source: str
    format: str
    views: list[View]
    left_out: list[LeftOut]
    centre: tuple[float, float, float]
    radius: float
    up: tuple[float, float, float]
    notes: list[str]
    points: str | None = None
    point_count: int = 0
    masked: int = 0
    masks: str = "auto"
    masks_hide: str | None = None


class Registered(msgspec.Struct, frozen=True):
    """``source``: the folder to open as a capture."""

    source: str
    photos: int
    registered: int
    notes: list[str]


class Measures(msgspec.Struct, frozen=True):
    """Means over the held-out views, over the pixels that their masks do not hide. ``perceptual`` names what measured
    ``lpips``. ``psnr_object``: over the pixels of what was cut out of its pictures alone, whose ``psnr`` counts the
    empty space around it too; null where there is none."""

    psnr: float
    ssim: float
    lpips: float
    perceptual: str
    views: int
    psnr_object: float | None = None


class Scene(msgspec.Struct, frozen=True):
    """``notes``: sentences for the artist about how the training went."""

    steps: int
    of: int
    finished: bool
    preset: str
    device: str
    measures: Measures | None
    seconds: float
    views: dict[str, str]
    notes: list[str] = []


class Change(msgspec.Struct, frozen=True):
    """What was asked of an edit while it ran, at which step: another instruction, with all options, or another region
    (its number in the edit's record); or (``view``) the picture of a view made anew, or left as ``captured``."""

    step: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
    instruction: Annotated[str, msgspec.Meta(max_length=10_000)] = ""
    options: dict[str, OptionValue] = {}
    keep: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0  # threshold of relevance; 0: nothing is kept
    view: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    captured: bool = False
    region: Annotated[int, msgspec.Meta(ge=0, lt=MOST_REGIONS)] | None = None  # None: as before


class Edit(msgspec.Struct, frozen=True):
    id: str
    instruction: str
    parent: str | None
    preset: str
    editor: str
    settings: dict[str, Any]
    chosen: list[str]
    steps: int
    of: int
    finished: bool
    images: dict[str, str]
    views: dict[str, str]
    mesh: str | None
    seconds: float
    changes: list[Change] = []
    key_views: dict[str, str] = {}  # view → the picture that was approved as its edit
    name: str = ""  # what the artist calls it; empty: by its instruction
    muted: bool = False
    created: float = 0.0  # seconds since 1970; 0: not known


class Progress(msgspec.Struct, frozen=True):
    stage: Literal[
        "download", "images", "depths", "planes", "train", "before", "understand", "first", "edit", "after", "try",
        "mesh", "texture", "splats", "fit", "frames", "video", "features", "matches", "cameras", "per-frame",
        "one-time-du", "sds",
    ]  # fmt: skip
    label: str
    step: int
    of: int
    fraction: float
    seconds_left: float | None
    losses: dict[str, float] = {}
    held_out: float | None = None  # dB, how well the scene shows some pixels that it does not learn, now
    change: float | None = None  # mean absolute change of the pictures by their latest edits, 0–1
