"""A few held-out views with their true edits, in `held_out/`: the shipped model is tested without rendering.

`python -m tests.training.held_out` writes them again: scenes with seeds and shapes that training never has, and no
photograph of anybody's.
"""

from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parent / "held_out"
SEEDS = range(9000, 9006)
SUBJECT_KEYS = ("gold", "red")  # truths on disk; those of whole-picture instructions are made by their filters


def write() -> None:
    import cv2

    from training import pairs

    coarse = np.random.default_rng(2).random((6, 8, 3)).astype(np.float32)
    photo = (cv2.resize(coarse, (200, 160), interpolation=cv2.INTER_CUBIC).clip(0, 1) * 255).astype(np.uint8)
    FOLDER.mkdir(exist_ok=True)
    number = 0
    for seed in SEEDS:
        for stack, mask in pairs.render_scene(seed, True, [photo])[:1]:
            rows = [stack[0], *(stack[1 + pairs.RENDERED.index(k)] for k in SUBJECT_KEYS)]
            rows.append(np.repeat(mask[..., None].astype(np.uint8) * 255, 3, -1))
            Image.fromarray(np.concatenate(rows, 1)).save(FOLDER / f"{number}.png", optimize=True)
            number += 1


def read(keys: tuple[str, ...]) -> list:
    """The views as evaluation cases, with truths for `keys`."""
    from training import evaluate, filters

    cases = []
    for path in sorted(FOLDER.glob("*.png")):
        strip = np.asarray(Image.open(path), np.float32) / 255
        picture, *edits, mask = np.split(strip, 2 + len(SUBJECT_KEYS), 1)
        subject = dict(zip(SUBJECT_KEYS, edits, strict=True))
        truths = {k: subject[k] if k in subject else filters.apply(k, picture) for k in keys}
        cases.append(evaluate.Case(np.ascontiguousarray(picture), truths, mask[..., 0] > 0.5))
    return cases


if __name__ == "__main__":
    write()
