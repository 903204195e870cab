# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes captures as other programs do, from their documented conventions and not from our readers.

Every writer takes a folder and camera-to-world poses (4, 4), OpenGL axes, writes a capture of pictures of `SIZE`
pixels, and returns a function that says where the *source* sees a world point: (pose index, points (N, 3)) → (N, 2).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from capture_on_disk import photo, ring
from scipy.spatial.transform import Rotation

SIZE = (64, 48)
Projection = Callable[[int, np.ndarray], np.ndarray]
Distort = Callable[[float, float], tuple[float, float]]
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


def world_to_camera(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R, t) with axes x right, y down, z forward."""
    matrix = np.linalg.inv(pose @ FLIP)
    return matrix[:3, :3], matrix[:3, 3]


def seen(
    poses: list[np.ndarray], fx: float, fy: float, cx: float, cy: float, distort: Distort = lambda x, y: (x, y)
) -> Projection:
    """The projection of a camera whose `distort` bends normalised coordinates, y down."""

    def project(index: int, points: np.ndarray) -> np.ndarray:
        rotation, shift = world_to_camera(poses[index])
        found = []
        for point in points:
            x, y, z = rotation @ point + shift
            u, v = distort(x / z, y / z)
            found.append((fx * u + cx, fy * v + cy))
        return np.array(found)

    return project


def photos(folder: Path, names: list[str], size: tuple[int, int] | None = None) -> None:
    for name in names:
        photo(folder / name, *(size or SIZE))


def _names(count: int, pattern: str = "images/{:03d}.png") -> list[str]:
    return [pattern.format(index) for index in range(count)]


def _dump(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def blender_synthetic(folder: Path, poses: list[np.ndarray]) -> Projection:
    """NeRF's synthetic scenes: frames without extension, one field of view; a third each to train, val and test."""
    angle = 0.8
    for start, split in enumerate(("train", "val", "test")):
        frames = [
            {"file_path": f"./{split}/r_{index}", "rotation": 0.01, "transform_matrix": poses[index].tolist()}
            for index in range(start, len(poses), 3)
        ]
        photos(folder, [f"{frame['file_path']}.png" for frame in frames])
        _dump(folder / f"transforms_{split}.json", {"camera_angle_x": angle, "frames": frames})
    order = [index for start in (1, 2, 0) for index in range(start, len(poses), 3)]  # test, train, val by path
    order = sorted(range(len(poses)), key=lambda i: (("train", "val", "test")[i % 3], i))
    focal = SIZE[0] / 2 / np.tan(angle / 2)
    return seen([poses[index] for index in order], focal, focal, SIZE[0] / 2, SIZE[1] / 2)


def llff(folder: Path, poses: list[np.ndarray]) -> Projection:
    """LLFF: columns down, right, back, position, (height, width, focal); then the near and far depth."""
    rows = []
    for pose in poses:
        right, up, back, place = pose[:3].T
        matrix = np.stack([-up, right, back, place, (SIZE[1], SIZE[0], 70.0)], axis=1)
        rows.append(np.concatenate([matrix.ravel(), [1.0, 9.0]]))
    photos(folder, _names(len(poses)))
    np.save(folder / "poses_bounds.npy", np.array(rows))
    return seen(poses, 70, 70, SIZE[0] / 2, SIZE[1] / 2)


def gaussian_splatting(folder: Path, poses: list[np.ndarray]) -> Projection:
    """3D Gaussian Splatting: camera to world, x right, y down, z forward; names without extension."""
    cameras = []
    for index, pose in enumerate(poses):
        camera = np.linalg.inv(np.vstack([np.column_stack(world_to_camera(pose)), [0, 0, 0, 1]]))
        cameras.append(
            {
                "id": index, "img_name": f"{index:03d}", "width": SIZE[0], "height": SIZE[1],
                "position": camera[:3, 3].tolist(), "rotation": camera[:3, :3].tolist(), "fy": 71.0, "fx": 70.0,
            }
        )  # fmt: skip
    photos(folder, _names(len(poses)))
    _dump(folder / "cameras.json", cameras)
    return seen(poses, 70, 71, SIZE[0] / 2, SIZE[1] / 2)


def record3d(folder: Path, poses: list[np.ndarray]) -> Projection:
    """Record3D: quaternion (x, y, z, w) and position, K by columns; four poses more than pictures."""
    listed = [[*Rotation.from_matrix(pose[:3, :3]).as_quat(), *pose[:3, 3]] for pose in [*poses, *poses[:4]]]
    k = np.array([[70.0, 0, 33], [0, 70, 25], [0, 0, 1]])
    photos(folder, _names(len(poses), "rgb/{}.jpg"))
    _dump(folder / "metadata.json", {
        "h": SIZE[1], "w": SIZE[0], "fps": 60, "dw": 8, "dh": 6, "K": k.flatten(order="F").tolist(), "poses": listed,
    })  # fmt: skip
    return seen(poses, 70, 70, 33, 25)


