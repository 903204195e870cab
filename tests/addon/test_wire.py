# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine may and may not say."""

from __future__ import annotations

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blender_addon import messages, wire

VIEW = {
    "name": "a.jpg", "image": "/w/a.png", "held_out": False, "width": 10, "height": 20, "fx": 9.0, "fy": 9.5,
    "cx": 5.0, "cy": 10, "pose": [1, 0, 0, 4, 0, 1, 0, 5, 0, 0, 1, 6, 0, 0, 0, 1],
}  # fmt: skip
CAPTURE = {
    "workspace": "/w", "source": "/s", "format": "transforms.json", "views": [VIEW],
    "left_out": [{"name": "b.jpg", "reason": "missing"}], "centre": [0, 0, 0], "radius": 2.0, "up": [0, 0, 1],
    "notes": ["a note"], "something new": {"is": "ignored"},
}  # fmt: skip


def test_a_capture_is_read() -> None:
    capture = wire.parse_capture(CAPTURE)
    assert capture.views[0].camera.pose[1] == (0.0, 1.0, 0.0, 5.0)
    assert capture.left_out == (("b.jpg", "missing"),)
    assert wire.camera_object(capture.views[0].camera)["pose"] == VIEW["pose"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("centre", [0, 0]), ("centre", [0, 0, math.nan]), ("radius", "2"),
     ("radius", 10**400), ("radius", math.inf), ("radius", True), ("views", {}),
     ("views", [VIEW, VIEW]), ("views", [VIEW | {"pose": [1] * 15}]), ("views", [VIEW | {"fx": 0}]),
     ("views", [VIEW | {"width": 10**9}]), ("views", [VIEW | {"name": "x" * 10**6}]), ("notes", [1]),
     ("left_out", [{"reason": "no name"}])],
)  # fmt: skip
def test_a_capture_that_is_none_is_refused(key: str, value: object) -> None:
    data = copy.deepcopy(CAPTURE)
    data[key] = value
    with pytest.raises(messages.WireError):
        wire.parse_capture(data)


CELL = {"instruction": "a", "options": {"x": 1.5, "y": True}, "settings": {}, "seed": 3, "image": "/w/0.png",
        "box": [0, 0, 4, 4]}  # fmt: skip
TRIED = {
    "id": "1",
    "view": "a.jpg",
    "editor": "small",
    "before": "",
    "after": "/w/0.png",
    "columns": 1,
    "cells": [CELL],
}


def test_what_was_tried_is_read() -> None:
    tried = wire.parse_tried(TRIED)
    assert tried.cells[0].options == {"x": 1.5, "y": True} and tried.cells[0].box == (0.0, 0.0, 4.0, 4.0)
    project = wire.parse_project({"capture": None, "scene": None, "edits": [], "tries": [TRIED]})
    assert project.tries == (tried,)
    assert wire.parse_project({"capture": None, "scene": None, "edits": []}).tries == ()  # of an engine of before


@pytest.mark.parametrize(
    "more",
    [{"cells": []}, {"columns": 0}, {"id": 3}, {"cells": [CELL | {"box": [0, 0, 4]}]},
     {"cells": [CELL | {"seed": "1"}]}, {"cells": [CELL | {"options": {"x": [1]}}]},
     {"cells": [CELL | {"options": {"x": math.nan}}]}],
)  # fmt: skip
def test_a_try_that_is_none_is_refused(more: dict) -> None:
    with pytest.raises(messages.WireError):
        wire.parse_tried(TRIED | more)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
parsers = [
    wire.parse_capture, wire.parse_edit, wire.parse_engine, wire.parse_project, wire.parse_scene, wire.parse_progress,
    wire.parse_view_written, wire.parse_tried,
]  # fmt: skip


@given(st.sampled_from(parsers), json_values)
def test_anything_else_is_a_wire_error_and_no_other(parse, value: object) -> None:
    try:
        parse(value)
    except messages.WireError as error:
        assert str(error).endswith((".", "again."))


@given(json_values)
def test_every_error_becomes_a_sentence(value: object) -> None:
    assert wire.parse_failure(value).message


def test_another_protocol_is_named() -> None:
    with pytest.raises(messages.WireError, match="protocol 3"):
        wire.parse_engine({"protocol": 3})


def test_an_editors_terms_are_read() -> None:
    editor = {"name": "a/b", "label": "B", "size": 512, "available": False, "reason": "", "vocabulary": []}
    assert wire._editor(editor).offer == messages.Offer() and not wire._editor(editor | {"offer": None}).offer.missing
    offer = {
        "licence": "L",
        "licence_url": "u",
        "commercial": False,
        "gated": True,
        "bytes": 3,
        "page": "p",
        "folder": "f",
    }
    read = wire._editor(editor | {"offer": offer}).offer
    assert read == messages.Offer("L", "u", False, True, 3, "p", "f", False) and read.missing
    assert not wire._editor(editor | {"offer": offer | {"downloaded": True}}).offer.missing
    for key, value in (("bytes", -1), ("bytes", "3"), ("commercial", "no"), ("page", 3), ("licence", ["L"])):
        with pytest.raises(messages.WireError):
            wire._editor(editor | {"offer": offer | {key: value}})
    with pytest.raises(messages.WireError):
        wire._editor(editor | {"offer": [1]})


def test_what_may_be_asked_of_which_job_is_what_the_engine_grants() -> None:
    from engine.methods import DETACHABLE, WISHES

    assert set(wire.DETACHABLE) <= DETACHABLE
    # What follows a detached job may be asked what that may be: the add-on asks by its method.
    granted = {name: set(methods) - {wire.JOB_ATTACH} for name, methods in WISHES.items()}
    assert granted == {
        wire.JOB_PAUSE: set(wire.PAUSABLE), wire.JOB_CONTINUE: set(wire.PAUSABLE), wire.JOB_RENDER: set(wire.LOOKED_AT),
        wire.JOB_SURFELS: set(wire.LOOKED_AT),
        wire.JOB_CHANGE: set(wire.EDITS), wire.JOB_REMAKE: set(wire.EDITS),
    }  # fmt: skip
