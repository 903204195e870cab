# SPDX-License-Identifier: GPL-3.0-or-later
"""A contact sheet: every cell is, to the last bit, the try that its values alone would be. What was tried is kept."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from engine import protocol
from engine.editors import registry
from engine.errors import BadInput, Cancelled
from engine.jobs import capture, edit, trying
from engine.output.sheet_picture import LARGEST, SMALLEST, _wrapped, draw_sheet
from engine.presets import PRESETS
from engine.progress import Job
from engine.protocol import Axis
from engine.tries import NewTry, TryRecord, delete_try
from engine.workspace import Workspace

from . import toy_editor
from .conftest import PRESET


@pytest.fixture
def project(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The id of a folder with a toy editor, which says how often it was loaded."""
    monkeypatch.setitem(PRESETS, PRESET.name, PRESET)
    monkeypatch.setattr(registry, "KINDS", [*registry.KINDS, toy_editor.KIND])
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "model_index.json").write_text(json.dumps({"_class_name": toy_editor.KIND.pipeline}))
    return str(tmp_path / "toy")


def tried(project, editor, job=None, **more):
    asked = {"instruction": "paint it", "editor": editor, "view": view_of(project), "device": "cpu", **more}
    return trying.try_edit(protocol.TryEdit(workspace=str(project), **asked), job or Job())


def view_of(project):
    return capture.load_opened(Workspace(project)).views[3].name


def pixels(path):
    with Image.open(path) as picture:
        return np.array(picture.convert("RGB"))


@pytest.mark.parametrize(
    ("across", "down"),
    [
        (Axis("brightness", [0.25, 1, 1.3]), Axis("seed", [7, 3])),
        (Axis("instruction", ["make it night", "paint it"]), Axis("tint", ["red", "none"])),
        (Axis("mirrored", [True, False]), None),
        (Axis("seed", [5]), Axis("instruction", ["make it gold"])),
    ],
)
def test_a_cell_is_the_try_that_its_values_alone_would_be(across, down, project, toy, monkeypatch):
    loads = []
    monkeypatch.setattr(toy_editor, "ToyEditor", lambda name: loads.append(name) or _Toy(name))
    common = {"seed": 1, "options": {"brightness": 0.75}}
    job = Job()
    sheet = tried(project, toy, job, across=across, down=down, **common)
    rows = len(down.values) if down else 1
    assert sheet.columns == len(across.values) and len(sheet.cells) == rows * sheet.columns and len(loads) == 1
    for number, cell in enumerate(sheet.cells):
        row, column = divmod(number, sheet.columns)
        asked = {"instruction": "paint it", **common, "options": dict(common["options"])}
        for axis, place in ((across, column), (down, row)):
            if axis is None:
                continue
            if axis.name in ("seed", "instruction"):
                asked[axis.name] = axis.values[place]
            else:
                asked["options"][axis.name] = axis.values[place]
        assert (cell.instruction, cell.seed, cell.options) == (asked["instruction"], asked["seed"], asked["options"])
        assert cell.settings == _settings(asked["options"])
        alone = tried(project, toy, job, **asked)
        assert np.array_equal(pixels(cell.image), pixels(alone.after)), (row, column)
        again = tried(project, toy, job, instruction=cell.instruction, seed=cell.seed, options=cell.options)
        assert np.array_equal(pixels(again.after), pixels(alone.after))
        x, y, width, height = cell.box
        shown = pixels(sheet.after)[y : y + height, x : x + width].astype(int)
        expected = Image.fromarray(pixels(cell.image)).resize((width, height), Image.Resampling.LANCZOS)
        assert np.abs(shown - np.array(expected)).max() <= 1
    assert len({pixels(cell.image).tobytes() for cell in sheet.cells}) == len(sheet.cells)


class _Toy(toy_editor.ToyEditor):
    pass


def _settings(options):
    return {knob.name: knob.default for knob in toy_editor.KIND.knobs} | options


@pytest.mark.parametrize(
    ("across", "down", "field", "said"),
    [
        (Axis("sharpness", [1]), None, "across", "has no option 'sharpness'; it has: brightness"),
        (Axis("brightness", [0.5, 3.0]), None, "across", "brightness must be a number from 0 to 2"),
        (Axis("seed", [1]), Axis("tint", ["green"]), "down", "must be one of none, red, blue"),
        (Axis("seed", [1.5]), None, "across", "A seed is a whole number"),
        (Axis("seed", [2**63]), None, "across", "A seed is a whole number"),
        (Axis("instruction", ["x", " "]), None, "across", "The instruction is empty"),
        (Axis("instruction", ["x", 3]), None, "across", "An instruction is a text, not 3"),
        (Axis("seed", [1]), Axis("seed", [2]), "down", "Both sides of the contact sheet are over seed"),
        (None, Axis("seed", [2]), "across", "needs one column"),
        (Axis("seed", [*range(16)]), Axis("brightness", [*np.linspace(0, 1, 5)]), "down", "at most 64 cells"),
    ],
)
def test_what_no_sheet_is_over_is_said_before_an_editor_is_loaded(across, down, field, said, project, toy, monkeypatch):
    monkeypatch.setattr(trying, "opened_editor", lambda *_: pytest.fail("loaded"))
    with pytest.raises(BadInput, match=said) as caught:
        tried(project, toy, across=across, down=down)
    assert caught.value.field == field and not capture.read_workspace(read(project))["tries"]


