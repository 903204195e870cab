# SPDX-License-Identifier: GPL-3.0-or-later
"""What moves, made of what the tour saw: the README's animation of the film's frames, and the two-minute tour."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont

SIZE = 1280, 720
HEIGHT = 420  # pixels of the README's pictures
BAR = 64  # pixels of the caption's bar at the lower edge
SECONDS, FADE, RATE = 5.2, 0.4, 10  # of a picture, of the way to the next; frames a second


def animate(folder: Path, pictures: Path) -> None:
    """Make the README's pictures and ``tour.mp4`` of what lies in the tour's ``folder``. Raises ``FileNotFoundError``
    where there is no film."""
    result = json.loads((folder / "result.json").read_text())
    before, after = film_frames(Path(result["project"]))
    for name in ("photo", "edited"):
        picture = Image.open(result[name]).convert("RGB")
        size = round(picture.width * HEIGHT / picture.height), HEIGHT
        picture.resize(size, Image.Resampling.LANCZOS).save(pictures / f"{name}.webp", quality=84, method=6)
    animation(before, after, pictures / "film.webp")
    film(folder / "whole", list(zip(before, after, strict=True)), pictures / "tour.mp4")
    for name in ("photo.webp", "edited.webp", "film.webp", "tour.mp4"):
        print(f"{pictures / name}  {(pictures / name).stat().st_size / 1e6:.2f} MB", flush=True)


def film_frames(project: Path) -> tuple[list[Path], list[Path]]:
    """The frames before and after of the project's first edit that has a film."""
    for edit in sorted((project / "edits").iterdir()):
        for frames in sorted(edit.glob("frames/*")):
            before, after = (sorted((frames / kind).glob("*.png")) for kind in ("before", "after"))
            if before and len(before) == len(after):
                return before, after
    raise FileNotFoundError(f"no edit in {project} has a film")


def wiped(before: Path, after: Path, share: float, size: tuple[int, int]) -> Image.Image:
    """Both pictures in one: what was before at the right of a line at a share of the width."""
    first, second = (Image.open(path).convert("RGB").resize(size, Image.Resampling.LANCZOS) for path in (before, after))
    line = round(min(1.0, max(0.0, share)) * size[0])
    first.paste(second.crop((0, 0, line, size[1])), (0, 0))
    if 0 < line < size[0]:
        ImageDraw.Draw(first).line([(line, 0), (line, size[1])], fill=(255, 255, 255), width=2)
    return first


def moving(before: list[Path], after: list[Path], size: tuple[int, int]) -> Iterator[Image.Image]:
    """The camera's flight there and back; before at first, then the line moves across, then after."""
    path = list(range(len(before))) + list(range(len(before) - 2, 0, -1))
    for number, frame in enumerate(path):
        yield wiped(before[frame], after[frame], 1.8 * number / len(path) - 0.3, size)


def animation(before: list[Path], after: list[Path], path: Path, height: int = HEIGHT) -> None:
    """An animated picture of the film."""
    width, tall = Image.open(before[0]).size
    frames = list(moving(before, after, (round(width * height / tall), height)))
    frames[0].save(
        path, save_all=True, append_images=[*frames[1:], *frames[-1:] * 6], duration=90, loop=0, quality=72, method=6
    )


def film(seen: Path, frames: list[tuple[Path, Path]], path: Path) -> None:
    """The tour's pictures with a caption each, one after the other, and the film at the end."""
    spec = importlib.util.spec_from_file_location("tour_parts", Path(__file__).with_name("parts.py"))
    parts = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(parts)  # type: ignore[union-attr]
    stills = [
        with_caption(Image.open(seen / f"{name}.png"), words)
        for name, words in parts.CAPTIONS.items()
        if (seen / f"{name}.png").exists()
    ]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(RATE))
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.options = {"crf": "31", "preset": "slow", "tune": "stillimage"}
        for picture in sequence(stills, frames):
            out.mux(stream.encode(av.VideoFrame.from_image(picture)))
        out.mux(stream.encode())


def sequence(stills: list[Image.Image], frames: list[tuple[Path, Path]]) -> Iterator[Image.Image]:
    """Every frame of the tour's film."""
    fading = round(FADE * RATE)
    for number, still in enumerate(stills):
        for _ in range(round(SECONDS * RATE) - fading):
            yield still
        if number + 1 < len(stills):
            for step in range(1, fading + 1):
                yield Image.blend(still, stills[number + 1], step / (fading + 1))
    width, height = Image.open(frames[0][0]).size
    scale = min(SIZE[0] / width, SIZE[1] / height)
    size = round(width * scale), round(height * scale)
    for picture in moving([pair[0] for pair in frames], [pair[1] for pair in frames], size):
        whole = Image.new("RGB", SIZE, (18, 18, 18))
        whole.paste(picture, ((SIZE[0] - size[0]) // 2, (SIZE[1] - size[1]) // 2))
        yield whole


def with_caption(picture: Image.Image, words: str) -> Image.Image:
    """A picture of the window over a bar with a sentence."""
    height = SIZE[1] - BAR
    width = round(picture.width * height / picture.height)
    whole = Image.new("RGB", SIZE, (18, 18, 18))
    whole.paste(picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS), ((SIZE[0] - width) // 2, 0))
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(size=26)
    left, top, right, bottom = draw.textbbox((0, 0), words, font=font)
    place = (SIZE[0] - right + left) / 2, height + (BAR - bottom - top) / 2
    draw.text(place, words, font=font, fill=(235, 235, 235))
    return whole
