# SPDX-License-Identifier: GPL-3.0-or-later
"""What Blender's properties and file browser offer is what the engine takes."""

from __future__ import annotations

import msgspec

from engine import protocol


def test_choices_are_the_engines_own() -> None:
    from blender_addon.operators import capture
    from blender_addon.settings import InstructNerfSettings
    from engine.capture.opening import FORMATS
    from engine.capture.registration import VIDEOS

    assert {f".{ending}" for ending in capture.VIDEOS} == set(VIDEOS)
    assert {f"*{ending}" for kind in FORMATS for ending in kind.suffixes} <= set(capture.FILES)
    masks = InstructNerfSettings.__annotations__["masks"].keywords["items"]
    wanted = next(f for f in msgspec.structs.fields(protocol.OpenCapture) if f.name == "masks")
    assert {item[0] for item in masks} == set(wanted.type.__args__)
