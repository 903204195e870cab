# SPDX-License-Identifier: GPL-3.0-or-later
"""3D Gaussian splats: flat ones on the surfaces that depth renders show, in the capture frame, and their file.

The layout of the file is that of Kerbl et al. (2023), which viewers and Blender's add-ons read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from engine.files import replacing
from engine.geometry import pixel_directions
from engine.output.surface import normals_of
from engine.output.volume import DepthView

SPREAD = 0.6  # standard deviation of a splat, in pixels of the view that it comes from: neighbours close the gaps
STEEPEST = 0.7  # cosine beyond which a splat is drawn out no further along a surface that is seen from the side
THIN = 0.1  # thickness over width
OPACITY = 0.9  # at first
C0 = 0.28209479177387814  # the spherical harmonic of degree 0
C1 = 0.4886025119029199  # those of degree 1: -C1 y, C1 z, -C1 x
COEFFICIENTS = 16  # of a color, degrees 0 to 3: what every viewer of the layout expects


@dataclass(frozen=True, eq=False)
class Splats:
    """N Gaussians: `means` (N, 3); `scales` (N, 3), standard deviations along their own axes; `rotations` (N, 4),
    quaternions w, x, y, z from their axes to the capture frame, the third of which is the surface's normal; `opacity`
    (N,), 0 to 1 at the middle; `harmonics` (N, K, 3), spherical harmonics of display-referred color minus one half."""

    means: np.ndarray
    scales: np.ndarray
    rotations: np.ndarray
    opacity: np.ndarray
    harmonics: np.ndarray

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, rows) -> Splats:
        return Splats(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @classmethod
    def together(cls, parts: Sequence[Splats]) -> Splats:
        """All of them; there must be some."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    @property
    def axes(self) -> np.ndarray:
        """(N, 3, 3): their own axes, as columns, as long as their standard deviations."""
        return Rotation.from_quat(self.rotations[:, [1, 2, 3, 0]]).as_matrix() * self.scales[:, None]

    @property
    def normals(self) -> np.ndarray:
        """(N, 3) unit vectors, towards the cameras that saw the surface."""
        w, x, y, z = self.rotations.T
        return np.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], axis=-1)

    @property
    def colors(self) -> np.ndarray:
        """(N, 3), 0 to 1: the mean over all directions."""
        return np.clip(self.harmonics[:, 0] * C0 + 0.5, 0, 1)


def splats_of(view: DepthView) -> Splats:
    """A flat splat for each pixel of a view that shows a surface: the ellipse on it that the view sees as a circle."""
    rays = pixel_directions(view.intrinsics)
    length = np.linalg.norm(rays, axis=-1)
    full = (view.opacity >= 0.5) & np.isfinite(view.depth) & (view.depth > 0)
    points = rays / length[..., None] * view.depth[..., None]  # camera axes
    towards = -rays / length[..., None]
    normals = normals_of(points, full, towards)
    cosine = np.clip(np.einsum("hwc,hwc->hw", normals, towards), STEEPEST, 1)
    i = view.intrinsics
    width = SPREAD * (-points[..., 2]) / np.sqrt(i.fx * i.fy)
    # Across: along the surface and across the line of sight. Along: where the surface recedes.
    across = np.cross(towards, normals)
    straight = np.linalg.norm(across, axis=-1) < 1e-6
    across[straight] = np.cross(normals[straight], [0.0, 1.0, 0.0])
    across /= np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-30)
    frames = np.stack([across, np.cross(normals, across), normals], axis=-1)[full]
    turned = Rotation.from_matrix(view.pose[:3, :3] @ frames).as_quat()[:, [3, 0, 1, 2]]
    width, cosine = width[full], cosine[full]
    return Splats(
        means=points[full] @ view.pose[:3, :3].T + view.pose[:3, 3],
        scales=np.stack([width, width / cosine, THIN * width], axis=-1),
        rotations=turned,
        opacity=np.full(len(width), OPACITY),
        harmonics=((view.colour[full].astype(np.float64) - 0.5) / C0)[:, None],
    )


def write_splats(splats: Splats, path: Path) -> None:
    """Write the standard layout (binary PLY, float32: logarithms of scales, logits of opacities), whole or not at all.
    Raises BadInput."""
    count, rest = len(splats), 3 * (COEFFICIENTS - 1)
    names = [*"xyz", "nx", "ny", "nz", *_numbered("f_dc", 3), *_numbered("f_rest", rest)]
    names += ["opacity", *_numbered("scale", 3), *_numbered("rot", 4)]
    higher = np.zeros((count, 3, COEFFICIENTS - 1), np.float32)  # channel by channel
    higher[..., : splats.harmonics.shape[1] - 1] = splats.harmonics[:, 1:].transpose(0, 2, 1)
    opacity = np.clip(splats.opacity, 1e-6, 1 - 1e-6)
    table = np.concatenate(
        [
            splats.means, splats.normals, splats.harmonics[:, 0], higher.reshape(count, rest),
            np.log(opacity / (1 - opacity))[:, None], np.log(splats.scales), splats.rotations,
        ],
        axis=1, dtype="<f4",
    )  # fmt: skip
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    header += [*(f"property float {name}" for name in names), "end_header", ""]
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write("\n".join(header).encode())
        file.write(table.tobytes())


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}_{number}" for number in range(count)]
