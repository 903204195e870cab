# SPDX-License-Identifier: GPL-3.0-or-later
"""A second opinion on splat files: read by their names and drawn one after the other in numpy. Slow and obvious, and
nothing of the engine's is used."""

from pathlib import Path

import numpy as np

LAYOUT = [
    *"xyz", "nx", "ny", "nz", *(f"f_dc_{n}" for n in range(3)), *(f"f_rest_{n}" for n in range(45)), "opacity",
    *(f"scale_{n}" for n in range(3)), *(f"rot_{n}" for n in range(4)),
]  # fmt: skip


def read(path: Path) -> dict[str, np.ndarray]:
    """Column by name; the file must have the standard layout and nothing after it."""
    data = Path(path).read_bytes()
    head, _, body = data.partition(b"end_header\n")
    lines = head.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = int(lines[2].removeprefix("element vertex "))
    assert lines[3:] == [f"property float {name}" for name in LAYOUT]
    assert len(body) == 4 * count * len(LAYOUT)
    table = np.frombuffer(body, "<f4").reshape(count, len(LAYOUT)).astype(np.float64)
    assert np.isfinite(table).all()
    return dict(zip(LAYOUT, table.T, strict=True))


def gaussians(file: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means (N, 3), covariances (N, 3, 3) and opacities (N,)."""
    means = np.stack([file[axis] for axis in "xyz"], axis=1)
    scales = np.exp(np.stack([file[f"scale_{n}"] for n in range(3)], axis=1))
    w, x, y, z = (file[f"rot_{n}"] for n in range(4))
    norm = np.sqrt(w * w + x * x + y * y + z * z)
    w, x, y, z = w / norm, x / norm, y / norm, z / norm
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    ).transpose(2, 0, 1)
    covariances = np.einsum("nij,nj,nkj->nik", turn, scales**2, turn)
    return means, covariances, 1 / (1 + np.exp(-file["opacity"]))


def colors(file: dict[str, np.ndarray], ways: np.ndarray) -> np.ndarray:
    """(N, 3) by spherical harmonics of degrees 0 and 1; those above must be zero. ``ways``: unit vectors to them."""
    rest = np.stack([file[f"f_rest_{n}"] for n in range(45)], axis=1).reshape(-1, 3, 15)
    assert not rest[:, :, 3:].any()
    x, y, z = ways.T[:, :, None]
    direct = np.stack([file[f"f_dc_{n}"] for n in range(3)], axis=1)
    linear = -y * rest[:, :, 0] + z * rest[:, :, 1] - x * rest[:, :, 2]
    return np.maximum(0.28209479177387814 * direct + 0.4886025119029199 * linear + 0.5, 0)


def draw(path: Path, pose: np.ndarray, i, behind=(0.0, 0.0, 0.0)) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) colors and (H, W) opacity from a pinhole camera: ``pose`` camera to world, OpenGL axes, intrinsics
    ``i`` in pixels, their centers at half-integers."""
    file = read(path)
    means, covariances, opacity = gaussians(file)
    eye = pose[:3, 3]
    offset = means - eye
    shade = colors(file, offset / np.linalg.norm(offset, axis=1, keepdims=True))
    world_to_camera = np.diag([1.0, -1.0, -1.0]) @ pose[:3, :3].T  # x right, y down, z ahead
    x, y, z = world_to_camera @ offset.T
    picture, light = np.zeros((i.height, i.width, 3)), np.ones((i.height, i.width))
    for n in np.argsort(z, kind="stable"):
        if z[n] <= 0:
            continue
        u, v = i.fx * x[n] / z[n] + i.cx, i.fy * y[n] / z[n] + i.cy
        # Those far beside the picture would be drawn all over it: no viewer draws them.
        if abs(x[n] / z[n]) > 1.3 * max(i.cx, i.width - i.cx) / i.fx:
            continue
        if abs(y[n] / z[n]) > 1.3 * max(i.cy, i.height - i.cy) / i.fy:
            continue
        slope = np.array([[i.fx, 0, -i.fx * x[n] / z[n]], [0, i.fy, -i.fy * y[n] / z[n]]]) / z[n]
        flat = slope @ world_to_camera
        covariance = flat @ covariances[n] @ flat.T + 0.3 * np.eye(2)
        reach = 3 * np.sqrt(np.diag(covariance))
        x0, x1 = max(int(np.ceil(u - reach[0] - 0.5)), 0), min(int(np.floor(u + reach[0] - 0.5)) + 1, i.width)
        y0, y1 = max(int(np.ceil(v - reach[1] - 0.5)), 0), min(int(np.floor(v + reach[1] - 0.5)) + 1, i.height)
        if x0 >= x1 or y0 >= y1:
            continue
        dx, dy = np.arange(x0, x1) + 0.5 - u, np.arange(y0, y1)[:, None] + 0.5 - v
        a, b, c = (np.linalg.inv(covariance)[at] for at in ((0, 0), (0, 1), (1, 1)))
        alpha = np.minimum(opacity[n] * np.exp(-0.5 * (a * dx * dx + 2 * b * dx * dy + c * dy * dy)), 0.99)
        alpha[alpha < 1 / 255] = 0
        here = light[y0:y1, x0:x1]
        picture[y0:y1, x0:x1] += (here * alpha)[..., None] * shade[n]
        here *= 1 - alpha
    return picture + light[..., None] * np.asarray(behind), 1 - light


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((np.clip(one, 0, 1) - other) ** 2)))
