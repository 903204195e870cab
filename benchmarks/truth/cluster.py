# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark over a cluster: each row of a table is a piece, and so is the training of each unedited scene. Workers
are sent the rendered scenes and checkpoints, and write nothing."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.truth import worker as here
from benchmarks.truth.data import TruthScene
from benchmarks.truth.methods import SIZES
from benchmarks.truth.run import unedited_name
from benchmarks.truth.worker import Worker
from engine.cli_cluster import pool_of
from engine.errors import BadInput
from engine.files import write_bytes
from engine.pieces import Place
from engine.progress import Job


@dataclass(frozen=True)
class Run:
    """What all pieces share: the arguments of a ``Worker``, and the benchmark's code."""

    editor: str | None
    size: str
    methods: tuple[str, ...]
    device: str
    code: str


class SentWorker(Worker):
    """A worker whose scene and checkpoint were sent."""

    def begin(self, scene: TruthScene, folder: Path) -> SentWorker:
        """To work on this scene, with checkpoints in that folder."""
        self._scene, self.harness.folder = scene, folder
        return self

    def scene(self, name: str) -> TruthScene:
        """The scene that was sent."""
        return self._scene


def worker_at(run: Run, place: Place) -> SentWorker:
    """This process's worker. Raises BadInput where the benchmark is another one here."""
    if run.code != code_of_benchmark():
        raise BadInput("it has another benchmark than who asks: install the same there")
    return place.keep("benchmark", run, lambda: SentWorker(run.editor, run.size, run.methods, run.device))


def trained(run: Run, order: tuple[str, int], place: Place) -> bytes:
    """A piece: the checkpoint of an unedited scene, by name and seed; the place has the scene."""
    with tempfile.TemporaryDirectory() as folder:
        worker = worker_at(run, place).begin(place.objects[0], Path(folder))
        return worker.harness.unedited(worker.scene(order[0]), order[1]).read_bytes()


def row(run: Run, order: tuple, place: Place) -> tuple:
    """A piece: what ``Worker.run`` makes of an order; the place has the scene and its unedited checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        worker = worker_at(run, place).begin(place.objects[0], Path(folder))
        sent = Path(folder) / unedited_name(worker.size, place.objects[0], order[2])
        sent.write_bytes(place.files[0].read_bytes())
        return worker.run(*order)


@functools.cache
def code_of_benchmark() -> str:
    """A digest of the benchmark's code."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


class Cluster:
    """The workers of a cluster, as `benchmarks.truth.pool.Processes` are those of this machine."""

    def __init__(
        self, address: str, workers: int | None, editor: str | None, size: str, methods: Sequence[str], device: str
    ):
        self._run, self._job = Run(editor, size, tuple(methods), device, code_of_benchmark()), Job()
        self._asked = address, workers, device
        self._held = contextlib.ExitStack()
        self._scenes: dict[str, tuple[TruthScene, Any]] = {}  # and as the pool has them

    def __enter__(self) -> Cluster:
        self._pool = self._held.enter_context(pool_of(*self._asked))
        return self

    def __exit__(self, *_) -> None:
        self._held.close()

    def train(self, scenes: Iterable[tuple[str, int]]) -> None:
        """Train unedited scenes, by name and seed, where that is not done."""
        missing = [order for order in scenes if not self._checkpoint(*order).exists()]
        for number, made in self._made(trained, missing, lambda order: self._place(order[0])):
            write_bytes(self._checkpoint(*missing[number]), made)

    def run(self, orders: Iterable[tuple]) -> Iterator[tuple[tuple, tuple]]:
        """Each order, arguments of ``Worker.run``, with what came of it, as soon as it is there."""
        orders = list(orders)
        of = {order[:3]: self._place(order[0], self._checkpoint(order[0], order[2])) for order in orders}
        for number, made in self._made(row, orders, lambda order: of[order[:3]]):
            yield orders[number], made

    def _made(self, piece: Any, orders: Sequence, place: Callable[[Any], Place]) -> Iterator[tuple[int, Any]]:
        return self._pool.as_made(piece, self._run, orders, place)

    def _place(self, scene: str, *files: Path) -> Place:
        return Place(self._run.device, self._job.keep, self._job.check, files, [self._scene(scene)[1]])

    def _scene(self, name: str) -> tuple[TruthScene, Any]:
        if name not in self._scenes:
            size = SIZES[self._run.size]
            scene = here.thinned(here.load(name, size.pixels), size.views)
            self._scenes[name] = scene, self._pool.put(scene)
        return self._scenes[name]

    def _checkpoint(self, scene: str, seed: int) -> Path:
        return here.TRAINED / unedited_name(SIZES[self._run.size], self._scene(scene)[0], seed)
