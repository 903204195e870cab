# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m engine check` finds what is wrong, and does each kind of work once."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import msgspec
import pytest

from engine import check
from engine.scenes.nerfacto import hash_encoding

ROOT = Path(__file__).parents[2]


def test_missing_and_old_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"numpy": "2.3.0", "rich": "15.0.0"}

    def version(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    wanted = ["numpy<2,>=1.26", "rich", "gone>=1", "elsewhere; sys_platform == 'nowhere'", "bpy; extra == 'blender'"]
    monkeypatch.setattr(check, "requires", lambda _: wanted)
    monkeypatch.setattr(check, "version", version)
    found, problems = check.look_at_packages()
    assert found == versions
    assert problems == ["numpy is 2.3.0, and <2,>=1.26 is needed.", "gone is not installed."]


def test_a_wrong_kernel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    check.compare_kernels("cpu")
    right = hash_encoding.FusedHashEncoding.pytorch_fwd
    monkeypatch.setattr(hash_encoding.FusedHashEncoding, "pytorch_fwd", lambda self, x: right(self, x) * 1.01)
    with pytest.raises(ArithmeticError, match=r"values are wrong by 0\.01"):
        check.compare_kernels("cpu")


def test_a_step_that_fails_is_a_problem_and_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(device: str) -> None:
        raise RuntimeError(f"no kernel image for {device}")

    monkeypatch.setattr(check, "compare_kernels", broken)
    found = check.check("cpu", quick=True)
    assert "kernels: RuntimeError: no kernel image for cpu" in found.problems
    assert msgspec.json.decode(msgspec.json.encode(found), type=check.Check) == found
    assert check.lines(found)[-1] == found.problems[-1] and "kernels: FAILED" in "\n".join(check.lines(found))
    assert check.check("cuda:77", quick=True).problems[-1].startswith("PyTorch cannot be used:")


def test_stages_are_timed_by_their_messages() -> None:
    times = iter([0.0, 1.0, 3.0, 3.5])
    clock = check.StageClock(lambda: next(times))
    for label in ("Preparing", "Learning", "Learning"):
        clock.at(msgspec.structs.replace(PROGRESS, label=label))
    assert clock.seconds == {"Preparing": 1.0, "Learning": 2.5}


PROGRESS = check.protocol.Progress(stage="train", label="", step=1, of=1, fraction=0.0, seconds_left=None, losses={})


@pytest.mark.slow
def test_everything_works_here() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "engine", "check", "--json", "--device", "cpu"], capture_output=True, text=True, cwd=ROOT
    )
    found = msgspec.json.decode(ran.stdout, type=check.Check)
    assert ran.returncode == 0 and found.problems == [], ran.stderr[-2000:]
    assert {"kernels", "open a capture", "train one step and render", "edit one view"} <= {s.name for s in found.steps}
    assert all(step.seconds > 0 for step in found.steps) and json.loads(ran.stdout)["device"] == "cpu"
    assert str(Path.home()) not in ran.stdout
