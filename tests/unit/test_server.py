# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's protocol, without a process: lines in, lines out."""

import ast
import json
import os
import re
import threading
import time
import weakref
from pathlib import Path

import msgspec
import pytest
from PIL import Image
from server_wire import Wire

from engine import jobs, protocol, server
from engine.errors import BadInput, Cancelled
from engine.methods import JOBS
from engine.records import EditRecord
from engine.results import RESULTS, Cell, Detached, Tried
from engine.wire import TooLong
from engine.workspace import Workspace


@pytest.fixture
def wire():
    made = Wire(warm_up=lambda: None)
    yield made
    made.server.close()


@pytest.fixture
def slow_job(monkeypatch):
    """The job `capture/images` waits to be cancelled."""
    from engine.jobs import capture

    started = threading.Event()

    def run(request, job):
        started.set()
        while True:
            job.check()
            time.sleep(0.01)

    monkeypatch.setattr(capture, "write_images", run)
    return started


def test_initialize_says_what_there_is_within_a_second(wire):
    began = time.thread_time()  # of this thread: another one imports torch meanwhile
    wire.ask("initialize", protocol=protocol.VERSION)
    result = wire.answer(1)["result"]
    assert time.thread_time() - began < 0.5
    assert result["devices"][-1]["name"] == "cpu" and result["devices"][-1]["total_bytes"] > 2**30
    assert {p["name"] for p in result["presets"]} == {"preview", "standard", "paper"}
    assert sum(p["default"] for p in result["presets"]) == 1
    assert result["editors"]


def test_an_edit_is_named_while_a_job_runs_and_deleted_only_after_it(wire, slow_job, tmp_path, monkeypatch):
    from engine import trash

    monkeypatch.setattr(trash, "_system_trash", lambda path: os.rename(path, tmp_path / "trash"))
    workspace = Workspace(tmp_path / "project")
    workspace.capture_file.parent.mkdir(parents=True)
    workspace.capture_file.write_text("{}")
    settings = {"steps": 3}
    made = workspace.create_edit(EditRecord("", "make it night", None, "preview", "e", "", ["a"], settings, 1))
    asked = {"workspace": str(workspace.folder), "edit": made.id}
    wire.ask("capture/images", 1, workspace=asked["workspace"])
    assert slow_job.wait(10)
    wire.ask("edit/label", 2, **asked, name="Mine", muted=True)
    result = wire.answer(2)["result"]
    assert (result["name"], result["muted"]) == ("Mine", True)
    wire.ask("edit/label", 3, **asked | {"edit": "0007-none"}, name="x")
    assert wire.answer(3)["error"]["data"] == {"field": "edit"}
    wire.ask("edit/delete", 4, **asked)
    assert wire.answer(4)["error"]["code"] == protocol.BUSY
    wire.ask("job/cancel", 5, job=1)
    wire.answer(1)
    wire.ask("edit/delete", 6, **asked)
    assert wire.answer(6)["result"] == {"edits": [made.id], "folder": None}
    assert (tmp_path / "trash" / "label.json").exists() and workspace.edits() == []


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{", protocol.PARSE_ERROR),
        (b"\xff\xfe", protocol.PARSE_ERROR),
        (b'{"method": "shutdown", "params": ' + b"[" * 100_000, protocol.PARSE_ERROR),
        (b"[1]", protocol.INVALID_REQUEST),
        (b'{"id": 3}', protocol.INVALID_REQUEST),
        (b'{"id": 3, "method": "os/system", "params": {}}', protocol.UNKNOWN_METHOD),
        (b'{"id": 3, "method": "edit/run", "params": {"workspace": 3}}', protocol.INVALID_PARAMS),
        (b'{"id": 3, "method": "edit/run", "params": {"workspace": "a", "instruction": "b", "x": 1}}',
         protocol.INVALID_PARAMS),
        (b'{"id": 3, "method": "initialize", "params": {"protocol": 99}}', protocol.INVALID_PARAMS),
        (b'{"method": "capture/images", "params": {"workspace": "a"}}', protocol.INVALID_REQUEST),
    ],
)  # fmt: skip
def test_what_is_no_request_gets_its_code(wire, line, code):
    wire.server.receive(line)
    assert wire.next()["error"]["code"] == code


def test_a_missing_capture_is_bad_input_with_field_and_sentence(wire, tmp_path):
    wire.ask("capture/open", workspace=str(tmp_path / "w"), source=str(tmp_path / "nothing"), preset="preview")
    error = wire.answer(1)["error"]
    assert error["code"] == protocol.BAD_INPUT
    assert "does not exist" in error["message"]
    assert error["data"]["file"].endswith("nothing")
    assert not (tmp_path / "w").exists()


