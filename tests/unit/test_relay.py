# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine that sees other files: what is sent to it, what comes back, and what it cannot do on this side. The real
server and the relay in processes of their own; edits only tick."""

import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from capture_on_disk import transforms, write
from test_detached import ROOT, Engine

from blender_addon.relay import photos
from engine import protocol
from engine.errors import BadInput
from engine.exchange import Exchange

RELAY = [
    sys.executable, "-I", "-c",
    "import importlib, sys; sys.path.append(sys.argv[1]); importlib.import_module(sys.argv[2]).main(sys.argv[3:])",
    str(ROOT), "blender_addon.relay.main",
]  # fmt: skip


@pytest.fixture
def far(tmp_path):
    """The folder there, and what begins an engine that is reached through the relay."""
    engines = []

    def start(command=None, **more):
        engine = Engine([*RELAY, str(tmp_path / "far"), *(command or ())], STEPS="6", **more)
        engines.append(engine)
        engine.answer(engine.ask("initialize", protocol=protocol.VERSION, outlive=True))
        return engine

    start.folder = tmp_path / "far"
    yield start
    for engine in engines:
        engine.process.kill()
        engine.process.wait()


def opened(engine, here, source):
    """The results of opening a capture and of preparing its pictures."""
    capture = engine.answer(engine.ask("capture/open", workspace=str(here), source=str(source)))
    assert "result" in capture, capture
    done = engine.answer(engine.ask("capture/images", workspace=str(here)))["result"]
    return capture["result"], done


def there(start, kind):
    [folder] = (start.folder / kind).iterdir()
    return folder


def test_a_capture_is_sent_once_and_what_was_made_of_it_comes_here(far, tmp_path):
    source, here = write(tmp_path / "fox", transforms(5)), tmp_path / "project"
    (source / "notes.blend").write_bytes(b"x" * 1000)
    (source / ".hidden.png").write_bytes(b"x")
    engine = far()
    first, done = opened(engine, here, source)
    assert first["workspace"] == str(here) and first["source"] == str(source)
    for view in done["views"]:
        assert Path(view["image"]).is_relative_to(here)
        copy = there(far, "projects") / Path(view["image"]).relative_to(here)
        assert Path(view["image"]).read_bytes() == copy.read_bytes()
    sent = there(far, "captures")
    names = {path.relative_to(sent).as_posix() for path in sent.rglob("*") if path.is_file()}
    assert names == {path.relative_to(source).as_posix() for path in source.rglob("*.*")} - {
        "notes.blend", ".hidden.png"
    }  # fmt: skip
    assert (here / "capture" / "capture.json").exists()
    # Another program, which knows nothing of the first; one photo changed, one is only newer.
    stamps = {path: path.stat().st_ino for path in sent.rglob("*.png")}
    pictures = sorted(source.glob("images/*.png"))
    assert len(pictures) == len(stamps) == 5
    pictures[0].write_bytes(pictures[0].read_bytes() + b"more")
    os.utime(pictures[2])
    again, _ = opened(far(), here, source)
    assert again["source"] == str(source)
    changed = {path for path, inode in stamps.items() if path.stat().st_ino != inode}
    assert changed == {sent / pictures[0].relative_to(source)}
    assert (sent / pictures[0].relative_to(source)).read_bytes() == pictures[0].read_bytes()


def test_an_edit_is_seen_here_while_it_is_made_there(far, tmp_path):
    source, here = write(tmp_path / "fox", transforms(5)), tmp_path / "project"
    engine = far()
    opened(engine, here, source)
    key = tmp_path / "elsewhere" / "mine.png"
    key.parent.mkdir()
    key.write_bytes(next(source.rglob("*.png")).read_bytes())
    number = engine.ask("edit/run", workspace=str(here), instruction="make it night", views=["a", "b"],
                        key_views=[{"view": "a", "picture": str(key)}])  # fmt: skip
    answer, before = engine.until(lambda m: m.get("id") == number)
    assert answer["result"]["finished"], answer
    shown = [m["params"]["image"] for m in before if m.get("method") == "job/view"]
    assert shown and all(Path(image).is_relative_to(here) and Path(image).exists() for image in shown)
    [given] = (there(far, "projects") / "given").iterdir()
    assert given.read_bytes() == key.read_bytes()
    project = engine.answer(engine.ask("workspace/read", workspace=str(here)))["result"]
    assert [edit["instruction"] for edit in project["edits"]] == ["make it night"]
    # The project moves together with what it says of itself.
    here.rename(tmp_path / "moved")
    moved = engine.answer(engine.ask("workspace/read", workspace=str(tmp_path / "moved")))["result"]
    assert moved["capture"]["workspace"] == str(tmp_path / "moved") and moved["edits"]
    # A copy of it is another project there.
    shutil.copytree(tmp_path / "moved", tmp_path / "copy")
    assert engine.answer(engine.ask("workspace/read", workspace=str(tmp_path / "copy")))["result"]["capture"] is None
    again = engine.answer(engine.ask("workspace/read", workspace=str(tmp_path / "moved")))["result"]
    assert again == moved


def test_what_goes_wrong_there_names_paths_here(far, tmp_path):
    engine = far()
    (tmp_path / "empty").mkdir()
    said = engine.answer(engine.ask("capture/open", workspace=str(tmp_path / "p"), source=str(tmp_path / "empty")))
    assert str(tmp_path / "empty") in said["error"]["message"] and str(far.folder) not in json.dumps(said)
    said = engine.answer(engine.ask("capture/open", workspace=str(tmp_path / "p"), source=str(tmp_path / "none")))
    assert str(tmp_path / "none") in said["error"]["message"]


def test_a_cancel_ends_what_is_being_sent(far, tmp_path):
    source = write(tmp_path / "fox", transforms(5))
    (source / "images" / "large.png").write_bytes(os.urandom(60 * 2**20))
    engine = far()
    number = engine.ask("capture/open", workspace=str(tmp_path / "p"), source=str(source))
    engine.until(lambda m: m.get("method") == "job/progress" and m["params"]["stage"] == "send")
    asked = engine.ask("job/cancel", job=number)
    assert engine.answer(asked)["result"] == {"cancelling": True}
    assert engine.answer(number)["error"]["code"] == protocol.CANCELLED
    assert engine.answer(engine.ask("workspace/read", workspace=str(tmp_path / "p")))["result"]["capture"] is None


def test_the_end_of_the_line_ends_the_relay_with_its_code(far, tmp_path):
    engine = far([sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:]); sys.exit(255)"])
    engine.ask("shutdown")
    assert engine.process.wait(20) == 255


FAKE = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if asked["method"] == "initialize":
        said = {"files": ROOT} if ROOT else {}
    elif asked["method"] == "files/look":
        said = {"files": [{"size": 3, "changed": 5} for name in asked["params"]["names"]]}
    elif asked["method"] == "files/read":
        said = {"data": "YWJj", "size": 3, "changed": 5}
    else:
        said = json.loads(SAID)
        for name in PATHS:
            image = name.replace("HERE", asked["params"]["workspace"])
            told = {"job": 1, "view": name, "kind": "edited", "image": image}
            print(json.dumps({"jsonrpc": "2.0", "method": "job/view", "params": told}), flush=True)
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": said}), flush=True)
"""


