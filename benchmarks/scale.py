# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster costs and gives (docs/scale.md): the overhead of a piece against this process, the bytes it moves,
how stand-ins for a card (they sleep) scale over workers, and a small model of a farm with measured parameters.

python -m benchmarks.scale measure PROJECT   a frame and an image update, here and by a worker, in turn
python -m benchmarks.scale standin           frames and edits that sleep, over 1, 2, 4 and 8 workers
python -m benchmarks.scale model             what 100 cards, or 10,000 captures a day, need
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import statistics
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.pieces import Here, Place


@dataclass(frozen=True)
class Edit:
    """What one edit is made of; seconds of a card (or of what computes), bytes."""

    image_updates: int = 1500  # of the paper's 15,000 steps, one in ten
    first_pass: int = 0
    steps: int = 15_000
    step_seconds: float = 0.064  # the three: of Paper on an H100 (docs/speed.md)
    update_seconds: float = 0.79
    render_seconds: float = 0.14
    update_bytes: int = 2 * 640 * 360 * 3 * 4  # a render out, an edited picture back
    overhead_seconds: float = 0.02  # of a piece; 0.014 measured within one machine
    capture_bytes: int = 60 * 500_000
    checkpoint_bytes: int = 100 * 2**20

    @property
    def trainer_seconds(self) -> float:
        """What one process does, however many help: steps, renders, and handing out the pieces. Amdahl's part."""
        return self.steps * self.step_seconds + self.image_updates * (self.render_seconds + self.overhead_seconds)

    def seconds(self, workers: int, staleness: int) -> float:
        """Of an edit whose image updates are made by so many workers, ``staleness`` rounds old; 0 workers: by the
        trainer itself. One update a round, round by round as `engine.edit.iterative` does them."""
        first = math.ceil(self.first_pass / max(1, workers)) * self.update_seconds
        if workers == 0:
            return self.trainer_seconds + self.image_updates * self.update_seconds + first
        own = self.trainer_seconds / self.image_updates  # of the trainer, a round
        free, ends, now = [0.0] * workers, [], 0.0  # when each worker is free, and each update made
        for number in range(self.image_updates):
            ends.append(max(now, heapq.heappop(free)) + self.update_seconds)
            heapq.heappush(free, ends[-1])
            now = (max(now, ends[number - staleness]) if number >= staleness else now) + own
        return now + first

    def card_seconds(self) -> float:
        """Of all cards together."""
        return self.trainer_seconds + (self.image_updates + self.first_pass) * self.update_seconds

    def moved(self) -> int:
        """Bytes between machines, with its image updates made elsewhere."""
        return (self.image_updates + self.first_pass) * self.update_bytes + self.capture_bytes + self.checkpoint_bytes


def farm(edit: Edit, cards: int, captures_a_day: int, price: float) -> dict[str, float]:
    """What a farm of whole edits on single cards does in a day, and needs. ``price``: of a card's hour."""
    day = 86_400
    seconds = edit.card_seconds()
    needed = captures_a_day * seconds / day
    kept = edit.capture_bytes + 2 * edit.checkpoint_bytes
    return {
        "edits a card and day": day / seconds,
        "edits a day of the farm": cards * day / seconds,
        "cards for the captures": needed,
        "disk a day (TB)": captures_a_day * kept / 1e12,
        "network, whole edits on a card each (Gbit/s)": captures_a_day * kept * 8 / day / 1e9,
        "network, image updates elsewhere (Gbit/s)": captures_a_day * edit.moved() * 8 / day / 1e9,
        "price of an edit": seconds / 3600 * price,
        "price a day": captures_a_day * seconds / 3600 * price,
    }


def slept(seconds: float, _item: Any, _place: Place) -> bytes:
    """A piece: a frame on a card that is waited for."""
    time.sleep(seconds)
    return bytes(100_000)


def _place() -> Place:
    return Place("cpu", lambda kind, key, work: work())


def standin(seconds: float, frames: int) -> list[dict[str, float]]:
    """How frames and an edit that sleep scale over workers that are there: the time that they would take without any
    overhead, over what they took."""
    import ray

    from engine.cluster.pool import Pool

    rows = []
    for workers in (1, 2, 4, 8):
        ray.init(
            address="local",
            num_cpus=workers, include_dashboard=False, object_store_memory=200 * 2**20, log_to_driver=False,
            configure_logging=False,
        )  # fmt: skip
        try:
            with Pool(workers=workers) as pool:
                _all_there(pool, seconds)
                began = time.monotonic()
                list(pool.map(slept, seconds, range(frames), _place()))
                took = time.monotonic() - began
                rows.append({
                    "workers": workers, "frames": math.ceil(frames / workers) * seconds / took,
                    "edit": standin_edit(pool, seconds, workers),
                })  # fmt: skip
                print(json.dumps(rows[-1]), flush=True)
        finally:
            ray.shutdown()
    return rows


def _all_there(pool: Any, seconds: float) -> None:
    """Have as many pieces as workers sleep, until they do so at once: then every worker is there."""
    took = 0.0
    for _ in range(60):
        began = time.monotonic()
        list(pool.map(slept, seconds, range(pool.workers), _place()))
        took = time.monotonic() - began
        if took < 1.5 * seconds:
            return
    raise SystemExit(f"{pool.workers} workers did not come: their pieces of {seconds} s took {took:.1f} s")