def test_one_job_at_a_time_and_cancel_answers_at_once(wire, slow_job):
    wire.ask("capture/images", 1, workspace="w")
    assert slow_job.wait(5)
    wire.ask("capture/images", 2, workspace="w")
    assert wire.answer(2)["error"]["code"] == protocol.BUSY
    began = time.monotonic()
    wire.ask("job/cancel", 3, job=99)
    assert wire.answer(3)["result"] == {"cancelling": False}
    wire.ask("job/cancel", 4, job=1)
    answers = {m["id"]: m for m in (wire.next(), wire.next())}
    assert answers[4]["result"] == {"cancelling": True}
    assert answers[1]["error"]["code"] == protocol.CANCELLED
    assert time.monotonic() - began < 1


def test_a_job_that_waits_for_imports_is_cancelled_at_once():
    block = threading.Event()
    wire = Wire(warm_up=lambda: block.wait(30))
    try:
        wire.ask("scene/train", 1, workspace="w")
        time.sleep(0.1)
        began = time.monotonic()
        wire.ask("job/cancel", 2, job=1)
        answers = {m["id"]: m for m in (wire.next(), wire.next())}
        assert answers[1]["error"]["code"] == protocol.CANCELLED
        assert time.monotonic() - began < 1
    finally:
        block.set()
        wire.server.close()


def test_failures_have_their_codes_and_the_next_job_runs(wire, monkeypatch):
    from engine.jobs import capture

    failures = iter([BadInput("Say which.", field="views"), MemoryError(), ZeroDivisionError("oops"), None])

    def run(request, job):
        job.log("hello")
        if (failure := next(failures)) is not None:
            raise failure
        return {"ok": True}

    monkeypatch.setattr(capture, "write_images", run)
    codes = []
    for ident in range(4):
        wire.ask("capture/images", ident, workspace="w")
        assert wire.next() == {"jsonrpc": "2.0", "method": "job/log", "params": {"job": ident, "text": "hello"}}
        answer = wire.answer(ident)
        codes.append(answer.get("error", {}).get("code"))
        if ident == 0:
            assert answer["error"] == {"code": -32000, "message": "Say which.", "data": {"field": "views"}}
    assert codes == [protocol.BAD_INPUT, protocol.OUT_OF_MEMORY, protocol.INTERNAL, None]


class Untellable(Exception):
    """An error that cannot even say what it is."""

    def __str__(self):
        raise RuntimeError("no words")


def too_deep():
    return too_deep()


def in_another_encoding():
    raise BadInput("caf\udce9.jpg is damaged.", file="/photos/caf\udce9.jpg")


def without_words():
    raise Untellable


def leaving():
    raise SystemExit(3)


def interrupted():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("work", "code"),
    [
        (too_deep, protocol.INTERNAL),
        (in_another_encoding, protocol.BAD_INPUT),
        (without_words, protocol.INTERNAL),
        (leaving, protocol.INTERNAL),
        (interrupted, protocol.INTERNAL),
        (lambda: "\ud800", None),
        (lambda: {"caf\udce9": float("nan")}, None),
        (object, protocol.INTERNAL),
    ],
)
def test_whatever_a_job_does_it_is_answered_and_the_next_one_runs(wire, monkeypatch, work, code):
    from engine.jobs import capture

    def run(request, job):
        job.log("caf\udce9.jpg")
        job.on_view("caf\udce9", "image", "\ud800")
        job.on_view(object(), "image", "")  # is dropped: a job does not fail because of what it tells
        return work()

    monkeypatch.setattr(capture, "write_images", run)
    for ident in (1, "two"):
        wire.ask("capture/images", ident, workspace="w")
        answer = wire.answer(ident)
        assert answer.get("error", {}).get("code") == code
        json.dumps(answer, ensure_ascii=False).encode()  # holds nothing that UTF-8 cannot
        assert code is None or answer["error"]["message"]


def test_a_request_that_cannot_be_read_is_answered_under_its_id(wire, tmp_path):
    for line, code in (
        (b'{"id": 5, "method": 3}', protocol.INVALID_REQUEST),
        (b'{"id": 5, "method": "shutdown", "params": {', protocol.PARSE_ERROR),
        (b'{"id": 5, "method": "workspace/read", "params": {"workspace": "\xe9', protocol.PARSE_ERROR),
        (b'{"id": 5, "method": "workspace/read", "params": ' + b"[" * 100_000, protocol.PARSE_ERROR),
        (TooLong(10**9, b'{"id": 5, "method": "output/frames", "params": {', b"}}\n"), protocol.INVALID_REQUEST),
    ):
        wire.server.receive(line)
        assert (message := wire.next())["id"] == 5 and message["error"]["code"] == code, line
    assert "954 MiB" in message["error"]["message"]
    wire.ask("workspace/read", 6, workspace=str(tmp_path / "caf\udce9"))
    assert wire.answer(6)["result"]["capture"] is None