def hostile(tmp_path, paths, root="/far", said="{}"):
    program = tmp_path / "hostile.py"
    program.write_text(f"ROOT, PATHS, SAID = {root!r}, {paths!r}, {said!r}\n{FAKE}")
    return Engine([*RELAY, "x", sys.executable, str(program)])


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "HERE/../../x.png", "HERE/scene/../../../x.png", "HERE/notes.png", "HERE/scene/run.py",
        "HERE/scene/views/.x.png", "/far/captures/x/y.png", "C:\\\\x.png", "HERE/scene/link/x.png",
        "HERE/scene/CON.png", "HERE/scene/a:b.png", "HERE/scene/x.png.blend",
    ],
)  # fmt: skip
def test_nothing_is_written_where_it_does_not_belong(tmp_path, path):
    here = tmp_path / "here" / "project"
    (here / "scene").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (here / "scene" / "link").symlink_to(tmp_path / "outside")
    engine = hostile(tmp_path, [path, "HERE/scene/views/good.png"])
    engine.answer(engine.ask("initialize", protocol=protocol.VERSION))
    before = set(tmp_path.rglob("*"))
    number = engine.ask("scene/train", workspace=str(here))
    _, told = engine.until(lambda m: m.get("id") == number)
    assert (here / "scene" / "views" / "good.png").read_bytes() == b"abc"  # and it was asked at all
    made = {p for p in tmp_path.rglob("*") if p.is_file()} - before
    assert made == {here / "scene" / "views" / "good.png", here / "elsewhere.json"}
    for message in told:
        image = message["params"]["image"]
        assert image == "" or Path(image).is_relative_to(here), image
    engine.process.kill()


def test_answers_name_no_path_of_another_place(tmp_path):
    said = {"mesh": "/etc/passwd", "views": {"a": "/home/me/x.png"}, "source": "C:\\x", "instruction": "/make it so",
            "files": {"glb": "\\\\server\\x.glb"}, "view": "/a"}  # fmt: skip
    engine = hostile(tmp_path, [], said=json.dumps(said))
    engine.answer(engine.ask("initialize", protocol=protocol.VERSION))
    found = engine.answer(engine.ask("scene/train", workspace=str(tmp_path / "p")))["result"]
    assert found == {"mesh": "", "views": {"a": ""}, "source": "", "instruction": "/make it so",
                     "files": {"glb": ""}, "view": "/a"}  # fmt: skip
    engine.process.kill()


