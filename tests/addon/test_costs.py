# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job takes is said before it is asked for: the engine's guesses, scaled by what jobs took here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from blender_addon import costs, messages, state, wire
from blender_addon.conversion import Camera, Intrinsics, matrix_from_row_major
from blender_addon.words import about, duration, size, wrapped

CPU = messages.Device("cpu", "CPU", 0, 0, preset="preview", editor="small")
CARD = messages.Device("cuda:0", "A card", 0, 0, preset="standard", editor="large")
PREVIEW = messages.Preset("preview", "", "", True, 192, 8, 200.0, 270.0, 4.0, try_seconds=4.0, render_seconds=0.5)
STANDARD = messages.Preset("standard", "", "", False, 512, 8)


def info(*devices: messages.Device) -> messages.EngineInfo:
    return messages.EngineInfo(2, "", devices, (), (PREVIEW, STANDARD))


def project(views: int, edit: str = "preview") -> messages.Project:
    at = Camera(matrix_from_row_major(tuple(float(k % 5 == 0) for k in range(16))), Intrinsics(200, 100, 1, 1, 1, 1))
    seen = tuple(messages.View(f"{k}", "", k % 8 == 0, at) for k in range(views))
    capture = messages.Capture("", "", "", seen, (), (0, 0, 0), 1.0, (0, 0, 1), ())
    edited = messages.Edit("e", "", edit, (), 1, 1, True, {}, {}, "", 1.0)
    return messages.Project(capture, messages.TrainedScene(1, 1, True, "preview", {}, {}), (edited,))


def said(method: str, params: dict, took=None, devices=(CPU,), views: int = 40, edit: str = "preview") -> str:
    return costs.sentence(costs.work_of(method, params, info(*devices), project(views, edit)), took or {})


def test_the_engines_guesses_are_said_on_a_cpu() -> None:
    assert said(wire.EDIT_TRY, {"editor": "small"}) == "About 4 s."
    sheet = {"across": {"values": [1, 2, 3]}, "down": {"values": [1, 2]}}
    assert said(wire.EDIT_TRY, sheet) == "About 25 s."
    # 35 of the views are learned from: 1.3 times as many renders, and 12 bytes a pixel.
    assert said(wire.OUTPUT_MESH, {}) == "About 25 s, up to 8 MB on the disk."
    assert said(wire.OUTPUT_MESH, {}, views=4000) == "About 40 s, up to 14 MB on the disk."  # 60 at most
    assert said(wire.OUTPUT_MESH, {"faces": 1_000_000}) == "About 25 s, up to 22 MB on the disk."
    assert said(wire.OUTPUT_MESH, {"faces": 50_000, "texture": 2048}) == "About 45 s, up to 7 MB on the disk."
    assert said(wire.OUTPUT_SPLATS, {"count": 500_000}) == "About 3 min, up to 134 MB on the disk."


def test_a_film_takes_as_long_as_its_frames_and_twice_that_of_an_edit() -> None:
    film = {"count": 48, "width": 200, "height": 100}
    assert said(wire.OUTPUT_FRAMES, film) == "About 25 s, up to 1 MB on the disk."
    assert said(wire.OUTPUT_FRAMES, film | {"edit": "e"}) == "About 50 s, up to 2 MB on the disk."
    small = said(wire.OUTPUT_FRAMES, film | {"width": 100})
    large = said(wire.OUTPUT_FRAMES, film | {"width": 800, "height": 400})
    assert small == "About 10 s, up to 1 MB on the disk." and large == "About 70 s, up to 18 MB on the disk."
    assert "up to 23 MB" in said(wire.OUTPUT_FRAMES, film | {"format": "exr"})
    blurred = film | {"count": 48 * 4, "samples": 4, "format": "exr"}
    assert said(wire.OUTPUT_FRAMES, blurred) == "About 2 min, up to 23 MB on the disk."


