# SPDX-License-Identifier: GPL-3.0-or-later
"""What Metashape, Meshroom and RealityCapture write beyond one chunk of one camera: rigs, groups, lenses, caches."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from capture_on_disk import ring
from capture_writers import (
    FLIP,
    meshroom,
    metashape_xml,
    photos,
    reality_capture,
)

from engine.capture import Capture, CaptureError, open_capture

POINTS = np.random.default_rng(2).uniform(-1, 1, (30, 3))


def reasons(capture: Capture) -> str:
    return " ".join(left.reason for left in capture.left_out)


def pixels(capture: Capture, index: int, points: np.ndarray) -> np.ndarray:
    pose = capture.views[index].pose
    return capture.sources[index].lens.project((points - pose[:3, 3]) @ pose[:3, :3] * (1, -1, -1))


def change(path: Path, what: Any) -> None:
    whole = json.loads(path.read_text())
    what(whole)
    path.write_text(json.dumps(whole))


# -- Metashape ---------------------------------------------------------------------------------------------------------


def metashape_folder(folder: Path, text: str, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cameras.xml").write_text(text, encoding="utf-8")
    photos(folder, [f"images/{index:03d}.png" for index in range(count)])
    return folder


@pytest.mark.parametrize("kind", ["frame", "fisheye", "equisolid_fisheye"])
def test_all_of_metashapes_lens(tmp_path: Path, kind: str) -> None:
    """Its manual's formulas, term by term, with skew, affinity and all tangential terms."""
    c = {"f": 40.0, "cx": 1.0, "cy": -0.5, "b1": 0.7, "b2": -3.5, "k1": 0.05, "k2": -0.02, "k3": 0.01, "k4": -0.004,
         "p1": 0.002, "p2": -0.003, "p3": 0.4, "p4": -0.2}  # fmt: skip
    poses = ring(3)
    capture = open_capture(metashape_folder(tmp_path, metashape_xml(poses, c, kind), 3), 64)
    local = (POINTS - poses[1][:3, 3]) @ poses[1][:3, :3] * (1, -1, -1)
    across, down, ahead = local.T
    if kind == "frame":
        x, y = across / ahead, down / ahead
    else:
        r0 = np.hypot(across, down)
        angle = np.arctan2(r0, ahead)
        r = angle if kind == "fisheye" else 2 * np.sin(angle / 2)
        x, y = across * r / r0, down * r / r0
    r2 = x * x + y * y
    radial = 1 + c["k1"] * r2 + c["k2"] * r2**2 + c["k3"] * r2**3 + c["k4"] * r2**4
    growing = 1 + c["p3"] * r2 + c["p4"] * r2**2
    u = x * radial + (c["p1"] * (r2 + 2 * x * x) + 2 * c["p2"] * x * y) * growing
    v = y * radial + (c["p2"] * (r2 + 2 * y * y) + 2 * c["p1"] * x * y) * growing
    expected = np.stack([32 + 1 + u * 40 + u * 0.7 + v * -3.5, 24 - 0.5 + v * 40], axis=1)
    assert np.abs(pixels(capture, 1, POINTS) - expected).max() < 1e-9
    halved = capture.sources[1].lens.scaled(0.5, 0.5)
    assert np.abs(halved.project(local) * 2 - capture.sources[1].lens.project(local)).max() < 1e-9


def test_photoscan_before_its_version_1_2_counts_from_the_corner(tmp_path: Path) -> None:
    old = {"fx": 70.0, "fy": 71.0, "cx": 33.0, "cy": 23.5, "skew": 0.0, "k1": 0.05}
    lens = open_capture(metashape_folder(tmp_path, metashape_xml(ring(3), old), 3), 64).sources[0].lens
    assert (lens.fx, lens.fy, lens.cx, lens.cy) == (70, 71, 33, 23.5)


def test_disabled_cameras_stay_out(tmp_path: Path) -> None:
    text = metashape_xml(ring(4), {"f": 70.0}).replace('label="001"', 'label="001" enabled="false"')
    text = text.replace('label="002"', 'label="002" enabled="0"').replace('label="003"', 'label="003" enabled="true"')
    capture = open_capture(metashape_folder(tmp_path, text, 4), 64)
    assert [view.name for view in capture.views] == ["000", "003"]
    assert reasons(capture) == "001 is disabled in Metashape. 002 is disabled in Metashape."