def standin_edit(pool: Any, seconds: float, staleness: int, rounds: int = 32, share: float = 0.125) -> float:
    """The time that the model says of an edit, over what it took: rounds of one image update of ``seconds`` made by a
    worker, and of steps that take ``share`` of that here. What would be of use after the last round alone is dropped,
    as it is in an edit."""
    shared = pool.put(seconds)
    under_way: deque[Any] = deque()
    began = time.monotonic()
    for _ in range(rounds):
        under_way.append(pool.begin(slept, shared, None, _place()))
        if len(under_way) > staleness:
            pool.wait(under_way.popleft(), lambda: None)
        time.sleep(share * seconds)
    took = time.monotonic() - began
    for left in under_way:  # not cancelled: that would end workers
        pool.wait(left, lambda: None)
    said = Edit(rounds, 0, rounds, share * seconds, seconds, 0.0, overhead_seconds=0.0)
    return said.seconds(pool.workers, staleness) / took


def returned(_shared: None, item: Any, _place: Place) -> Any:
    """A piece that moves what an image update does, and does nothing."""
    return item


def overhead(count: int) -> dict[str, float]:
    """What one piece costs that does nothing, seconds: with a picture of 640 × 360 floats out and back, and without;
    one after the other, medians."""
    import numpy as np

    from engine.cluster.pool import Pool

    picture = np.random.default_rng(0).random((360, 640, 3), np.float32)
    said = {}
    with Pool(workers=1) as pool:
        for what, item in (("an empty piece (s)", None), ("with a picture out and back (s)", picture)):
            took = []
            for _ in range(count + 3):
                began = time.perf_counter()
                pool.wait(pool.begin(returned, None, item, _place()), lambda: None)
                took.append(time.perf_counter() - began)
            said[what] = statistics.median(took[3:])
    return said


def measure(project: Path, pairs: int) -> dict[str, float]:
    """A frame and an image update of a project, here and by one worker in turn: medians, in seconds, and the bytes that
    go each way. The worker's wait for the processor counts, so nothing else may run meanwhile."""
    import pickle

    import numpy as np
    import torch

    from engine.cluster.editor import FarEditor
    from engine.cluster.pool import Pool
    from engine.devices import cpu
    from engine.editors.catalogue import default_editor
    from engine.jobs.capture import load_opened
    from engine.jobs.frames import _Moment, rendered_frame
    from engine.jobs.named_editor import editor_at
    from engine.progress import Job
    from engine.workspace import Workspace

    workspace = Workspace(project)
    job = Job()
    view = load_opened(workspace).views[0]
    moments = [_Moment(view, np.eye(4))]
    place = job.place("cpu", workspace.checkpoint(None))
    shared, item = ("png", False), ("", moments)
    name = default_editor(cpu())
    picture = torch.from_numpy(
        np.random.default_rng(0).random((view.intrinsics.height, view.intrinsics.width, 3), np.float32)
    )

    def edited(editor: Any) -> Any:
        told = editor.prepare("make it night", {"diffusion_steps": 10}).view(picture)
        return lambda: told.edit(picture, 0.7, torch.Generator().manual_seed(0))

    with Pool(workers=1) as pool:
        near, far = edited(editor_at(name, "cpu", job.keep)), edited(FarEditor(pool, name, lambda: None))
        work = {
            "frame": (lambda: list(Here().map(rendered_frame, shared, [item], place)),
                      lambda: list(pool.map(rendered_frame, shared, [item], place))),
            "image update": (near, far),
        }  # fmt: skip
        said: dict[str, float] = {}
        for what, sides in work.items():
            for side in sides:
                side()  # what it loads is loaded
            took: tuple[list[float], list[float]] = ([], [])
            for _ in range(pairs):
                for side, times in zip(sides, took, strict=True):
                    began = time.perf_counter()
                    side()
                    times.append(time.perf_counter() - began)
            here, there = map(statistics.median, took)
            said |= {f"{what} here (s)": here, f"{what} by a worker (s)": there, f"{what}, overhead": there / here - 1}
        said["frame, bytes back"] = len(rendered_frame(shared, item, place))
        said["frame, bytes out"] = len(pickle.dumps((shared, item)))
        said["image update, bytes each way"] = picture.numel() * 4
        said["checkpoint, bytes once a node"] = workspace.checkpoint(None).stat().st_size
    return said


def main() -> None:
    # Ray runs workers at a low priority: beside other work they would wait for the processor, and that be measured.
    os.environ.setdefault("RAY_worker_niceness", "0")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure")
    one.add_argument("project", type=Path)
    one.add_argument("--pairs", type=int, default=7)
    commands.add_parser("overhead").add_argument("--count", type=int, default=50)
    two = commands.add_parser("standin")
    two.add_argument("--seconds", type=float, default=1.0)
    two.add_argument("--frames", type=int, default=48)
    three = commands.add_parser("model")
    three.add_argument("--cards", type=int, default=100)
    three.add_argument("--captures", type=int, default=10_000)
    three.add_argument("--price", type=float, default=2.0, help="of a card's hour")
    three.add_argument("--step", type=float, default=Edit.step_seconds)
    three.add_argument("--update", type=float, default=Edit.update_seconds)
    given = parser.parse_args()
    if given.command == "measure":
        said: Any = measure(given.project, given.pairs)
    elif given.command == "overhead":
        said = overhead(given.count)
    elif given.command == "standin":
        said = standin(given.seconds, given.frames)
    else:
        edit = Edit(step_seconds=given.step, update_seconds=given.update)
        said = farm(edit, given.cards, given.captures, given.price)
        said["seconds of an edit, by workers (staleness as many)"] = {
            n: edit.seconds(n, n) for n in (0, 1, 2, 4, 8, 16)
        }
    print(json.dumps(said, indent=1))


if __name__ == "__main__":
    main()
