# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of three simulated nodes on this machine for tests, and who kills its workers."""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from engine.editors import registry
from engine.presets import PRESETS
from engine.workspace import Workspace

from .conftest import PRESET
from .toy_editor import KIND

ROOT = Path(__file__).parents[2]
SETUP = "tests.engine.cluster_setup.begin"
KILLS = int(os.environ.get("INSTRUCT_NERF_WORKER_KILLS", "50"))


@pytest.fixture(scope="module")
def pool():
    """Three nodes, and a pool of their workers."""
    from ray.cluster_utils import Cluster

    from engine.cluster.pool import Pool

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))))
        for patience in ("RAY_agent_register_timeout_ms", "RAY_worker_register_timeout_seconds"):
            patch.setenv(patience, "150000" if patience.endswith("ms") else "150")  # others compute as well
        cluster = Cluster()
        try:
            for _ in range(3):
                cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20, include_dashboard=False)
            with Pool(cluster.address, setup=SETUP) as pool:
                pool.cluster = cluster
                yield pool
        finally:
            cluster.shutdown()


@pytest.fixture(autouse=True)
def kinds(monkeypatch):
    monkeypatch.setattr(registry, "KINDS", [*registry.KINDS, KIND])
    monkeypatch.setitem(PRESETS, PRESET.name, PRESET)


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": KIND.pipeline}))
    return str(folder)


@pytest.fixture
def project(trained, tmp_path):
    def copy(name):
        shutil.copytree(trained, tmp_path / name)
        return tmp_path / name

    return copy


def workers():
    """The processes of Ray's workers that are this test's own."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.name().startswith("ray::") or any(part.startswith("ray::") for part in process.cmdline()[:1]):
                found.append(process)
        except psutil.Error:
            continue
    return found


class Killer:
    """Kills a busy worker of this test's own cluster now and then, while it is entered. However slow the machine is,
    something is done between two kills: after one it waits for a piece that is done, by whichever worker."""

    def __init__(self, pool, every=0.4, seed=0, most=10**6):
        self.pool, self.most = pool, most
        self.every, self.draw, self.kills = every, random.Random(seed), 0
        self._wait, self._over, self._done = pool.wait, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while self.kills < self.most and not self._over.wait(self.every * self.draw.random()):
            busy = [process for process in workers() if "do_piece" in " ".join(_words(process))]
            if busy:
                try:
                    self.draw.choice(busy).kill()
                    self.kills += 1
                except psutil.Error:
                    continue
                self._done.clear()
                while not self._done.wait(0.1) and not self._over.is_set():
                    pass

    def _waited(self, coming, check):
        made = self._wait(coming, check)
        self._done.set()
        return made

    def __enter__(self):
        self.pool.wait = self._waited
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
        del self.pool.wait


def _words(process):
    try:
        return [process.name(), *process.cmdline()]
    except psutil.Error:
        return []


def pictures(paths):
    return [Path(path).read_bytes() for path in paths]


def whole(project, made):
    """Everything that an edit left."""
    tensors = load_file(Workspace(project).checkpoint(made.id))
    return tensors | {name: np.frombuffer(Path(path).read_bytes(), np.uint8) for name, path in made.views.items()}


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
