# SPDX-License-Identifier: GPL-3.0-or-later
"""Sentences for the artist: of one line and of bounded length, whatever they quote."""

from __future__ import annotations

from engine.capture import CaptureError
from engine.errors import BadInput


def test_a_sentence_is_one_line_of_bounded_length() -> None:
    for kind in (BadInput, CaptureError):
        problem = kind("It cannot be loaded: " + "x" * 50_000 + ", line 7.")
        assert str(problem) == problem.message and len(problem.message) < 1100
        assert problem.message.startswith("It cannot be loaded: x") and problem.message.endswith("line 7.")
        problem = kind("\x1b[31mone\r\ntwo\0\u2028three")
        assert problem.message == " [31mone two three" and problem.message.isprintable()
        assert kind("größer – 夜  “a”").message == "größer – 夜  “a”"
