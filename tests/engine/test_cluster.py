# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs on a cluster of three simulated nodes are, to the last bit, those of one process; also where workers are killed
all the while."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

ray = pytest.importorskip("ray", reason="the extra “cluster” is not installed")

from engine import protocol  # noqa: E402
from engine.cluster.batch import run_batch  # noqa: E402
from engine.cluster.pool import Pool  # noqa: E402
from engine.errors import BadInput, Cancelled  # noqa: E402
from engine.jobs import edit, frames, trying  # noqa: E402
from engine.jobs.capture import load_opened  # noqa: E402
from engine.progress import Job  # noqa: E402
from engine.protocol import Axis  # noqa: E402
from engine.workspace import Workspace  # noqa: E402

from .cluster_tools import KILLS, ROOT, Killer, editor, kinds, pictures, pool, project, same, whole  # noqa: E402, F401
from .conftest import PRESET  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def film(project, count=48):
    views = load_opened(Workspace(project)).views
    cameras = []
    for number in range(count):
        view = views[number % len(views)]
        i = view.intrinsics
        pose = view.pose.copy()
        pose[2, 3] += 0.01 * number
        cameras.append(protocol.PathCamera(tuple(pose.ravel().tolist()), i.width, i.height, i.fx, i.fy, i.cx, i.cy))
    return protocol.RenderFrames(str(project), None, "film", cameras, device="cpu")


def sheet(project, editor):
    view = load_opened(Workspace(project)).views[3].name
    return protocol.TryEdit(
        instruction="paint it", editor=editor, workspace=str(project), view=view, device="cpu",
        across=Axis("brightness", [0.25, 0.5, 1.0]), down=Axis("seed", [1, 2]),
    )  # fmt: skip


def order(project, editor, **more):
    return protocol.RunEdit(
        instruction="make it night", editor=editor, options={"tint": "red", "keep_background": "on"},
        workspace=str(project), preset=PRESET.name, device="cpu", **more,
    )  # fmt: skip


def test_frames_and_a_try_sheet_are_those_of_one_process(pool, project, editor):
    here, there = project("here"), project("there")
    job = Job(pieces=pool)
    seen = []
    job.on_view = lambda view, kind, image: seen.append(view)
    assert pictures(frames.render_frames(film(there), job).after) == pictures(
        frames.render_frames(film(here), Job()).after
    )
    assert len(seen) == 48 and len({len(sent[1].hex()) for sent in pool._sent.values()}) == 1
    alone, far = trying.try_edit(sheet(here, editor), Job()), trying.try_edit(sheet(there, editor), Job(pieces=pool))
    assert pictures(cell.image for cell in far.cells) == pictures(cell.image for cell in alone.cells)
    assert pictures([far.after]) == pictures([alone.after])


def test_an_edit_over_workers_is_that_of_one_process(pool, project, editor):
    here, there = project("here"), project("there")
    alone = edit.run_edit(order(here, editor), Job())
    far = edit.run_edit(order(there, editor), Job(pieces=pool))
    same(whole(here, alone), whole(there, far))


def test_a_stale_edit_is_a_function_of_its_staleness_alone(pool, project, editor):
    """Not of how many workers there are, nor how fast; and another than with none."""
    here, there, fresh = project("here"), project("there"), project("fresh")
    alone = edit.run_edit(order(here, editor, staleness=2), Job())
    with Killer(pool, 0.3):
        far = edit.run_edit(order(there, editor, staleness=2), Job(pieces=pool))
    same(whole(here, alone), whole(there, far))
    other = edit.run_edit(order(fresh, editor), Job())
    assert any((whole(fresh, other)[name] != value).any() for name, value in whole(here, alone).items())