@pytest.mark.parametrize("method", [wire.EDIT_TRY, wire.OUTPUT_MESH, wire.OUTPUT_FRAMES])
def test_of_what_nobody_has_measured_no_time_is_said_until_it_ran_here(method: str) -> None:
    took: dict[tuple[str, ...], float] = {}
    asked = {"editor": "large", "device": "cuda:0", "edit": "e", "count": 10, "width": 200, "height": 100}
    assert "About" not in said(method, asked, took, (CARD, CPU), edit="standard")
    known = (info(CARD, CPU), project(40, "standard"))
    twice = asked | {"across": {"values": [1, 2]}, "count": 20, "cameras": None}
    costs.learn(method, twice, 80.0, *known, took)
    expected = {wire.EDIT_TRY: "About 40 s", wire.OUTPUT_MESH: "About 80 s", wire.OUTPUT_FRAMES: "About 40 s"}
    assert said(method, asked, took, (CARD, CPU), edit="standard").startswith(expected[method])
    other = asked | {"device": "cuda:1"}
    assert "About" not in said(method, other, took, (CARD, replace(CARD, name="cuda:1")), edit="standard")


def test_a_guess_gives_way_to_what_it_took() -> None:
    took: dict[tuple[str, ...], float] = {}
    costs.learn(wire.OUTPUT_MESH, {}, 230.0, info(CPU), project(40), took)
    assert said(wire.OUTPUT_MESH, {}, took).startswith("About 4 min")
    assert said(wire.OUTPUT_MESH, {}, took, views=80).startswith("About 7 min")
    sent = [{"width": 200, "height": 100}] * 48
    costs.learn(wire.OUTPUT_FRAMES, {"cameras": sent}, 240.0, info(CPU), project(40), took)
    assert said(wire.OUTPUT_FRAMES, {"count": 48, "width": 200, "height": 100}, took).startswith("About 4 min")


def test_where_too_little_is_known_nothing_is_said() -> None:
    assert costs.sentence(None, {}) == ""
    assert costs.work_of(wire.OUTPUT_MESH, {}, None, project(9)) is None
    assert costs.work_of(wire.OUTPUT_MESH, {}, info(CPU), None) is None
    assert costs.work_of(wire.OUTPUT_MESH, {}, info(), project(9)) is None
    assert costs.work_of(wire.OUTPUT_MESH, {}, info(CPU), project(0)) is None
    assert costs.work_of(wire.EDIT_RUN, {}, info(CPU), project(9)) is None
    took: dict[tuple[str, ...], float] = {}
    costs.learn(wire.OUTPUT_FRAMES, {"cameras": []}, 9.0, info(CPU), project(9), took)
    assert not took


def test_times_and_sizes_are_said_as_people_say_them() -> None:
    assert [about(s) for s in (0.2, 4.4, 12, 94, 100, 3600, 7200)] == [
        "1 s", "4 s", "10 s", "95 s", "2 min", "60 min", "2 h",
    ]  # fmt: skip
    assert [duration(s) for s in (59.4, 61, 3725)] == ["59 s", "1 min 01 s", "1 h 02 min"]
    assert [size(b) for b in (1, 2e6, 3.46e9)] == ["1 MB", "2 MB", "3.5 GB"]


def test_wide_letters_take_more_room() -> None:
    assert wrapped("a sentence of some words", 12) == ["a sentence", "of some", "words"]
    chinese = "编辑仅在区域内进行，其余部分保持拍摄时的样子。"
    lines = wrapped(chinese, 20)
    assert "".join(lines) == chinese and len(lines) > 1
    assert all(1.8 * len(line) <= 20 + 1.8 for line in lines) and not any(line[0] in "，。" for line in lines)
    mixed = wrapped("用 InstructPix2Pix 编辑这张照片", 18)
    assert "".join(mixed).replace(" ", "") == "用InstructPix2Pix编辑这张照片" and any(
        "InstructPix2Pix" in x for x in mixed
    )


def test_these_tests_need_no_blender() -> None:
    assert "import bpy" not in Path(costs.__file__).read_text("utf-8")


def test_loading_what_stays_loaded_is_no_measure_of_the_next_job(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(state.time, "monotonic", lambda: now)
    job = state.Job(1, "instruction", "Trying", "/project", started=now)
    job.reached(0.0)
    now = 160.0  # the editor was loaded
    job.reached(0.5)
    assert job.worked == 0.0
    now = job.ended = 162.0
    assert (job.seconds, job.worked) == (62.0, 4.0)
    late = state.Job(1, "results", "Making the mesh", "/project", started=100.0, ended=162.0)
    late.reached(0.9)  # too late to know its pace
    assert late.worked == 62.0
