# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine as a real process: the wire stays clean, a cancel is answered within two seconds whenever it comes, and
what was cancelled or killed goes on."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.capture import Intrinsics

from .conftest import sphere_capture

ROOT = Path(__file__).parents[2]
FOX = ROOT.parent / "shared" / "captures" / "fox"


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    """A capture of the sphere, 20 views of 48×40."""
    return sphere_capture(tmp_path_factory.mktemp("capture"), 20)


class Engine:
    """`python -m engine serve`, asked line by line."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "engine", "serve"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        self.messages = queue.Queue()
        self.log = []
        self.ident = 0
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.messages.put(json.loads(line))  # a line that is not JSON would end the thread and fail the test

    def ask(self, method, **params):
        self.ident += 1
        line = json.dumps({"jsonrpc": "2.0", "id": self.ident, "method": method, "params": params})
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return self.ident

    def until(self, wanted, timeout=300):
        """The first message for which ``wanted`` holds."""
        end = time.monotonic() + timeout
        while True:
            message = self.messages.get(timeout=max(0.01, end - time.monotonic()))
            if wanted(message):
                return message

    def answer(self, ident, timeout=300):
        return self.until(lambda m: m.get("id") == ident, timeout)

    def do(self, method, **params):
        answer = self.answer(self.ask(method, **params))
        assert "result" in answer, (answer, self.log[-20:])
        return answer["result"]

    def cancel(self, job):
        """Seconds from the cancel to the job's own end."""
        began = time.monotonic()
        self.ask("job/cancel", job=job)
        answer = self.answer(job, timeout=30)
        assert answer["error"]["code"] == -32800, answer
        return time.monotonic() - began