def test_opening_a_capture_is_a_job_like_others(wire, slow_job, tmp_path):
    wire.ask("capture/images", 1, workspace="w")
    assert slow_job.wait(5)
    wire.ask("capture/open", 2, workspace="w", source=str(tmp_path))
    assert wire.answer(2)["error"]["code"] == protocol.BUSY
    wire.ask("job/cancel", 3, job=1)
    assert wire.answer(1)["error"]["code"] == protocol.CANCELLED


def test_a_question_that_takes_long_keeps_no_cancel_waiting(wire, slow_job, monkeypatch):
    from engine.jobs import capture

    block = threading.Event()
    monkeypatch.setattr(capture, "read_workspace", lambda request: block.wait(30) and {})
    wire.ask("capture/images", 1, workspace="w")
    assert slow_job.wait(5)
    wire.ask("workspace/read", 2, workspace="w")
    began = time.monotonic()
    wire.ask("job/cancel", 3, job=1)
    assert wire.answer(1)["error"]["code"] == protocol.CANCELLED and time.monotonic() - began < 1
    block.set()
    assert wire.answer(2)["result"] == {}


def test_nothing_of_a_failed_job_outlives_it(wire, monkeypatch):
    """Not in the worker's locals, nor by way of its error."""
    from engine.jobs import capture

    class Tensors:
        pass

    seen = []

    def run(request, job):
        tensors = Tensors()
        tensors.itself = tensors
        seen.append(weakref.ref(tensors))
        raise [ValueError("oops"), Cancelled("Stopped."), MemoryError()][len(seen) - 1]

    monkeypatch.setattr(capture, "write_images", run)
    for ident in range(3):
        wire.ask("capture/images", ident, workspace="w")
        assert "error" in wire.answer(ident)
        assert seen[-1]() is None


def test_what_is_loaded_stays_unless_a_job_failed_or_it_is_to_go(wire, monkeypatch):
    from engine.jobs import scene

    loads, ends = [], []

    def run(request, job):
        job.keep("editor", "small", lambda: loads.append(1) or "model")
        if ends:
            raise ends.pop()
        return {}

    monkeypatch.setattr(scene, "train_scene", run)
    monkeypatch.setattr("engine.runtime.least_free_share", lambda: 0.5)
    expected = 0
    for ident, (end, loaded_again) in enumerate(
        [
            (None, True),
            (None, False),
            (BadInput("No."), False),
            (Cancelled("Stopped."), False),
            (RuntimeError("oops"), False),
            (None, True),
            (MemoryError(), False),
            (None, True),
        ]
    ):
        ends[:] = [end] if end else []
        wire.ask("scene/train", ident, workspace="/w")
        wire.answer(ident)
        expected += loaded_again
        assert len(loads) == expected, (ident, end)
    wire.ask("runtime/release", "release")
    assert wire.answer("release")["result"] == {"released": ["editor"]}
    wire.ask("runtime/release", "again")
    assert wire.answer("again")["result"] == {"released": []}
    monkeypatch.setattr("engine.runtime.least_free_share", lambda: 0.01)
    for ident in ("a", "b"):
        wire.ask("scene/train", ident, workspace="/w")
        wire.answer(ident)
    assert len(loads) == expected + 2  # memory is short: nothing stays


def test_an_engine_whose_job_does_not_end_leaves_all_the_same(monkeypatch):
    from engine.jobs import capture

    block, begun = threading.Event(), threading.Event()
    monkeypatch.setattr(server, "LONGEST_SAVE", 0.2)
    monkeypatch.setattr(capture, "write_images", lambda request, job: begun.set() or block.wait(30))
    wire = Wire(warm_up=lambda: None)
    wire.ask("capture/images", 1, workspace="/w")
    assert begun.wait(5)
    wire.ask("shutdown", 2)
    assert wire.answer(2, timeout=5)["result"] == {} and wire.server.finished
    block.set()


def test_shutdown_cancels_and_answers(slow_job):
    wire = Wire(warm_up=lambda: None)
    wire.ask("capture/images", 1, workspace="w")
    assert slow_job.wait(5)
    wire.ask("shutdown", 2)
    assert wire.answer(1)["error"]["code"] == protocol.CANCELLED
    assert wire.answer(2)["result"] == {}
    assert wire.server.finished


