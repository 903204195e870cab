# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is wrong with a capture of another program: views left out or one sentence, soon, and nothing else."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import random
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from capture_on_disk import photo, ring
from capture_writers import FLIP, WRITERS, metashape_xml, photos, write_ring
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.capture import Capture, CaptureError, open_capture

SECONDS = 2.0
JSON = [name for name, (_, file) in WRITERS.items() if file.endswith((".json", ".sfm"))]


def opens_or_says_why(folder: Path) -> Capture | CaptureError:
    """Opens a folder; anything but a capture or a sentence fails the test, and so does a long wait."""
    began = time.thread_time()
    try:
        capture: Capture | CaptureError = open_capture(folder, 32)
    except CaptureError as problem:
        assert problem.message and len(problem.message) < 1000 and problem.file
        capture = problem
    else:
        assert capture.views and all(left.reason and len(left.reason) < 1000 for left in capture.left_out)
        for view in capture.views:
            camera = view.intrinsics
            assert (
                np.isfinite(view.pose).all()
                and np.abs(view.pose[:3, :3] @ view.pose[:3, :3].T - np.eye(3)).max() < 1e-9
            )
            assert 1 <= camera.width <= 32 and 1 <= camera.height <= 32 and camera.fx > 0 and camera.fy > 0
            assert all(map(math.isfinite, (camera.fx, camera.fy, camera.cx, camera.cy)))
        assert np.isfinite(capture.up).all() and abs(np.linalg.norm(capture.up) - 1) < 1e-6
    assert time.thread_time() - began < SECONDS
    return capture


def said(result: Capture | CaptureError) -> str:
    if isinstance(result, CaptureError):
        return result.message
    return " ".join([left.reason for left in result.left_out] + result.notes)


def pictures_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in (".png", ".jpg"))


# -- pictures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRITERS)
def test_missing_pictures(tmp_path: Path, name: str) -> None:
    write_ring(name, tmp_path, 6)
    pictures = pictures_of(tmp_path)
    pictures[1].unlink()
    some = opens_or_says_why(tmp_path)
    if name == "LLFF":  # rows are paired with pictures by their order, so one missing leaves all in doubt
        assert isinstance(some, CaptureError) and "6 rows" in some.message
    else:
        assert isinstance(some, Capture) and len(some.views) == 5 and (some.left_out or some.notes)
    for path in pictures[:1] + pictures[2:]:
        path.unlink()
    none = opens_or_says_why(tmp_path)
    assert isinstance(none, CaptureError) and "picture" in none.message


@pytest.mark.parametrize("name", WRITERS)
def test_pictures_that_are_none(tmp_path: Path, name: str) -> None:
    write_ring(name, tmp_path, 6)
    pictures = pictures_of(tmp_path)
    photo(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "whole.png").unlink()
    header = whole[:16] + struct.pack(">II", 60_000, 20_000) + whole[24:29]  # a bomb: it says 1.2 gigapixels
    pictures[0].write_bytes(b"")
    pictures[1].write_bytes(b"not a picture")
    pictures[2].write_bytes(whole[:20])
    pictures[3].write_bytes(header + struct.pack(">I", zlib.crc32(header[12:29])) + b"IDAT" * 99)
    photo(pictures[4], 48, 64)  # turned since
    result = opens_or_says_why(tmp_path)
    assert isinstance(result, Capture)
    if name in ("RealityCapture", "Blender-synthetic"):  # say no size of their own: any is their picture's
        assert len(result.views) == 2 and len(result.left_out) == 4
    else:
        assert len(result.views) == 1 and len(result.left_out) == 5
        assert "was turned" in said(result)
    assert "178 megapixels" in said(result) and "cannot be read as a picture" in said(result)


