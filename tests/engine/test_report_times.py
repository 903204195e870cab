# SPDX-License-Identifier: GPL-3.0-or-later
"""The report card times all methods alike: from the first edit to the last step, by a clock that the test turns."""

import json
import shutil

import pytest
from msgspec.structs import replace

from engine import protocol
from engine.editors import registry
from engine.jobs import edit, named_editor, report
from engine.presets import PRESETS
from engine.progress import Job
from engine.workspace import Workspace

from .conftest import PRESET
from .toy_editor import KIND, ToyEditor

SHORT = replace(PRESET, edit=replace(PRESET.edit, steps=4, short_rounds=1))
AN_EDIT, AROUND = 10.0, 1000.0  # seconds, of an edit, and of whatever is done before it and after it


class Clock:
    now = 0.0


class Clocked(Job):
    """A job by the test's clock."""

    def clock(self):
        return Clock.now


class SlowEditor(ToyEditor):
    """An edit takes a while, by that clock."""

    def prepare(self, instruction, options):
        told = super().prepare(instruction, options)
        view = told.view

        def slow(original, references=()):
            found = view(original, references)
            made = found.edit

            def edited(*args, **kwargs):
                Clock.now += AN_EDIT
                return made(*args, **kwargs)

            found.edit = edited
            return found

        told.view = slow
        return told


def taking(function):
    def longer(*args, **kwargs):
        Clock.now += AROUND
        return function(*args, **kwargs)

    return longer


def test_what_is_done_before_and_after_an_edit_is_not_counted_of_any_method(trained, tmp_path, monkeypatch):
    project, folder = tmp_path / "project", tmp_path / "toy"
    shutil.copytree(trained, project)
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": KIND.pipeline}))
    monkeypatch.setattr(registry, "KINDS", [*registry.KINDS, KIND])
    monkeypatch.setitem(PRESETS, PRESET.name, SHORT)
    monkeypatch.setattr(named_editor, "load_editor", lambda name, device: SlowEditor())
    monkeypatch.setattr(report, "FRAMES", 3)
    for module, names in ((edit, ("render_views", "original_pictures")), (report, ("_save", "original_pictures"))):
        for name in names:
            monkeypatch.setattr(module, name, taking(getattr(module, name)))
    workspace = Workspace(project)
    view = sorted(workspace.images.glob("*.png"))[1]
    request = protocol.RunEdit(
        instruction="make it dark", editor=str(folder), workspace=str(project), preset=PRESET.name, device="cpu",
        key_views=[protocol.KeyView(view.stem, str(view))],
    )  # fmt: skip
    made = edit.run_edit(request, Clocked())
    record = workspace.edit_record(made.id)
    assert record.edits > 0 and record.seconds == pytest.approx(AN_EDIT * record.edits)
    assert Clock.now >= record.seconds + AROUND
    report.make_report(protocol.MakeReport(str(project), made.id, "cpu"), Clocked())
    measured = json.loads((workspace.edit(made.id) / "report" / "report.json").read_text())["measures"]
    names = ["Per-frame", "One-time DU", "Iterative DU", "Projected", "This edit"]
    assert [name for name in measured if name != "Unedited"] == names
    for name in names:
        assert measured[name]["seconds"] == pytest.approx(AN_EDIT * measured[name]["edits"]), name
        assert measured[name]["edits"] > 0
    # Without a key view each is edited once, and that is all; with one some are, and others in rounds.
    assert measured["Projected"]["edits"] == len(record.chosen) and measured["This edit"]["edits"] == record.edits
