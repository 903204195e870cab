# ruff: noqa: RUF005 (sums of arrays, not of lists)
"""Procedural objects: signed distance functions, combined at random and meshed by marching cubes.

Every kind takes a random generator and returns distances of its primitives on a grid; which
primitive is nearest becomes the part number, so that parts can be coloured differently.
Coordinates: about the unit ball, z up, the object facing -y.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from skimage.measure import marching_cubes

GRID = 44  # samples along each side of the cube [-1.1, 1.1]^3
EXTENT = 1.1


@dataclass
class Mesh:
    """vertices (V, 3) float32, normals (V, 3) float32, faces (F, 3) int32, parts (V,) int32."""

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    parts: np.ndarray


def _grid() -> np.ndarray:
    axis = np.linspace(-EXTENT, EXTENT, GRID, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)


P = _grid()  # (GRID, GRID, GRID, 3)


def ellipsoid(centre, radii) -> np.ndarray:
    q = (P - np.float32(centre)) / np.float32(radii)
    return (np.linalg.norm(q, axis=-1) - 1) * np.float32(np.min(radii))


def capsule(a, b, radius, radius_b=None) -> np.ndarray:
    """A round stick from a to b; with radius_b, a tapered one."""
    a, b = np.float32(a), np.float32(b)
    along = np.clip((P - a) @ (b - a) / max(float((b - a) @ (b - a)), 1e-6), 0, 1)
    distance = np.linalg.norm(P - a - along[..., None] * (b - a), axis=-1)
    return distance - (radius + along * ((radius if radius_b is None else radius_b) - radius))


def box(centre, half, rounding=0.03) -> np.ndarray:
    q = np.abs(P - np.float32(centre)) - np.float32(half) + rounding
    return np.linalg.norm(np.maximum(q, 0), axis=-1) + np.minimum(q.max(-1), 0) - rounding


def cylinder(centre, radius, half_height, axis=2, rounding=0.02) -> np.ndarray:
    q = P - np.float32(centre)
    others = [k for k in range(3) if k != axis]
    d = (
        np.stack([np.hypot(q[..., others[0]], q[..., others[1]]) - radius, np.abs(q[..., axis]) - half_height], -1)
        + rounding
    )
    return np.linalg.norm(np.maximum(d, 0), axis=-1) + np.minimum(d.max(-1), 0) - rounding


def torus(centre, radius, thickness, axis=2) -> np.ndarray:
    q = P - np.float32(centre)
    others = [k for k in range(3) if k != axis]
    return np.hypot(np.hypot(q[..., others[0]], q[..., others[1]]) - radius, q[..., axis]) - thickness


def lathe(profile) -> np.ndarray:
    """A body of revolution: profile gives radii at equal heights from -1 to 1."""
    z = np.clip((P[..., 2] + 0.95) / 1.9, 0, 1) * (len(profile) - 1)
    radius = np.interp(z, np.arange(len(profile)), profile).astype(np.float32)
    return np.maximum((np.hypot(P[..., 0], P[..., 1]) - radius) * 0.7, np.abs(P[..., 2]) - 0.95)


def creature(r):
    body = r.uniform([0.25, 0.4, 0.22], [0.4, 0.6, 0.36])
    leg, height = r.uniform(0.07, 0.14), r.uniform(-0.95, -0.5)
    head = np.array([0, -body[1] - r.uniform(0, 0.2), r.uniform(0.15, 0.55)])
    size = r.uniform(0.2, 0.36)
    parts = [ellipsoid((0, 0, 0), body), ellipsoid(head, size * r.uniform(0.85, 1.15, 3)),
             capsule((0, -body[1] * 0.7, 0.05), head, size * 0.6)]  # fmt: skip
    for x in (-1, 1):
        for y in (-1, 1):
            top = (x * body[0] * 0.6, y * body[1] * 0.65, -0.1)
            parts.append(capsule(top, (x * body[0] * 0.6, y * body[1] * 0.7, height), leg * 1.3, leg))
        ear = head + [x * size * 0.6, 0, size * 0.7]
        parts.append(
            capsule(ear, ear + [x * r.uniform(0, 0.12), 0.02, r.uniform(0.08, 0.4)], r.uniform(0.06, 0.12), 0.03)
        )
    parts.append(capsule(head, head + [0, -size * r.uniform(0.8, 1.7), -size * 0.3], size * 0.55, size * 0.28))
    parts.append(
        capsule(
            (0, body[1] * 0.9, 0.05), (r.uniform(-0.3, 0.3), 1.0, r.uniform(-0.2, 0.6)), 0.09, r.uniform(0.03, 0.14)
        )
    )
    return parts, 0.07


def animal_head(r):
    skull = r.uniform([0.5, 0.45, 0.48], [0.68, 0.6, 0.66])
    snout = r.uniform(0.5, 0.95)
    parts = [ellipsoid((0, 0.1, 0.05), skull),
             capsule((0, -0.2, -0.12), (0, -snout, -0.25), 0.36, r.uniform(0.12, 0.24)),
             ellipsoid((0, -snout - 0.12, -0.2), (0.09, 0.07, 0.07))]  # fmt: skip
    long = r.uniform(0.25, 0.6)
    for x in (-1, 1):
        base = np.array([x * skull[0] * 0.62, 0.05, skull[2] * 0.72])
        parts.append(
            capsule(base, base + [x * r.uniform(0.02, 0.25), 0, long], r.uniform(0.12, 0.2), r.uniform(0.02, 0.1))
        )
        parts.append(ellipsoid((x * skull[0] * 0.45, -skull[1] * 0.68, 0.15), (0.08, 0.07, 0.08)))
    if r.random() < 0.6:
        parts.append(capsule((0, 0.2, -0.3), (0, 0.3, -1.05), r.uniform(0.3, 0.5), r.uniform(0.4, 0.75)))
    return parts, 0.06


def bust(r):
    face = r.uniform([0.26, 0.3, 0.36], [0.36, 0.4, 0.48])
    parts = [ellipsoid((0, 0, 0.45), face), capsule((0, 0.05, 0.2), (0, 0.05, -0.3), r.uniform(0.13, 0.22)),
             ellipsoid((0, 0.05, -0.68), (r.uniform(0.6, 0.9), r.uniform(0.28, 0.4), r.uniform(0.3, 0.45))),
             capsule((0, -face[1] * 0.9, 0.55), (0, -face[1] - 0.1, 0.4), 0.05, 0.08)]  # fmt: skip
    for x in (-1, 1):
        parts.append(ellipsoid((x * face[0], 0.02, 0.45), (0.05, 0.09, 0.12)))
        parts.append(ellipsoid((x * 0.12, -face[1] * 0.85, 0.53), (0.06, 0.05, 0.04)))
    hair = r.random()
    if hair < 0.5:
        parts.append(ellipsoid((0, 0.08, 0.6), face * [1.08, 1.05, 0.9]))
    elif hair < 0.75:
        parts.append(cylinder((0, 0, 0.78), r.uniform(0.3, 0.4), r.uniform(0.1, 0.22)))
        parts.append(cylinder((0, 0, 0.66), r.uniform(0.42, 0.6), 0.04))
    return parts, 0.05


def humanoid(r):
    lean, width = r.uniform(-0.1, 0.1), r.uniform(0.16, 0.3)
    parts = [ellipsoid((lean, 0, 0.72), (0.19, 0.2, 0.23)), capsule((0, 0, -0.05), (lean, 0, 0.4), width, width * 1.1)]
    for x in (-1, 1):
        elbow = np.array([x * r.uniform(0.4, 0.75), r.uniform(-0.3, 0.1), r.uniform(-0.1, 0.5)])
        parts += [capsule((x * width, 0, 0.42), elbow, 0.1, 0.08),
                  capsule(elbow, elbow + [x * r.uniform(-0.3, 0.25), r.uniform(-0.3, 0.1), r.uniform(-0.4, 0.4)], 0.08),
                  capsule((x * width * 0.6, 0, -0.15), (x * r.uniform(0.12, 0.4), r.uniform(-0.25, 0.25), -0.95),
                          0.14, 0.1)]  # fmt: skip
    return parts, 0.05


def blob(r):
    count = r.integers(2, 7)
    return [ellipsoid(r.uniform(-0.5, 0.5, 3), r.uniform(0.18, 0.55, 3)) for _ in range(count)], r.uniform(0.03, 0.2)


def superquadric(r):
    e1, e2 = r.uniform(0.3, 1.9, 2)
    q = np.abs(P / np.float32(r.uniform(0.55, 1.0, 3))) + 1e-6
    f = (q[..., 0] ** (2 / e2) + q[..., 1] ** (2 / e2)) ** (e2 / e1) + q[..., 2] ** (2 / e1)
    return [(f ** (e1 / 2) - 1) * 0.5], 0.0


def rock(r):
    q = P * np.float32(r.uniform(0.9, 1.5, 3))
    bump = sum(np.sin(q @ r.normal(0, f, 3).astype(np.float32) + r.uniform(0, 6)) / f for f in (2, 3, 4, 6, 8, 9))
    return [np.linalg.norm(q, axis=-1) - 0.85 + 0.14 * bump], 0.0


def ring(r):
    kind = r.integers(3)
    if kind == 0:
        return [torus((0, 0, 0), r.uniform(0.5, 0.7), r.uniform(0.14, 0.32), r.integers(3))], 0.0
    if kind == 1:
        return [
            torus((-0.25, 0, 0), 0.45, r.uniform(0.12, 0.2), 2),
            torus((0.25, 0, 0), 0.45, r.uniform(0.12, 0.2), 1),
        ], 0.0
    p, q = [(2, 3), (3, 2), (2, 5)][r.integers(3)]
    t = np.linspace(0, 2 * np.pi, 40)
    radius = 0.5 + 0.22 * np.cos(q * t)
    curve = np.stack([radius * np.cos(p * t), radius * np.sin(p * t), 0.32 * np.sin(q * t)], -1)
    thick = r.uniform(0.1, 0.17)
    return [np.minimum.reduce([capsule(a, b, thick) for a, b in itertools.pairwise(curve)])], 0.0


def vessel(r):
    kind = r.integers(3)
    if kind == 0:  # vase
        profile = r.uniform(0.18, 0.62, 6)
        profile = np.interp(np.linspace(0, 5, 24), np.arange(6), profile)
        profile = np.convolve(np.pad(profile, 3, "edge"), np.ones(7) / 7, "valid")
        return [lathe(profile)], 0.02
    if kind == 1:  # bottle
        neck, body, shoulder = r.uniform(0.1, 0.18), r.uniform(0.3, 0.46), r.integers(9, 16)
        profile = np.full(24, body)
        profile[shoulder:] = np.maximum(neck, body - (np.arange(24 - shoulder)) * r.uniform(0.04, 0.12))
        return [lathe(profile), cylinder((0, 0, 0.95), neck * 1.2, 0.08)], 0.01
    radius = r.uniform(0.38, 0.6)  # can
    height = r.uniform(0.6, 0.95)
    return [cylinder((0, 0, 0), radius, height, 2, 0.06), cylinder((0, 0, height), radius * 0.86, 0.05),
            cylinder((0, 0, -height), radius * 0.86, 0.05)], 0.01  # fmt: skip


def mug(r):
    radius, height = r.uniform(0.4, 0.58), r.uniform(0.45, 0.75)
    wall = np.maximum(cylinder((0, 0, 0), radius, height), -cylinder((0, 0, 0.15), radius * 0.82, height))
    return [wall, np.maximum(torus((radius, 0, 0), height * 0.5, 0.09, 1), radius * 0.9 - P[..., 0])], 0.02


def chair(r):
    seat, depth, top = r.uniform(0.4, 0.55), r.uniform(0.35, 0.5), r.uniform(0.7, 1.0)
    leg = r.uniform(0.06, 0.09)
    parts = [box((0, 0, -0.1), (seat, depth, 0.08)), box((0, depth, top / 2), (seat, 0.07, top / 2 + 0.05))]
    parts += [
        box((x * (seat - leg), y * (depth - leg), -0.55), (leg, leg, 0.45), 0.02) for x in (-1, 1) for y in (-1, 1)
    ]
    return parts, 0.0


def table(r):
    width, depth, leg = r.uniform(0.6, 1.0), r.uniform(0.4, 0.8), r.uniform(0.06, 0.12)
    parts = [box((0, 0, 0.25), (width, depth, r.uniform(0.06, 0.12)))]
    parts += [
        box((x * (width - leg), y * (depth - leg), -0.3), (leg, leg, 0.5), 0.02) for x in (-1, 1) for y in (-1, 1)
    ]
    return parts, 0.0


def house(r):
    w, d, h = r.uniform(0.45, 0.8), r.uniform(0.4, 0.7), r.uniform(0.3, 0.55)
    slope = r.uniform(0.6, 1.2)
    roof = np.maximum.reduce(
        [np.abs(P[..., 0]) * slope + (P[..., 2] - h) - w * slope * 1.15, h - P[..., 2], np.abs(P[..., 1]) - d * 1.1]
    )
    parts = [box((0, 0, h - 0.7), (w, d, 0.7)), roof * 0.7, box((w * 0.5, d * 0.3, h + 0.35), (0.09, 0.09, 0.35)),
             box((0, -d, h - 1.0), (0.13, 0.05, 0.25))]  # fmt: skip
    parts += [box((x * w * 0.6, -d, h - 0.55), (0.12, 0.05, 0.13)) for x in (-1, 1)]
    return parts, 0.0


def tree(r):
    parts = [capsule((0, 0, -1), (r.uniform(-0.1, 0.1), 0, 0), r.uniform(0.1, 0.18), 0.08)]
    if r.random() < 0.4:
        for k in range(3):
            base = -0.35 + 0.4 * k
            cone = np.hypot(P[..., 0], P[..., 1]) - (0.62 - 0.15 * k) * np.clip((base + 0.6 - P[..., 2]) / 0.6, 0, 1)
            parts.append(np.maximum(cone * 0.7, base - P[..., 2]))
    else:
        parts += [
            ellipsoid(r.uniform([-0.4, -0.4, 0], [0.4, 0.4, 0.6]), r.uniform(0.25, 0.5, 3))
            for _ in range(r.integers(3, 7))
        ]
    return parts, 0.04


def car(r):
    length, width, h = r.uniform(0.75, 1.0), r.uniform(0.36, 0.48), r.uniform(0.18, 0.28)
    parts = [
        box((0, 0, -0.1), (length, width, h), 0.1),
        box(
            (r.uniform(-0.2, 0.2), 0, h + 0.08), (length * r.uniform(0.4, 0.6), width * 0.88, r.uniform(0.18, 0.3)), 0.1
        ),
    ]
    wheel = r.uniform(0.18, 0.26)
    parts += [cylinder((x * length * 0.6, y * width, -0.32), wheel, 0.09, 1) for x in (-1, 1) for y in (-1, 1)]
    return parts, 0.0


def bricks(r):
    """Stacked blocks with studs, of many parts."""
    parts = []
    for _ in range(r.integers(4, 9)):
        half = r.uniform(0.12, 0.4, 3) * [1, 1, 0.6]
        centre = r.uniform(-0.5, 0.5, 3)
        parts.append(box(centre, half, 0.01))
        if r.random() < 0.6:
            parts.append(cylinder(centre + [0, 0, half[2] + 0.04], min(half[:2]) * 0.6, 0.06))
    return parts, 0.0


def mushroom(r):
    cap = np.maximum(
        ellipsoid((0, 0, 0.2), (r.uniform(0.55, 0.95), r.uniform(0.55, 0.95), r.uniform(0.4, 0.7))), 0.12 - P[..., 2]
    )
    return [cap, capsule((0, 0, -0.95), (0, 0, 0.2), r.uniform(0.18, 0.3), r.uniform(0.12, 0.22))], 0.04


def gem(r):
    planes = r.normal(size=(r.integers(8, 18), 3))
    planes /= np.linalg.norm(planes, axis=1, keepdims=True)
    return [np.maximum.reduce([P @ n.astype(np.float32) - r.uniform(0.55, 0.85) for n in planes])], 0.0


def plant(r):
    parts = [np.maximum(cylinder((0, 0, -0.65), r.uniform(0.28, 0.42), 0.3), -cylinder((0, 0, -0.4), 0.22, 0.15))]
    for _ in range(r.integers(5, 10)):
        tip = r.normal(0, 0.45, 3) * [1, 1, 0] + [0, 0, r.uniform(0.1, 0.95)]
        parts.append(capsule((0, 0, -0.4), tip * 0.7, 0.04, 0.05))
        parts.append(ellipsoid(tip * 0.85, r.uniform(0.08, 0.28, 3)))
    return parts, 0.03


KINDS = {f.__name__: f for f in (creature, animal_head, bust, humanoid, blob, superquadric, rock, ring, vessel, mug,
                                chair, table, house, tree, car, bricks, mushroom, gem, plant)}  # fmt: skip
HELD_OUT_KINDS = ("mug", "chair", "mushroom")  # the tests show objects of kinds that training never saw
# Statues, animals, heads and cans are what people edit most.
WEIGHTS = {"creature": 3, "animal_head": 3, "bust": 2, "humanoid": 2, "vessel": 3, "blob": 2, "bricks": 2}


def choose_kind(rng: np.random.Generator, held_out: bool) -> str:
    """A kind for training, or for testing, where half the objects are of kinds never trained on."""
    if held_out and rng.random() < 0.5:
        return str(rng.choice(HELD_OUT_KINDS))
    kinds = [k for k in KINDS if k not in HELD_OUT_KINDS]
    weights = np.array([WEIGHTS.get(k, 1) for k in kinds], float)
    return str(rng.choice(kinds, p=weights / weights.sum()))


def smooth_union(parts: list[np.ndarray], softness: float) -> np.ndarray:
    """The polynomial smooth minimum of distances."""
    total = parts[0]
    for part in parts[1:]:
        if softness <= 0:
            total = np.minimum(total, part)
        else:
            h = np.clip(0.5 + 0.5 * (part - total) / softness, 0, 1)
            total = part * (1 - h) + total * h - softness * h * (1 - h)
    return total


def make(kind: str, rng: np.random.Generator) -> Mesh:
    """An object of one kind, scaled to the unit ball round the origin."""
    parts, softness = KINDS[kind](rng)
    field = smooth_union(parts, softness)
    field = np.pad(field[1:-1, 1:-1, 1:-1], 1, constant_values=0.1)
    step = 2 * EXTENT / (GRID - 1)
    vertices, faces, normals, _ = marching_cubes(field, 0.0, spacing=(step,) * 3)
    index = np.clip(np.rint(vertices / step).astype(int), 0, GRID - 1)
    nearest = np.stack([p[index[:, 0], index[:, 1], index[:, 2]] for p in parts], -1).argmin(-1)
    vertices = (vertices - EXTENT).astype(np.float32)
    centre = (vertices.min(0) + vertices.max(0)) / 2
    vertices = (vertices - centre) / max(float(np.linalg.norm(vertices - centre, axis=1).max()), 1e-3)
    return Mesh(vertices, np.ascontiguousarray(-normals, np.float32), faces.astype(np.int32), nearest.astype(np.int32))