def test_the_chunk_of_most_aligned_cameras(tmp_path: Path) -> None:
    first, second = (metashape_xml(ring(n), {"f": f}) for n, f in ((3, 70.0), (5, 71.0)))
    chunk = second[second.index("<chunk") : second.index("</document>")]
    text = first.replace("</document>", chunk.replace("Chunk 1", "The hall") + "</document>")
    folder = metashape_folder(tmp_path, text, 5)
    capture = open_capture(folder, 64)
    assert len(capture.views) == 5 and capture.sources[0].lens.fx == 71
    assert "The hall (5); not opened: Chunk 1 (3)" in capture.notes[0]
    text = text.replace('<chunk label="The hall" enabled="true">', '<chunk label="The hall" enabled="false">')
    (folder / "cameras.xml").write_text(text)
    assert open_capture(folder, 64).sources[0].lens.fx == 70
    (folder / "cameras.xml").write_text(re.sub("<transform>.*?</transform>", "", text.split("The hall")[0]) + "The hall"
                                        + text.split("The hall")[1])  # fmt: skip
    assert open_capture(folder, 64).sources[0].lens.fx == 71


def test_groups_are_folders(tmp_path: Path) -> None:
    poses = ring(4)
    text = metashape_xml(poses, {"f": 70.0})
    cameras = re.findall(r"<camera .*?</camera>", text)
    for index, camera in enumerate(cameras):
        cameras[index] = camera.replace(f'label="{index:03d}"', f'label="IMG_{index % 2}"')
    groups = "".join(
        f'<group id="{index}" label="{name}" type="folder">{"".join(cameras[2 * index : 2 * index + 2])}</group>'
        for index, name in enumerate(("100CANON", "101CANON"))
    )
    text = re.sub(r"<camera .*</camera>", lambda _: groups, text)
    (tmp_path / "cameras.xml").write_text(text)
    files = [f"DCIM/{folder}/IMG_{index}.JPG" for folder in ("100CANON", "101CANON") for index in range(2)]
    photos(tmp_path, files)
    capture = open_capture(tmp_path, 64)
    assert [source.file for source in capture.sources] == files
    assert all(np.abs(view.pose - pose).max() < 1e-9 for view, pose in zip(capture.views, poses, strict=True))


def rig_xml(count: int, place: str) -> tuple[str, list[np.ndarray]]:
    """A rig of two: (XML, the poses of the cameras in their order). The second sits 0.1 to the right, turned by 20°."""
    text = metashape_xml(ring(count), {"f": 70.0})
    sensor = re.search(r'<sensor id="0".*?</sensor>', text)[0]
    slave = sensor.replace('id="0"', 'id="1" master_id="0"').replace("</sensor>", place + "</sensor>")
    text = text.replace("</sensors>", slave + "</sensors>")
    for index in range(count):
        text = text.replace(
            "</cameras>",
            f'<camera id="{count + index}" sensor_id="1" component_id="0" master_id="{index}" '
            f'label="{count + index:03d}"/></cameras>',
        )
    turn = np.eye(4)
    turn[:3, :3], turn[:3, 3] = cv2.Rodrigues(np.array([0, math.radians(20), 0]))[0], (0.1, 0, 0)
    return text, [*ring(count), *(pose @ FLIP @ turn @ FLIP for pose in ring(count))]


def test_a_rigs_slaves_stand_where_their_sensor_is(tmp_path: Path) -> None:
    turn = " ".join(map(repr, cv2.Rodrigues(np.array([0, math.radians(20), 0]))[0].ravel().tolist()))
    text, poses = rig_xml(3, f"<rotation>{turn}</rotation><translation>0.1 0 0</translation>")
    capture = open_capture(metashape_folder(tmp_path, text, 6), 64)
    assert len(capture.views) == 6
    for view, pose in zip(capture.views, poses, strict=True):
        assert np.abs(view.pose - pose).max() < 1e-9


def test_slaves_that_cannot_be_placed_are_said_to_be_of_a_rig(tmp_path: Path) -> None:
    text, _ = rig_xml(2, "<rotation>1 0 0</rotation>")
    capture = open_capture(metashape_folder(tmp_path / "a", text, 4), 64)
    assert len(capture.views) == 2 and reasons(capture).count("in its rig is not 3 × 3 numbers") == 2
    text, _ = rig_xml(2, "")
    text = re.sub('(label="000">)<transform>.*?</transform>', r"\1", text)
    capture = open_capture(metashape_folder(tmp_path / "b", text, 4), 64)
    assert reasons(capture).count("did not align") == 2  # the master, and so its slave


