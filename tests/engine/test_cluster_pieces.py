# SPDX-License-Identifier: GPL-3.0-or-later
"""Views, meshes, splats, report cards and rows of the truth benchmark over a cluster are those of one process, also
where workers are killed."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import torch

ray = pytest.importorskip("ray", reason="the extra “cluster” is not installed")

from benchmarks.truth import __main__ as benchmark  # noqa: E402
from benchmarks.truth import cluster  # noqa: E402
from benchmarks.truth import worker as truth_worker  # noqa: E402
from benchmarks.truth.methods import SIZES  # noqa: E402
from engine import protocol  # noqa: E402
from engine.capture import Intrinsics  # noqa: E402
from engine.errors import BadInput  # noqa: E402
from engine.jobs import edit, output, report, scene, splats  # noqa: E402
from engine.progress import Job  # noqa: E402
from engine.workspace import Workspace  # noqa: E402

from .cluster_setup import TRUTH  # noqa: E402
from .cluster_tools import Killer, editor, kinds, pool, project, same  # noqa: E402, F401
from .conftest import PRESET  # noqa: E402
from .test_truth import EDIT, closed_form  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


CAMERA = Intrinsics(48, 40, 60.0, 62.0, 22.0, 21.0)


def files(folder, *kinds):
    """What lies in a folder, by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(Path(folder).rglob("*")) if path.suffix in kinds
    }  # fmt: skip


def test_rendered_views_and_what_is_measured_of_them(pool, project):
    """Of an unedited scene whose views are to be rendered anew."""
    made = []
    for name, job in (("here", Job()), ("there", Job(pieces=pool))):
        workspace = Workspace(project(name))
        for path in workspace.views(None).glob("*.png"):
            path.unlink()
        seen = []
        job.on_view = lambda view, kind, image, seen=seen: seen.append((view, kind))
        scene.train_scene(protocol.TrainScene(str(workspace.folder), PRESET.name, "cpu"), job)
        made.append((seen, files(workspace.views(None), ".png"), workspace.scene_record().measures))
    assert made[0] == made[1] and made[0][0].count(("03", "before")) == 1 and len(made[0][1]) == 9


@pytest.mark.parametrize("texture", [0, 1024])
def test_a_mesh_and_its_texture(pool, project, texture):
    made = []
    for name, job in (("here", Job()), ("there", Job(pieces=pool))):
        request = protocol.MakeMesh(str(project(name)), None, 40, "cpu", texture=texture, formats=["glb"])
        output.make_mesh(request, job)
        made.append(files(Workspace(request.workspace).output(None), ".ply", ".png", ".glb"))
    same_bytes(*made)
    assert any(name.endswith(".ply") for name in made[0])


def test_splats(pool, project, monkeypatch):
    monkeypatch.setattr(splats, "MOST_BETWEEN", 4)
    made = []
    for name, job in (("here", Job()), ("there", Job(pieces=pool))):
        request = protocol.MakeSplats(str(project(name)), None, 1000, "cpu")
        splats.make_splats(request, job)
        made.append(files(Workspace(request.workspace).output(None), ".ply", ".bin"))
    same_bytes(*made)


def same_bytes(one, other):
    assert one.keys() == other.keys() and one
    assert [name for name, data in one.items() if other[name] != data] == []


def test_a_report_whose_baselines_are_pieces_and_whose_workers_are_killed(pool, project, editor, monkeypatch):
    """And what a report says that went on after it was stopped: no baseline is run twice."""
    made, told = [], []
    for name, job in (("here", Job()), ("there", Job(pieces=pool, every=0.0))):
        folder = project(name)
        told = []
        job.on_progress = lambda progress, told=told: told.append(progress)
        request = protocol.RunEdit(
            instruction="make it night", editor=editor, options={"tint": "red"}, workspace=str(folder),
            preset=PRESET.name, device="cpu",
        )  # fmt: skip
        ident = edit.run_edit(request, Job()).id
        told.clear()
        with Killer(pool, 0.5, most=3) if name == "there" else contextlib.nullcontext() as killer:
            found = report.make_report(protocol.MakeReport(str(folder), ident, "cpu"), job)
        took = {"seconds", "peak_megabytes"}
        made.append((
            files(Workspace(folder).edit(ident) / "report", ".png"),
            {method: {k: v for k, v in said.items() if k not in took} for method, said in found.measures.items()},
        ))  # fmt: skip
        if name == "there":
            print(f"{killer.kills} kills in a report")
            assert killer.kills
    same_bytes(made[0][0], made[1][0])
    assert made[0][1] == made[1][1] and len(made[0][1]) == 6
    ran = [p for p in told if p.stage == "baselines"]
    assert ran[-1].step == ran[-1].of and [p.step for p in ran] == sorted(p.step for p in ran)

    def never(*_):
        raise AssertionError("a baseline is run a second time")

    monkeypatch.setattr(report, "run_baseline", never)
    report.make_report(protocol.MakeReport(str(folder), ident, "cpu"), Job())


