# ruff: noqa: RUF005 (sums of arrays, not of lists)
"""Random scenes: one subject, sometimes clutter, a floor, a wall, and a camera. Deterministic from a seed.

World: z up, the floor at z = 0, the subject about one unit in radius above the origin.
"""

from dataclasses import dataclass

import numpy as np

from .shapes import Mesh, choose_kind, make

SUBJECT, FLOOR, WALL, FIRST_CLUTTER, NOTHING = 0, 1, 2, 3, 255


@dataclass
class Camera:
    """Pinhole camera: position (3,), rotation (3, 3) with rows right, down, forward, focal length / width."""

    position: np.ndarray
    rotation: np.ndarray
    focal: float


@dataclass
class Scene:
    """Meshes in world coordinates by object number, and the subject's own frame for its texture."""

    meshes: dict[int, Mesh]
    kind: str
    local_from_world: dict[int, np.ndarray]  # 4x4, for textures that stick to the object
    cameras: list[Camera]
    rng: np.random.Generator  # goes on from where the scene's own draws ended


def _rotation(axis: int, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    m = np.eye(3)
    a, b = [(1, 2), (2, 0), (0, 1)][axis]
    m[a, a], m[a, b], m[b, a], m[b, b] = c, -s, s, c
    return m


def _place(mesh: Mesh, scale: np.ndarray, rotation: np.ndarray, position: np.ndarray) -> tuple[Mesh, np.ndarray]:
    linear = rotation * scale
    vertices = mesh.vertices @ linear.T
    shift = position + [0, 0, -vertices[:, 2].min()]
    normals = mesh.normals @ np.linalg.inv(linear)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = linear, shift
    return Mesh(
        (vertices + shift).astype(np.float32), normals.astype(np.float32), mesh.faces, mesh.parts
    ), np.linalg.inv(world)


def _quad(corners) -> Mesh:
    corners = np.float32(corners)
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    normal /= np.linalg.norm(normal)
    faces = np.int32([[0, 1, 2], [0, 2, 3]])
    return Mesh(corners, np.repeat(normal[None], 4, 0).astype(np.float32), faces, np.zeros(4, np.int32))


def look_at(position: np.ndarray, target: np.ndarray, focal: float, roll: float = 0.0) -> Camera:
    forward = target - position
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    right, down = right * np.cos(roll) + down * np.sin(roll), down * np.cos(roll) - right * np.sin(roll)
    return Camera(position, np.stack([right, down, forward]), focal)


def build(seed: int, views: int, held_out: bool = False) -> Scene:
    """The scene of a seed with `views` cameras round its subject."""
    rng = np.random.default_rng([seed, int(held_out)])
    kind = choose_kind(rng, held_out)
    mesh = make(kind, rng)
    stretch = rng.uniform(0.8, 1.2, 3)
    tilt = (
        _rotation(0, rng.normal(0, 0.08))
        if rng.random() < 0.7
        else _rotation(rng.integers(3), rng.uniform(0, 2 * np.pi))
    )
    yaw = _rotation(2, rng.uniform(-0.8, 0.8) if rng.random() < 0.6 else rng.uniform(0, 2 * np.pi))
    meshes: dict[int, Mesh] = {}
    local: dict[int, np.ndarray] = {}
    lift = rng.uniform(0, 0.6) if rng.random() < 0.1 else 0.0
    meshes[SUBJECT], local[SUBJECT] = _place(mesh, stretch, tilt @ yaw, np.array([0, 0, lift]))

    floor = rng.random() < 0.8
    wall = floor and rng.random() < 0.45
    if floor:
        far = 40.0 if rng.random() < 0.6 else rng.uniform(2.2, 6)
        meshes[FLOOR] = _quad([[-far, -far, 0], [far, -far, 0], [far, far, 0], [-far, far, 0]])
    if wall:
        turn = _rotation(2, rng.uniform(-0.6, 0.6))
        back = rng.uniform(1.5, 4)
        corners = np.array([[-20, back, -0.1], [20, back, -0.1], [20, back, 14], [-20, back, 14]]) @ turn.T
        meshes[WALL] = _quad(corners)
    if floor and rng.random() < 0.45:
        for number in range(int(rng.integers(1, 4))):
            angle = rng.uniform(0, 2 * np.pi) if not wall else rng.uniform(np.pi, 2 * np.pi)
            distance, size = rng.uniform(1.6, 3.6), rng.uniform(0.25, 0.6)
            thing = make(choose_kind(rng, held_out), rng)
            place = np.array([distance * np.cos(angle), distance * np.sin(angle), 0])
            meshes[FIRST_CLUTTER + number], local[FIRST_CLUTTER + number] = _place(
                thing, np.full(3, size), _rotation(2, rng.uniform(0, 2 * np.pi)), place
            )

    subject = meshes[SUBJECT].vertices
    centre = (subject.min(0) + subject.max(0)) / 2
    radius = np.linalg.norm(subject - centre, axis=1).max()
    start = rng.uniform(-1.2, 1.2) if wall or rng.random() < 0.5 else rng.uniform(0, 2 * np.pi)
    focal = rng.uniform(0.9, 1.9)
    fill = rng.uniform(0.8, 1.5)  # the subject's diameter as a part of the picture
    height = rng.uniform(0.02, 0.75)
    cameras = []
    for _ in range(views):
        azimuth = start + rng.uniform(-0.45, 0.45) - np.pi / 2
        elevation = np.clip(height + rng.normal(0, 0.08), -0.02 if floor else -0.4, 1.2)
        distance = 2 * focal * radius / (fill * rng.uniform(0.9, 1.1))
        direction = np.array(
            [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)]
        )
        position = centre + direction * distance
        position[2] = max(position[2], 0.06) if floor else position[2]
        target = centre + rng.normal(0, 0.09, 3) * radius
        cameras.append(look_at(position, target, focal, rng.normal(0, 0.03)))
    return Scene(meshes, kind, local, cameras, rng)
