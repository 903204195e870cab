# SPDX-License-Identifier: GPL-3.0-or-later
"""One thing is loaded at a time, in the whole process; what was loaded stays for the next job."""

import gc
import subprocess
import sys
import threading
import time
import types
import weakref
from pathlib import Path

import pytest

from engine.errors import Cancelled
from engine.memory import empty_caches, least_free_share
from engine.progress import Job
from engine.runtime import SHORT, Runtime

ROOT = Path(__file__).parents[2]


class Slow:
    """A load that takes as long as the test wants."""

    def __init__(self, value="model"):
        self.value, self.begun, self.go_on, self.count = value, threading.Event(), threading.Event(), 0

    def __call__(self):
        self.count += 1
        self.begun.set()
        assert self.go_on.wait(30)
        return self.value


def abandoned(job_of, slow, **job):
    """A job that was cancelled while ``slow`` loads, as far as the loading thread."""
    stop = threading.Event()
    failed = []

    def run():
        try:
            job_of(Job(cancelled=stop.is_set, **job))
        except Cancelled as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert slow.begun.wait(5)
    stop.set()
    thread.join(2)
    assert failed and not thread.is_alive()


def test_memory_is_given_back_while_torch_is_being_imported(monkeypatch):
    torch = types.ModuleType("torch")
    torch.backends, torch.mps, torch.cuda = (types.ModuleType(name) for name in ("backends", "mps", "cuda"))
    torch.backends.mps = types.ModuleType("mps")  # each of them as empty as it begins
    monkeypatch.setitem(sys.modules, "torch", torch)
    empty_caches()
    assert 0 < least_free_share() <= 1


def holds(runtime, kind, key):
    """Whether that is kept now."""
    return runtime._kept.get(kind, (None, None))[0] == key


def test_the_next_job_takes_what_a_cancelled_one_began_to_load():
    runtime, slow = Runtime(), Slow()
    abandoned(lambda job: job.keep("editor", "small", slow), slow, runtime=runtime)
    threading.Timer(0.2, slow.go_on.set).start()
    assert Job(runtime=runtime).keep("editor", "small", slow) == "model"
    assert slow.count == 1 and holds(runtime, "editor", "small")
    assert Job(runtime=runtime).keep("editor", "small", slow) == "model" and slow.count == 1


def test_another_load_waits_for_the_abandoned_one_and_can_be_cancelled_meanwhile():
    runtime, slow, other = Runtime(), Slow(), Slow("other")
    other.go_on.set()
    abandoned(lambda job: job.keep("editor", "small", slow), slow, runtime=runtime)
    checks = iter([False] * 4 + [True])
    with pytest.raises(Cancelled):
        Job(runtime=runtime, cancelled=lambda: next(checks)).keep("editor", "large", other)
    with pytest.raises(Cancelled):
        runtime.settle(Job(cancelled=lambda: True).check)
    assert not other.begun.is_set()
    slow.go_on.set()
    assert Job(runtime=runtime).wait_for(lambda: 7) == 7
    assert not other.begun.is_set()  # nobody wants it any more
    assert Job(runtime=runtime).keep("editor", "large", other) == "other"
    assert not holds(runtime, "editor", "small")


def test_two_loads_never_overlap_whoever_began_them():
    running, most, lock = 0, 0, threading.Lock()

    def load():
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    jobs = [Job(), Job(), Job(runtime=Runtime())]
    threads = [
        threading.Thread(target=job.keep, args=("editor", n, load)) if n % 2 else
        threading.Thread(target=job.wait_for, args=(load,)) for n, job in enumerate(jobs * 4)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Runtime().settle()
    assert most == 1


def test_what_is_kept_goes_when_another_comes_or_when_it_is_released():
    class Model:
        pass

    runtime = Runtime()
    first = weakref.ref(runtime.keep("scene", 1, Model))
    seen = []

    def second():
        gc.collect()
        seen.append(first())  # the first has gone before the second comes
        return Model()

    kept = weakref.ref(runtime.keep("scene", 2, second))
    runtime.keep("editor", 1, Model)
    assert seen == [None] and kept() is not None
    assert runtime.release("scene") == ["scene"] and holds(runtime, "editor", 1)
    gc.collect()
    assert kept() is None
    assert runtime.release() == ["editor"] and runtime.release() == []


def test_what_is_released_while_it_loads_is_not_kept():
    runtime, slow = Runtime(), Slow()
    abandoned(lambda job: job.keep("editor", "small", slow), slow, runtime=runtime)
    assert runtime.release() == ["editor"]
    slow.go_on.set()
    runtime.settle()
    assert not holds(runtime, "editor", "small")


def test_a_load_that_fails_is_tried_again():
    runtime = Runtime()
    answers = iter([OSError("no network"), "model"])

    def load():
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    with pytest.raises(OSError, match="no network"):
        runtime.keep("editor", "small", load)
    assert runtime.keep("editor", "small", load) == "model"


def test_short_memory_releases_what_is_kept():
    runtime = Runtime()
    runtime.keep("editor", 1, object)
    runtime.make_room(lambda: SHORT + 0.01)
    assert holds(runtime, "editor", 1)
    runtime.make_room(lambda: SHORT - 0.01)
    assert not holds(runtime, "editor", 1)
    assert 0 < least_free_share() < 1


MEMORY = """
import json, queue, sys, threading, time
import numpy as np
import psutil
from engine.process import set_up_process
set_up_process()
from engine.jobs import capture
from engine.server import Server

def run(request, job):
    arrays = [np.ones(2**17) for _ in range(300)]  # 300 MiB in pieces that the C library keeps
    arrays[0].fill(2.0)
    job.log("filled")
    while sys.argv[1] == "cancelled":
        job.check()
        time.sleep(0.01)
    raise MemoryError

capture.write_images = run
lines = queue.Queue()
server = Server(lambda line: lines.put(json.loads(line)), warm_up=lambda: None)
held = []
for ident in range(3):
    ask = {"id": ident, "method": "capture/images", "params": {"workspace": "w"}}
    server.receive(json.dumps(ask).encode())
    assert lines.get(timeout=10)["method"] == "job/log"
    server.receive(json.dumps({"method": "job/cancel", "params": {"job": ident}}).encode())
    assert "error" in lines.get(timeout=10)
    held.append(psutil.Process().memory_info().rss >> 20)
before = held[0]
print(json.dumps(held))
"""


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_a_job_that_ended_gives_its_memory_back(how):
    done = subprocess.run([sys.executable, "-c", MEMORY, how], cwd=ROOT, capture_output=True, check=True, timeout=60)
    held = [int(part) for part in done.stdout.strip(b"[]\n").split(b",")]
    assert max(held) < 250, held  # of the whole process, MiB