@pytest.mark.parametrize("name", WRITERS)
def test_links_that_the_artist_made_are_followed(tmp_path: Path, name: str) -> None:
    """To single photos, and to their folder on another disk; not to what is no picture, and not in a circle."""
    folder = tmp_path / "capture"
    write_ring(name, folder, 6)
    first, second, *_ = pictures_of(folder)
    first.rename(tmp_path / f"elsewhere{first.suffix}")
    first.symlink_to(tmp_path / f"elsewhere{first.suffix}")
    (folder / "again").symlink_to(folder)
    for place in {path.parent for path in pictures_of(folder)} - {folder}:
        away = tmp_path / "away" / place.name
        away.parent.mkdir(exist_ok=True)
        place.rename(away)
        place.symlink_to(away)
    result = opens_or_says_why(folder)
    assert isinstance(result, Capture) and len(result.views) == 6 and not result.left_out
    assert all((folder / source.file).is_file() for source in result.sources)
    second.unlink()
    second.symlink_to("/dev/zero")
    result = opens_or_says_why(folder)
    assert isinstance(result, Capture) and len(result.views) == 5


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
@pytest.mark.parametrize("name", [*WRITERS, "transforms.json", "COLMAP"])
def test_pipes_in_place_of_files_get_a_sentence_at_once(tmp_path: Path, name: str) -> None:
    if name in WRITERS:
        write_ring(name, tmp_path, 3)
        files = [tmp_path / WRITERS[name][1]]
    elif name == "COLMAP":
        photos(tmp_path, ["images/000.png"])
        files = [tmp_path / "sparse/0/cameras.bin", tmp_path / "sparse/0/images.bin"]
    else:
        photos(tmp_path, ["images/000.png"])
        files = [tmp_path / name]
    for file in [*files, tmp_path / "a.xml", tmp_path / "b.csv", tmp_path / "c.sfm", tmp_path / "d.json"]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        os.mkfifo(file)
    result = opens_or_says_why(tmp_path)
    if name not in ("Blender-synthetic", "Polycam"):  # where other files hold the rest
        assert isinstance(result, CaptureError)
    for file in files:
        with pytest.raises(CaptureError):
            open_capture(file, 32)


LISTED = {  # where a format writes the path or name of a picture: (path of keys, made of a path)
    "Blender-synthetic": ("frames", 0, "file_path"),
    "3D Gaussian Splatting": (0, "img_name"),
    "Meshroom": ("views", 0, "path"),
}


@pytest.mark.parametrize("name", [*LISTED, "OpenSfM", "Metashape", "RealityCapture"])
@pytest.mark.parametrize(
    "listed",
    ["../secret.png", "../../secret.png", "{}/secret.png", "//host/share/secret.png", "..\\secret", "\0", "", " ", ".",
     "..", "/", "x" * 5000, "images", "~/secret.png"],
)  # fmt: skip
def test_paths_that_leave_the_folder(tmp_path: Path, name: str, listed: str) -> None:
    folder = tmp_path / "deep" / "capture"
    write_ring(name, folder, 6)
    for place in (tmp_path, tmp_path / "deep"):
        photo(place / "secret.png")
    listed = listed.format(tmp_path)
    path = folder / WRITERS[name][1]
    if name in LISTED:
        whole = json.loads(path.read_text())
        *keys, last = LISTED[name]
        where = whole
        for key in keys:
            where = where[key]
        where[last] = listed
        path.write_text(json.dumps(whole))
    elif name == "OpenSfM":
        whole = json.loads(path.read_text())
        whole[0]["shots"][listed] = whole[0]["shots"].pop("000.png")
        path.write_text(json.dumps(whole))
    elif name == "Metashape" and "\0" not in listed:
        path.write_text(path.read_text().replace('label="000"', f'label="{listed}"'))
    else:
        path.write_text(path.read_text().replace("000.png", listed))
    result = opens_or_says_why(folder)
    assert isinstance(result, Capture) and all((folder / s.file).is_relative_to(folder) for s in result.sources)
    assert len(result.views) == (6 if name == "Metashape" and listed == "\0" else 5)


# -- poses and numbers -------------------------------------------------------------------------------------------------


