# SPDX-License-Identifier: GPL-3.0-or-later
"""What masks and transparency hide: empty space around an object, or something unknown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from capture_on_disk import transforms, write
from PIL import Image

from engine import protocol
from engine.capture import CaptureError, load_capture, open_capture, save_capture, write_images
from engine.capture.images import alpha_of, beside, mask_of
from engine.capture.masks import Hidden, cuts_out, is_the_lens
from engine.jobs import capture as jobs
from engine.progress import Job

H, W = 72, 96
Y, X = np.mgrid[:H, :W]
RNG = np.random.default_rng(3)


def blob(y: float, x: float, high: float, wide: float) -> np.ndarray:
    return ((Y - y) / high) ** 2 + ((X - x) / wide) ** 2 < 1


def turntable(k: int) -> np.ndarray:
    """A thing that turns, seen from all around, its foot on the lower edge in every third picture."""
    return blob(36 + 3 * np.sin(k), 48 + 4 * np.cos(k), 22 + 5 * np.sin(2 * k), 16 + 6 * np.cos(k)) | (
        (k % 3 == 0) & (Y > 40) & (np.abs(X - 48) < 9)
    )


OBJECTS = {
    "on a turntable": [turntable(k) for k in range(20)],
    "small": [blob(20 + k, 60 - k, 5, 6) for k in range(20)],
    "a bust on the lower edge": [blob(30, 48 + k % 5, 20, 12) | ((Y > 45) & (np.abs(X - 48) < 25)) for k in range(20)],
    "close up in a few pictures": [turntable(k) if k % 5 else np.ones((H, W), bool) for k in range(20)],
    "with crumbs of a bad segmentation": [turntable(k) | (RNG.random((H, W)) < 0.01) for k in range(20)],
    "not found in one picture": [turntable(k) if k != 4 else np.zeros((H, W), bool) for k in range(20)],
}  # fmt: skip
OTHERS = {
    "a passer-by": [~blob(40, 5 * k, 25, 8) if k % 2 else None for k in range(20)],
    "somebody close": [~blob(50, 4 * k, 45, 22) for k in range(20)],
    "the sky": [25 + 6 * np.sin(X / 20 + k) < Y for k in range(20)],
    "the tripod": [~blob(72, 48, 20, 25)] * 20,
    "a round lens": [blob(36, 48, 35, 35)] * 20,
    "an object in three pictures of many": [turntable(k) if k < 3 else None for k in range(20)],
    "nothing": [np.ones((H, W), bool)] * 20,
    "everything": [np.zeros((H, W), bool)] * 20,
    "a crowd": [(RNG.random((9, 12)) > 0.6).repeat(8, 0).repeat(8, 1) for _ in range(20)],
    "no masks": [None] * 20,
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_objects_that_were_cut_out(kind: str) -> None:
    assert cuts_out(OBJECTS[kind])


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_merely_hidden(kind: str) -> None:
    assert not cuts_out(OTHERS[kind])


def test_transparency_that_is_the_lens() -> None:
    corners = np.ones((H, W), bool)
    corners[:8, :8] = corners[-8:, -8:] = False
    assert is_the_lens([corners] * 5) and is_the_lens([blob(36, 48, 35.9, 47.9)] * 5)
    assert not is_the_lens([]) and not is_the_lens([np.ones((H, W), bool)] * 5)
    assert not is_the_lens([blob(36, 48, 20, 20)] * 5)  # a ball, seen alike from everywhere
    assert not is_the_lens([turntable(k) for k in range(5)])


def photographed(folder: Path, shapes: list[np.ndarray], alpha: bool) -> Path:
    """A capture of red things on green, as RGBA, or as RGB with masks."""
    meta = transforms(len(shapes))
    write(folder, meta, pictures=False)
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    for k, shape in enumerate(shapes):
        small = np.asarray(Image.fromarray(shape).resize((64, 48))).astype(np.uint8) * 255
        pixels = np.where(small[..., None] > 0, np.uint8([200, 30, 20]), np.uint8([10, 180, 20]))
        if alpha:
            Image.fromarray(np.dstack([pixels, small])).save(folder / f"images/{k}.png")
            continue
        Image.fromarray(pixels).save(folder / f"images/{k}.png")
        Image.fromarray(small).save(folder / f"masks/{k}.png")
        meta["frames"][k]["mask_path"] = f"masks/{k}.png"
    return folder if alpha else write(folder, meta, pictures=False)


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("alpha", [True, False])
def test_an_object_gets_an_alpha_and_stands_on_the_background(tmp_path: Path, alpha: bool) -> None:
    shapes = [turntable(k) for k in range(9)]
    source = photographed(tmp_path / "capture", shapes, alpha)
    capture = open_capture(source, 64, background=(9, 8, 7))
    write_images(capture, tmp_path / "out")
    for k, view in enumerate(capture.views):
        image = tmp_path / "out" / view.image
        assert beside(image) == [alpha_of(image)]
        shape = np.asarray(Image.fromarray(shapes[k]).resize((64, 48)))
        assert np.array_equal(pixels_of(alpha_of(image)), shape * np.uint8(255))
        assert (pixels_of(image)[~shape] == (9, 8, 7)).all() and (pixels_of(image)[shape] == (200, 30, 20)).all()
    # At half the size an edge's pixel is there in part, in its colour as in its alpha.
    half = open_capture(source, 32, background=(0, 0, 0))
    write_images(half, tmp_path / "half")
    image = tmp_path / "half" / half.views[1].image
    share = pixels_of(alpha_of(image)) / 255
    assert ((share > 0) & (share < 1)).any()
    np.testing.assert_allclose(pixels_of(image), share[..., None] * (200, 30, 20), atol=2)


def test_the_artist_says_what_masks_hide(tmp_path: Path) -> None:
    source = photographed(tmp_path / "capture", [turntable(k) for k in range(9)], False)
    out = tmp_path / "out"
    for said, layers in (("unknown", [mask_of]), ("ignore", []), ("object", [alpha_of]), ("auto", [alpha_of])):
        capture = open_capture(source, 64, masks=said)
        image = out / capture.views[2].image
        assert write_images(capture, out) == (0 if said == "auto" else 9)  # made alike, it is kept
        assert beside(image) == [layer(image) for layer in layers]
        assert alpha_of(image).exists() == (alpha_of in layers) and mask_of(image).exists() == (mask_of in layers)
        kept = (pixels_of(image) == (10, 180, 20)).all(axis=-1).any()  # the green around it
        assert kept == (said in ("unknown", "ignore"))
    alpha_of(out / "3.png").unlink()
    assert write_images(capture, out) == 1
    with pytest.raises(CaptureError, match="masks"):
        open_capture(source, 64, masks="maybe")  # type: ignore[arg-type]


def test_transparency_may_be_unknown_or_ignored_too(tmp_path: Path) -> None:
    source = photographed(tmp_path / "capture", [turntable(k) for k in range(9)], True)
    for said, layers in (("unknown", [mask_of]), ("ignore", [])):
        capture = open_capture(source, 64, masks=said)
        write_images(capture, tmp_path / "out")
        image = tmp_path / "out" / capture.views[0].image
        assert beside(image) == [layer(image) for layer in layers]


def test_a_workspace_remembers_and_says_it(tmp_path: Path) -> None:
    source = photographed(tmp_path / "capture", [turntable(k) for k in range(9)], False)
    request = protocol.OpenCapture(str(tmp_path / "w"), str(source), long_side=64)
    opened = jobs.open_into_workspace(request)
    assert (opened.masked, opened.masks, opened.masks_hide) == (9, "auto", None)
    said: list[str] = []
    made = jobs.write_images(protocol.WriteImages(str(tmp_path / "w")), Job(log=said.append))
    assert made.masks_hide == "empty" and any("cut an object out" in note for note in made.notes) and said
    again = load_capture(tmp_path / "w/capture/capture.json")
    assert again.hidden == Hidden("empty", "empty") and again.masks == "auto"
    jobs.write_images(protocol.WriteImages(str(tmp_path / "w")), Job())
    assert len(load_capture(tmp_path / "w/capture/capture.json").notes) == len(again.notes)
    save_capture(open_capture(source, 64, masks="ignore"), tmp_path / "other.json")
    assert load_capture(tmp_path / "other.json").masks == "ignore"