@pytest.fixture
def engine():
    started = []

    def start():
        started.append(Engine())
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def test_initialize_opens_and_leaves(engine, capture, tmp_path):
    one = engine()
    result = one.do("initialize", protocol=2)
    assert result["engine"]
    opened = one.do("capture/open", workspace=str(tmp_path / "w"), source=str(capture), preset="preview")
    assert len(opened["views"]) == 20 and sum(v["held_out"] for v in opened["views"]) == 2
    written = one.do("capture/images", workspace=str(tmp_path / "w"))
    assert all(Path(view["image"]).exists() for view in written["views"])
    one.process.stdin.close()  # Blender is gone
    assert one.process.wait(timeout=10) == 0


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_cancelled_and_killed_at_any_moment_it_goes_on(engine, capture, tmp_path):
    workspace = str(tmp_path / "w")
    one = engine()
    one.do("initialize", protocol=2)
    one.do("capture/open", workspace=workspace, source=str(capture), preset="preview")
    waits = {}

    job = one.ask("scene/train", workspace=workspace, preset="preview", device="cpu", steps=40)
    waits["while importing"] = one.cancel(job)
    job = one.ask("scene/train", workspace=workspace, preset="preview", device="cpu", steps=40)
    one.until(lambda m: m.get("params", {}).get("stage") == "train" and m["params"]["step"] >= 5)
    waits["while training"] = one.cancel(job)
    read = one.do("workspace/read", workspace=workspace)
    assert 5 <= read["scene"]["steps"] < 40 and not read["scene"]["finished"]
    job = one.ask("scene/train", workspace=workspace, preset="preview", device="cpu")
    one.until(lambda m: m.get("params", {}).get("kind") == "before")
    waits["while rendering"] = one.cancel(job)
    scene = one.do("scene/train", workspace=workspace, preset="preview", device="cpu")["views"]
    assert len(scene) == 20

    edit = {"workspace": workspace, "instruction": "make it red", "preset": "preview", "device": "cpu", "steps": 25}
    job = one.ask("edit/run", **edit)
    waits["while loading the editor"] = one.cancel(job)
    job = one.ask("edit/run", **edit)
    one.until(lambda m: m.get("params", {}).get("stage") == "understand")
    waits["while finding the subject"] = one.cancel(job)
    job = one.ask("edit/run", **edit)
    one.until(lambda m: m.get("params", {}).get("stage") == "edit")
    time.sleep(0.7)
    waits["while editing"] = one.cancel(job)
    begun = one.do("workspace/read", workspace=workspace)["edits"][-1]
    assert begun["steps"] < 25 and not begun["finished"]

    job = one.ask("edit/resume", workspace=workspace, edit=begun["id"])
    one.until(lambda m: m.get("params", {}).get("kind") == "edited")
    one.process.send_signal(signal.SIGKILL)
    one.process.wait()

    two = engine()
    two.do("initialize", protocol=2)
    done = two.do("edit/resume", workspace=workspace, edit=begun["id"])
    assert done["finished"] and done["steps"] == 25 and len(done["views"]) == 20 and len(done["images"]) >= 2
    record = json.loads((Path(workspace) / "edits" / begun["id"] / "edit.json").read_text())
    assert 2e8 < record["peak_bytes"] < 2e10
    mesh = two.do("output/mesh", workspace=workspace, edit=begun["id"], resolution=40)
    assert mesh["vertices"] > 100
    view = two.do("workspace/read", workspace=workspace)["capture"]["views"][3]
    camera = {key: view[key] for key in ("pose", "width", "height", "fx", "fy", "cx", "cy")}
    frames = two.do("output/frames", workspace=workspace, edit=begun["id"], name="path", cameras=[camera, camera])
    same = np.array(Image.open(frames["after"][0])), np.array(Image.open(done["views"][view["name"]]))
    assert np.abs(same[0].astype(int) - same[1]).max() <= 1  # a frame from a view's camera is that view's render
    print(waits)
    assert max(waits.values()) < 2, waits


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_running_edit_is_talked_to(engine, capture, tmp_path):
    """Looked at, paused, told something else, cancelled while paused, killed: each within two seconds, nothing lost."""
    workspace = str(tmp_path / "w")
    one = engine()
    one.do("initialize", protocol=2)
    view = one.do("capture/open", workspace=workspace, source=str(capture), preset="preview")["views"][3]
    camera = {key: view[key] for key in ("pose", "width", "height", "fx", "fy", "cx", "cy")}
    one.do("scene/train", workspace=workspace, preset="preview", device="cpu", steps=20)
    how = {"instruction": "make it night", "preset": "preview", "device": "cpu", "steps": 30}
    job = one.ask("edit/run", workspace=workspace, **how)
    waits = {}

    def timed(what, method, **params):
        began = time.monotonic()
        result = one.do(method, job=job, **params)
        waits[what] = time.monotonic() - began
        return result

    def editing(engine, from_step):
        engine.until(lambda m: m.get("params", {}).get("stage") == "edit" and m["params"]["step"] >= from_step)

    one.until(lambda m: m.get("params", {}).get("kind") == "edited")
    seen = timed("to be looked at", "job/render", camera=camera)
    assert Image.open(seen["image"]).size == (view["width"], view["height"]) and seen["step"] == 0
    editing(one, 3)
    changed = timed("to be told something else", "job/change", instruction="turn it into a pencil sketch")
    timed("to make a view again", "job/remake", view=view["name"])
    timed("to be looked at while editing", "job/render", camera=camera)
    assert one.do("job/pause", job=job) == {"paused": True}
    seen = timed("to be looked at while paused", "job/render", camera=camera)
    time.sleep(1.0)
    assert one.do("job/render", job=job, camera=camera)["step"] == seen["step"]
    waits["to be cancelled while paused"] = one.cancel(job)
    begun = one.do("workspace/read", workspace=workspace)["edits"][-1]
    assert begun["steps"] == seen["step"] and not begun["finished"]
    assert [change["view"] for change in begun["changes"]] == [None, view["name"]]
    assert begun["changes"][0]["step"] == changed["step"] >= 3

    job = one.ask("edit/resume", workspace=workspace, edit=begun["id"])
    editing(one, begun["steps"] + 2)
    one.do("job/pause", job=job)
    one.process.stdin.close()  # Blender is gone
    began = time.monotonic()
    assert one.process.wait(timeout=30) == 0
    waits["to leave while paused"] = time.monotonic() - began

    two = engine()
    two.do("initialize", protocol=2)
    done = two.do("edit/resume", workspace=workspace, edit=begun["id"])
    assert done["finished"] and done["steps"] == 30 and done["changes"] == begun["changes"]
    assert "editor" in two.do("runtime/release")["released"]
    print(waits)
    assert max(waits.values()) < 2, waits


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("source", ["made", pytest.param("fox", marks=pytest.mark.skipif(not FOX.exists(), reason=""))])
def test_a_camera_of_192_pixels_is_answered_within_a_second_while_an_edit_runs(engine, tmp_path, source):
    """On two idle cores, from the request's line to the answer's, at any moment of an edit of Preview's own size."""
    if source == "made":
        large = sphere_capture(tmp_path, 16, Intrinsics(192, 144, 240.0, 240.0, 96.0, 72.0))
    workspace = str(tmp_path / "w")
    one = engine()
    one.do("initialize", protocol=2)
    place = str(large if source == "made" else FOX)
    views = one.do("capture/open", workspace=workspace, source=place, preset="preview")["views"]
    chosen = [view["name"] for view in views if not view["held_out"]][:12]
    cameras = [{key: view[key] for key in ("pose", "width", "height", "fx", "fy", "cx", "cy")} for view in views]
    assert max(cameras[0]["width"], cameras[0]["height"]) == 192
    one.do("scene/train", workspace=workspace, preset="preview", device="cpu", steps=60)
    job = one.ask(
        "edit/run", workspace=workspace, instruction="make it night", preset="preview", device="cpu", views=chosen
    )
    one.until(lambda m: m.get("params", {}).get("kind") == "edited")
    waits = []
    for number in range(24):  # in the first pass, then between steps and image updates
        time.sleep(0.3 + 0.37 * (number % 5))
        began = time.monotonic()
        seen = one.do("job/render", job=job, camera=cameras[number % len(cameras)])
        waits.append(time.monotonic() - began)
    assert seen["step"] > 0
    one.cancel(job)
    print(f"{source}: {np.median(waits):.2f} s, at most {max(waits):.2f} s; load {os.getloadavg()[0]:.1f}")
    assert max(waits) < 1, waits