def _poses() -> dict[str, np.ndarray]:
    good = ring(6)[2]
    bad = {key: good.copy() for key in ("nan", "infinite", "far", "mirrored", "sheared", "zero")}
    bad["nan"][0, 0] = math.nan
    bad["infinite"][1, 3] = math.inf
    bad["far"][0, 3] = 1e300
    bad["mirrored"][:3, 0] *= -1
    bad["sheared"][:3, 0] = bad["sheared"][:3, 1]
    bad["zero"][:3, :3] = 0
    return bad


@pytest.mark.parametrize("kind", _poses())
@pytest.mark.parametrize(
    "name", ["Blender-synthetic", "LLFF", "3D Gaussian Splatting", "Polycam", "Meshroom", "Metashape"]
)
def test_bad_matrices_leave_out_their_view_alone(tmp_path: Path, name: str, kind: str) -> None:
    pose, good = _poses()[kind], ring(6)
    folder = tmp_path / "capture"
    write_ring(name, folder, 6)
    if name == "LLFF":
        rows = np.load(folder / "poses_bounds.npy")
        matrix = rows[2, :15].reshape(3, 5)
        matrix[:, :4] = np.stack([-pose[:3, 1], pose[:3, 0], pose[:3, 2], pose[:3, 3]], axis=1)
        np.save(folder / "poses_bounds.npy", rows)
    elif name == "Metashape":
        path = folder / "cameras.xml"
        with np.errstate(all="ignore"):
            before, after = (" ".join(map(repr, (p @ FLIP).ravel().tolist())) for p in (good[2], pose))
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after))
    else:
        rotation = pose[:3, :3] * (1, -1, -1)
        file = "keyframes/corrected_cameras/1002.json" if name == "Polycam" else WRITERS[name][1]
        file = "transforms_test.json" if name == "Blender-synthetic" else file
        whole = json.loads((folder / file).read_text())
        if name == "Blender-synthetic":
            whole["frames"][0]["transform_matrix"] = pose.tolist()
        elif name == "3D Gaussian Splatting":
            whole[2] |= {"rotation": rotation.tolist(), "position": pose[:3, 3].tolist()}
        elif name == "Polycam":
            whole |= {f"t_{row}{column}": pose[row, column] for row in range(3) for column in range(4)}
        else:
            whole["poses"][2]["pose"]["transform"] = {
                "rotation": [repr(v) for v in rotation.ravel().tolist()],
                "center": [repr(v) for v in pose[:3, 3].tolist()],
            }
        (folder / file).write_text(json.dumps(whole))
    result = opens_or_says_why(folder)
    assert isinstance(result, Capture) and len(result.views) == 5 and len(result.left_out) == 1


@pytest.mark.parametrize("name", ["OpenSfM", "Record3D"])
@pytest.mark.parametrize(
    "turn", [None, [], [1, 2], ["a", 0, 0], [math.nan, 0, 0], [1e300, 0, 0], {"a": 1}, [[1], 2, 3]]
)
def test_bad_rotations_as_numbers(tmp_path: Path, name: str, turn: Any) -> None:
    write_ring(name, tmp_path, 6)
    path = tmp_path / WRITERS[name][1]
    whole = json.loads(path.read_text())
    if name == "OpenSfM":
        whole[0]["shots"]["002.png"]["rotation"] = turn
    else:
        whole["poses"][2] = [*turn, 0, 0, 0, 0] if isinstance(turn, list) else turn
    path.write_text(json.dumps(whole))
    result = opens_or_says_why(tmp_path)
    assert isinstance(result, Capture) and len(result.views) == 5
    assert {"OpenSfM": "002.png", "Record3D": "rgb/2.jpg"}[name] in said(result)


BAD_CAMERAS = [0, -5, math.nan, math.inf, 1e300, 10**400, "a", None, True, [1], {}, 100_000, 10**6, 1e-9]


