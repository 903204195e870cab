# SPDX-License-Identifier: GPL-3.0-or-later
"""A cancel while a model loads, with accelerate's own way of loading, which patches torch.nn.Module for the whole
process: nothing that is built later is empty."""

import json
import queue
import threading
import time

import pytest
import torch
from accelerate import init_empty_weights
from torch import nn

from engine import warm
from engine.jobs import output, trying
from engine.server import Server


@pytest.fixture
def own_module():
    """nn.Module as it is; put back whatever a test leaves behind."""
    register = nn.Module.register_parameter
    yield register
    nn.Module.register_parameter = register


class Slow:
    """Loads as diffusers does: an empty model first, for as long as the test wants."""

    def __init__(self):
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self):
        with init_empty_weights():
            assert nn.Linear(2, 2).weight.is_meta
            self.begun.set()
            assert self.go_on.wait(30)
        return nn.Linear(2, 2)


def test_the_fault_that_is_avoided(own_module):
    """Two overlapping loads leave accelerate's patch behind; if they no longer do, engine/runtime.py is not needed."""
    first, second = Slow(), Slow()
    threads = [threading.Thread(target=load) for load in (first, second)]
    for thread, load in zip(threads, (first, second), strict=True):
        thread.start()
        assert load.begun.wait(5)
    for thread, load in zip(threads, (first, second), strict=True):
        load.go_on.set()
        thread.join()
    assert nn.Linear(2, 2).weight.is_meta


def test_a_cancel_while_a_model_loads_harms_no_later_job(own_module, monkeypatch):
    lines = queue.Queue()
    server = Server(lambda line: lines.put(json.loads(line)), warm_up=lambda: None)
    loads = [Slow(), Slow()]
    built = []

    def try_edit(request, job):
        return {"meta": job.keep("editor", request.instruction, loads[int(request.seed)]).weight.is_meta}

    def make_mesh(request, job):  # builds a module on the jobs' thread
        built.append(nn.Linear(2, 2))
        return {"meta": built[-1].weight.is_meta}

    monkeypatch.setattr(trying, "try_edit", try_edit)
    monkeypatch.setattr(output, "make_mesh", make_mesh)

    def ask(ident, method, **params):
        server.receive(json.dumps({"id": ident, "method": method, "params": params}).encode())

    def answer(ident):
        while (message := lines.get(timeout=10)).get("id") != ident:
            pass
        return message

    def try_once(ident, which):
        ask(ident, "edit/try", workspace="w", view="v", instruction="make it night", seed=which)

    try_once(1, 0)
    assert loads[0].begun.wait(5)
    began = time.monotonic()
    ask(2, "job/cancel", job=1)
    assert answer(1)["error"]["code"] == -32800 and time.monotonic() - began < 1

    ask(3, "output/mesh", workspace="w")  # waits for the abandoned load, and can be cancelled
    time.sleep(0.2)
    assert not built
    ask(4, "job/cancel", job=3)
    assert answer(3)["error"]["code"] == -32800
    ask(5, "output/mesh", workspace="w")
    try_once(6, 1)
    assert answer(6)["error"]["code"] == -32001  # one job at a time, waiting or not
    assert not built
    loads[0].go_on.set()
    assert answer(5)["result"] == {"meta": False}

    try_once(7, 1)  # takes what the first began to load
    assert answer(7)["result"] == {"meta": False} and not loads[1].begun.is_set()
    assert nn.Module.register_parameter is own_module and torch.nn.Linear(1, 1).weight.device.type == "cpu"
    server.close()


@pytest.mark.parametrize(("device", "times"), [("cpu", 1), ("cuda:0", 0), ("mps", 0)])
def test_kernels_of_the_cpu_are_compiled_at_the_start_only_where_it_computes(monkeypatch, device, times):
    compiled: list[None] = []
    monkeypatch.setattr("engine.devices.choose_device", lambda name: device)
    monkeypatch.setattr("engine.scenes.nerfacto.compiled.compile_kernels", lambda: compiled.append(None))
    warm.import_torch()
    assert len(compiled) == times