def test_scale_bars_alone_do_not_say_where_up_is(tmp_path: Path) -> None:
    for name, transform, known in (
        ("none", "", False),
        ("scale", "<transform><scale>2.5</scale></transform>", False),
        ("turned", "<transform><rotation>1 0 0 0 1 0 0 0 1</rotation><scale>2.5</scale></transform>", True),
    ):
        text = metashape_xml(ring(3), {"f": 70.0}, transform=transform)
        found = open_capture(metashape_folder(tmp_path / name, text, 3), 64).gravity_up
        assert (found is not None) == known


# -- Meshroom ----------------------------------------------------------------------------------------------------------


def test_the_newest_scene_of_meshrooms_cache(tmp_path: Path) -> None:
    meshroom(tmp_path, ring(3))
    scene = (tmp_path / "cameras.sfm").read_text()
    (tmp_path / "cameras.sfm").unlink()
    wanted = {"SfMExpanding/a": scene.replace('"35"', '"36"'), "SfMTransform/b": scene.replace('"35"', '"37"'),
              "CameraInit/c": json.dumps(json.loads(scene) | {"poses": []})}  # fmt: skip
    for place, text in wanted.items():
        path = tmp_path / "MeshroomCache" / place / "cameras.sfm"
        path.parent.mkdir(parents=True)
        path.write_text(text)
        os.utime(path, (1e9, 1e9))  # copied together: the later node is taken
    (tmp_path / "scan.mg").write_text("{}")
    for chosen in (tmp_path, tmp_path / "scan.mg"):
        assert open_capture(chosen, 64).sources[0].lens.fx == 74
    os.utime(tmp_path / "MeshroomCache/SfMExpanding/a/cameras.sfm", (2e9, 2e9))
    os.utime(tmp_path / "MeshroomCache/CameraInit/c/cameras.sfm", (2.1e9, 2.1e9))  # has no poses yet
    assert open_capture(tmp_path, 64).sources[0].lens.fx == 72
    chosen = open_capture(tmp_path / "MeshroomCache/SfMTransform/b/cameras.sfm", 64)
    assert chosen.sources[0].lens.fx == 74 and chosen.root == tmp_path


def test_scenes_saved_as_json(tmp_path: Path) -> None:
    meshroom(tmp_path, ring(3))
    (tmp_path / "cameras.sfm").rename(tmp_path / "sfmdata.json")
    assert open_capture(tmp_path, 64).format == open_capture(tmp_path / "sfmdata.json", 64).format


def test_lenses_that_are_known_by_their_undistortion_alone(tmp_path: Path) -> None:
    meshroom(tmp_path, ring(2))
    lens = {"type": "pinhole", "distortionType": "none", "distortionParams": "", "undistortionType": "3deradial4"}
    change(tmp_path / "cameras.sfm", lambda s: s["intrinsics"][0].update(lens))
    with pytest.raises(CaptureError, match="undistortionType is 3deradial4"):
        open_capture(tmp_path, 64)
    change(tmp_path / "cameras.sfm", lambda s: s["intrinsics"][0].update(undistortionType="none"))
    assert open_capture(tmp_path, 64).sources[0].lens.model == "PINHOLE"


