"""Rendered views on disk: the picture as it is, its edited versions, and the subject's mask.

A shard is two files, `NAME.npy` (views, 14, 128, 128, 3) uint8 and `NAME-masks.npy` (views, 128, 128) bool.
Of the 14 pictures the first is the unedited one, then come those in RENDERED order. All other targets
are filters of the first and are made when they are needed. Deterministic: shard k holds scenes 100 k to 100 k + 99.
"""

import time
from pathlib import Path

import numpy as np

from . import filters, photos
from .paths import DATA, SIZE, replace_file
from .vocabulary import INSTRUCTIONS

RENDERED = (*(i.key for i in INSTRUCTIONS if i.of_subject), "snow", "fog")
SCENES_PER_SHARD = 100
VIEWS_PER_SCENE = 2
TRACED_SIZE = 160  # rays along each side, then averaged down to 128
SMALLEST_SUBJECT = 0.08  # part of the picture


def render_scene(seed: int, held_out: bool, pictures: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Views of one scene: [(pictures (14, 128, 128, 3) uint8, mask (128, 128) bool), ...]."""
    import cv2

    from . import scenes, shading, tracing

    scene = scenes.build(seed, VIEWS_PER_SCENE, held_out)
    look = shading.random_look(scene, pictures)
    tracer = tracing.Tracer(scene)
    subject_keys = [k for k in RENDERED if k not in ("snow", "fog")]
    views = []
    for camera in scene.cameras:
        view = tracer.trace(camera, TRACED_SIZE, look.light.direction)
        shader = shading.Shader(scene, look, view, np.random.default_rng([seed, len(views), int(held_out)]))
        if shader.subject.mean() < SMALLEST_SUBJECT:
            continue
        base, edits = shader.pictures(subject_keys, SIZE)
        aids = shader.aids(SIZE)
        edits["snow"] = filters.apply("snow", base, upward=aids["upward"])
        edits["fog"] = filters.apply("fog", base, depth=aids["depth"])
        stack = np.stack([base, *(edits[k] for k in RENDERED)])
        mask = cv2.resize(shader.subject.astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_AREA) > 0.5
        views.append(((stack * 255 + 0.5).astype(np.uint8), mask))
    return views


def shard_path(name: str, number: int) -> Path:
    return DATA / "pairs" / f"{name}-{number:04d}.npy"


def render_shard(name: str, number: int, pictures: list[np.ndarray]) -> None:
    path = shard_path(name, number)
    if path.exists():
        return
    started = time.time()
    views = []
    for seed in range(number * SCENES_PER_SHARD, (number + 1) * SCENES_PER_SHARD):
        views += render_scene(seed, name == "test", pictures)

    def save(array):
        def write(p):
            with open(p, "wb") as file:
                np.save(file, array)

        return write

    replace_file(path.with_name(f"{path.stem}-masks.npy"), save(np.stack([v[1] for v in views])))
    replace_file(path, save(np.stack([v[0] for v in views])))
    print(f"{path.name}: {len(views)} views in {time.time() - started:.0f} s", flush=True)


def render(first: int, last: int) -> None:
    """Render the test shard and the training shards first..last-1; those that exist are left alone."""
    render_shard("test", 0, photos.load(held_out=True))
    pictures = photos.load(held_out=False)
    for number in range(first, last):
        render_shard("train", number, pictures)


def shards(name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """The shards that are there, as (pictures, masks), memory-mapped."""
    paths = [p for p in sorted((DATA / "pairs").glob(f"{name}-????.npy"))]
    return [(np.load(p, mmap_mode="r"), np.load(p.with_name(f"{p.stem}-masks.npy"), mmap_mode="r")) for p in paths]


def target(key: str, view: np.ndarray) -> np.ndarray:
    """The edited picture (128, 128, 3) float32 of one view (14, 128, 128, 3) uint8."""
    if key in RENDERED:
        return view[1 + RENDERED.index(key)].astype(np.float32) / 255
    return filters.apply(key, view[0].astype(np.float32) / 255)