def test_a_cancelled_edit_over_workers_is_resumed_by_one_process(pool, project, editor):
    here, there = project("here"), project("there")
    alone = edit.run_edit(order(here, editor), Job())
    stop = threading.Event()
    job = Job(pieces=pool, cancelled=stop.is_set, every=0.0)
    job.on_progress = lambda p: stop.set() if p.stage == "edit" and p.step == 9 else None
    with pytest.raises(Cancelled):
        edit.run_edit(order(there, editor), job)
    [record] = Workspace(there).edits()
    same(whole(here, alone), whole(there, edit.resume_edit(protocol.ResumeEdit(str(there), record.id, "cpu"), Job())))


def test_workers_are_killed_all_the_while(pool, project, editor):
    here = project("here")
    wanted_frames = pictures(frames.render_frames(film(here), Job()).after)
    wanted_cells = pictures(cell.image for cell in trying.try_edit(sheet(here, editor), Job()).cells)
    wanted_edit = whole(here, edit.run_edit(order(here, editor), Job()))
    kills = trials = 0
    while kills < KILLS:
        trials += 1
        there = project(f"there {trials}")
        with Killer(pool, 0.5, trials) as killer:
            made = frames.render_frames(film(there), Job(pieces=pool)).after
            cells = trying.try_edit(sheet(there, editor), Job(pieces=pool)).cells
            edited = edit.run_edit(order(there, editor), Job(pieces=pool))
        kills += killer.kills
        assert pictures(made) == wanted_frames and pictures(cell.image for cell in cells) == wanted_cells
        same(wanted_edit, whole(there, edited))
        shutil.rmtree(there)
    print(f"{kills} kills in {trials} trials")


def test_a_node_that_leaves_takes_nothing_with_it(pool, project):
    here, there = project("here"), project("there")
    leaving = pool.cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    job = Job(pieces=pool)
    seen = []

    def on_view(view, kind, image):
        seen.append(view)
        if len(seen) == 5:
            pool.cluster.remove_node(leaving, allow_graceful=False)

    job.on_view = on_view
    assert pictures(frames.render_frames(film(there), job).after) == pictures(
        frames.render_frames(film(here), Job()).after
    )