@pytest.mark.parametrize("word", ["isPoseIndependant", "isPoseIndependent"])
def test_meshrooms_rigs(tmp_path: Path, word: str) -> None:
    """As AliceVision composes them: world to rig, then rig to camera."""
    rigs, own = ring(2), []
    for turn, centre in (((0.0, 0.0, 0.0), (0.0, 0, 0)), ((0.1, 0.3, -0.2), (0.2, -0.1, 0.05))):
        own.append((cv2.Rodrigues(np.array(turn))[0], np.array(centre)))
    meshroom(tmp_path, [rigs[0], rigs[1], rigs[0], rigs[1]])

    def as_rig(scene: dict) -> None:
        scene["poses"] = scene["poses"][:2]
        scene["rigs"] = [{"rigId": "9", "subPoses": [
            {"status": "estimated", "pose": {"rotation": [repr(v) for v in r.flatten(order="F").tolist()],
                                             "center": [repr(v) for v in c.tolist()]}} for r, c in own]}]  # fmt: skip
        for index, view in enumerate(scene["views"]):
            view.update(rigId="9", subPoseId=str(index // 2), poseId=str(7 * (index % 2)), **{word: "0"})

    change(tmp_path / "cameras.sfm", as_rig)
    capture = open_capture(tmp_path, 64)
    for index, view in enumerate(capture.views):
        rig = np.linalg.inv(rigs[index % 2] @ FLIP)
        rotation, centre = own[index // 2]
        in_rig = POINTS @ rig[:3, :3].T + rig[:3, 3]
        expected = (in_rig - centre) @ rotation.T
        found = (POINTS - view.pose[:3, 3]) @ view.pose[:3, :3] * (1, -1, -1)
        assert np.abs(found - expected).max() < 1e-9
    change(tmp_path / "cameras.sfm", lambda s: s.update(rigs=[]))
    with pytest.raises(CaptureError, match="of a rig in which it has no place"):
        open_capture(tmp_path, 64)


# -- RealityCapture ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [";", "\t"])
def test_reality_capture_that_a_spreadsheet_saved_again(tmp_path: Path, separator: str) -> None:
    source = reality_capture(tmp_path, ring(3))
    path = tmp_path / "registration.csv"
    header, *rows = path.read_text().splitlines()
    rows = [separator.join(f.replace(".", ",") if i else f for i, f in enumerate(row.split(","))) for row in rows]
    path.write_text("\n".join(["#cameras 3", header.replace(",", separator).replace("#name", "#Name"), *rows]))
    capture = open_capture(tmp_path, 64)
    assert np.abs(pixels(capture, 1, POINTS) - source(1, POINTS)).max() < 1e-6


@pytest.mark.parametrize("name", ["the hall, north, {}.png", '"the hall, {}.png"', "#{}.png"])
def test_reality_capture_with_names_that_hold_its_own_signs(tmp_path: Path, name: str) -> None:
    source = reality_capture(tmp_path, ring(3))
    path = tmp_path / "registration.csv"
    text = path.read_text()
    for index in range(3):
        text = text.replace(f"{index:03d}.png", name.format(index))
        (tmp_path / f"images/{index:03d}.png").rename(tmp_path / "images" / name.format(index).strip('"'))
    path.write_text(text)
    capture = open_capture(tmp_path, 64)
    assert len(capture.views) == 3 and np.abs(pixels(capture, 1, POINTS) - source(1, POINTS)).max() < 1e-6


def test_reality_captures_world_is_upright_where_it_is_a_maps_or_cameras_agree(tmp_path: Path) -> None:
    turn = np.eye(4)
    turn[:3, :3] = cv2.Rodrigues(np.array([1.0, 0.3, 0.0]))[0]
    for name, moved, known in (("level", np.eye(4), True), ("anyhow", turn, False)):
        reality_capture(tmp_path / name, [moved @ pose for pose in ring(6)])
        assert (open_capture(tmp_path / name, 64).gravity_up is not None) == known
    turn[:3, 3] = (500_000, 5_400_000, 300)
    reality_capture(tmp_path / "map", [turn @ pose for pose in ring(6)])
    assert open_capture(tmp_path / "map", 64).gravity_up.tolist() == [0, 0, 1]


def test_reality_capture_in_degrees_is_sent_back(tmp_path: Path) -> None:
    poses = ring(4)
    for index, pose in enumerate(poses):
        pose[:3, 3] = (16.3731 + 1e-5 * index, 48.2083 - 2e-5 * index, 180.0 + index)
    reality_capture(tmp_path, poses)
    with pytest.raises(CaptureError, match="longitudes and latitudes"):
        open_capture(tmp_path, 64)
    for pose in poses:
        pose[2, 3] = 180.0  # as a drone flies
    reality_capture(tmp_path, poses)
    with pytest.raises(CaptureError, match="longitudes and latitudes"):
        open_capture(tmp_path, 64)


@pytest.mark.parametrize(
    "header", ["#name,x,y,alt", "#name,x,y,alt,yaw,pitch,roll", "#cameras 3\n#name,x,y,alt,omega,phi"]
)
def test_reality_captures_other_exports_say_which_one_to_take(tmp_path: Path, header: str) -> None:
    reality_capture(tmp_path, ring(3))
    path = tmp_path / "registration.csv"
    path.write_text("\n".join([header, *path.read_text().splitlines()[1:]]))
    with pytest.raises(CaptureError, match="Internal/External camera parameters"):
        open_capture(tmp_path, 64)
