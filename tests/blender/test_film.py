# SPDX-License-Identifier: GPL-3.0-or-later
"""Strips, the film that Blender's own Render Animation writes, and the camera path that it films."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import av
import bpy
import numpy as np
import pytest
from fake_engine import png
from in_blender import settle
from scenes_with_everything_on import FILMS

from blender_addon import conversion, project
from blender_addon.scene import cameras, flight, strips

RED, BLUE = (200, 60, 20), (20, 60, 200)


def frames(folder: Path, count: int, width: int, height: int, colour: tuple[int, int, int], first: int) -> list[str]:
    return [png(folder / f"{first + i:05d}.png", width, height, colour) for i in range(count)]


def decode(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as film:
        return [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]


def colour_at(frame: np.ndarray, share: float) -> str:
    """Which of the two colours a column of a frame holds."""
    pixel = frame[frame.shape[0] // 2, int(share * (frame.shape[1] - 1))].astype(int)
    distances = {"red": np.abs(pixel - RED).max(), "blue": np.abs(pixel - BLUE).max()}
    name = min(distances, key=distances.__getitem__)
    assert distances[name] < 12, f"{pixel} is neither: Blender graded the picture"
    return name


def film(
    tmp_path: Path, show: str, count: int = 48, first: int = 11, title: str = "", size: tuple[int, int] = (63, 80)
) -> list[np.ndarray]:
    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = size
    width, height = strips.even_size(scene)
    assert (width, height) == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    before = frames(tmp_path / "before", count, width, height, RED, first)
    after = frames(tmp_path / "after", count, width, height, BLUE, first)
    strips.add_frames(scene, before, after, first, show, title)
    strips.film_settings(scene, first, first + count - 1, str(tmp_path / "film.mp4"))
    bpy.ops.render.render(animation=True)
    pictures = decode(tmp_path / "film.mp4")
    assert len(pictures) == count and pictures[0].shape == (height, width, 3)
    return pictures


def test_the_edit_covers_the_original(empty: None, tmp_path: Path) -> None:
    pictures = film(tmp_path, "EDITED", count=6)
    assert {colour_at(p, share) for p in pictures for share in (0.1, 0.9)} == {"blue"}


def test_split_shows_both_in_their_own_colours(empty: None, tmp_path: Path) -> None:
    pictures = film(tmp_path, "SPLIT", count=6)
    assert {(colour_at(p, 0.1), colour_at(p, 0.45), colour_at(p, 0.55), colour_at(p, 0.9)) for p in pictures} == {
        ("red", "red", "blue", "blue")
    }


def test_wipe_goes_from_the_original_to_the_edit(empty: None, tmp_path: Path) -> None:
    pictures = film(tmp_path, "WIPE")
    assert colour_at(pictures[0], 0.05) == colour_at(pictures[0], 0.95) == "red"
    assert colour_at(pictures[-1], 0.05) == colour_at(pictures[-1], 0.95) == "blue"
    assert (colour_at(pictures[24], 0.1), colour_at(pictures[24], 0.9)) == ("blue", "red")


def test_strips_lie_one_above_the_other_and_replace_only_their_own(empty: None, tmp_path: Path) -> None:
    scene = bpy.context.scene
    others = strips.strips_of(scene)
    others.new_image(name="mine", filepath=frames(tmp_path / "m", 1, 8, 8, RED, 1)[0], channel=1, frame_start=1)
    for _ in range(2):
        before, after = (frames(tmp_path / n, 5, 8, 8, RED, 1) for n in ("b", "a"))
        strips.add_frames(scene, before, after, 1, "WIPE")
    assert strips.WIPE_NAME in {s.name for s in strips.strips_of(scene)}
    strips.add_frames(scene, before, after, 1, "EDITED")
    found = {s.name: s for s in strips.strips_of(scene)}
    assert set(found) == {"mine", strips.BEFORE_NAME, strips.AFTER_NAME}
    lower, upper = found[strips.BEFORE_NAME], found[strips.AFTER_NAME]
    assert upper.channel == lower.channel + 1 and lower.channel > 1
    for strip in (lower, upper):
        assert (strip.frame_final_start, strip.frame_final_end) == (1, 6)
        assert [e.filename for e in strip.elements] == [f"{i:05d}.png" for i in range(1, 6)]


def keyframes(scene: bpy.types.Scene) -> int:
    """How many the scene's animation has, in whatever version of Blender."""
    action = scene.animation_data.action if scene.animation_data else None
    if action is None:
        return 0
    curves = getattr(action, "fcurves", None)
    if curves is None:  # from 5.0 on
        curves = [c for layer in action.layers for s in layer.strips for bag in s.channelbags for c in bag.fcurves]
    return sum(len(curve.keyframe_points) for curve in curves)


def test_repeated_films_leave_nothing_behind_whatever_they_show(empty: None, tmp_path: Path) -> None:
    scene = bpy.context.scene
    images = set()
    for run, (show, title, count, first) in enumerate(
        (
            ("WIPE", "make it night", 5, 1),
            ("EDITED", "", 9, 3),
            ("WIPE", "x", 7, 40),
            ("SPLIT", "", 4, 1),
            ("WIPE", "", 6, 2),
        )
    ):
        before, after = (frames(tmp_path / n, count, 8, 8, RED, first) for n in ("b", "a"))
        strips.add_frames(scene, before, after, first, show, title)
        names = [s.name for s in strips.strips_of(scene)]
        wanted = {strips.BEFORE_NAME, strips.AFTER_NAME}
        wanted |= ({strips.WIPE_NAME} if show != "EDITED" else set()) | ({strips.TITLE_NAME} if title else set())
        assert sorted(names) == sorted(wanted), run
        assert {s.frame_final_start for s in strips.strips_of(scene)} == {first}
        assert {s.frame_final_end for s in strips.strips_of(scene)} == {first + count}
        assert keyframes(scene) == (2 if show == "WIPE" else 0), run
        images.add(len(bpy.data.images))
    assert len(images) == 1


