# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of photos that were written or misread in other encodings, or with the backslashes of Windows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from capture_on_disk import photo, transforms
from test_capture_lookup import COUNT, listing

from engine.capture import CaptureError, open_capture


@pytest.mark.parametrize(
    "page, word",
    [("cp866", "Кухня"), ("koi8_r", "Кухня"), ("cp1255", "מטבח"), ("cp1256", "مطبخ"), ("cp874", "ครัว"),
     ("cp437", "Küche"), ("cp852", "zdjęcie"), ("cp1257", "nuotraukų"), ("big5hkscs", "廚房")],
)  # fmt: skip
def test_names_in_the_other_code_pages(tmp_path: Path, page: str, word: str) -> None:
    names = [f"{word}_{index}.png" for index in range(COUNT)]
    path = listing("COLMAP", tmp_path, names)
    path.write_bytes(path.read_text(encoding="utf-8").encode(page))
    for file in names:
        photo(tmp_path / "images" / file)
    assert [source.file for source in open_capture(tmp_path, 64).sources] == [f"images/{name}" for name in names]


@pytest.mark.parametrize("page, word", [("cp932", "表ソ"), ("cp932", "ソn"), ("big5", "功許"), ("cp1252", "ü")])
def test_json_with_characters_that_end_in_a_backslash(tmp_path: Path, page: str, word: str) -> None:
    """And with the backslashes of Windows beside them."""
    meta = transforms(COUNT)
    for index, frame in enumerate(meta["frames"]):
        frame["file_path"] = f"C:\\{word}\\{word}{index}.png"
        photo(tmp_path / word / f"{word}{index}.png")
    (tmp_path / "transforms.json").write_bytes(json.dumps(meta, ensure_ascii=False).encode(page))
    expected = [f"{word}/{word}{index}.png" for index in range(COUNT)]
    assert [source.file for source in open_capture(tmp_path, 64).sources] == expected


@pytest.mark.parametrize(
    "listed, file",
    [("Küche", "Küche".encode().decode("cp437")), ("Küche".encode().decode("cp1252"), "Küche"),
     ("照片", "照片".encode("gb18030").decode("cp437")), ("Кухня", "Кухня".encode("cp866").decode("cp437"))],
)  # fmt: skip
def test_names_that_were_misread_on_their_way(tmp_path: Path, listed: str, file: str) -> None:
    listing("transforms.json", tmp_path, [f"images/{listed}{index}.png" for index in range(COUNT)])
    for index in range(COUNT):
        photo(tmp_path / f"images/{file}{index}.png")
    assert [s.file for s in open_capture(tmp_path, 64).sources] == [f"images/{file}{n}.png" for n in range(COUNT)]


@pytest.mark.parametrize("place", [r"C:\Users\me\train\r_", r".\train\r_", r"train\new\bare_"])
def test_backslashes_that_were_not_doubled(tmp_path: Path, place: str) -> None:
    meta = transforms(COUNT)
    files = []
    for index, frame in enumerate(meta["frames"]):
        frame["file_path"] = f"{place}{index}"
        files.append(f"{place.removeprefix('C:').removeprefix('.')}{index}.png".replace("\\", "/").strip("/"))
        photo(tmp_path / files[-1])
    (tmp_path / "transforms.json").write_text(json.dumps(meta).replace("\\\\", "\\"))
    assert [source.file for source in open_capture(tmp_path, 64).sources] == files


def test_names_in_an_unknown_encoding_are_said_to_be(tmp_path: Path) -> None:
    path = listing("COLMAP", tmp_path, [f"K_che_{index}.png" for index in range(COUNT)])
    path.write_bytes(path.read_bytes().replace(b"K_che", b"K\xffche"))
    for index in range(COUNT):
        photo(tmp_path / f"images/Küche_{index}.png")
    with pytest.raises(CaptureError, match="encoding that is not UTF-8") as caught:
        open_capture(tmp_path, 64)
    caught.value.message.encode()
