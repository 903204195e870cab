# SPDX-License-Identifier: GPL-3.0-or-later
"""Only frames that an earlier run wrote down are ever removed."""

import os

import pytest

from engine.errors import BadInput
from engine.files import locked
from engine.output.frame_folder import MANIFEST, SIDES, FrameFolder


def render(folder, numbers):
    frames = FrameFolder(folder, numbers)
    for side in SIDES:
        for index in range(len(numbers)):
            path = frames.path(side, index)
            path.parent.mkdir(exist_ok=True)
            path.write_text(side)
    return frames


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*.png"))


def test_a_shorter_path_takes_its_own_earlier_frames_along_and_nothing_else(tmp_path):
    folder = tmp_path / "walk"
    render(folder, range(1, 6)).finish()
    for own in ("after/title.png", "after/0099.png", "0003.png", "before/0001.png.png"):
        (folder / own).write_text("the artist's")
    render(folder, range(2, 4)).finish()
    assert names(folder) == [
        "0003.png", "after/0002.png", "after/0003.png", "after/0099.png", "after/title.png", "before/0001.png.png",
        "before/0002.png", "before/0003.png",
    ]  # fmt: skip


def test_what_a_killed_run_made_goes_with_the_next_that_does_not_make_it(tmp_path):
    render(tmp_path, range(1, 4)).finish()
    render(tmp_path, range(10, 14))  # killed before its end
    render(tmp_path, range(1, 3)).finish()
    assert names(tmp_path) == [f"{side}/{n:04d}.png" for side in sorted(SIDES) for n in (1, 2)]


def test_a_folder_of_the_version_before_loses_nothing(tmp_path):
    (tmp_path / "after").mkdir()
    (tmp_path / "after" / "0007.png").write_text("of then")
    render(tmp_path, range(1, 3)).finish()
    assert "after/0007.png" in names(tmp_path)


@pytest.mark.parametrize(
    "text", ["{", '{"frames": 3}', '{"frames": ["../../kept.png", "/etc/x.png", "a.png", "kept.png", "00001/..png"]}']
)
def test_a_list_of_nonsense_removes_nothing(tmp_path, text):
    folder = tmp_path / "a" / "b"
    for side in SIDES:
        (folder / side).mkdir(parents=True)
        (folder / side / "kept.png").write_text("x")
    (tmp_path / "kept.png").write_text("x")
    (folder / MANIFEST).write_text(text)
    render(folder, range(1)).finish()
    assert (tmp_path / "kept.png").exists() and all((folder / side / "kept.png").exists() for side in SIDES)


@pytest.mark.skipif(os.name == "nt", reason="links")
@pytest.mark.parametrize(
    "linked", ["edits/0001-a/frames/walk/after", "edits/0001-a/frames/walk", "edits/0001-a/frames"]
)
def test_nothing_is_removed_or_written_through_a_link(tmp_path, linked):
    project, outside = tmp_path.resolve() / "project", tmp_path / "outside"
    folder = project / "edits" / "0001-a" / "frames" / "walk"
    render(folder, range(5)).finish()
    (project / linked).rename(outside)
    (project / linked).symlink_to(outside)
    before = names(outside)
    with locked(project, "rendering frames"):
        try:
            FrameFolder(folder, range(2)).finish()
        except BadInput as error:
            assert "leads out of" in error.message
    assert names(outside) == before