@pytest.mark.parametrize("value", BAD_CAMERAS)
@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("Blender-synthetic", ["camera_angle_x"]),
        ("3D Gaussian Splatting", ["fx", "fy", "width", "height"]),
        ("Record3D", ["w", "h", "K"]),
        ("Polycam", ["fx", "fy", "cx", "width", "height"]),
        ("Meshroom", ["focalLength", "width", "height", "principalPoint", "pixelRatio", "sensorWidth"]),
        ("OpenSfM", ["focal_x", "width", "height", "k1"]),
    ],
)
def test_bad_values_of_cameras(tmp_path: Path, name: str, keys: list[str], value: Any) -> None:
    write_ring(name, tmp_path, 3)
    file = tmp_path / WRITERS[name][1]
    whole = json.loads(file.read_text())
    for key in keys:
        changed = copy.deepcopy(whole)
        where = {
            "3D Gaussian Splatting": lambda c: c[0],
            "Meshroom": lambda c: c["intrinsics"][0],
            "OpenSfM": lambda c: c[0]["cameras"]["v2 me"],
        }.get(name, lambda c: c)(changed)
        where[key] = value
        file.write_text(json.dumps(changed))
        result = opens_or_says_why(tmp_path)
        harmless = value is None or (key, value) in (("focalLength", 100_000), ("fx", 100_000), ("fy", 100_000))
        if isinstance(result, Capture) and len(result.views) == 3 and not harmless:
            assert key in ("camera_angle_x", "k1", "cx", "sensorWidth", "pixelRatio", "principalPoint", "focal_x"), key


@pytest.mark.parametrize("column", ["f", "heading", "x", "px", "k1"])
@pytest.mark.parametrize("value", ["", "nan", "inf", "-1", "1e400", "abc", "0x10", "1,2,3"])
def test_bad_values_of_reality_capture(tmp_path: Path, column: str, value: str) -> None:
    write_ring("RealityCapture", tmp_path, 3)
    path = tmp_path / "registration.csv"
    header, first, *rest = path.read_text().splitlines()
    fields = first.split(",")
    fields[header.lstrip("#").split(",").index(column)] = value
    path.write_text("\n".join([header, ",".join(fields), *rest]))
    result = opens_or_says_why(tmp_path)
    assert isinstance(result, Capture) and len(result.views) >= 2
    if value in ("nan", "abc", "1e400", "inf", "0x10"):
        assert len(result.views) == 2 and column in said(result)


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_picture_twice(tmp_path: Path, name: str) -> None:
    write_ring(name, tmp_path, 6)
    path = tmp_path / WRITERS[name][1]
    if name in ("LLFF", "Record3D", "Polycam", "OpenSfM", "Blender-synthetic"):
        pytest.skip("a picture has one place in this format, or it is tested by its own")
    text = path.read_text()
    path.write_text(
        {
            "3D Gaussian Splatting": lambda: text.replace('"img_name": "001"', '"img_name": "000"'),
            "Meshroom": lambda: text.replace("images/001.png", "images/000.png"),
            "Metashape": lambda: text.replace('label="001"', 'label="000"'),
            "RealityCapture": lambda: text.replace("001.png", "000.png"),
        }[name]()
    )
    result = opens_or_says_why(tmp_path)
    assert isinstance(result, Capture) and len(result.views) == 5 and "more than once" in said(result)


# -- files that are not what they seem ---------------------------------------------------------------------------------

TEXTS = {
    "empty": b"",
    "cut": b'{"frames": [{"file_path": ',
    "list": b"[1, 2]",
    "number": b"3",
    "null": b"null",
    "object": b"{}",
    "objects": b"[{}, {}, 3, null]",
    "binary": bytes(range(256)) * 10,
    "deep": b"[" * 200_000,
    "deep objects": b'{"a":' * 200_000,
    "long number": b'{"w": ' + b"1" * 10_000 + b"}",
    "utf-16": "{}".encode("utf-16"),
    "million": b"[" + b"{}," * 1_000_000 + b"{}]",
    "million views": b'{"frames":[' + b"{}," * 1_000_000 + b'{}],"views":[' + b"{}," * 1_000_000 + b'{}],"poses":['
    + b"[]," * 1_000_000 + b"[]]}",
    "zeros": b"\0" * 10_000,
}  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", WRITERS)
def test_wrong_content(tmp_path: Path, name: str, text: str) -> None:
    write_ring(name, tmp_path, 3)
    (tmp_path / WRITERS[name][1]).write_bytes(TEXTS[text])
    result = opens_or_says_why(tmp_path)
    if name in ("Blender-synthetic", "Polycam"):  # of several files one is damaged
        assert isinstance(result, Capture) and len(result.views) == 2 and said(result)
    else:
        assert isinstance(result, CaptureError)


