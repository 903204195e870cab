"""Whole-picture targets: one deterministic look for each instruction of light, weather and style.

Every filter takes a picture (H, W, 3) float32 in 0..1 and gives one of the same shape. `fog` and `snow`
also use depth and normals where a rendered view has them.
"""

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np

Picture = np.ndarray
LUMA = np.float32([0.299, 0.587, 0.114])


def luma(p: Picture) -> np.ndarray:
    """(H, W, 1)"""
    return (p @ LUMA)[..., None]


def saturate(p: Picture, amount: float) -> Picture:
    grey = luma(p)
    return grey + amount * (p - grey)


def down(p: Picture) -> np.ndarray:
    """0 at the top row to 1 at the bottom row, (H, 1, 1)."""
    return np.linspace(0, 1, p.shape[0], dtype=np.float32)[:, None, None]


def smoothstep(low: float, high: float, x):
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


@cache
def _sectors(radius: int) -> list[np.ndarray]:
    """Eight overlapping sectors of a Gaussian disc, each (2 radius + 1, 2 radius + 1) and of sum 1."""
    axis = np.arange(-radius, radius + 1, dtype=np.float32)
    distance, angle = np.hypot(axis[:, None], axis), np.arctan2(axis[:, None], axis)
    disc = np.exp(-2 * (distance / radius) ** 2) * (distance <= radius + 0.5)
    weights = []
    for k in range(8):
        aside = np.angle(np.exp(1j * (angle - k * np.pi / 4))) * 8 / np.pi
        sector = disc * np.exp(-(aside**2) / 2)
        sector[radius, radius] = 0.25
        weights.append((sector / sector.sum()).astype(np.float32))
    return weights


def brushed(p: Picture, radius: int, sharpness: float) -> Picture:
    """Strokes of about `radius` pixels: each pixel takes the mean of the eight sectors round it, the calm ones most.

    The generalised Kuwahara filter (Papari, Petkov and Campisi 2007). Unlike the first one, which takes the calmest
    square alone, it does not jump where two are about as calm: a network can learn where its strokes lie.
    """
    total, weights = np.zeros_like(p), np.zeros_like(p[..., :1])
    for sector in _sectors(radius):
        mean = cv2.filter2D(p, -1, sector, borderType=cv2.BORDER_REFLECT)
        square = cv2.filter2D(p * p, -1, sector, borderType=cv2.BORDER_REFLECT)
        variance = np.clip(square - mean * mean, 0, None).sum(-1, keepdims=True)
        weight = 1 / (0.02**sharpness + variance ** (sharpness / 2))
        total, weights = total + weight * mean, weights + weight
    return np.clip(total / weights, 0, 1)


def edges(p: Picture, sigma: float) -> np.ndarray:
    """Strength of outlines (H, W, 1), about 0..1."""
    grey = cv2.GaussianBlur(p @ LUMA, (0, 0), sigma)
    gradient = np.hypot(cv2.Sobel(grey, -1, 1, 0, scale=0.25), cv2.Sobel(grey, -1, 0, 1, scale=0.25))
    return np.clip(gradient * 5, 0, 1)[..., None]


def night(p: Picture) -> Picture:
    dim = saturate(p, 0.55) ** 1.35
    return dim * np.float32([0.20, 0.29, 0.52]) + np.float32([0.006, 0.01, 0.03])


def sunset(p: Picture) -> Picture:
    warm = saturate(p, 0.8) ** 1.15 * np.float32([1.16, 0.72, 0.46])
    glow = np.float32([0.62, 0.16, 0.30]) * (1 - down(p)) + np.float32([0.85, 0.42, 0.06]) * down(p)
    return 1 - (1 - np.clip(warm, 0, 1)) * (1 - 0.30 * glow)


def snow(p: Picture, upward: np.ndarray | None = None) -> Picture:
    """upward (H, W): how much each pixel faces the open sky. Without it the lower part is taken for ground."""
    cold = saturate(p, 0.55) * np.float32([0.92, 0.99, 1.08]) * 0.85 + np.float32([0.07, 0.09, 0.12])
    if upward is None:
        upward = smoothstep(0.30, 0.80, down(p)[..., 0]) * np.ones(p.shape[:2], np.float32)
    shade = luma(p)
    white = np.float32([0.93, 0.96, 1.0]) * (0.60 + 0.40 * smoothstep(0.05, 0.60, shade))
    cover = 0.88 * upward[..., None]
    return cold * (1 - cover) + white * cover


def fog(p: Picture, depth: np.ndarray | None = None) -> Picture:
    """depth (H, W): 1 at the subject, larger behind it. Without it the upper part is taken to be far."""
    if depth is None:
        through = 0.22 + 0.40 * smoothstep(0.15, 1.0, down(p))
    else:
        through = np.clip(0.62 * np.exp(-0.75 * (depth[..., None] - 1)), 0.10, 0.75)
    return saturate(p, 0.8) * through + np.float32([0.80, 0.82, 0.84]) * (1 - through)