@pytest.mark.parametrize(
    "title", ["", "turn it into a much longer sentence than a small film has room for in one line"]
)
def test_a_title_stands_at_the_bottom_alone_all_the_while(empty: None, tmp_path: Path, title: str) -> None:
    pictures = film(tmp_path, "SPLIT", count=5, title=title, size=(320, 180))
    for picture in pictures:
        bright = (picture.min(axis=-1) > 200).nonzero()
        assert bool(len(bright[0])) is bool(title)
        if title:
            assert bright[0].min() > 0.6 * 180 and bright[0].max() < 178
            assert bright[1].min() > 2 and bright[1].max() < 317
            assert abs((bright[1].min() + bright[1].max()) / 2 - 160) < 12
        assert {colour_at(picture, share) for share in (0.1, 0.9)} == {"red", "blue"}


def test_a_film_has_the_scenes_frame_rate(empty: None, tmp_path: Path) -> None:
    render = bpy.context.scene.render
    for fps, base in ((25, 1.0), (30, 1.001), (12, 1.0)):
        render.fps, render.fps_base = fps, base
        film(tmp_path / str(fps), "EDITED", count=6)
        with av.open(str(tmp_path / str(fps) / "film.mp4")) as made:
            (video,) = made.streams
            assert float(video.average_rate) == pytest.approx(fps / base, rel=1e-4)
            assert float(video.duration * video.time_base) == pytest.approx(6 * base / fps, rel=0.02)


def test_missing_frames_are_named(empty: None, tmp_path: Path) -> None:
    paths = frames(tmp_path / "b", 3, 8, 8, RED, 1)
    Path(paths[1]).unlink()
    with pytest.raises(ValueError, match=r"00002\.png"):
        strips.add_frames(bpy.context.scene, paths, paths, 1, "EDITED")


def test_a_path_passes_through_the_chosen_views(opened: bpy.types.Scene) -> None:
    root = project.root_of(opened)
    views = cameras.cameras_of(root)
    cameras.choose(root, [c[cameras.VIEW] for c in views[::3]])
    opened.frame_start, opened.frame_end = 1, 48
    for _ in range(2):
        bpy.ops.instruct_nerf.camera_path()
    (path,) = [o for o in root.children if flight.PATH in o]
    assert opened.camera == path and len(bpy.data.cameras) == 13
    poses = []
    for frame in range(1, 49):
        opened.frame_set(frame)
        poses.append(np.array(path.matrix_basis))
    for camera in views[::3]:
        pose = np.array(cameras.pose_of(camera))
        assert min(np.abs(p - pose).max() for p in poses) < 1e-4
    steps = [np.linalg.norm(b[:3, 3] - a[:3, 3]) for a, b in pairwise(poses)]
    assert max(steps) < 6 * (sum(steps) / len(steps))  # no jump
    turns = [np.trace(a[:3, :3].T @ b[:3, :3]) for a, b in pairwise(poses)]
    assert min(turns) > 2.5  # no somersault the long way round


def test_the_whole_way_to_a_film(opened: bpy.types.Scene) -> None:
    opened.instruct_nerf.instruction, opened.instruct_nerf.film = "make it night", "SPLIT"
    opened.instruct_nerf.film_title = True
    bpy.ops.instruct_nerf.start_edit()
    settle()
    opened.frame_start, opened.frame_end = 1, 24
    bpy.ops.instruct_nerf.camera_path()
    bpy.ops.instruct_nerf.render_to_sequencer()
    settle()
    (title,) = [strip for strip in strips.strips_of(opened) if strip.type == "TEXT"]
    assert title.text == "make it night"
    bpy.ops.render.render(animation=True)
    pictures = decode(Path(bpy.path.abspath(opened.render.filepath)))
    assert len(pictures) == 24
    assert {(colour_at(p, 0.1), colour_at(p, 0.9)) for p in pictures} == {("red", "blue")}


def test_sampling_puts_frame_and_camera_back_even_when_stopped(opened: bpy.types.Scene) -> None:
    first, second = cameras.cameras_of(project.root_of(opened))[:2]
    opened.timeline_markers.new("a", frame=20).camera = second
    opened.frame_set(7)
    opened.camera = first
    into: list[conversion.Camera] = []
    steps = flight.sample(opened.name, opened.instruct_nerf.workspace, range(18, 40), into)
    for _ in range(4):
        next(steps)
    assert opened.frame_current == 21 and opened.camera == second
    steps.close()
    assert opened.frame_current == 7 and opened.camera == first and len(into) == 4


@pytest.mark.parametrize("name", FILMS)
def test_what_a_scene_has_on_does_not_reach_the_film(empty: None, tmp_path: Path, name: str) -> None:
    FILMS[name](bpy.context.scene, tmp_path)
    pictures = film(tmp_path, "SPLIT", count=7)  # and with every frame, whole
    assert {(colour_at(p, 0.1), colour_at(p, 0.45), colour_at(p, 0.55), colour_at(p, 0.9)) for p in pictures} == {
        ("red", "red", "blue", "blue")
    }
    corners = {tuple(p[y, x] // 32) for p in pictures for x in (2, -3) for y in (2, -3)}
    assert len(corners) == 2, "something is written over the pictures"


def test_a_film_in_a_folder_with_braces(empty: None, tmp_path: Path) -> None:
    folder = tmp_path / "take {frame} #2"
    folder.mkdir()
    assert len(film(folder, "EDITED", count=3)) == 3
