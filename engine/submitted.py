# SPDX-License-Identifier: GPL-3.0-or-later
"""A job that was submitted to a cluster: the process that does it there, as a server that is asked for nothing but it
and lets it go at once. So what it tells, what it can be asked, and who may write in its project are those of every
detached job. Run by Ray: `python -m engine.submitted`, the job's folder in the environment."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from engine import protocol, wire
from engine.cli_cluster import pool_of
from engine.detached import Answer, Order, read_order
from engine.errors import BadInput
from engine.files import read_record
from engine.server import Server
from engine.warm import import_torch

FOLDER = "INSTRUCT_NERF_SUBMITTED"
_JOB, _DETACH = 1, 2  # ids of the two requests


def do(folder: Path, order: Order) -> bool:
    """Do an ordered job to its end; whether it ended well, or was cancelled. Raises BadInput where it cannot be
    begun."""
    answers: dict[object, dict] = {}
    let_go = threading.Event()

    def heard(line: bytes) -> None:
        said = msgspec.json.decode(line)
        answers[said.get("id")] = said

    def warm_up() -> None:
        let_go.wait()  # what the job tells is written down from its beginning
        import_torch()

    def pieces(device: str | None) -> contextlib.AbstractContextManager[Any]:
        return pool_of("auto", order.workers, device, order.cpus)

    server = Server(heard, warm_up, ordered=folder.name, pieces=pieces)
    signal.signal(signal.SIGTERM, lambda *_: server.cancel())  # by which Ray ends it: what was made is saved
    server.receive(_request(_JOB, order.method, {**order.params, "workspace": str(folder.parents[1])}))
    if _JOB not in answers:
        server.receive(_request(_DETACH, "job/detach", {"job": _JOB}))
    begun = "result" in answers.get(_DETACH, {})
    if not begun:
        server.cancel()
    let_go.set()
    server.close()
    if not begun:
        raise BadInput(str((answers.get(_DETACH) or answers[_JOB])["error"]["message"]))
    answer = read_record(folder / "answer.json", Answer)
    return answer is not None and (answer.error is None or answer.error.get("code") == protocol.CANCELLED)


def _request(ident: int, method: str, params: dict) -> bytes:
    return wire.encode({"jsonrpc": "2.0", "id": ident, "method": method, "params": params})


def main() -> None:
    """Do the job of the environment's folder; exit status 1 where it failed, 2 where it could not be begun."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        folder = Path(os.environ[FOLDER])
        order = read_order(folder)
        if order is None:
            raise BadInput(f"There is no job to be begun in {folder}; the cluster's head must see the project there.")
        well = do(folder, order)
    except BadInput as error:
        print(error.message, file=sys.stderr, flush=True)
        os._exit(2)
    sys.stderr.flush()
    os._exit(0 if well else 1)  # threads that load models must not keep the process


if __name__ == "__main__":
    main()