def polycam(folder: Path, poses: list[np.ndarray]) -> Projection:
    """Polycam: rows of the camera-to-world matrix by name, a file for each picture."""
    for index, pose in enumerate(poses):
        camera = {f"t_{row}{column}": pose[row, column] for row in range(3) for column in range(4)}
        camera |= {"fx": 70.0, "fy": 71.0, "cx": 33.0, "cy": 25.0, "width": SIZE[0], "height": SIZE[1],
                   "blur_score": 90.0, "timestamp": 1000 + index}  # fmt: skip
        _dump(folder / f"keyframes/corrected_cameras/{1000 + index}.json", camera)
    photos(folder, [f"keyframes/corrected_images/{1000 + index}.jpg" for index in range(len(poses))])
    return seen(poses, 70, 71, 33, 25)


def meshroom(folder: Path, poses: list[np.ndarray]) -> Projection:
    """AliceVision's format 1.2.6 with a lens of type brown; numbers are strings, pictures lie on another machine."""
    k1, k2, k3, t1, t2 = 0.05, -0.02, 0.01, 0.002, -0.003
    _dump(folder / "cameras.sfm", {
        "version": ["1", "2", "6"],
        "views": [
            {"viewId": str(7 * i), "poseId": str(7 * i), "intrinsicId": "1", "path": f"/home/me/images/{i:03d}.png",
             "width": "64", "height": "48", "metadata": {"Make": "me"}}
            for i in range(len(poses))
        ],
        "intrinsics": [
            {"intrinsicId": "1", "width": "64", "height": "48", "sensorWidth": "32", "sensorHeight": "24",
             "serialNumber": "1", "type": "brown", "focalLength": "35", "pixelRatio": "1.02",
             "principalPoint": ["1", "-0.5"], "distortionParams": [str(v) for v in (k1, k2, k3, t1, t2)],
             "locked": "0"}
        ],
        "poses": [
            {"poseId": str(7 * i), "pose": {"transform": {
                "rotation": [repr(v) for v in world_to_camera(pose)[0].flatten(order="F").tolist()],
                "center": [repr(v) for v in pose[:3, 3].tolist()]}, "locked": "0"}}
            for i, pose in enumerate(poses)
        ],
        "structure": [{"landmarkId": "0", "descType": "sift", "color": ["1", "2", "3"], "X": ["0.5", "0", "-1"]}],
    })  # fmt: skip
    photos(folder, _names(len(poses)))

    def distort(x: float, y: float) -> tuple[float, float]:
        r2 = x * x + y * y
        radial = k1 * r2 + k2 * r2**2 + k3 * r2**3
        return (
            x + x * radial + t2 * (r2 + 2 * x * x) + 2 * t1 * x * y,
            y + y * radial + t1 * (r2 + 2 * y * y) + 2 * t2 * x * y,
        )

    return seen(poses, 70, 70 * 1.02, 33, 23.5, distort)


def opensfm(folder: Path, poses: list[np.ndarray]) -> Projection:
    """OpenSfM with its camera brown: angle-axis, world to camera; the longer side is the unit on the picture."""
    k1, k2, k3, p1, p2 = 0.05, -0.02, 0.01, 0.002, -0.003
    shots = {}
    for index, pose in enumerate(poses):
        rotation, shift = world_to_camera(pose)
        turn = Rotation.from_matrix(rotation).as_rotvec()
        shots[f"{index:03d}.png"] = {
            "rotation": turn.tolist(), "translation": shift.tolist(), "camera": "v2 me",
            "gps_dop": 15.0, "gps_position": pose[:3, 3].tolist(),
        }  # fmt: skip
    camera = {
        "projection_type": "brown", "width": SIZE[0], "height": SIZE[1], "focal_x": 1.1, "focal_y": 1.12,
        "c_x": 0.01, "c_y": -0.02, "k1": k1, "k2": k2, "k3": k3, "p1": p1, "p2": p2,
    }  # fmt: skip
    points = {"5": {"color": [1.0, 2.0, 3.0], "coordinates": [0.5, 0.0, -1.0]}}
    _dump(folder / "reconstruction.json", [{"cameras": {"v2 me": camera}, "shots": shots, "points": points}])
    photos(folder, _names(len(poses)))

    def distort(x: float, y: float) -> tuple[float, float]:
        r2 = x * x + y * y
        radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
        return x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), (
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
        )

    return seen(poses, 1.1 * 64, 1.12 * 64, 32 + 0.64, 24 - 1.28, distort)


