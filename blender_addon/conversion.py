# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras and matrices between the capture frame and Blender, named ``a_from_b``. Free of bpy.

Plain tuples of floats: a few 4×4 products need no array library, and some builds of Blender come without one.
Matrices are row-major tuples of rows and act on column vectors. Camera axes are OpenGL's (x right, y up, z back),
which are Blender's own, so no axes are swapped anywhere. Intrinsics are in pixels, y down, pixel centres at
half-integers: the principal point of a centred camera is (width / 2, height / 2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

Vector = tuple[float, float, float]
Row = tuple[float, float, float, float]
Matrix = tuple[Row, Row, Row, Row]

IDENTITY: Matrix = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
SENSOR_WIDTH = 36.0  # mm, Blender's default: lenses then read like those of a full-frame camera
TOLERANCE = 1e-3  # relative: how unequal the scales of a "uniform" transform may be


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera in pixels at ``width`` × ``height``."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float


@dataclass(frozen=True)
class Camera:
    """A pose (camera to world, capture frame) and its intrinsics, which mean what the ``projection`` says: of an
    "orthographic" camera fx and fy are pixels a unit, of an "equirectangular" one pixels a radian of longitude and
    latitude, both zero at (cx, cy). ``world``: from the capture frame to Blender's world, where depths and normals are
    to be in that."""

    pose: Matrix
    intrinsics: Intrinsics
    projection: str = "perspective"
    world: Matrix | None = None


@dataclass(frozen=True)
class BlenderCamera:
    """The settings of a Blender camera and of the scene that renders it; lens and sensor in mm, shift in units of
    the fitted sensor side, resolution in pixels with the percentage already applied."""

    lens: float
    sensor_width: float
    sensor_height: float
    sensor_fit: str  # AUTO, HORIZONTAL or VERTICAL
    shift_x: float
    shift_y: float
    resolution_x: int
    resolution_y: int
    pixel_aspect_x: float
    pixel_aspect_y: float


# -- matrices ----------------------------------------------------------------------------------------------------


def matrix_from_row_major(values: Sequence[float]) -> Matrix:
    """A 4×4 matrix from 16 numbers, row by row."""
    if len(values) != 16:
        raise ValueError(f"A pose has 16 numbers, not {len(values)}.")
    rows = [tuple(float(v) for v in values[4 * i : 4 * i + 4]) for i in range(4)]
    return matrix_from_rows(rows)


def matrix_from_rows(rows: Sequence[Sequence[float]]) -> Matrix:
    """A 4×4 matrix from anything with four rows of four, such as a ``mathutils.Matrix``."""
    a, b, c, d = ((float(r[0]), float(r[1]), float(r[2]), float(r[3])) for r in rows)
    return (a, b, c, d)


def multiply(a: Matrix, b: Matrix) -> Matrix:
    """The product ``a b``."""
    return matrix_from_rows([[sum(a[i][k] * b[k][j] for k in range(4)) for j in range(4)] for i in range(4)])


def column(matrix: Matrix, index: int) -> Vector:
    """The first three entries of a column: an axis (0, 1, 2) or the position (3)."""
    return (matrix[0][index], matrix[1][index], matrix[2][index])


def matrix_from_columns(x: Vector, y: Vector, z: Vector, position: Vector) -> Matrix:
    """A 4×4 matrix from three axes and a position."""
    return ((x[0], y[0], z[0], position[0]), (x[1], y[1], z[1], position[1]), (x[2], y[2], z[2], position[2]),
            (0.0, 0.0, 0.0, 1.0))  # fmt: skip


def dot(a: Vector, b: Vector) -> float:
    """The scalar product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vector, b: Vector) -> Vector:
    """The vector product."""
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def add(a: Vector, b: Vector, factor: float = 1.0) -> Vector:
    """``a + factor b``."""
    return (a[0] + factor * b[0], a[1] + factor * b[1], a[2] + factor * b[2])


def length(a: Vector) -> float:
    """The Euclidean length."""
    return math.sqrt(dot(a, a))


def normalized(a: Vector) -> Vector:
    """The unit vector along ``a``; raises ``ValueError`` for a zero vector."""
    size = length(a)
    if size < 1e-12:
        raise ValueError("A direction of length zero has no direction.")
    return (a[0] / size, a[1] / size, a[2] / size)


def scale_of_similarity(matrix: Matrix) -> float:
    """The scale of a rotation with uniform scale; raises ``ValueError`` for stretched, sheared or mirrored ones."""
    axes = [column(matrix, i) for i in range(3)]
    sizes = [length(axis) for axis in axes]
    scale = sum(sizes) / 3.0
    if scale < 1e-12:
        raise ValueError("The capture's root is scaled to nothing; give it a scale.")
    uneven = max(sizes) - min(sizes) > TOLERANCE * scale
    skewed = any(abs(dot(axes[i], axes[j])) > TOLERANCE * scale * scale for i, j in ((0, 1), (0, 2), (1, 2)))
    if uneven or skewed:
        raise ValueError("The capture's root is stretched or sheared; give it the same scale along X, Y and Z.")
    if dot(cross(axes[0], axes[1]), axes[2]) < 0:
        raise ValueError("The capture's root is mirrored; give it a positive scale.")
    return scale


def inverse_of_similarity(matrix: Matrix) -> Matrix:
    """The inverse of a rotation with uniform scale and a position; raises as :func:`scale_of_similarity` does."""
    squared = scale_of_similarity(matrix) ** 2
    position = column(matrix, 3)
    rows: list[Row] = []
    for index in range(3):
        axis = column(matrix, index)
        rows.append((axis[0] / squared, axis[1] / squared, axis[2] / squared, -dot(axis, position) / squared))
    return matrix_from_rows([*rows, (0.0, 0.0, 0.0, 1.0)])


def capture_pose_from_world(root: Matrix, camera_world: Matrix) -> Matrix:
    """The pose in the capture frame of a camera with matrix ``camera_world`` under a capture root with matrix ``root``.

    The root may be turned, moved and uniformly scaled. A camera's own scale means nothing to Blender's renderers, so
    the axes are made unit length. Raises ``ValueError`` with a sentence where the root or the camera is sheared.
    """
    local = multiply(inverse_of_similarity(root), camera_world)
    x, y, z = (normalized(column(local, i)) for i in range(3))
    if max(abs(dot(x, y)), abs(dot(y, z)), abs(dot(x, z))) > TOLERANCE or dot(cross(x, y), z) < 0:
        raise ValueError("The camera is sheared or mirrored by its parents; clear its parents' uneven scale.")
    return matrix_from_columns(x, y, z, column(local, 3))


def world_from_capture(up: Vector, centre: Vector, radius: float) -> Matrix:
    """The transform of a new capture root: ``up`` along +Z, ``centre`` at the world's origin.

    A capture whose ``radius`` (mean distance of the cameras from the centre) is between 0.5 and 20 keeps its own
    scale, which may be metres; others are scaled to a radius of 5, so that Blender's default view can hold them.
    """
    z = normalized(up)
    # X stays as near to the capture's own X as the new Z allows, so that its heading survives.
    helper: Vector = (1.0, 0.0, 0.0) if abs(z[0]) < 0.9 else (0.0, 1.0, 0.0)
    x = normalized(add(helper, z, -dot(helper, z)))
    y = cross(z, x)
    scale = 1.0 if 0.5 <= radius <= 20.0 or radius <= 0 else 5.0 / radius
    rows = [(scale * a[0], scale * a[1], scale * a[2], -scale * dot(a, centre)) for a in (x, y, z)]
    return matrix_from_rows([*rows, (0.0, 0.0, 0.0, 1.0)])


# -- cameras -----------------------------------------------------------------------------------------------------


def blender_from_intrinsics(k: Intrinsics) -> BlenderCamera:
    """Blender's settings for a pinhole camera. Unequal focal lengths become pixel aspect (Blender wants both sides
    at least 1), the principal point becomes shift; the sensor is fitted horizontally at any orientation."""
    ratio = k.fy / k.fx
    aspect_x, aspect_y = (ratio, 1.0) if ratio >= 1.0 else (1.0, 1.0 / ratio)
    sensor = SENSOR_WIDTH
    lens = k.fx / k.width * sensor
    if lens < 1.0:  # Blender's shortest lens; a wider sensor sees the same
        lens, sensor = 1.0, k.width / k.fx
    return BlenderCamera(
        lens=lens,
        sensor_width=sensor,
        sensor_height=sensor * k.height / k.width,
        sensor_fit="HORIZONTAL",
        shift_x=(k.width / 2 - k.cx) / k.width,
        shift_y=(k.cy - k.height / 2) * aspect_y / aspect_x / k.width,
        resolution_x=k.width,
        resolution_y=k.height,
        pixel_aspect_x=aspect_x,
        pixel_aspect_y=aspect_y,
    )


def intrinsics_from_blender(b: BlenderCamera) -> Intrinsics:
    """The pinhole camera that Blender's settings make, for every sensor fit (as ``BKE_camera_params`` does it)."""
    squeeze = b.pixel_aspect_y / b.pixel_aspect_x  # a pixel's height in pixel widths
    horizontal = b.sensor_fit == "HORIZONTAL" or (
        b.sensor_fit == "AUTO" and b.resolution_x * b.pixel_aspect_x >= b.resolution_y * b.pixel_aspect_y
    )
    sensor = b.sensor_height if b.sensor_fit == "VERTICAL" else b.sensor_width
    fitted = b.resolution_x if horizontal else b.resolution_y * squeeze  # the fitted side, in pixel widths
    fx = b.lens / sensor * fitted
    return Intrinsics(
        width=b.resolution_x,
        height=b.resolution_y,
        fx=fx,
        fy=fx / squeeze,
        cx=b.resolution_x / 2 - b.shift_x * fitted,
        cy=b.resolution_y / 2 + b.shift_y * fitted / squeeze,
    )