@pytest.mark.parametrize("name", WRITERS)
def test_truncated_at_any_place(tmp_path: Path, name: str) -> None:
    write_ring(name, tmp_path, 3)
    path = tmp_path / WRITERS[name][1]
    whole = path.read_bytes()
    for at in np.linspace(0, len(whole) - 1, 30).astype(int):
        path.write_bytes(whole[:at])
        opens_or_says_why(tmp_path)


def test_a_folder_that_is_no_capture(tmp_path: Path) -> None:
    for name in ("a.xml", "b.csv", "notes.txt", "keyframes", "rgb"):
        (tmp_path / name).write_text("hello")
    result = opens_or_says_why(tmp_path)
    assert isinstance(result, CaptureError) and "neither photos nor a video nor cameras" in result.message


def test_pickles_are_not_read(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple:
            return (os.system, (f"touch {tmp_path}/harm",))

    photos(tmp_path, ["images/0.png"])
    for content in (pickle.dumps(Harm()), _object_array()):
        (tmp_path / "poses_bounds.npy").write_bytes(content)
        assert "not a NumPy array of numbers" in said(opens_or_says_why(tmp_path))
    assert not (tmp_path / "harm").exists()


def _object_array() -> bytes:
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1, 17), }"
    header += b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + pickle.dumps([1] * 17)


@pytest.mark.parametrize(
    "shape", ["(10**9, 17)", "(1000000000000, 17)", "(17,)", "(0, 17)", "(-1, 17)", "(3, 17, 1)", "1"]
)
@pytest.mark.parametrize("kind", ["<f8", "<f4", "<U9", "|V8", "<M8[s]", "<c16"])
def test_arrays_that_promise_more_than_they_hold(tmp_path: Path, shape: str, kind: str) -> None:
    photos(tmp_path, ["images/0.png"])
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    (tmp_path / "poses_bounds.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 272
    )
    assert isinstance(opens_or_says_why(tmp_path), CaptureError)


def test_xml_that_reaches_out_or_multiplies(tmp_path: Path) -> None:
    photos(tmp_path, ["000.png", "001.png"])
    text = metashape_xml(ring(2), {"f": 70.0}).split("?>", 1)[1]
    (tmp_path / "secret.txt").write_text("70")
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "ha" * 1000}">' for i in range(12))
    for doctype in (
        f"<!DOCTYPE document [{entities}]>",
        f'<!DOCTYPE d [<!ENTITY e11 SYSTEM "file://{tmp_path}/secret.txt">]>',
    ):
        (tmp_path / "cameras.xml").write_text(doctype + text.replace("<f>70.0</f>", "<f>&e11;</f>"))
        assert "defines entities" in said(opens_or_says_why(tmp_path))
    for inner in ("<a>" * 300_000, "<a/>" * 3_000_000, '<camera label="x"/>' * 30_000):
        (tmp_path / "cameras.xml").write_text(text.replace("<cameras ", f"<cameras>{inner}</cameras><cameras "))
        assert isinstance(opens_or_says_why(tmp_path), CaptureError)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("text", ["million", "million views"])
