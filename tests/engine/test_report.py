# SPDX-License-Identifier: GPL-3.0-or-later
"""The report card's page and the path that methods are compared along."""

import gc
import time
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import psutil
import torch
from PIL import Image

from engine.capture import Capture, Intrinsics, View
from engine.edit.settings import EditSettings, as_published, scheduled
from engine.editors.catalogue import BUNDLED
from engine.jobs.baselines import ONE_TIME, PAPER, PER_FRAME, PROJECTED, SDS, baselines_of, settings_of
from engine.jobs.report import measures_of_edit, path_of
from engine.metrics.collapse import has_collapsed
from engine.metrics.memory import PeakMemory
from engine.output.report_page import Column, Method, page
from engine.presets import PREVIEW

from .conftest import ring

COLUMNS = (Column("a", "A <b>", "{:.2f}", "what a & b are"), Column("never", "Never", "{:.0f}", "nobody has it"))


def test_a_page_stands_alone_and_escapes_what_it_is_told(tmp_path):
    picture = tmp_path / "0001.png"
    Image.new("RGB", (4, 3), "red").save(picture)
    methods = [Method("<script>alert(1)</script>", {"a": 1.239}, [picture]), Method("Ours", {}, [picture], ours=True)]
    text = page("“make it <i>night</i>”", "fox & co.", COLUMNS, methods, ["a note"])

    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            found.append((tag, dict(attributes)))

    Reader().feed(text)
    assert not {"script", "link", "iframe", "i"} & {tag for tag, _ in found}
    sources = [attributes["src"] for tag, attributes in found if tag == "img"]
    assert len(sources) == 2 and all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in text.replace("http-equiv", "")
    assert "<td>1.24</td>" in text and "<td>–</td>" in text and "Never" not in text


def test_peak_memory_is_of_what_was_held_and_let_go():
    gc.collect()  # what other tests left would be let go in between
    before = psutil.Process().memory_info().rss
    with PeakMemory("cpu") as memory:
        held = np.ones(300_000_000, np.uint8)
        time.sleep(0.3)
        del held
        assert memory.peak - before > 250_000_000  # while inside
    assert memory.peak - before > 250_000_000


def test_peak_memory_is_that_of_the_device_that_was_named(monkeypatch):
    """Of two GPUs, and of the processor's on a computer that has both; in a process that has not used a card yet, where
    counters are refused until it is begun with."""
    asked, begun = [], []

    def reset(device):
        if not begun:
            raise RuntimeError("Invalid device argument")
        asked.append(str(device))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "init", lambda: begun.append(True))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device=None: {"cuda:0": 5, "cuda:1": 7}[str(device)])
    for device, peak in (("cuda:1", 7), ("cuda:0", 5)):
        with PeakMemory(device) as memory:
            assert memory.peak == peak
        assert memory.peak == peak
    assert asked == ["cuda:1", "cuda:0"]
    with PeakMemory("cpu") as memory:
        pass
    assert memory.peak > 10**6 and len(asked) == 2


def test_the_path_goes_from_neighbour_to_neighbour():
    """Views of a ring, shuffled: each of the path stands beside the one before."""
    poses = ring(40)
    order = np.random.default_rng(0).permutation(40)
    camera = Intrinsics(8, 8, 8, 8, 4, 4)
    views = [View(f"v{k}", poses[k], camera, f"v{k}.png", False) for k in order]
    path = path_of(Capture(Path(), Path(), "test", views, [None] * 40), 12)  # type: ignore[list-item]
    assert len(path) == 12 and len({view.name for view in path}) == 12
    steps = np.diff([int(view.name[1:]) for view in path]) % 40
    assert set(steps.tolist()) in ({1}, {39})
    assert len(path_of(Capture(Path(), Path(), "test", views[:5], [None] * 5), 12)) == 5  # type: ignore[list-item]


def test_a_path_among_twenty_thousand_views_costs_little():
    """A drone's rows of views, 0.1 apart: time and memory do not grow with the square of their number."""
    camera = Intrinsics(8, 8, 8, 8, 4, 4)
    poses = np.tile(np.eye(4), (20_000, 1, 1))
    poses[:, 0, 3], poses[:, 1, 3] = np.arange(20_000) % 200 / 10, np.arange(20_000) // 200 / 10
    views = [View(f"v{k}", pose, camera, f"v{k}.png", False) for k, pose in enumerate(poses)]
    capture = Capture(Path(), Path(), "test", views, [None] * len(views))  # type: ignore[list-item]
    tracemalloc.start()
    began = time.process_time()
    path = path_of(capture, 12)
    seconds, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 3 and peak < 200 * 2**20  # 9.6 GB, where every pair is compared
    places = np.stack([view.pose[:2, 3] for view in path])
    assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() < 0.15  # the next one, or that across a corner
    assert np.abs(places - poses[:, :2, 3].mean(axis=0)).max() < 2  # of 20 by 10


