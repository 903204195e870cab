# SPDX-License-Identifier: GPL-3.0-or-later
"""What a project's folder says of itself, in JSON (engine/workspace.py): the unedited scene, and each edit."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from engine.protocol import MOST_REGIONS, Change, Measures, Region

MOST_STEPS = 1_000_000  # of a run; the paper's take 30,000

Steps = Annotated[int, Meta(ge=0, le=MOST_STEPS)]
Seconds = Annotated[float, Meta(ge=0, le=1e10)]
Name = Annotated[str, Meta(max_length=200)]


class SceneRecord(msgspec.Struct, frozen=True):
    """scene.json: the unedited NeRF's preset and how far it is."""

    preset: Name
    device: Name
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    steps: Steps
    of: Steps
    seconds: Seconds = 0.0
    measures: Measures | None = None
    rendered: Steps | None = None  # what the scene had when its views were rendered, all of them; None: not yet
    attempt: Annotated[int, Meta(ge=0, le=100)] = 0  # how often its training had collapsed and was begun again
    collapsed: bool = False  # it shows nothing of its pictures all the same
    depths: bool = False  # what the photos know of depth helped its training
    planes: bool = False  # and the flat surfaces on which that lies

    @property
    def finished(self) -> bool:
        return self.steps >= self.of


class EditRecord(msgspec.Struct, frozen=True):
    """edit.json: an edit's instruction, every setting and seed, its parent, and how far it is."""

    id: Name
    instruction: Annotated[str, Meta(max_length=10_000)]
    parent: Name | None  # another edit's id; None: the unedited scene
    preset: Name
    editor: Annotated[str, Meta(max_length=4096)]
    perceptual: Name  # which measure was the perceptual loss; empty until training starts
    chosen: Annotated[list[Name], Meta(max_length=100_000)]  # names of the views that it edits and trains on
    settings: dict[str, Any]
    steps: Steps
    seconds: Seconds = 0.0  # from the first edit on, without rendering what was made
    edits: Annotated[int, Meta(ge=0, le=10**12)] = 0  # that the editor made; 0: not known
    peak_bytes: Annotated[int, Meta(ge=0, le=2**50)] = 0  # most memory held, of the GPU if there is one; 0: not known
    finished: bool = False
    changes: Annotated[list[Change], Meta(max_length=100_000)] = []  # what was asked while it ran, in order
    region: Region | None = None  # where alone it changes the scene, at first; None: everywhere
    # Those that it was given while it ran, which ``changes`` name by their numbers.
    regions: Annotated[list[Region | None], Meta(max_length=MOST_REGIONS)] = []
    key_views: Annotated[list[Name], Meta(max_length=4)] = []  # those whose edits were approved; they lie in keys/
    created: Annotated[float, Meta(ge=0, le=1e11)] = 0.0  # seconds since 1970; 0: not known

    def __post_init__(self) -> None:
        if any(change.region is not None and change.region >= len(self.regions) for change in self.changes):
            raise ValueError("a change names a region that is not there")

    @property
    def last_region(self) -> Region | None:
        """Where alone it changes the scene, by what it was told last."""
        return self.regions[-1] if self.regions else self.region


class EditLabel(msgspec.Struct, frozen=True):
    """label.json: what is the artist's of an edit. Apart from its record, which a running edit writes."""

    name: Name = ""
    muted: bool = False


class Numbers(msgspec.Struct, frozen=True):
    """numbers.json: the highest number that an edit ever had."""

    last: Annotated[int, Meta(ge=0, le=999_999_999)]
