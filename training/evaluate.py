"""The figures of the model card, measured on scenes, objects and photographs that training never saw.

One command prints them and writes them beside the exported model as `figures.json`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from engine.jobs.trying import NOISE

from . import filters, latents, pairs, vae
from .paths import EXPORT, SIZE, read_json, write_json
from .perceptual import PerceptualDistance
from .sampling import Editor
from .vocabulary import BY_KEY, INSTRUCTIONS, KEYS, unknown_text, wording

WHOLE_LIMIT = 0.65  # ST-LPIPS to the truth, relative to the unedited picture's
SUBJECT_LIMIT = 0.60  # colour error inside the mask, relative to the unedited picture's
OUTSIDE_LIMIT = 0.10  # change outside the mask, relative to the picture's contrast


@dataclass
class Case:
    """One held-out picture: (128, 128, 3) in 0..1, its truths by instruction, and its subject's mask or None."""

    picture: np.ndarray
    truths: dict[str, np.ndarray]
    mask: np.ndarray | None


def cases(count: int) -> tuple[list[Case], list[Case]]:
    """`count` rendered views, of different scenes, and `count` crops of photographs."""
    (stack, masks), *_ = pairs.shards("test")
    step = max(len(stack) // count, 1)
    views = [
        Case(view[0].astype(np.float32) / 255, {k: pairs.target(k, view) for k in KEYS}, np.array(mask))
        for view, mask in zip(stack[::step][:count], masks[::step][:count], strict=True)
    ]
    crops = latents.photo_crops(0, SIZE, held_out=True)[:count]
    return views, [Case(c, {k: filters.apply(k, c) for k in filters.FILTERS}, None) for c in crops]


def as_tensor(pictures: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()


def colour_error(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean CIELAB distance of two pictures, inside the mask if there is one."""
    distance = np.linalg.norm(cv2.cvtColor(a, cv2.COLOR_RGB2LAB) - cv2.cvtColor(b, cv2.COLOR_RGB2LAB), axis=-1)
    return float(distance.mean() if mask is None else distance[mask].mean())


def change_outside(edit: np.ndarray, base: np.ndarray, mask: np.ndarray) -> float:
    """Mean difference outside the mask, at a quarter of the size, over the picture's contrast.

    Contrast: the standard deviation of the picture's values. The band of 4 pixels round the mask counts as neither.
    """
    outside = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
    if outside.mean() < 0.02:
        return 0.0
    small = cv2.resize(outside.astype(np.float32), None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA) > 0.99
    quarter = [cv2.resize(p, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA) for p in (edit, base)]
    if not small.any():
        return 0.0
    return float(np.abs(quarter[0] - quarter[1])[small].mean() / max(base.std(), 0.02))


def squared_error(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a - b) ** 2).mean())


def nearest_truth(edit: np.ndarray, truths: dict[str, np.ndarray], distance=colour_error) -> str:
    return min(truths, key=lambda k: distance(edit, truths[k]))


def measure_instructions(
    editor: Editor,
    views: list[Case],
    crops: list[Case],
    steps: int | None = None,
    keys: Sequence[str] = KEYS,
    log=print,
    **options: float,
) -> dict:
    """The table: instructions against their truths, and which truth their edits are nearest to.

    Those of the subject on `views`, the others on one half of the views and as many crops.
    """
    distance = PerceptualDistance()
    rng = np.random.default_rng(0)
    table, right, right_squared, total = {}, 0, 0, 0
    for key in keys:
        instruction = BY_KEY[key]
        half = len(views) // 2
        chosen = views if instruction.of_subject else views[:half] + crops[: len(views) - half]
        texts = [wording(key, rng) for _ in chosen]
        edits = [
            editor.edit(c.picture, text, options, steps, seed=k)
            for k, (c, text) in enumerate(zip(chosen, texts, strict=True))
        ]
        truths = [c.truths[key] for c in chosen]
        hits = sum(nearest_truth(e, c.truths) == key for e, c in zip(edits, chosen, strict=True))
        right_squared += sum(
            nearest_truth(e, c.truths, squared_error) == key for e, c in zip(edits, chosen, strict=True)
        )
        row = {"family": instruction.family, "pairs": len(chosen), "nearest_right": hits}
        if instruction.of_subject:
            errors = np.array([
                (colour_error(e, t, c.mask), colour_error(c.picture, t, c.mask), change_outside(e, c.picture, c.mask))
                for e, t, c in zip(edits, truths, chosen, strict=True)
            ])  # fmt: skip
            row |= {"relative_error": errors[:, 0].mean() / errors[:, 1].mean(), "outside": errors[:, 2].mean()}
            row["passed"] = row["relative_error"] <= SUBJECT_LIMIT and row["outside"] <= OUTSIDE_LIMIT
        else:
            unedited = [c.picture for c in chosen]
            with torch.inference_mode():
                edited, before = (float(distance(as_tensor(p), as_tensor(truths)).mean()) for p in (edits, unedited))
            row["relative_error"] = edited / before
            row["passed"] = row["relative_error"] <= WHOLE_LIMIT
        table[key] = {k: round(float(v), 3) if isinstance(v, (float, np.floating)) else v for k, v in row.items()}
        table[key]["passed"] = bool(row["passed"])
        right, total = right + hits, total + len(chosen)
        log(f"{key:16}", table[key], flush=True)
    return {
        "instructions": table,
        "nearest_right": round(right / total, 3),
        "nearest_right_by_squared_error": round(right_squared / total, 3),
    }


def tune(folder: Path = EXPORT, count: int = 20) -> None:
    """Print the table's means for several settings, on views and crops that the evaluation does not use: guidance of
    whole-picture instructions, and the relevance below which those of the subject leave the picture alone.

    The views are of the last training shard, which is best left out of the cached latents.
    """
    editor = Editor(folder)
    *_, (stack, masks) = pairs.shards("train")
    views = [
        Case(view[0].astype(np.float32) / 255, {k: pairs.target(k, view) for k in KEYS}, np.array(mask))
        for view, mask in zip(stack[: 8 * count : 8], masks[: 8 * count : 8], strict=True)
    ]
    crops = latents.photo_crops(10_000, SIZE, held_out=False)[:count]
    crops = [Case(c, {k: filters.apply(k, c) for k in filters.FILTERS}, None) for c in crops]
    whole = ("sunset", "storm", "snow", "pencil", "comic", "oil")
    subject = ("gold", "silver", "bronze", "marble", "red", "green")
    tried = [(whole, steps, {"text_guidance": text}) for steps in (1, 2, 4) for text in (1.0, 1.5)]
    tried += [(subject, steps, {"relevance": r}) for steps in (1, 2) for r in (0.0, 0.3, 0.4, 0.5)]
    for keys, steps, given in tried:
        figures = measure_instructions(editor, views, crops, steps, keys, lambda *_, **__: None, **given)
        rows = figures["instructions"]
        errors = {k: r["relative_error"] for k, r in rows.items()}
        outside = {k: r["outside"] for k, r in rows.items() if "outside" in r}
        print(f"steps {steps} {given}: {np.mean(list(errors.values())):.3f}", errors, outside, flush=True)


def measure_unknown(editor: Editor, count: int, steps: int | None) -> dict:
    """Texts that mean nothing, on photographs: change of the picture beyond the codec's, as a part of the contrast."""
    _, crops = cases(count)
    rng = np.random.default_rng(5)
    edits = [editor.edit(c.picture, unknown_text(rng), steps=steps, seed=k) for k, c in enumerate(crops)]
    whole = np.zeros((SIZE, SIZE), bool)
    return {
        "unknown_text_change": round(
            float(np.mean([change_outside(e, c.picture, whole) for e, c in zip(edits, crops, strict=True)])), 3
        )
    }


def measure_curves(editor: Editor, count: int, steps: int | None) -> dict:
    """Mean change of the picture and error to the truth against text guidance, image guidance and noise level, nothing
    of the picture kept besides."""
    views, crops = cases(count)
    few = max(count // 4, 1)
    chosen = [
        (k, c) for k in ("gold", "red", "night", "pencil") for c in (views if BY_KEY[k].of_subject else crops)[:few]
    ]

    def point(level: float = NOISE, **options: float) -> dict:
        change, error = [], []
        for number, (key, case) in enumerate(chosen):
            text = BY_KEY[key].wordings[0]
            given = {"keep_background": "off", **options}
            edit = editor.edit(case.picture, text, given, steps, level, seed=number)
            change.append(np.abs(edit - case.picture).mean())
            error.append(np.abs(edit - case.truths[key]).mean())
        return {"change": round(float(np.mean(change)), 4), "error": round(float(np.mean(error)), 4)}

    return {
        "by_text_guidance": {s: point(text_guidance=s) for s in (1.0, 1.5, 2.0, 3.0, 5.0, 7.5)},
        "by_image_guidance": {s: point(image_guidance=s) for s in (1.0, 1.2, 1.5, 2.0, 3.0)},
        "by_noise_level": {t: point(level=t) for t in (0.02, 0.25, 0.5, 0.75, 0.98)},
    }


def measure_repeats(editor: Editor, count: int, steps: int | None, times: int = 10) -> dict:
    """Edit, then edit the result again and again from random noise levels, always conditioned on the original: the
    error over that of single edits. Of all repeats the mean and the largest, and the last one's.

    Every edit of every view draws noise of its own, and single edits are averaged over as many draws as there are
    repeats: of one draw for all views the error was up to a fifth above another's.
    """
    views, _ = cases(count)
    levels = np.random.default_rng(9).uniform(0.02, 0.98, times)
    out = {}
    for key in KEYS:
        text = BY_KEY[key].wordings[0]
        single, repeated = np.zeros(times), np.zeros(times)
        for number, case in enumerate(views):
            first = 2 * times * number  # seed
            once = [editor.edit(case.picture, text, steps=steps, seed=first + k) for k in range(times)]
            single += [np.abs(edit - case.truths[key]).mean() for edit in once]
            result = once[0]
            for k, level in enumerate(levels):
                result = editor.edit(case.picture, text, None, steps, level, result, seed=first + times + k)
                repeated[k] += np.abs(result - case.truths[key]).mean()
        ratios = repeated / single.mean()
        out[key] = {"mean": ratios.mean(), "last": ratios[-1], "largest": ratios.max()}
        out[key] = {name: round(float(ratio), 3) for name, ratio in out[key].items()}
    return {"error_of_ten_repeats": out}


def measure_codec(editor: Editor) -> dict:
    """Fidelity of encoding and decoding alone, on held-out photographs and renders."""
    with torch.inference_mode():
        figures = vae.measure(editor.model.vae, vae.held_out_pictures())
    return {k: round(v, 3) for k, v in figures.items()}


def measure_speed(editor: Editor) -> dict:
    """Seconds for one edit of 20 steps with both guidance scales at work, on two threads, at both sizes of the picture
    that the networks see: as the folder recommends (the scales act above a noise level), and in every step."""
    torch.set_num_threads(2)
    native, text = editor.model.size, "make it night"
    scales: dict[str, dict] = {
        "seconds_per_edit": {},
        "seconds_guided_throughout": {"guided_above": 0.0, "tethered": False, "keep_background": "off"},
    }
    times: dict[str, dict[int, float]] = {name: {} for name in scales}
    for size in (128, 256):
        editor.model.size = size
        picture = np.random.default_rng(0).random((size, size, 3), np.float32)
        seconds: dict[str, list[float]] = {name: [] for name in scales}
        for _ in range(5):  # in turns, for the machine's pace drifts
            for name, options in scales.items():
                started = time.perf_counter()
                editor.edit(picture, text, {"text_guidance": 2.0, "image_guidance": 1.5, **options}, steps=20)
                seconds[name].append(time.perf_counter() - started)
        for name in scales:
            times[name][size] = round(min(seconds[name]), 2)
    editor.model.size = native
    return times


def evaluate(
    folder: Path = EXPORT, count: int = 16, steps: int | None = None, only_table: bool = False, log=print
) -> dict:
    """Measure everything, print it, and write `figures.json` and the passes of `vocabulary.json` in the folder."""
    from .export import vocabulary_entries

    editor = Editor(folder)
    figures = {"codec": measure_codec(editor)} | measure_instructions(editor, *cases(count), steps, log=log)
    if not only_table:
        figures |= measure_unknown(editor, count, steps)
        figures |= measure_curves(editor, count, steps)
        figures |= measure_repeats(editor, count, steps)
        figures |= measure_speed(editor)
    passed = {k: v["passed"] for k, v in figures["instructions"].items()}
    figures["passed"] = sum(passed.values())
    log(f"{figures['passed']} of {len(INSTRUCTIONS)} pass; nearest truth right in {figures['nearest_right']:.0%}")
    log({k: v for k, v in figures.items() if k != "instructions"})
    figures |= {"recommended": read_json(folder / "guidance.json"), "pairs": count}
    write_json(folder / "figures.json", figures)
    write_json(folder / "vocabulary.json", vocabulary_entries(passed))
    return figures
