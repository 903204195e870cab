# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloading a model of the hub's, once somebody has seen what it weighs and on what terms it is given."""

from __future__ import annotations

import contextlib
import os
import queue
import time
from collections.abc import Iterator
from pathlib import Path

from engine import hub_worker as worker
from engine import protocol, typed
from engine.editors import registry
from engine.editors.model_folder import check_model_folder
from engine.errors import BadInput, Busy, cannot_write
from engine.files import locked, make_folder
from engine.hub import CLIP, HubModel, in_words, models_folder
from engine.progress import Job, Stage
from engine.results import Downloaded
from engine.workers import at_work

_SECONDS = 1e-7  # a byte takes, as a first guess
_MORE = 1.1  # times what was shown: worth a word
_RATE_OVER = 5.0  # seconds


def models() -> dict[str, HubModel]:
    """Everything that can be downloaded, by name."""
    return registry.hub_models() | {CLIP.name: CLIP}


def model_of(name: str) -> HubModel:
    """The model of that name. Raises BadInput."""
    known = models()
    if name not in known:
        raise BadInput(f"{name!r} is no model that can be downloaded; there are: {', '.join(known)}.", field="model")
    return known[name]


def download_model(request: protocol.DownloadModel, job: Job) -> Downloaded:
    """Download a model, or go on with it; a cancel takes effect at once, and what arrived is kept. Raises BadInput
    where what was agreed to is not what the model has."""
    model = model_of(request.model)
    if (request.licence, request.bytes) != (model.licence, model.bytes):
        raise BadInput(
            f"{model.label} is {in_words(model.bytes)} under the licence {model.licence}, which is not what was agreed "
            "to: look at its terms again.",
            field="licence",
        )
    final = model.folder
    if not final.is_dir():
        base = models_folder()
        try:
            make_folder(base)
        except OSError as error:
            raise cannot_write(base, error) from error
        with _alone(base, model):
            if not final.is_dir():
                _fetch(model, job)
                if (model.coming / "model_index.json").exists():
                    check_model_folder(model.coming)
                try:
                    make_folder(final.parent)
                    os.replace(model.coming, final)
                except OSError as error:
                    raise cannot_write(final, error) from error
    return Downloaded(model.name, str(final))


@contextlib.contextmanager
def _alone(base: Path, model: HubModel) -> Iterator[None]:
    """Be the only engine that downloads. Raises Busy."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(base.resolve(), f"downloading {model.label}"))
        except Busy as error:
            raise Busy(
                f"Another engine downloads into {base}: wait until it is done, or cancel it there.", field="model"
            ) from error
        yield


class _Rate:
    """Bytes a second, over the last seconds."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def at(self, done: int) -> float:
        now = time.monotonic()
        self._seen = [(when, was) for when, was in self._seen if now - when < _RATE_OVER] + [(now, done)]
        (when, was), (last, is_) = self._seen[0], self._seen[-1]
        return (is_ - was) / (last - when) if last > when else 0.0


def _fetch(model: HubModel, job: Job) -> None:
    """Have the worker bring all files into `model.coming`, telling how far it is."""
    rate, plan, stage = _Rate(), None, None
    with at_work(worker.__name__, worker.Order(model, str(model.coming))) as downloading:
        while True:
            job.check()
            try:
                line = downloading.next_line()
            except queue.Empty:
                continue
            if line is None:
                why = downloading.last_words()
                raise BadInput(f"Downloading {model.label} ended unexpectedly ({why}); try again.", field="model")
            message = typed.decode(line, worker.Plan | worker.Step | worker.Done | worker.Failed)
            if isinstance(message, worker.Plan):
                plan = job.plan(
                    Stage("download", f"Downloading {model.label}", max(1, message.bytes), _SECONDS, message.there)
                )
                stage = plan.begin("download")
                if message.bytes > _MORE * model.bytes:
                    said = f"{in_words(message.bytes)}, more than the {in_words(model.bytes)} that were shown"
                    job.log(f"{model.label} is {said}: cancel where that is too much; it can go on later.")
                job.report(plan, stage)
            elif isinstance(message, worker.Step) and plan is not None and stage is not None:
                plan.advance(message.done)
                speed = rate.at(message.done)
                said = f", {in_words(round(speed))}/s" if speed > 0 and not message.checking else ""
                stage.label = f"{'Checking' if message.checking else 'Downloading'} {model.label}{said}"
                job.report(plan, stage)
            elif isinstance(message, worker.Failed) and message.errno is not None:
                raise cannot_write(model.coming, OSError(message.errno, os.strerror(message.errno)))
            elif isinstance(message, worker.Failed):
                raise BadInput(message.sentence, field="model")
            else:
                return