@pytest.mark.skipif(os.name != "posix", reason="names are UTF-16 there")
def test_photos_whose_names_are_in_another_encoding_are_a_capture_like_any(wire, tmp_path):
    frames = []
    for number in range(4):
        name = os.fsdecode(b"caf\xe9%d.png" % number)
        with open(tmp_path / name, "wb") as file:
            Image.new("RGB", (64, 48), (50 * number, 9, 9)).save(file, "PNG")
        pose = [[1, 0, 0, number], [0, 1, 0, 0], [0, 0, 1, 4], [0, 0, 0, 1]]
        frames.append({"file_path": name, "transform_matrix": pose})
    data = {"w": 64, "h": 48, "fl_x": 80, "fl_y": 80, "cx": 32, "cy": 24, "frames": frames}
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    project = tmp_path / "project"
    wire.ask("capture/open", 1, workspace=str(project), source=str(tmp_path), preset="preview")
    assert len(wire.answer(1)["result"]["views"]) == 4
    wire.ask("capture/images", 2, workspace=str(project))
    views = wire.answer(2)["result"]["views"]
    assert len(views) == 4 and all(Path(view["image"]).exists() for view in views)
    wire.ask("workspace/read", 3, workspace=str(project))
    assert wire.answer(3)["result"]["capture"]["views"] == views


@pytest.fixture
def document(pytestconfig):
    return (pytestconfig.rootpath / "docs" / "protocol.md").read_text(encoding="utf-8")


def row_of(document, method):
    """Cells of a request's row: parameters, result."""
    row = next(line for line in document.splitlines() if re.match(rf"\| [^|]*`{re.escape(method)}`", line))
    return row.split("|")[2:4]


def names(text):
    """What a list in the document names, without what it says of each in brackets or behind a colon."""
    while (shorter := re.sub(r"\([^()]*\)", "", text)) != text:
        text = shorter
    return set(re.findall(r"`(\w+)\??`", re.sub(r":[^,|]*", "", text)))


def test_every_job_is_a_request_and_in_the_document(document):
    assert set(JOBS) < set(protocol.REQUESTS)
    how = set(protocol.Instruct.__struct_fields__)
    assert names(document[document.index("*how* stands for") :].split("\n\n")[0]) == how
    for name, kind in protocol.REQUESTS.items():
        parameters, _ = row_of(document, name)
        expected = set(kind.__struct_fields__)
        expected -= how if "*how*" in parameters else set()
        assert names(parameters) == expected, name


def test_every_result_is_what_the_document_says(document):
    shared = {protocol.Capture: "capture", protocol.Scene: "scene", protocol.Edit: "edit", Tried: "tried"}
    assert RESULTS.keys() == protocol.REQUESTS.keys()
    for name, kind in RESULTS.items():
        _, result = row_of(document, name)
        fields = {shared[kind]} if kind in shared else set(getattr(kind, "__annotations__", {}))
        assert names(result) == fields, name


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("`camera`", protocol.Camera),
        ("`capture`", protocol.Capture),
        ("`scene`", protocol.Scene),
        ("`edit`", protocol.Edit),
        ("`tried`", Tried),
        ("detached", Detached),
        ("axis", protocol.Axis),
        ("device", protocol.Device),
        ("editor", protocol.Editor),
        ("knob", protocol.Knob),
        ("offer", protocol.Offer),
        ("model", protocol.Model),
        ("preset", protocol.PresetInfo),
        ("`job/progress`", protocol.Progress),
    ],
)
def test_every_object_is_what_the_document_says(document, name, kind):
    bullet = re.search(rf"^- {name}: (.*?)(?=^- |^#|\Z)", document, re.MULTILINE | re.DOTALL).group(1)
    told = names(bullet) - {"job"}
    assert told == set(kind.__struct_fields__)
    for field in msgspec.structs.fields(kind):  # and so of what it holds
        for inner in (protocol.View, protocol.LeftOut, protocol.Measures, protocol.Change, Cell):
            if inner.__name__ in str(field.type):
                own = set(inner.__struct_fields__) - set(protocol.Camera.__struct_fields__)
                assert own <= set(re.findall(r"`(\w+)`", bullet)), (field.name, own)


def test_jobs_return_what_the_document_says():
    """By their annotations, read without importing torch: the jobs are other tests' business."""
    for method, (module, function) in JOBS.items():
        tree = ast.parse((Path(jobs.__file__).parent / f"{module}.py").read_text(encoding="utf-8"))
        [found] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]
        assert ast.unparse(found.returns).removeprefix("protocol.") == RESULTS[method].__name__, method


def test_what_is_answered_is_of_its_type(wire, tmp_path):
    asked = {
        "initialize": {"protocol": protocol.VERSION}, "workspace/read": {"workspace": str(tmp_path)},
        "runtime/release": {}, "devices/read": {},
    }  # fmt: skip
    for ident, (method, params) in enumerate(asked.items()):
        wire.ask(method, ident, **params)
        result = wire.answer(ident)["result"]
        assert result.keys() == RESULTS[method].__annotations__.keys()
        msgspec.convert(result, RESULTS[method])