def test_what_a_piece_says_is_wrong_names_the_node(pool, project, editor):
    there = project("there")
    checkpoint = Workspace(there).checkpoint(None)
    data = bytearray(checkpoint.read_bytes())
    data[len(data) // 2 :] = b""
    job = Job(pieces=pool)
    request = film(there, 3)
    from engine.scenes import registry as scenes

    known = scenes.open_scene(checkpoint)
    assert known.views
    checkpoint.write_bytes(bytes(data))
    with pytest.raises(BadInput):
        frames.render_frames(request, job)
    with pytest.raises(BadInput, match=r"The node .*"):
        list(pool.map(_needs_an_editor, None, [1], job.place("cpu")))


def _needs_an_editor(_shared, _item, place):
    from engine.jobs.named_editor import editor_at

    return editor_at("/nowhere/at-all", place.device, place.keep)


def test_a_cancel_ends_what_is_under_way(pool):
    began = time.monotonic()
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    job = Job(pieces=pool, cancelled=stop.is_set)
    with pytest.raises(Cancelled):
        list(pool.map(_sleeps, None, range(9), job.place("cpu")))
    assert time.monotonic() - began < 10
    assert list(pool.map(_twice, 2, range(5), Job().place("cpu"))) == [0, 2, 4, 6, 8]  # and the workers are free


def _sleeps(_shared, _item, _place):
    time.sleep(600)


def _twice(shared, item, _place):
    return shared * item


def test_a_card_that_no_node_has_is_said(pool):
    with pytest.raises(BadInput, match=r"The node .* has no graphics card"):
        Pool(device="cuda:0")


def written_batch(folder, projects, editor):
    path = folder / "batch.json"
    path.write_text(json.dumps({
        "captures": [{"workspace": project} for project in projects], "preset": PRESET.name,
        "edits": [{"instruction": words, "editor": editor, "options": {"tint": tint}}
                  for words, tint in (("make it night", "blue"), ("paint it", "red"))],
    }))  # fmt: skip
    return path


def test_a_batch_is_what_its_edits_would_be_alone(pool, project, editor, tmp_path):
    (tmp_path / "alone").mkdir()
    for name in ("one", "two", "alone/one", "alone/two"):
        shutil.rmtree(project(name) / "edits", ignore_errors=True)
    seen = []
    with Killer(pool, 1.0, most=2) as killer:  # a whole job takes longer than a piece
        rows = run_batch(
            written_batch(tmp_path, ["one", "two"], editor),
            pool,
            Job(),
            lambda rows: seen.append([r.state for r in rows]),
        )
    assert [row.state for row in rows] == ["done"] * 4 and len({row.id for row in rows}) == 2
    alone = run_batch(written_batch(tmp_path / "alone", ["one", "two"], editor), None, Job())
    assert [row.id for row in alone] == [row.id for row in rows]
    for far, near in zip(rows, alone, strict=True):
        same(left_by(far), left_by(near))
    print(f"{killer.kills} kills in a batch; {len(seen)} states")
    again = run_batch(tmp_path / "batch.json", pool, Job())
    assert [row.state for row in again] == ["done"] * 4
    assert all(len(row.workspace.edits()) == 2 for row in again)  # nothing is made twice


def left_by(row):
    tensors = load_file(row.workspace.checkpoint(row.id))
    views = sorted(row.workspace.views(row.id).glob("*.png"))
    return tensors | {path.name: np.frombuffer(path.read_bytes(), np.uint8) for path in views}


@pytest.mark.parametrize("when", ["training", "done"])
def test_a_batch_whose_driver_was_killed_goes_on(pool, project, editor, tmp_path, when):
    """The driver is a process of its own, killed while the scene is trained, or once the first edit is done."""
    (tmp_path / "alone").mkdir()
    for name in ("one", "alone/one"):
        shutil.rmtree(project(name) / "edits", ignore_errors=True)
        if when == "training":
            shutil.rmtree(tmp_path / name / "scene")
    path = written_batch(tmp_path, ["one"], editor)
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.engine.batch_driver", pool.cluster.address, str(path)],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    seen = []
    for line in driver.stdout:
        seen.append(line)
        if ("done" in line) if when == "done" else ("worker" in line or "%" in line):
            break
    if when == "training":
        time.sleep(2)  # a worker is at it, whether it says so or is too quick for that
    driver.kill()
    driver.wait()
    assert seen and ("done" in seen[-1]) is (when == "done"), seen
    rows = run_batch(path, pool, Job())
    assert [row.state for row in rows] == ["done"] * 2 and len(rows[0].workspace.edits()) == 2
    alone = run_batch(written_batch(tmp_path / "alone", ["one"], editor), None, Job())
    for far, near in zip(rows, alone, strict=True):
        assert far.id == near.id
        same(left_by(far), left_by(near))


def test_what_is_wrong_with_one_row_stops_no_other(project, editor, tmp_path):
    project("one")
    path = tmp_path / "batch.json"
    path.write_text(json.dumps({
        "captures": [{"workspace": "one"}, {"workspace": "missing"}], "preset": PRESET.name,
        "edits": [{"instruction": "make it night", "editor": editor},
                  {"instruction": "paint it", "editor": editor, "options": {"no": 1}}],
    }))  # fmt: skip
    rows = run_batch(path, None, Job())
    assert [row.failed for row in rows] == [False, True, True, True] and rows[0].state == "done"
    assert "no option 'no'" in rows[1].state and "No capture was opened" in rows[2].state


@pytest.mark.parametrize(
    "text", ["", "[]", '{"captures": [], "edits": []}', '{"captures": [{"workspace": 3}]}', "{" * 9]
)
def test_what_is_no_batch_is_named(text, tmp_path):
    path = tmp_path / "batch.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"batch\.json is no batch"):
        run_batch(path, None, Job())