def read(project):
    return protocol.ReadWorkspace(str(project))


def test_a_sheet_that_was_cancelled_keeps_the_cells_that_were_made(project, toy, monkeypatch):
    told, seen = [], []
    job = Job(
        on_progress=told.append, on_view=lambda *view: seen.append(view), every=0.0,
        cancelled=lambda: bool(told) and told[-1].fraction > 0.5,
    )  # fmt: skip
    with pytest.raises(Cancelled):
        tried(project, toy, job, across=Axis("seed", [1, 2]), down=Axis("brightness", [0.2, 0.4, 0.6]))
    assert told[0].label == "Making 6 edits of one picture" and told[-1].fraction < 1
    [kept] = capture.read_workspace(read(project))["tries"]
    assert kept.columns == 2 and 1 <= len(kept.cells) < 6
    assert [(cell.seed, cell.options["brightness"]) for cell in kept.cells][:3] == [(1, 0.2), (2, 0.2), (1, 0.4)][:5]
    assert all(Path(cell.image).exists() for cell in kept.cells) and Path(kept.after).exists()
    assert seen == [(kept.view, "tried", cell.image) for cell in kept.cells]  # each when it was there
    with pytest.raises(Cancelled):  # a single one leaves nothing
        tried(project, toy, Job(cancelled=lambda: True))
    monkeypatch.setattr(trying, "draw_sheet", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # nor does what fails
        tried(project, toy, across=Axis("seed", [1, 2]))
    assert [entry.id for entry in capture.read_workspace(read(project))["tries"]] == [kept.id]
    assert os.listdir(Workspace(project).folder / "tries") == [kept.id]


def test_what_was_tried_is_kept_read_and_deleted(project, toy):
    first = tried(project, toy, seed=4, options={"tint": "red"})
    second = tried(project, toy, instruction="  make it\n night ")
    assert first.after != second.after and Path(first.after).exists()
    assert first.cells[0].options == {"tint": "red"} and second.cells[0].instruction == "make it night"
    assert capture.read_workspace(read(project))["tries"] == [first, second]
    assert Path(first.before).samefile(Workspace(project).images / f"{first.view}.png")
    ask = protocol.DeleteTry(str(project), first.id)
    assert capture.delete_try(ask) == {"deleted": True} and capture.delete_try(ask) == {"deleted": False}
    assert not Path(first.after).parent.exists()
    assert capture.read_workspace(read(project))["tries"] == [second]
    for wrong in ("..", "", "../edits", "20261126-010101-000/..", "images"):
        with pytest.raises(BadInput, match="A try's id is"):
            delete_try(Workspace(project), wrong)


def test_a_damaged_record_hides_no_other_and_what_has_none_goes(project, toy):
    good, bad = tried(project, toy), tried(project, toy)
    record = Path(bad.after).with_name("try.json")
    for damage in ('{"view": 3}', "{", '{"view": "a", "editor": "x", "columns": 1, "cells": []}'):
        record.write_text(damage)
        found = capture.read_workspace(read(project))
        assert found["tries"] == [good]
        assert [(entry.name, "damaged" in entry.reason) for entry in found["damaged"]] == [(bad.id, True)]
    record.unlink()  # as of a try that was killed
    mine = Path(bad.after).parent.parent / "20200101-000000-000"
    mine.mkdir()
    (mine / "notes.txt").write_text("the artist's")
    found = capture.read_workspace(read(project))
    assert found["tries"] == [good] and not found["damaged"] and not Path(bad.after).parent.exists() and mine.exists()


def test_a_try_on_an_edit_remembers_it_and_what_it_edited(project, toy):
    made = edit.run_edit(
        protocol.RunEdit(instruction="paint it", editor=toy, workspace=str(project), preset=PRESET.name, device="cpu"),
        Job(),
    )
    on_it, on_photo = tried(project, toy, parent=made.id), tried(project, toy)
    assert on_it.parent == made.id and on_photo.parent is None
    assert on_it.before == made.images.get(on_it.view, made.views[on_it.view]) != on_photo.before
    assert not np.array_equal(pixels(on_it.after), pixels(on_photo.after))
    assert capture.read_workspace(read(project))["tries"] == [on_it, on_photo]
    shutil.rmtree(Workspace(project).edit(made.id))
    assert [entry.before for entry in capture.read_workspace(read(project))["tries"]] == ["", on_photo.before]


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_no_picture_that_lies_elsewhere_is_shown_as_a_try(project, toy, tmp_path):
    made = tried(project, toy)
    outside = tmp_path / "outside.png"
    shutil.move(made.after, outside)
    Path(made.after).symlink_to(outside)
    found = capture.read_workspace(read(project))
    assert not found["tries"] and "leads out of" in found["damaged"][0].reason
    assert capture.delete_try(protocol.DeleteTry(str(project), made.id)) == {"deleted": True} and outside.exists()


def test_no_id_is_used_twice(tmp_path):
    record = TryRecord("v", "e", 1, [trying.CellRecord("x", {}, {}, 0, (0, 0, 4, 4))])
    ids = []
    for _ in range(5):
        new = NewTry(Workspace(tmp_path))
        new.add(np.zeros((4, 4, 3), np.uint8))
        ids.append(new.finish(record, None))
        if len(ids) % 2:
            delete_try(Workspace(tmp_path), ids[-1])
    assert len(set(ids)) == 5


@pytest.mark.parametrize("size", [(20, 24), (300, 400), (1200, 900)])
def test_captions_are_readable_and_cover_no_picture(size):
    pictures = [np.full((*size, 3), 30 * n, np.uint8) for n in range(1, 6)]
    captions = ["Text 3", "Image 1.5", "a very long instruction " * 20, "x" * 400, "“日本語”"]
    sheet, boxes = draw_sheet(np.full((*size, 3), 250, np.uint8), pictures, captions, 3, "Original")
    assert len(boxes) == 5
    for number, (x, y, width, height) in enumerate(boxes):
        assert SMALLEST <= width <= LARGEST and abs(width / height - size[1] / size[0]) < 0.02
        inside = sheet[y : y + height, x : x + width].astype(int)
        assert np.abs(inside - 30 * (number + 1)).max() <= 1  # nothing is written over it
        above = sheet[y - 16 : y - 4, x : x + width].astype(int)
        assert above.max() - above.min() > 100, captions[number]  # something is written over its edge
    font = ImageFont.load_default(18)
    for text in captions:
        lines = _wrapped(text, font, 256)
        assert len(lines) <= 4 and all(font.getlength(line) <= 256 for line in lines)
    assert _wrapped(captions[2], font, 256)[-1].endswith("…")


def test_a_sheet_of_a_photo_from_the_command_line(toy, tmp_path, monkeypatch):
    from engine import cli

    Image.new("RGB", (64, 48), (90, 120, 150)).save(tmp_path / "photo.png")

    def run(*words):
        out = tmp_path / "out.png"
        out.unlink(missing_ok=True)
        monkeypatch.setattr(sys, "argv", ["engine", "try", str(tmp_path / "photo.png"), "paint it", "--editor", toy,
                                          "--out", str(out), "--device", "cpu", *words])  # fmt: skip
        monkeypatch.setitem(cli.COMMANDS, "try", cli.try_)
        monkeypatch.setattr(cli, "claiming", lambda command: command)
        cli.main()
        return pixels(out).shape

    assert run() == (48, 64, 3)
    one_row = run("--across", "tint", "none", "red", "blue")
    assert one_row[1] == run("--across", "instruction", "make it 3", "b", "c")[1]
    assert run("--across", "seed", "--down", "brightness", "0.2", "1")[0] > 1.8 * one_row[0]
    assert run("--across", "mirrored")[1] < one_row[1]  # two columns beside the original
    assert run("--sheet")[0] == one_row[0]  # the toy has but one number
    with pytest.raises(SystemExit) as ended:
        run("--across", "sharpness", "1")
    assert ended.value.code == 2


@pytest.mark.slow
def test_a_cell_of_the_bundled_editor_is_its_try(project, monkeypatch):
    monkeypatch.setitem(PRESETS, PRESET.name, PRESET)
    knobs = {"across": Axis("text_guidance", [2.0, 4.0]), "down": Axis("seed", [0, 9])}
    sheet = tried(project, None, instruction="make it night", **knobs)
    for cell in sheet.cells:
        alone = tried(project, None, instruction="make it night", seed=cell.seed, options=cell.options)
        assert np.array_equal(pixels(cell.image), pixels(alone.after))
    assert len({pixels(cell.image).tobytes() for cell in sheet.cells}) == 4
