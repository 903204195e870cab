# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster that does a job's pieces. Scheduling, retries and moving what is needed are Ray's."""

from __future__ import annotations

import hashlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from engine.cluster.editor import FarEditor
from engine.cluster.nodes import check_nodes, code_of_engine, this_node
from engine.cluster.worker import TELL_EVERY, Failed, SentFile, Word, describe, do_piece
from engine.errors import BadInput, cannot_read
from engine.files import open_file
from engine.pieces import Hear, Piece, Place, Places, deaf, placed

RETRIES = 50  # of a piece whose worker died
LOOK = 0.05  # seconds between two looks at whether to stop
ANSWERS = 120.0  # seconds that a node has to say what it is: it imports PyTorch meanwhile
OBJECT_STORE = 200 * 2**20  # bytes, of a cluster of this machine alone
LARGEST_FILE = 2**33  # bytes

_ADDRESS = re.compile(r"IP: ([\w.:]+)")


class Pool:
    """The pieces of jobs, done by a cluster (`engine.pieces.Pieces`). Close it."""

    def __init__(
        self,
        address: str | None = None,
        device: str = "cpu",
        cpus: float = 1.0,
        workers: int | None = None,
        setup: str | None = None,
    ):
        """``address``: of a cluster that runs, as Ray has it; none: this machine alone. ``device``: what pieces compute
        on. ``cpus``: that each takes. ``workers``: at most so many pieces at once; None: as many as there is room for.
        ``setup``: the full name of a function that each worker calls first. Raises BadInput."""
        self.device, self._code = device, code_of_engine()
        self._own = not ray.is_initialized()
        threads = str(max(1, int(cpus)))
        variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), threads)
        environment: dict[str, Any] = {"env_vars": variables}
        if setup is not None:
            environment["worker_process_setup_hook"] = setup
        if self._own:
            local = {} if address else {"object_store_memory": OBJECT_STORE}
            try:
                ray.init(
                    address=address or "local",  # and not whatever cluster runs here
                    include_dashboard=None if address else False, log_to_driver=False,
                    logging_level="error", configure_logging=False, runtime_env=environment, **local,
                )  # fmt: skip
            except (RayError, RuntimeError, ConnectionError, OSError, ValueError) as error:
                reason = str(error).strip().splitlines()[0][:300]
                raise BadInput(f"The cluster {address or 'of this machine'} cannot be used: {reason}", field="cluster"
                               ) from None  # fmt: skip
        self._card = device.startswith("cuda")
        options = {"num_cpus": cpus, "num_gpus": 1 if self._card else 0, "max_retries": RETRIES}
        self._do = ray.remote(**options)(do_piece)
        self._sent: dict[tuple[str, int, int], tuple[SentFile, ray.ObjectRef]] = {}
        try:
            self._check_nodes()
            self.workers = min(workers or 10**6, self._room(cpus))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster; one that this began ends."""
        self._sent.clear()
        if self._own:
            ray.shutdown()

    def _check_nodes(self) -> None:
        alive = [node for node in ray.nodes() if node["Alive"]]
        asked = []
        for node in alive:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            cards = int(node["Resources"].get("GPU", 0))
            ask = ray.remote(num_cpus=0, max_retries=3, scheduling_strategy=there)(describe)
            asked.append((node["NodeManagerHostname"], ask.remote(cards)))
        told = []
        for name, answer in asked:
            try:
                told.append(ray.get(answer, timeout=ANSWERS))
            except GetTimeoutError:
                raise BadInput(f"The node {name} does not answer; see “ray status”.", field="cluster") from None
            except (RayError, ImportError) as error:
                why = str(getattr(error, "cause", error)).strip().splitlines()[-1][:200]
                raise BadInput(f"The node {name} cannot run the engine: {why}.", field="cluster") from None
        check_nodes(told, this_node(), self._card)

    def _room(self, cpus: float) -> int:
        there = ray.cluster_resources()
        room = there.get("GPU", 0) if self._card else there.get("CPU", 0) / cpus
        if room < 1:
            raise BadInput(
                f"No node of the cluster has {'a card' if self._card else f'{cpus:g} CPUs'} for a worker.",
                field="cluster",
            )
        return int(room)

    # pieces --------------------------------------------------------------------------------------------------------

    def map(self, piece: Piece, shared: Any, items: Iterable[Any], place: Place) -> Iterator[Any]:
        """What ``piece`` makes of each item, in their order; as many at once as there are workers, and as many more
        waiting for one. Raises BadInput, naming the node, where one cannot be done."""
        common = ray.put(shared)
        waiting: deque[ray.ObjectRef] = deque()
        try:
            for item in items:
                waiting.append(self.begin(piece, common, item, place))
                if len(waiting) >= 2 * self.workers:
                    yield self.wait(waiting.popleft(), place.check)
            while waiting:
                yield self.wait(waiting.popleft(), place.check)
        finally:
            self.drop(waiting)  # after an error, or where nobody asks for more

    def as_made(
        self, piece: Piece, shared: Any, items: Iterable[Any], place: Places, hear: Hear = deaf
    ) -> Iterator[tuple[int, Any]]:
        """As `map`, but each as soon as it is made, with its item's number; ``hear`` gets the number of a piece and
        what it tells. ``place`` may be a function of the item."""
        common, board, still = ray.put(shared), self.board(), enumerate(items)
        waiting: dict[ray.ObjectRef, tuple[int, Callable[[], None]]] = {}
        asked = time.monotonic()
        try:
            while True:
                for number, item in islice(still, 2 * self.workers - len(waiting)):
                    own = placed(place, item)
                    waiting[self.begin(piece, common, item, own, Word(board, number))] = number, own.check
                if not waiting:
                    return
                for coming in self.ready(list(waiting)):
                    number, check = waiting.pop(coming)
                    yield number, self.wait(coming, check)
                for _, check in list(waiting.values())[:1]:
                    check()
                if time.monotonic() - asked > TELL_EVERY:
                    told, asked = self.told(board), time.monotonic()
                    for number, _ in waiting.values():
                        if number in told:
                            hear(number, told[number])
        finally:
            self.drop(waiting)
            self.told(board)  # it is there: Ray's head dies where who began an actor leaves before that

    def begin(self, piece: Piece, shared: Any, item: Any, place: Place, word: Word | None = None) -> ray.ObjectRef:
        """Have a piece done; ``shared``, and each of the place's objects, may be what `put` returned. ``word``: where
        what it tells goes."""
        files = [self._file(path) for path in place.files]
        contents = [content for _, content in files]
        return self._do.remote(
            self._code, piece, shared, item, self.device, [file for file, _ in files], word, *contents, *place.objects
        )

    def put(self, value: Any) -> ray.ObjectRef:
        """What is sent once, and read by many pieces."""
        return ray.put(value)

    def wait(self, coming: ray.ObjectRef, check: Callable[[], None]) -> Any:
        """What a piece made; ``check`` is called meanwhile and may raise Cancelled. Raises BadInput."""
        try:
            while not ray.wait([coming], timeout=LOOK)[0]:
                check()
            made = ray.get(coming)
        except OutOfMemoryError as error:
            raise BadInput(
                f"The node {_node_of(error)} has too little memory for this: choose a smaller preset or editor, or "
                "take it out of the cluster.",
                field="cluster",
            ) from None
        except RayTaskError as error:
            raise BadInput(f"A worker failed: {str(error.cause)[:300]}.", field="cluster") from error
        except RayError as error:
            raise BadInput(
                f"The workers of {_node_of(error)} ended again and again: {str(error).splitlines()[0][:200]}",
                field="cluster",
            ) from error
        except BaseException:
            ray.cancel(coming, force=True)
            raise
        if isinstance(made, Failed):
            raise BadInput(f"The node {made.node}: {made.message}.", file=made.file, field=made.field or "cluster")
        return made

    def ready(self, coming: Sequence[Any], seconds: float = LOOK) -> list[Any]:
        """Those that can be waited for without waiting, after so many ``seconds`` at most."""
        return ray.wait(list(coming), num_returns=len(coming), timeout=seconds)[0] if coming else []

    def drop(self, coming: Iterable[Any]) -> None:
        """Have what is under way end."""
        for left in coming:
            ray.cancel(left, force=True)

    def board(self) -> Any:
        """Where pieces tell how far they are, by a key each: ``tell.remote(key, what)``, and ``all.remote()``."""
        return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=1)(_Board).remote()

    def told(self, board: Any) -> dict[Any, Any]:
        """What is on a board; nothing while it does not answer."""
        try:
            return ray.get(board.all.remote(), timeout=1.0)
        except (GetTimeoutError, RayError):
            return {}

    def _file(self, path: Path) -> tuple[SentFile, ray.ObjectRef]:
        """A file as it is sent: once, as long as it stays as it is."""
        try:
            state = path.stat()
            key = str(path), state.st_size, state.st_mtime_ns
            if key not in self._sent:
                with open_file(path, LARGEST_FILE) as file:
                    content = np.frombuffer(file.read(), np.uint8)
        except OSError as error:
            raise cannot_read(path, error) from error
        if key not in self._sent:
            for old in [other for other in self._sent if other[0] == key[0]]:
                del self._sent[old]
            digest = hashlib.sha256(content).hexdigest()
            told = SentFile(digest, path.suffix, state.st_size)
            self._sent[key] = told, ray.put(content)
        return self._sent[key]

    def editor(self, name: str, device: str, check: Callable[[], None]) -> Any:
        """An editor whose edits are made by the workers."""
        return FarEditor(self, name, check)


class _Board:
    def __init__(self) -> None:
        self._told: dict[Any, Any] = {}

    def tell(self, key: Any, what: Any) -> None:
        self._told[key] = what

    def all(self) -> dict[Any, Any]:
        return dict(self._told)


def _node_of(error: BaseException) -> str:
    found = _ADDRESS.search(str(error))
    return found[1] if found else "the cluster"
