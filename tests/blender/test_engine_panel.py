# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Engine panel says and offers before, while and after the engine is installed."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from blender_addon import engine_home, jobs, project, session, words
from blender_addon.panels import engine as panels


class Layout:
    """Takes what a panel draws."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.operators: list[str] = []

    def __getattr__(self, name: str) -> object:
        def draw(*arguments: object, **named: object) -> Layout:
            if name == "operator":
                self.operators.append(str(arguments[0]).partition(".")[2])
            self.words.append(str(named.get("text", "")))
            return self

        return draw

    @property
    def text(self) -> str:
        return " ".join(word for word in self.words if word)


def drawn(panel: type) -> Layout:
    layout = Layout()
    system = SimpleNamespace(ui_scale=1.0)  # without a window Blender's own is 0
    panel.draw(SimpleNamespace(layout=layout), SimpleNamespace(preferences=SimpleNamespace(system=system), region=None))
    return layout


@pytest.fixture
def fresh(addon: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nothing is installed, and an extension that has an engine; the root on it."""
    root = tmp_path / "root"
    monkeypatch.setattr(engine_home, "root", lambda: root)
    wheel = tmp_path / "instruct_nerf_engine-0.0.1-py3-none-any.whl"
    wheel.write_bytes(b"an engine")
    monkeypatch.setattr(project, "bundled_wheel", lambda: wheel)
    monkeypatch.setattr(jobs, "bundled_wheel", lambda: wheel)
    project.preferences().engine_python = ""
    return root


def finish(root: Path, outcome: str, wheel: str) -> None:
    environment = root / "e" / project.locks().name
    python = engine_home.python_of(environment)
    python.parent.mkdir(parents=True)
    python.touch()
    engine_home.write_marker(environment, {"wheel": wheel, "outcome": outcome})


def test_before_it_is_installed(fresh: Path) -> None:
    layout = drawn(panels.INSTRUCT_NERF_PT_engine)
    assert layout.operators == ["install_engine"] and re.search(
        r"Up to [1-9][.\d]* GB are downloaded; on the disk they take \d", layout.text
    )
    assert "Allow Online Access" in layout.text
    assert "repair_engine" not in drawn(panels.INSTRUCT_NERF_PT_python).operators
    with pytest.raises(RuntimeError, match="not installed"):
        jobs.start_engine()
    with pytest.raises(RuntimeError, match="Allow Online Access"):
        jobs.install_engine()
    project.preferences().wheels_folder = "/nowhere at all"
    with pytest.raises(RuntimeError, match="no folder of wheels"):
        jobs.install_engine()
    assert "Allow Online Access" not in drawn(panels.INSTRUCT_NERF_PT_engine).text


def test_while_it_is_installed(fresh: Path) -> None:
    installer = SimpleNamespace(progress=(10**9, 4 * 10**9), label="Downloading", lines=["Downloading torch (500MiB)"])
    session.get().installer = installer
    layout = drawn(panels.INSTRUCT_NERF_PT_engine)
    assert "1.00 of 4.00 GB" in layout.text and layout.operators == ["cancel_install"]
    installer.progress = (0, 0)
    assert "Downloading" in drawn(panels.INSTRUCT_NERF_PT_engine).text
    session.get().installer = None


def test_once_it_is_installed(fresh: Path) -> None:
    finish(fresh, "A card is not used: its driver is too old.", engine_home.digest(project.bundled_wheel()))
    assert "install_engine" not in drawn(panels.INSTRUCT_NERF_PT_engine).operators
    layout = drawn(panels.INSTRUCT_NERF_PT_python)
    assert layout.text.replace("\n", " ").count("driver is too old") == 1
    assert layout.operators == ["repair_engine", "remove_engine"]
    assert project.engine_command(["-m", "engine", "serve"])[1:] == ["-m", "engine", "serve"]
    jobs.remove_engine()
    assert project.engine_command(["serve"]) is None


def test_an_older_engine_is_not_started(fresh: Path) -> None:
    finish(fresh, "", "another wheel's digest")
    assert drawn(panels.INSTRUCT_NERF_PT_engine).operators == ["install_engine"]


def test_what_is_installed_is_read_once_and_again_when_it_changes(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(fresh, "", "another wheel's digest")
    read, listed, read_text, glob = [], [], Path.read_text, Path.glob
    monkeypatch.setattr(Path, "read_text", lambda path, *a, **k: read.append(path) or read_text(path, *a, **k))
    monkeypatch.setattr(Path, "glob", lambda path, *a, **k: listed.append(path) or glob(path, *a, **k))
    for drawings in (1, 2):
        assert drawn(panels.INSTRUCT_NERF_PT_engine).operators == ["install_engine"]
        assert len([path for path in read if path.name == engine_home.MARKER]) == 1
        assert listed.count(fresh / "e") == drawings
    wheel = engine_home.digest(project.bundled_wheel())
    engine_home.write_marker(fresh / "e" / project.locks().name, {"wheel": wheel})
    assert drawn(panels.INSTRUCT_NERF_PT_engine).operators != ["install_engine"]


def test_after_an_update_only_what_is_new_is_said_to_be_downloaded(fresh: Path) -> None:
    locks = project.locks()
    finish(fresh, "", "another wheel's digest")
    environment, versions = fresh / "e" / locks.name, {p.name: p.version for p in (*locks.packages, *locks.torch)}
    (fresh / "uv" / locks.version("uv")).mkdir(parents=True)
    engine_home.write_marker(environment, {"wheel": "another", "packages": versions})
    said = drawn(panels.INSTRUCT_NERF_PT_engine).text
    assert "nothing is downloaded" in said and "Allow Online Access" not in said and "100 Mbit/s" not in said
    # With packages of which one is newer now, that one is, in an environment of its own.
    one = max(locks.packages, key=lambda package: package.download)
    engine_home.write_marker(environment, {"wheel": "another", "packages": versions | {one.name: "0.1"}})
    environment.rename(environment.with_name("older"))
    said = drawn(panels.INSTRUCT_NERF_PT_engine).text
    assert f"Up to {words.size(one.download)} are downloaded" in said and "Allow Online Access" in said
    assert engine_home.missing(fresh, locks) == [one]


def test_an_engine_elsewhere_is_started_as_it_is_named(fresh: Path) -> None:
    project.preferences().engine_python = "ssh box python -m engine"
    assert project.engine_command(["-m", "engine", "serve"]) == ["ssh", "box", "python", "-m", "engine", "serve"]
    project.preferences().engine_python = "no-such-program -m engine"
    with pytest.raises(RuntimeError, match="no program “no-such-program”"):
        jobs.start_engine()