@pytest.fixture
def truth(monkeypatch, tmp_path):
    """The benchmark, of one scene in a closed form; here on one thread, as workers are: what a network says of a
    picture differs in its last bit by how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setitem(SIZES, "small", TRUTH)
    monkeypatch.setattr(truth_worker, "load", lambda name, pixels: closed_form(CAMERA, 9, 4))
    monkeypatch.setattr(truth_worker, "TRAINED", tmp_path / "trained")
    monkeypatch.setattr(benchmark, "ensure", lambda name, pixels: None)
    monkeypatch.setattr(benchmark, "jobs_of", lambda options: [("sphere", EDIT)])
    yield benchmark
    torch.set_num_threads(threads)


def test_rows_of_the_truth_benchmark(pool, truth, monkeypatch, tmp_path, capsys):
    """Two seeds of two methods besides the ends of the scale, with workers that are killed; the same as one worker
    makes of them; and again, of which nothing is run."""
    monkeypatch.setattr(cluster, "pool_of", lambda *_: contextlib.nullcontext(pool))
    methods = ("per-frame", "one-time DU")
    options = benchmark.Options(
        size="small", methods=methods, seeds=2, strengths=(1.0,), device="cpu", cluster="there",
        output=tmp_path / "results",
    )  # fmt: skip
    with Killer(pool, 0.5, most=3) as killer:
        truth.main(options)
    print(f"{killer.kills} kills in a benchmark")
    assert killer.kills
    found = json.loads((options.output / "results.json").read_text())["records"]
    assert sorted({path.name for path in (tmp_path / "trained").iterdir()}) and len(found) == 8
    worker, wanted = truth_worker.Worker(None, "small", truth.methods_of(options), "cpu"), []
    for seed in range(2):
        ends, _ = worker.run("sphere", EDIT, seed, {}, 1.0, ["unedited", "oracle"])
        wanted += ends
        for method in methods:
            known = benchmark.known_of(("sphere", EDIT, seed, 1.0), ends)
            wanted += worker.run("sphere", EDIT, seed, known, 1.0, [method])[0]
    found_by, wanted_by = ({key_of(r): what_is_so(r) for r in records} for records in (found, wanted))
    assert found_by.keys() == wanted_by.keys()
    for key, parts in wanted_by.items():
        for one, other in zip(parts, found_by[key], strict=True):
            assert {name: (value, other[name]) for name, value in one.items() if other[name] != value} == {}, key
    assert "sphere" in capsys.readouterr().out

    monkeypatch.setattr(pool, "begin", None)
    truth.main(options)
    assert json.loads((options.output / "results.json").read_text())["records"] == found


def key_of(record):
    return record["method"], record["seed"]


def what_is_so(record):
    """What does not depend on how fast a machine is."""
    took = {"seconds", "peak_megabytes"}
    return [{k: v for k, v in record[part].items() if k not in took} for part in ("measures", "unedited", "oracle")]


def test_a_node_with_another_benchmark_is_named(pool, truth, monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "pool_of", lambda *_: contextlib.nullcontext(pool))
    monkeypatch.setattr(cluster, "code_of_benchmark", lambda: "of last year")
    with (
        pytest.raises(BadInput, match=r"The node .*: it has another benchmark"),
        cluster.Cluster("there", None, None, "small", ["unedited", "oracle"], "cpu") as workers,
    ):
        workers.train([("sphere", 0)])