def frames_of(count: int = 5) -> list[torch.Tensor]:
    """Views of something with detail, a little apart."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    return [
        torch.stack([0.5 + 0.3 * torch.sin((x + k) / 2 + c) * torch.cos(y / 3 - c) for c in range(3)], dim=-1)
        for k in range(count)
    ]


def test_frames_that_show_nothing_have_collapsed() -> None:
    unedited = frames_of()
    rough = torch.randn(48, 64, 3, generator=torch.Generator().manual_seed(0))
    waves = torch.sin(torch.arange(64.0) / 12) * torch.cos(torch.arange(48.0) / 9)[:, None]
    fog = 0.5 + 0.2 * waves[..., None].expand(-1, -1, 3)
    kinds = {
        "the same": (unedited, False),
        "night": ([0.25 * frame for frame in unedited], False),
        "a sketch": ([(frame.mean(dim=-1, keepdim=True).expand(-1, -1, 3) > 0.5).float() for frame in unedited], False),
        "softer": ([0.6 * frame + 0.2 for frame in unedited], False),
        "one colour": ([torch.full_like(frame, 0.97) for frame in unedited], True),
        "one colour and a little noise": ([0.5 + 0.01 * rough for _ in unedited], True),
        "fog": ([fog for _ in unedited], True),
        "not a number": ([frame * float("nan") for frame in unedited], True),
        "one bad frame": ([torch.zeros_like(unedited[0]), *unedited[1:]], False),
    }
    for name, (frames, collapsed) in kinds.items():
        assert has_collapsed(frames, unedited) is collapsed, name


def test_consistency_is_not_given_without_a_change() -> None:
    clip = {"clip_direction": 0.1, "clip_consistency": 0.9}
    assert measures_of_edit(0.2, 0.01, clip, False) == {"inconsistency": 0.01, "change": 0.2} | clip
    assert measures_of_edit(0.3, -0.02, clip, True) == {"change": 0.3, "collapsed": 1.0}
    assert measures_of_edit(0.001, 0.0, clip, False) == {"change": 0.001, "clip_direction": 0.1}


def test_the_page_says_what_has_collapsed() -> None:
    methods = [Method("SDS", {"a": 1.0}, [], remark="collapsed: <nothing>"), Method("Ours", {"a": 2.0}, [], ours=True)]
    text = page("title", "about", COLUMNS, methods, [])
    assert "SDS<br><small" in text and "collapsed: &lt;nothing&gt;" in text and text.count("<small") == 1


def test_an_editor_without_a_gradient_is_compared_without_sds(tmp_path):
    own = PREVIEW.edit
    assert baselines_of(BUNDLED, own, False) == [PER_FRAME, ONE_TIME, SDS, PAPER, PROJECTED]
    (tmp_path / "model_index.json").write_text('{"_class_name": "Flux2KleinPipeline"}')
    assert baselines_of(str(tmp_path), own, False) == [PER_FRAME, ONE_TIME, PAPER, PROJECTED]


def test_an_edit_is_not_compared_with_itself():
    paper, projected = EditSettings(steps=7), scheduled(PREVIEW.edit, "projected", False)
    assert PAPER not in baselines_of(BUNDLED, paper, False) and PROJECTED in baselines_of(BUNDLED, paper, False)
    assert PROJECTED not in baselines_of(BUNDLED, projected, False) and PAPER in baselines_of(BUNDLED, projected, False)
    assert PROJECTED in baselines_of(BUNDLED, projected, True)  # it follows key views, which that does not


def test_what_an_edit_is_compared_with_differs_in_its_schedule_alone():
    own = msgspec.structs.replace(PREVIEW.edit, seed=5, steps=123, keep=0.3, settle=0.01, short_rounds=9)
    for name in (ONE_TIME, SDS, PAPER, PROJECTED):
        other = settings_of(name, own).checked()
        assert (other.seed, other.steps, other.keep, other.options) == (5, 123, 0.3, own.options), name
        assert other.optimiser == own.optimiser and other.training.rays == own.training.rays, name
    methods = [settings_of(name, own).method for name in (ONE_TIME, SDS, PAPER, PROJECTED)]
    assert methods == ["one-time", "sds", "iterative", "projected"]
    paper = settings_of(PAPER, own)
    assert paper == as_published(paper) and not paper.first_pass and not paper.settle and paper.steps_per_round == 10
