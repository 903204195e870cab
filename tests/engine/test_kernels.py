# SPDX-License-Identifier: GPL-3.0-or-later
"""Warp's kernels are taken on a GPU where they work, and nowhere else."""

from __future__ import annotations

import sys

import pytest
import torch

from engine import check
from engine.scenes.nerfacto import kernels

GPU = torch.device("cuda:0")


@pytest.fixture(autouse=True)
def forgotten():
    kernels.why_not.cache_clear()
    yield
    kernels.why_not.cache_clear()


def test_on_a_cpu_and_a_mac_they_are_not_even_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "warp", None)
    monkeypatch.setattr(kernels, "why_not", lambda device: pytest.fail(f"{device} was tried"))
    assert not kernels.usable(torch.device("cpu")) and not kernels.usable(torch.device("mps"))


def test_without_the_package_pytorch_computes(monkeypatch):
    monkeypatch.setitem(sys.modules, "warp", None)  # as if it were not installed
    assert not kernels.usable(GPU)
    assert kernels.why_not(GPU).startswith("Warp cannot be used: ")
    assert next(iter(check.paths_on("cuda:0"))).startswith("kernels of PyTorch (Warp cannot be used")
    assert list(check.paths_on("cpu")) == ["kernels"]


def test_where_warp_sees_no_gpu_pytorch_computes():
    pytest.importorskip("warp")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert not kernels.usable(GPU) and kernels.why_not(GPU)


def test_wrong_values_are_not_taken(monkeypatch):
    warp_hash = pytest.importorskip("engine.scenes.nerfacto.warp_hash", exc_type=ImportError)
    from engine.scenes.nerfacto.hash_torch import LeanEncode

    class Wrong:
        @staticmethod
        def apply(*given):
            return LeanEncode.apply(*given) + 1e-3

    monkeypatch.setattr(warp_hash, "WarpEncode", Wrong)
    with pytest.raises(ArithmeticError, match=r"wrong by 0\.001"):
        kernels.try_encoding(torch.device("cpu"))


def test_both_paths_are_checked_where_both_work(monkeypatch):
    monkeypatch.setattr(kernels, "why_not", lambda device: "")
    paths = check.paths_on("cuda:0")
    seen = []
    for path in paths.values():
        for _ in range(2):  # each is taken several times
            check.within(path, lambda: seen.append(kernels.usable(GPU)))
    assert list(paths) == ["kernels of Warp", "kernels of PyTorch"] and seen == [True, True, False, False]
    assert kernels.usable(GPU)
