# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures are rendered in chunks of what fits the memory that is left."""

import pytest
import torch

from engine.counting import LiveBytes
from engine.memory import free_and_total, least_free_share
from engine.scenes.nerfacto import chunks
from engine.scenes.nerfacto.scene import NerfactoScene

from .test_nerf import trainer_of

MIB = 2**20


@pytest.mark.parametrize(
    ("device", "free", "rays"),
    [
        ("cuda:0", 24_000 * MIB, 4096),  # 117 kB a ray, of 512 MiB
        ("cuda:0", 1900 * MIB, 4096),
        ("cuda:0", 1800 * MIB, 2048),  # of 450 MiB
        ("cuda:0", 400 * MIB, 512),
        ("cuda:0", 0, 256),
        ("mps", 1600 * MIB, 2048),
        ("cpu", 24_000 * MIB, 512),  # of 64 MiB
        ("cpu", 100 * MIB, 256),
    ],
)
def test_a_chunk_takes_a_quarter_of_what_is_free_and_no_more_than_pays(device, free, rays, monkeypatch):
    asked = []
    monkeypatch.setattr(chunks, "free_and_total", lambda name: asked.append(name) or (free, free))
    assert chunks.chunk_of(117_000, torch.device(device)) == rays
    assert asked == [device]


def test_a_picture_is_the_same_in_small_chunks_and_takes_less(sphere, monkeypatch):
    frame, views, _ = sphere
    nerf = trainer_of(frame, views).nerf
    monkeypatch.setattr(chunks, "PROBE", 16)
    monkeypatch.setattr("engine.scenes.nerfacto.scene.PROBE", 16)
    monkeypatch.setattr("engine.scenes.nerfacto.scene.can_march", lambda _: False)  # as on a GPU
    pictures, peaks = [], []
    for free in (2**40, 0):
        monkeypatch.setattr(chunks, "free_and_total", lambda _, free=free: (free, 2**40))
        scene = NerfactoScene(nerf, frame)
        with LiveBytes() as counted:
            pictures.append(scene.render(views[0]).rgb)
        peaks.append(counted.peak)
    torch.testing.assert_close(*pictures)
    assert peaks[1] < peaks[0] / 5


def test_what_a_ray_takes_is_what_is_alive_at_once():
    def render():
        first = torch.ones(1000, 128)  # 512 bytes a ray
        second = first + 1
        del first
        return second * 2, torch.ones(4)

    assert 1024 <= chunks.bytes_a_ray(render, 1000) <= 1026


def test_free_memory_is_asked_of_the_device(monkeypatch):
    free, total = free_and_total("cpu")
    assert 0 < free < total
    asked = []

    def mem_get_info(device):
        asked.append(device)
        return 3000 * MIB, 8000 * MIB

    monkeypatch.setattr(torch.cuda, "mem_get_info", mem_get_info)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1000 * MIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 400 * MIB)
    assert free_and_total("cuda:1") == (3600 * MIB, 8000 * MIB) and asked == ["cuda:1"]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert least_free_share() <= 0.45
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 10_000 * MIB)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 9000 * MIB)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 9500 * MIB)
    assert free_and_total("mps") == (1000 * MIB, 10_000 * MIB)