def intrinsics_of_orthographic(b: BlenderCamera, ortho_scale: float, scale: float) -> Intrinsics:
    """What an orthographic camera sees, in pixels a unit of the capture frame, of which one is ``scale`` of Blender's
    units; ``ortho_scale`` is the width of the fitted side in Blender's."""
    return intrinsics_from_blender(replace(b, lens=scale, sensor_width=ortho_scale, sensor_height=ortho_scale))


def intrinsics_from_projection(projection: Matrix, width: int, height: int, scale: float) -> tuple[str, Intrinsics]:
    """How a viewport of that size projects, by its OpenGL projection matrix: "perspective" or "orthographic"; and its
    intrinsics, under a capture root of that ``scale``."""
    fx, fy = projection[0][0] * width / 2, projection[1][1] * height / 2
    if projection[3][3] == 0.0:
        cx, cy = (1 - projection[0][2]) * width / 2, (1 + projection[1][2]) * height / 2
        return "perspective", Intrinsics(width, height, fx, fy, cx, cy)
    cx, cy = (1 + projection[0][3]) * width / 2, (1 - projection[1][3]) * height / 2
    return "orthographic", Intrinsics(width, height, fx * scale, fy * scale, cx, cy)


def intrinsics_of_equirectangular(
    width: int, height: int, longitudes: tuple[float, float], latitudes: tuple[float, float]
) -> Intrinsics:
    """What an equirectangular camera sees between two longitudes, to the right, and two latitudes, up; radians. Raises
    ``ValueError`` where that is nothing."""
    (left, right), (low, high) = longitudes, latitudes
    if right - left < 1e-6 or high - low < 1e-6:
        raise ValueError(
            "The panoramic camera sees nothing: its largest longitude and latitude must be above the least."
        )
    fx, fy = width / (right - left), height / (high - low)
    return Intrinsics(width, height, fx, fy, -left * fx, high * fy)
