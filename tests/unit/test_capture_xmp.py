# SPDX-License-Identifier: GPL-3.0-or-later
"""RealityCapture's XMP files beside photos, written by the formulas of Epic's reference of camera geometry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from capture_on_disk import photo, ring
from capture_writers import SIZE, Projection, seen, world_to_camera

from engine.capture import Capture, CaptureError, open_capture

POINTS = np.random.default_rng(1).uniform(-1, 1, (30, 3))
K1, K2, K3, K4, T1, T2 = 0.05, -0.02, 0.01, -0.004, 0.002, -0.003
HEAD = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
NAMES = 'xmlns:xcr="http://www.capturingreality.com/ns/xcr/1.1#"'


def text(
    pose: np.ndarray,
    model: str = "brown4t2",
    coefficients: str = f"{K1} {K2} {K3} {K4} {T1} {T2}",
    more: str = "",
    as_attributes: bool = False,
) -> str:
    rotation, _ = world_to_camera(pose)
    values = {
        "Rotation": " ".join(map(repr, rotation.ravel().tolist())),
        "Position": " ".join(map(repr, pose[:3, 3].tolist())),
        "DistortionCoeficients": coefficients,
    }
    inside = "" if as_attributes else "".join(f"<xcr:{key}>{value}</xcr:{key}>" for key, value in values.items())
    extra = " ".join(f'xcr:{key}="{value}"' for key, value in values.items()) if as_attributes else ""
    return (
        f'{HEAD}<rdf:Description xcr:Version="3" {NAMES} xcr:PosePrior="initial" xcr:DistortionModel="{model}" '
        f'xcr:FocalLength35mm="{36 * 70 / 64}" xcr:Skew="0" xcr:AspectRatio="1" xcr:PrincipalPointU="{1 / 64}" '
        f'xcr:PrincipalPointV="{-0.5 / 64}" {extra} {more}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta>'
    )


def written(folder: Path, poses: list[np.ndarray], **about) -> Projection:
    for index, pose in enumerate(poses):
        photo(folder / f"IMG_{index:02d}.jpg", *SIZE)
        (folder / f"IMG_{index:02d}.xmp").write_text(text(pose, **about), encoding="utf-8")
    return seen(poses, 70, 70, 33, 23.5, DISTORT[about.get("model", "brown4t2")])


def brown(x: float, y: float) -> tuple[float, float]:
    r2 = x * x + y * y
    radial = 1 + K1 * r2 + K2 * r2**2 + K3 * r2**3 + K4 * r2**4
    return (
        x * radial + T2 * 2 * x * y + T1 * (r2 + 2 * x * x),
        y * radial + T1 * 2 * x * y + T2 * (r2 + 2 * y * y),
    )


DISTORT: dict[str, Callable[[float, float], tuple[float, float]]] = {
    "brown4t2": brown,
    "division": lambda x, y: (x / (1 + K1 * (x * x + y * y)), y / (1 + K1 * (x * x + y * y))),
    "perspective": lambda x, y: (x, y),
}


def off(capture: Capture, source: Projection, moved: np.ndarray | tuple = (0, 0, 0)) -> float:
    """By how many pixels the capture's cameras see points elsewhere than the source's."""
    worst = 0.0
    for index, (view, shot) in enumerate(zip(capture.views, capture.sources, strict=True)):
        seen_here = shot.lens.project((POINTS - view.pose[:3, 3]) @ view.pose[:3, :3] * (1, -1, -1))
        worst = max(worst, float(np.abs(seen_here - source(index, POINTS + moved)).max()))
    return worst


@pytest.mark.parametrize("model", DISTORT)
@pytest.mark.parametrize("as_attributes", [False, True])
def test_points_fall_where_the_source_sees_them(tmp_path: Path, model: str, as_attributes: bool) -> None:
    source = written(tmp_path, ring(6), model=model, as_attributes=as_attributes)
    (tmp_path / "IMG_00.jpg.xmp").write_text(f"{HEAD}</rdf:RDF></x:xmpmeta>")  # a raw developer's
    capture = open_capture(tmp_path, 64)
    assert capture.format == "RealityCapture XMP" and len(capture.views) == 6 and not capture.left_out
    assert off(capture, source) < 1e-6
    assert open_capture(tmp_path / "IMG_03.xmp", 64).format == capture.format


def test_in_a_folder_of_photos_and_turned_photos_sizes(tmp_path: Path) -> None:
    source = written(tmp_path / "images", ring(4))
    assert off(open_capture(tmp_path, 64), source) < 1e-6
    for path in (tmp_path / "images").glob("*.jpg"):
        photo(path, SIZE[0] * 2, SIZE[1] * 2)
    capture = open_capture(tmp_path, 64)
    assert capture.sources[0].lens.fx == pytest.approx(140)


def test_only_one_component_is_opened(tmp_path: Path) -> None:
    poses = ring(6)
    written(tmp_path, poses, more='xcr:Coordinates="relative" xcr:ComponentId="{A}"')
    for index in (1, 4):
        said = text(poses[index], more='xcr:Coordinates="relative" xcr:ComponentId="{B}"')
        (tmp_path / f"IMG_{index:02d}.xmp").write_text(said)
    capture = open_capture(tmp_path, 64)
    assert [view.name for view in capture.views] == ["IMG_00", "IMG_02", "IMG_03", "IMG_05"]
    assert {left.name for left in capture.left_out} == {"IMG_01", "IMG_04"}
    assert all("of another component" in left.reason for left in capture.left_out)


def test_from_the_middle_of_the_earth(tmp_path: Path) -> None:
    """Up is away from it; centimetres are kept."""
    up = np.array([0.6, 0.0, 0.8])
    turn = np.stack([np.array([0.8, 0.0, -0.6]), np.array([0.0, 1.0, 0.0]), up], axis=1)
    poses = ring(5)
    for pose in poses:
        pose[:3, :3] = turn @ pose[:3, :3]
        pose[:3, 3] = turn @ pose[:3, 3] + 6_371_000.0 * up
    source = written(tmp_path, poses)
    capture = open_capture(tmp_path, 64)
    assert np.allclose(capture.up, up, atol=1e-3)
    assert off(capture, source, np.array(capture.origin)) < 1e-4


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ('xcr:Skew="0"', 'xcr:Skew="0.1"', "Skew is not zero"),
        ('"brown4t2"', '"rationalP2D1"', "DistortionModel is rationalp2d1, which is not known"),
        ('xcr:Version="3"', 'xcr:Version="4" xcr:ProjectionModel="equirectangular"', "360° panorama"),
        ("<xcr:Position>", "<xcr:Position>x ", "Position of IMG_01 is not a list of 3 numbers"),
        ('FocalLength35mm="39.375"', 'FocalLength35mm="0"', "FocalLength35mm is a focal length of 0"),
        ("</rdf:Description>", "", "is not valid XML"),
    ],
)
def test_a_single_bad_file_is_left_out(tmp_path: Path, wrong: str, right: str, said: str) -> None:
    written(tmp_path, ring(4))
    path = tmp_path / "IMG_01.xmp"
    assert wrong in path.read_text()
    path.write_text(path.read_text().replace(wrong, right))
    capture = open_capture(tmp_path, 64)
    assert len(capture.views) == 3
    assert said in capture.left_out[0].reason, capture.left_out[0].reason


def test_what_says_no_poses_is_no_capture(tmp_path: Path) -> None:
    """Calibrations alone, and the files of raw developers: photos without cameras."""
    for index in range(4):
        photo(tmp_path / f"{index}.jpg", *SIZE)
        (tmp_path / f"{index}.xmp").write_text(f'{HEAD}<rdf:Description {NAMES} xcr:Skew="0"/></rdf:RDF></x:xmpmeta>')
    with pytest.raises(CaptureError, match="holds 4 photos and no cameras") as caught:
        open_capture(tmp_path, 64)
    assert caught.value.field == "photos"
