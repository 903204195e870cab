# SPDX-License-Identifier: GPL-3.0-or-later
"""Many edits: captures × instructions, each scene trained and each edit made by some worker, in a copy of its project.
A batch that was stopped goes on where it was: what is done is in the projects, and beside the batch's file lies which
edit is whose."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from engine import protocol, typed
from engine.cluster.copies import CopiedJob, bring_back, done_in_copy, needed
from engine.cluster.worker import Word
from engine.devices import choose_device
from engine.errors import BadInput
from engine.files import read_record, write_record
from engine.jobs.capture import load_opened, open_into_workspace, write_images
from engine.jobs.edit import begin_edit, resume_edit
from engine.jobs.scene import is_trained, scene_preset, train_scene
from engine.pieces import Place
from engine.progress import Job
from engine.workspace import Workspace

if TYPE_CHECKING:
    from engine.cluster.pool import Pool

MOST = 100_000  # edits of a batch


class BatchCapture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A project's folder and, where it is not opened yet, its capture. Paths are seen from the batch's file."""

    workspace: str
    source: str | None = None


class BatchEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is told to the editor, as in `edit/run`."""

    instruction: str
    editor: str | None = None
    options: dict[str, protocol.OptionValue] = {}
    seed: int = 0
    views: list[str] | None = None
    steps: int | None = None


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A batch's file: every one of its edits is made of every capture."""

    captures: Annotated[list[BatchCapture], Meta(min_length=1)]
    edits: Annotated[list[BatchEdit], Meta(min_length=1)]
    preset: str | None = None
    even_on_cpu: bool = False


class _Begun(msgspec.Struct):
    """Beside the batch's file: which edit of a project is which of the batch's."""

    edits: dict[str, str] = {}  # a row's key → the edit's id


@dataclass
class Row:
    """One edit of one capture, and how far it is."""

    capture: BatchCapture
    edit: BatchEdit
    workspace: Workspace
    key: str
    id: str = ""
    state: str = "waiting"  # or what is being done, "done", or a sentence that says what is wrong
    failed: bool = False


@dataclass
class _Order:
    """What a worker is at: the scene (no row) or an edit of a project."""

    workspace: Workspace
    row: Row | None
    key: str
    more: list[Row] = field(default_factory=list)  # whose scene it is


def read_batch(path: Path) -> Batch:
    """Raises BadInput, naming the file, where it is no batch."""
    try:
        batch = typed.decode(path.read_bytes(), Batch)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}.", file=path) from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} is no batch ({error}); docs/scale.md says what one holds.", file=path) from None
    if len(batch.captures) * len(batch.edits) > MOST:
        raise BadInput(f"{path} asks for more than {MOST:,} edits; divide it.", file=path)
    return batch


def run_batch(
    path: Path, pool: Pool | None, job: Job, show: Callable[[list[Row]], None] = lambda rows: None
) -> list[Row]:
    """Make every edit of a batch, by the pool's workers or, without one, here one after the other; its rows. What is
    wrong with one row stops no other. ``show`` is called whenever something changed. Raises BadInput where the file is
    no batch, Cancelled."""
    batch = read_batch(path)
    run = _Run(path, batch, pool, job, show)
    with contextlib.ExitStack() as held:
        run.open(held)
        run.work()
    return run.rows