def metashape_xml(
    poses: list[np.ndarray], calibration: dict[str, float], sensor: str = "frame", transform: str = ""
) -> str:
    """Metashape's exported cameras: camera to chunk, x right, y down, z forward, row by row."""
    cameras = "".join(
        f'<camera id="{index}" sensor_id="0" component_id="0" label="{index:03d}">'
        f"<transform>{' '.join(map(repr, (pose @ FLIP).ravel().tolist()))}</transform></camera>"
        for index, pose in enumerate(poses)
    )
    values = "".join(f"<{key}>{value!r}</{key}>" for key, value in calibration.items())
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<document version="2.0.0">\n<chunk label="Chunk 1" enabled="true">'
        f'<sensors next_id="1"><sensor id="0" label="unknown" type="{sensor}">'
        f'<resolution width="{SIZE[0]}" height="{SIZE[1]}"/><calibration type="{sensor}" class="adjusted">'
        f'<resolution width="{SIZE[0]}" height="{SIZE[1]}"/>{values}</calibration></sensor></sensors>'
        f'<components next_id="1" active_id="0"><component id="0" label="Component 1">{transform}</component>'
        f'</components><cameras next_id="{len(poses)}" next_group_id="0">{cameras}</cameras></chunk></document>'
    )


def metashape(folder: Path, poses: list[np.ndarray]) -> Projection:
    """Metashape with a frame camera that uses k4, b1 and both tangential terms, in a map's coordinates."""
    c = {"f": 70.0, "cx": 1.0, "cy": -0.5, "b1": 0.7, "k1": 0.05, "k2": -0.02, "k3": 0.01, "k4": -0.004, "p1": 0.002,
         "p2": -0.003}  # fmt: skip
    transform = (
        "<transform><rotation>1 0 0 0 0 -1 0 1 0</rotation><translation>10 20 3</translation><scale>2.5</scale>"
        "</transform>"
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cameras.xml").write_text(metashape_xml(poses, c, transform=transform), encoding="utf-8")
    photos(folder, _names(len(poses)))

    def distort(x: float, y: float) -> tuple[float, float]:  # the manual's formulas, without f and the centre
        r = np.hypot(x, y)
        radial = 1 + c["k1"] * r**2 + c["k2"] * r**4 + c["k3"] * r**6 + c["k4"] * r**8
        return (
            x * radial + (c["p1"] * (r**2 + 2 * x**2) + 2 * c["p2"] * x * y),
            y * radial + (c["p2"] * (r**2 + 2 * y**2) + 2 * c["p1"] * x * y),
        )

    return seen(poses, 70 + 0.7, 70, 32 + 1, 24 - 0.5, distort)


def reality_capture(folder: Path, poses: list[np.ndarray]) -> Projection:
    """RealityCapture: heading clockwise from north, pitch, roll in degrees; the longer side is the unit."""
    k1, k2, k3, t1, t2 = 0.05, -0.02, 0.01, 0.002, -0.003
    lines = ["#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"]
    for index, pose in enumerate(poses):
        about_z, about_x, about_y = Rotation.from_matrix(pose[:3, :3]).as_euler("ZXY", degrees=True)
        values = [*pose[:3, 3], -about_z, about_x, about_y, 36 * 70 / 64, 1 / 64, -0.5 / 64, k1, k2, k3, 0, t1, t2]
        lines.append(",".join([f"{index:03d}.png", *(repr(float(value)) for value in values)]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "registration.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    photos(folder, _names(len(poses)))

    def distort(x: float, y: float) -> tuple[float, float]:
        r2 = x * x + y * y
        radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
        return (
            x * radial + 2 * t2 * x * y + t1 * (r2 + 2 * x * x),
            y * radial + t2 * (r2 + 2 * y * y) + 2 * t1 * x * y,
        )

    return seen(poses, 70, 70, 33, 23.5, distort)


WRITERS: dict[str, tuple[Callable[[Path, list[np.ndarray]], Projection], str]] = {
    # format: (writer, the file that holds its cameras)
    "Blender-synthetic": (blender_synthetic, "transforms_train.json"),
    "LLFF": (llff, "poses_bounds.npy"),
    "3D Gaussian Splatting": (gaussian_splatting, "cameras.json"),
    "Record3D": (record3d, "metadata.json"),
    "Polycam": (polycam, "keyframes/corrected_cameras/1000.json"),
    "Meshroom": (meshroom, "cameras.sfm"),
    "OpenSfM": (opensfm, "reconstruction.json"),
    "Metashape": (metashape, "cameras.xml"),
    "RealityCapture": (reality_capture, "registration.csv"),
}


def write_ring(name: str, folder: Path, count: int = 6) -> Projection:
    """A small capture of that format, of cameras around the origin."""
    folder.mkdir(parents=True, exist_ok=True)
    return WRITERS[name][0](folder, ring(count))
