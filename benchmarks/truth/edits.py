# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's scenes by name, its instructions, and what each truly does to a scene.

A change of light, weather, material or colour is made in Blender and rendered; a style is a function of the rendered
picture, since a style has no other truth than its picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

LUMA = np.float32([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Edit:
    """``made`` says where the truth comes from; captions describe the picture before and after, for CLIP."""

    key: str
    instruction: str
    family: Literal["light and weather", "style", "material", "colour"]
    made: Literal["light", "subject", "snow", "picture"]
    caption: str


def black_and_white(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3), 0–1, to its luma."""
    return np.repeat((picture @ LUMA)[..., None], 3, axis=-1)


def sepia(picture: np.ndarray) -> np.ndarray:
    """The usual matrix of photo programs, (H, W, 3), 0–1."""
    matrix = np.float32([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])
    return np.clip(picture @ matrix.T, 0, 1)


PICTURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"black and white": black_and_white, "sepia": sepia}

EDITS = {
    edit.key: edit
    for edit in (
        Edit("night", "make it night", "light and weather", "light", "a photo taken at night"),
        Edit("sunset", "make it sunset", "light and weather", "light", "a photo taken at sunset"),
        Edit("snow", "make it snowy", "light and weather", "snow", "a photo of a snowy scene"),
        Edit("black and white", "make it black and white", "style", "picture", "a black and white photo"),
        Edit("sepia", "make it sepia", "style", "picture", "a sepia photo"),
        Edit("gold", "turn it into gold", "material", "subject", "a photo of a thing made of gold"),
        Edit("marble", "turn it into marble", "material", "subject", "a photo of a thing made of marble"),
        Edit("bronze", "turn it into bronze", "material", "subject", "a photo of a thing made of bronze"),
        Edit("red", "make it red", "colour", "subject", "a photo of a red thing"),
        Edit("blue", "make it blue", "colour", "subject", "a photo of a blue thing"),
        Edit("green", "make it green", "colour", "subject", "a photo of a green thing"),
    )
}
CAPTION = "a photo"

Half = Literal["development", "reporting"]
SCENES: dict[str, tuple[Half, tuple[str, ...]]] = {
    # A method is developed on one half of the scenes and reported on the other.
    "still life": ("development", ("gold", "blue", "night", "black and white")),
    "group": ("development", ("marble", "red", "sunset", "sepia")),
    "outdoor": ("development", ("bronze", "red", "snow", "sepia")),
    "figure": ("reporting", ("gold", "red", "night", "sepia")),
    "room": ("reporting", ("marble", "blue", "sunset", "black and white")),
    "wire": ("reporting", ("bronze", "green", "snow", "black and white")),
}
# For a look while something is changed: of the development half, so that nothing is tuned on what is reported.
SMALLEST: dict[str, tuple[str, ...]] = {"still life": ("gold", "night"), "group": ("red", "sunset")}
