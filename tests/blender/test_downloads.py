# SPDX-License-Identifier: GPL-3.0-or-later
"""An editor's terms are shown where it is chosen; it is downloaded after a dialog, and only where Blender is online."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import bpy
import pytest
from in_blender import settle
from test_panels import Notes, drawn
from test_projects import heard, start

from blender_addon import asking, downloads, session
from blender_addon.operators.edit import INSTRUCT_NERF_OT_download as Operator


@pytest.fixture
def online(addon: object) -> Iterator[None]:
    """Blender, allowed online."""
    bpy.context.preferences.system.use_online_access = True
    assert bpy.app.online_access
    yield
    bpy.context.preferences.system.use_online_access = False


@pytest.fixture
def big(opened: bpy.types.Scene) -> bpy.types.Scene:
    """A scene with an editor that is not on this computer."""
    assert "instruct_nerf.download" not in drawn()
    opened.instruct_nerf.editor_choice = "hub/big"
    return opened


def shown() -> str:
    return " ".join(drawn().split())


def test_terms_are_shown_where_the_editor_is_chosen(big: bpy.types.Scene) -> None:
    for words in ("Works at 512 pixels", "Licence: Some Licence", "Not for commercial use", "Not on this computer yet",
                  "2.1 GB to download", "turn on Allow Online Access"):  # fmt: skip
        assert words in shown(), words
    assert "instruct_nerf.download" not in shown() and "weights are not on this machine" not in shown()
    big.instruct_nerf.editor_choice = "small"
    assert "Works at 128 pixels. On this computer." in shown() and "commercial" not in shown()


def test_offline_nothing_is_downloaded(big: bpy.types.Scene, tmp_path: Path) -> None:
    assert not bpy.app.online_access and not bpy.ops.instruct_nerf.download.poll()
    with pytest.raises(RuntimeError, match="Allow Online Access"):
        downloads.download(downloads.missing_editor(big), "edit")
    settle()
    assert not heard(tmp_path, "model/download") and not any(r["online"] for r in heard(tmp_path, "initialize"))


def test_an_edit_does_not_download_by_itself(big: bpy.types.Scene, online: None, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="press Download Editor"):
        start(big)
    settle()
    assert not heard(tmp_path, "model/download") and not heard(tmp_path, "edit/run")


def test_the_dialog_says_what_is_agreed_to(big: bpy.types.Scene, online: None) -> None:
    asked: list[object] = []
    window = SimpleNamespace(invoke_props_dialog=lambda *_a, **given: asked.append(given) or {"RUNNING_MODAL"})
    context = SimpleNamespace(scene=big, window_manager=window)
    assert Operator.invoke(SimpleNamespace(), context, None) == {"RUNNING_MODAL"} and not session.get().busy
    texts: list[str] = []

    class Dialog(Notes):
        def operator(self, name: str, text: str | None = None, **_options: object) -> SimpleNamespace:
            made = SimpleNamespace()
            texts.append(text or name)
            links.append(made)
            return made

    links: list[SimpleNamespace] = []
    layout = Dialog(texts)
    layout.row = lambda **_: layout
    Operator.draw(SimpleNamespace(layout=layout, model=""), context)
    said = " ".join(texts)
    for words in ("InstructPix2Pix (hub/big), 2.1 GB", "Licence: Some Licence", "Not for commercial use",
                  "Into /models/big", "terms must be accepted"):  # fmt: skip
        assert words in said, words
    assert [link.url for link in links] == ["https://example.org/licence", "https://example.org/big"]


def test_with_consent_it_is_downloaded_and_then_there(big: bpy.types.Scene, online: None, tmp_path: Path) -> None:
    assert bpy.ops.instruct_nerf.download() == {"FINISHED"}
    assert session.wait(lambda: (job := session.get().job) is not None and job.stage == "download", 10.0)
    assert "GB of 2.1 GB" in shown() or "MB of 2.1 GB" in shown()
    settle()
    (asked,) = heard(tmp_path, "model/download")
    assert asked == {"method": "model/download", "model": "hub/big", "licence": "Some Licence", "bytes": 2_100_000_000}
    assert heard(tmp_path, "initialize")[-1]["online"] is True  # though the engine was started offline
    assert "Some Licence. Not for commercial use. On this computer." in shown() and "is downloaded" in shown()
    start(big)
    settle()
    assert heard(tmp_path, "edit/run")[-1]["editor"] == "hub/big"


def test_a_download_can_be_cancelled(big: bpy.types.Scene, online: None) -> None:
    bpy.ops.instruct_nerf.download()
    assert session.wait(lambda: (job := session.get().job) is not None and job.stage == "download", 10.0)
    asking.cancel()
    settle()
    assert session.get().job.status == "cancelled" and downloads.missing_editor(big) is not None


def test_what_reports_measure_by_is_offered_where_they_are_made(opened: bpy.types.Scene, tmp_path: Path) -> None:
    assert "Download Measure" not in drawn()  # offline
    bpy.context.preferences.system.use_online_access = True
    try:
        assert "Download Measure, 1.7 GB Reports measure by it." in shown()
        assert bpy.ops.instruct_nerf.download(model="hub/measure") == {"FINISHED"}
        settle()
        assert heard(tmp_path, "model/download")[-1]["model"] == "hub/measure"
        assert "Download Measure" not in shown() and "Measure is downloaded" in shown()
    finally:
        bpy.context.preferences.system.use_online_access = False