def test_an_engine_that_takes_no_files_is_refused_with_a_sentence(tmp_path):
    engine = hostile(tmp_path, [], root="")
    said = engine.answer(engine.ask("initialize", protocol=protocol.VERSION))
    assert "of another version" in said["error"]["message"]
    said = engine.answer(engine.ask("workspace/read", workspace=str(tmp_path / "p")))
    assert "of another version" in said["error"]["message"]
    engine.process.kill()


def test_a_program_that_is_not_there_is_said(tmp_path):
    engine = Engine([*RELAY, "x", str(tmp_path / "no-such-program")])
    assert engine.process.wait(20) == 127


# The folder there ----------------------------------------------------------------------------------------------------


def part(name, data, offset=0, whole=None, changed=7):
    whole = data if whole is None else whole
    return protocol.WriteFile(name, offset, data, len(whole), changed, hashlib.sha256(whole).hexdigest())


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a//b", "", ".ssh/x", "a\\b", "a\0b", "link/x"])
def test_no_name_leads_out_of_the_folder_for_files(tmp_path, name):
    exchange = Exchange(str(tmp_path / "files"))
    (tmp_path / "outside").mkdir()
    (exchange.folder / "link").symlink_to(tmp_path / "outside")
    before = set(tmp_path.rglob("*"))
    for ask in (
        lambda: exchange.write(part(name, b"abc")),
        lambda: exchange.read(protocol.ReadFile(name, 0, 10)),
        lambda: exchange.look(protocol.LookAtFiles([name])),
    ):
        with pytest.raises(BadInput):
            ask()
    assert set(tmp_path.rglob("*")) == before


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    exchange = Exchange(str(tmp_path / "files"))
    assert not exchange.write(part("a/b.png", b"abc", whole=b"abcdef")).whole
    assert exchange.look(protocol.LookAtFiles(["a/b.png"])).files == [None]
    assert exchange.write(part("a/b.png", b"def", 3, b"abcdef")).whole
    assert exchange.read(protocol.ReadFile("a/b.png", 2, 3)).data == b"cde"
    [state] = exchange.look(protocol.LookAtFiles(["a/b.png"])).files
    assert (state.size, state.changed) == (6, 7)
    assert exchange.write(part("a/b.png", b"abc", whole=b"abcdef", changed=9)).whole  # it is there already
    exchange.write(part("a/b.png", b"xyz", whole=b"xyzxyz"))
    for wrong in (part("a/b.png", b"xyz", 2, b"xyzxyz"), part("c.png", b"xyz", 3, b"xyzxyz")):
        with pytest.raises(BadInput):
            exchange.write(wrong)
    exchange.write(part("a/b.png", b"xyz", whole=b"xyzxyz"))
    with pytest.raises(BadInput, match="did not arrive"):
        exchange.write(part("a/b.png", b"abc", 3, b"xyzxyz"))
    assert (exchange.folder / "a" / "b.png").read_bytes() == b"abcdef"
    assert [path.name for path in (exchange.folder / "a").iterdir()] == ["b.png"]


def test_without_a_folder_no_file_is_taken(tmp_path):
    from server_wire import Wire

    wire = Wire()
    wire.ask("files/read", 1, name="x", offset=0, length=1)
    assert "named no folder" in wire.answer(1)["error"]["message"]
    wire.ask("initialize", 2, protocol=protocol.VERSION, files=str(tmp_path / "f"))
    assert wire.answer(2)["result"]["files"] == str(tmp_path / "f")
    wire.ask("files/look", 3, names=["x"])
    assert wire.answer(3)["result"] == {"files": [None]}
    began = time.monotonic()
    wire.server.close()
    assert time.monotonic() - began < 5


def test_nothing_beside_a_folder_without_poses_is_sent(tmp_path):
    source = write(tmp_path / "home" / "fox", transforms(3))
    (tmp_path / "home" / "empty").mkdir()
    assert photos.folder_of(str(tmp_path / "home" / "empty")) == str(tmp_path / "home" / "empty")
    assert photos.files_of(photos.folder_of(str(tmp_path / "home" / "gone"))) == []
    model = source / "sparse" / "0"
    model.mkdir(parents=True)
    assert photos.folder_of(str(model)) == str(model)
    (model / "cameras.bin").write_bytes(b"")
    assert photos.folder_of(str(model)) == str(source)