def test_memory_is_bounded(tmp_path: Path, text: str) -> None:
    """In a process of its own, which may take one gigabyte of memory and ends with the sentence."""
    for name in JSON:
        folder = tmp_path / name
        write_ring(name, folder, 3)
        (folder / WRITERS[name][1]).write_bytes(TEXTS[text])
    code = (
        "import re, sys; from pathlib import Path; from engine.capture import CaptureError, open_capture\n"
        "for folder in sys.argv[1:]:\n"
        "    try: open_capture(Path(folder), 32)\n"
        "    except CaptureError as problem: print(problem)\n"
        # Not getrusage: its peak is inherited from the process that started this one.
        "print(re.search('VmHWM:\\s+([0-9]+) kB', Path('/proc/self/status').read_text())[1])"
    )
    root = Path(__file__).parents[2]
    folders = [str(tmp_path / name) for name in JSON]
    done = subprocess.run([sys.executable, "-c", code, *folders], capture_output=True, text=True, cwd=root, check=True)
    assert int(done.stdout.split()[-1]) < 2**20  # kilobytes


# -- anything at all ---------------------------------------------------------------------------------------------------

STRANGE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-3, 5000), st.floats(), st.floats(-2, 2), st.text(max_size=8),
    st.sampled_from([10**400, 1e308, -0.0, 1e-320, "images/000.png", "000.png", "..", "/", "", "images", "\0", "C:\\a",
                     "~", "pinhole", "brown", "fisheye", "perspective", "images/" + "x" * 300, math.nan, math.inf,
                     "nan", "1e999", "١"]),
    st.recursive(st.floats() | st.none(), lambda inner: st.lists(inner, max_size=5), max_leaves=20),
    st.dictionaries(st.sampled_from(["fx", "x", "X", "color", "transform", "rotation"]), st.floats(), max_size=3),
)  # fmt: skip


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Everything in a JSON value that can be replaced."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        keys = list(item) if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ()
        found += [(item, key) for key in keys]
        waiting += [item[key] for key in keys]
    return found


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, bytes]]:
    """A small capture of each format: its folder, and the content of the file that holds its cameras."""
    made = {}
    for name, (_, file) in WRITERS.items():
        folder = tmp_path_factory.mktemp(name.replace(" ", "_"))
        write_ring(name, folder, 3)
        made[name] = folder, (folder / file).read_bytes()
    return made


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(JSON), st.lists(st.tuples(st.integers(0, 10**6), STRANGE), min_size=1, max_size=4))
def test_strange_values(captures: dict[str, tuple[Path, bytes]], name: str, changes: list[tuple[int, Any]]) -> None:
    folder, whole = captures[name]
    content = json.loads(whole)
    for index, value in changes:
        places = _places(content)
        where, key = places[index % len(places)] if places else ({}, 0)
        where[key] = value
    (folder / WRITERS[name][1]).write_text(json.dumps(content))
    opens_or_says_why(folder)
    (folder / WRITERS[name][1]).write_bytes(whole)


@pytest.mark.parametrize("name", WRITERS)
def test_damaged_bytes(captures: dict[str, tuple[Path, bytes]], name: str) -> None:
    """Bytes put in, lost, changed and repeated, two hundred times."""
    folder, whole = captures[name]
    path, rng = folder / WRITERS[name][1], random.Random(name)
    for _ in range(200):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at, kind = rng.randrange(len(content)), rng.randrange(5)
            if name == "LLFF" and rng.random() < 0.6:
                at %= 128  # its header
            if kind == 0:
                content[at] = rng.randrange(256)
            elif kind == 1:
                del content[at : at + rng.randint(1, 60)]
            elif kind == 2:
                content[at:at] = rng.randbytes(rng.randint(1, 8))
            elif kind == 3:
                content[at:at] = content[at : at + rng.randint(1, 400)]
            else:
                content[at : at + 1] = rng.choice(
                    [b"9", b"-", b"e9", b"NaN", b"0", b"[", b"}", b'"', b"<", b",", b"\n"]
                )
            content = content or bytearray(b" ")
        path.write_bytes(content)
        opens_or_says_why(folder)
    path.write_bytes(whole)