def autumn(p: Picture) -> Picture:
    hsv = cv2.cvtColor(p, cv2.COLOR_RGB2HSV)
    hue, saturation = hsv[..., 0], hsv[..., 1]
    green = smoothstep(45, 65, hue) * (1 - smoothstep(165, 195, hue))
    leaf = cv2.cvtColor(
        np.stack(
            [
                14 + 24 * np.clip((hue - 50) / 120, 0, 1),
                np.clip(saturation * 1.35 + 0.06, 0, 1),
                np.clip(hsv[..., 2] * 1.12, 0, 1),
            ],
            -1,
        ),
        cv2.COLOR_HSV2RGB,
    )
    warm = p * np.float32([1.08, 0.90, 0.60]) + np.float32([0.08, 0.03, 0.0])
    return warm * (1 - green[..., None]) + leaf * green[..., None]


def storm(p: Picture) -> Picture:
    detail = p + 0.6 * (p - cv2.GaussianBlur(p, (0, 0), 3))
    grey = saturate(np.clip(detail, 0, 1), 0.22) ** 1.25
    return grey * np.float32([0.50, 0.56, 0.64]) * (0.55 + 0.55 * down(p))


def underwater(p: Picture) -> Picture:
    soft = cv2.GaussianBlur(p, (0, 0), 0.8)
    light = 1.15 - 0.45 * down(p)
    return (saturate(soft, 0.7) * np.float32([0.22, 0.66, 0.78]) + np.float32([0.0, 0.10, 0.16])) * light


def pencil(p: Picture) -> Picture:
    grey = p @ LUMA
    dodge = grey / (cv2.GaussianBlur(grey, (0, 0), 2.6) + 0.02)
    line = np.clip(dodge, 0, 1) ** 2.2
    tone = 0.80 + 0.20 * smoothstep(0.05, 0.55, grey)
    return (line * tone)[..., None] * np.float32([0.98, 0.97, 0.94])


def oil(p: Picture) -> Picture:
    flat = brushed(p, 7, 6)
    grey = flat @ LUMA
    relief = cv2.Sobel(grey, -1, 1, 0, scale=0.25) + cv2.Sobel(grey, -1, 0, 1, scale=0.25)
    return (saturate(flat, 1.6) - 0.5) * 1.18 + 0.52 + 0.3 * relief[..., None]


def comic(p: Picture) -> Picture:
    flat = brushed(p, 5, 6)
    value = np.clip(flat.max(-1, keepdims=True), 1e-3, 1)
    level, between = np.divmod(np.clip(value * 1.1, 0, 0.999) * 4, 1)
    steps = (level + smoothstep(0.3, 0.7, between) + 0.1) / 4.1
    ink = 1 - smoothstep(0.15, 0.40, edges(flat, 1.1))
    return np.clip(saturate(flat / value * steps, 1.75), 0, 1) * ink


def mosaic(p: Picture) -> Picture:
    side = 8
    height, width = p.shape[:2]
    small = cv2.resize(p, (width // side, height // side), interpolation=cv2.INTER_AREA)
    tiles = cv2.resize(np.clip(saturate(small, 1.25), 0, 1), (width, height), interpolation=cv2.INTER_NEAREST)
    row, column = np.arange(height) % side, np.arange(width) % side
    grout = ((row[:, None] == 0) | (column[None] == 0))[..., None]
    return np.where(grout, tiles * 0.35 + 0.04, tiles)


def black_and_white(p: Picture) -> Picture:
    grey = luma(p)
    return np.repeat(grey + 0.35 * (smoothstep(0.0, 1.0, grey) - grey), 3, -1)


def sepia(p: Picture) -> Picture:
    grey = 0.10 + 0.82 * luma(p)
    return grey * np.float32([1.05, 0.84, 0.58])


def watercolour(p: Picture) -> Picture:
    wash = brushed(cv2.GaussianBlur(p, (0, 0), 0.8), 7, 5)
    pigment = 0.8 - 0.45 * smoothstep(0.0, 0.9, luma(wash))
    pale = np.clip(1 - (1 - np.clip(saturate(wash, 1.5), 0, 1)) * pigment, 0, 1)
    rim = smoothstep(0.08, 0.6, edges(wash, 1.6))  # where it gathers
    return pale ** (1 + 1.2 * rim) * (1 - 0.25 * rim)


def blueprint(p: Picture) -> Picture:
    line = smoothstep(0.14, 0.75, edges(p, 0.8))
    paper = np.float32([0.07, 0.20, 0.52]) * (0.85 + 0.25 * luma(p))
    return paper * (1 - line) + np.float32([0.88, 0.94, 1.0]) * line


FILTERS: dict[str, Callable[..., Picture]] = {
    "night": night, "sunset": sunset, "snow": snow, "fog": fog, "autumn": autumn, "storm": storm,
    "underwater": underwater, "pencil": pencil, "oil": oil, "comic": comic, "mosaic": mosaic,
    "black and white": black_and_white, "sepia": sepia, "watercolour": watercolour, "blueprint": blueprint,
}  # fmt: skip


def apply(key: str, p: Picture, **aids) -> Picture:
    """The target of a whole-picture instruction, clipped to 0..1."""
    return np.clip(FILTERS[key](np.ascontiguousarray(p, np.float32), **aids), 0, 1).astype(np.float32)
