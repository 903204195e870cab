# SPDX-License-Identifier: GPL-3.0-or-later
"""The report card's page and the path that methods are compared along."""

import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from engine.capture import Capture, Intrinsics, View
from engine.jobs.report import path_of
from engine.metrics.memory import PeakMemory
from engine.output.report_page import Column, Method, page

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
    with PeakMemory("cpu") as nothing:
        time.sleep(0.3)
    with PeakMemory("cpu") as memory:
        held = np.ones(300_000_000, np.uint8)
        time.sleep(0.3)
        del held
        assert memory.peak - nothing.peak > 250_000_000  # while inside
    assert memory.peak - nothing.peak > 250_000_000


def test_peak_memory_is_that_of_the_device_that_was_named(monkeypatch):
    """Of two GPUs, and of the processor's on a computer that has both."""
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device=None: asked.append(str(device)))
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