class _Run:
    def __init__(self, path: Path, batch: Batch, pool: Pool | None, job: Job, show: Callable[[list[Row]], None]):
        self.batch, self.pool, self.job = batch, pool, job
        self._kept = path.with_name(path.name + ".begun.json")
        self._begun = read_record(self._kept, _Begun) or _Begun()
        self._show = show
        self.rows = [
            Row(capture, edit, Workspace(path.parent.absolute() / capture.workspace), _key(capture, edit))
            for capture in batch.captures
            for edit in batch.edits
        ]
        self._folder = path.parent.absolute()
        self.device = pool.device if pool is not None else choose_device(None)

    def _of(self, workspace: Workspace) -> list[Row]:
        return [row for row in self.rows if row.workspace.folder == workspace.folder and not row.failed]

    def _told(self, rows: list[Row], state: str, failed: bool = False) -> None:
        for row in rows:
            row.state, row.failed = state, failed
        self._show(self.rows)

    @contextlib.contextmanager
    def _may_fail(self, rows: list[Row]) -> Iterator[None]:
        try:
            yield
        except BadInput as error:
            self._told(rows, error.message, failed=True)

    def open(self, held: contextlib.ExitStack) -> None:
        """Open the captures that are not, with their pictures; and keep others out of the projects."""
        for capture in self.batch.captures:
            workspace = Workspace(self._folder / capture.workspace)
            rows = self._of(workspace)
            with self._may_fail(rows):
                self._told(rows, "opening")
                if not workspace.capture_file.exists():
                    if capture.source is None:
                        raise BadInput(f"No capture was opened in {workspace.folder}; name its source.")
                    source = str(self._folder / capture.source)
                    request = protocol.OpenCapture(str(workspace.folder), source, self.batch.preset)
                    open_into_workspace(request, self.job)
                held.enter_context(workspace.writing("making a batch of edits"))
                write_images(protocol.WriteImages(str(workspace.folder)), self.job)
                self._told(rows, "waiting")

    def work(self) -> None:
        """Train the scenes that are not, then make the edits."""
        orders = []
        for folder in dict.fromkeys(row.workspace.folder for row in self.rows):
            rows = self._of(Workspace(folder))
            if not rows:
                continue
            workspace = rows[0].workspace
            with self._may_fail(rows):
                load_opened(workspace)
                if is_trained(workspace, scene_preset(workspace, self.batch.preset, self.device)):
                    orders += self._edits(rows)
                else:
                    orders.append(_Order(workspace, None, f"scene {folder}", rows))
        if self.pool is None:
            self._here(orders)
        else:
            self._there(orders)

    def _edits(self, rows: list[Row]) -> list[_Order]:
        """The edits that are to be made of a project whose scene is trained; each has its record from then on."""
        orders = []
        for row in rows:
            with self._may_fail([row]):
                known = {record.id: record for record in row.workspace.edits()}
                row.id = self._begun.edits.get(row.key, "")
                if row.id not in known:
                    said = msgspec.structs.asdict(row.edit)
                    request = protocol.RunEdit(
                        workspace=str(row.workspace.folder), preset=self.batch.preset, device=self.device,
                        even_on_cpu=self.batch.even_on_cpu, **said,
                    )  # fmt: skip
                    row.id = begin_edit(request, self.job).id
                    self._begun.edits[row.key] = row.id
                    write_record(self._kept, self._begun)
                elif known[row.id].finished:
                    self._told([row], "done")
                    continue
                orders.append(_Order(row.workspace, row, row.key))
        return orders

    def _request(self, order: _Order) -> tuple[str, dict[str, Any]]:
        """The request that an order is, without its workspace and device."""
        if order.row is None:
            return "scene/train", {"preset": self.batch.preset, "even_on_cpu": self.batch.even_on_cpu}
        return "edit/resume", {"edit": order.row.id, "even_on_cpu": self.batch.even_on_cpu}

    def _done(self, order: _Order) -> list[_Order]:
        """An order was carried out; those that follow."""
        if order.row is None:
            return self._edits(order.more)
        self._told([order.row], "done")
        return []

    def _here(self, orders: list[_Order]) -> None:
        while orders:
            order = orders.pop(0)
            rows = order.more if order.row is None else [order.row]
            method, params = self._request(order)
            with self._may_fail(rows):
                self._told(rows, "training" if order.row is None else "editing")
                given = {**params, "workspace": str(order.workspace.folder), "device": self.device}
                request = typed.convert(given, protocol.REQUESTS[method])
                if order.row is None:
                    train_scene(request, self.job)
                else:
                    resume_edit(request, self.job)
                orders += self._done(order)

    def _there(self, orders: list[_Order]) -> None:
        pool = self.pool
        assert pool is not None
        if not orders:
            return
        board = pool.board()
        under_way: dict[Any, _Order] = {}
        try:
            while orders or under_way:
                for order in orders:
                    under_way[self._begin(pool, board, order)] = order
                orders = []
                for coming in pool.ready(list(under_way), 0.2):
                    order = under_way.pop(coming)
                    rows = order.more if order.row is None else [order.row]
                    with self._may_fail(rows):
                        bring_back(order.workspace, pool.wait(coming, self.job.check))
                        orders += self._done(order)
                self.job.check()
                self._hear(pool.told(board), under_way)
        finally:
            pool.drop(under_way)
            pool.told(board)  # it is there: Ray's head dies where who began an actor leaves before that

    def _begin(self, pool: Pool, board: Any, order: _Order) -> Any:
        folder = order.workspace.folder
        files = needed(order.workspace, None if order.row is None else order.row.id)
        names = [path.relative_to(folder).as_posix() for path in files]
        method, params = self._request(order)
        place = Place(pool.device, self.job.keep, self.job.check, files)
        return pool.begin(done_in_copy, names, CopiedJob(method, params), place, Word(board, order.key))

    def _hear(self, told: dict[str, str], under_way: dict[Any, _Order]) -> None:
        for order in under_way.values():
            rows = order.more if order.row is None else [order.row]
            said = told.get(order.key, "waiting for a worker")
            if any(row.state != said for row in rows):
                self._told(rows, said)


def _key(capture: BatchCapture, edit: BatchEdit) -> str:
    """What tells one row of a batch from another, also when its file was changed and it is run again."""
    return hashlib.sha256(msgspec.json.encode([capture.workspace, edit])).hexdigest()[:20]
