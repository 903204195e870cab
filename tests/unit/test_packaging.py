# SPDX-License-Identifier: GPL-3.0-or-later
"""What is installed where: the locks, read without a network, against pyproject.toml and what the code imports."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "blender_addon" / "locks"
PLATFORMS = ("linux-x86_64", "macos-arm64", "windows-x86_64")
# The oldest systems that the packages' own wheels run on: glibc 2.28 (2018) and macOS 14.
FITS = {"linux-x86_64": r"manylinux_2_(\d+)_x86_64|manylinux(1|2010|2014)_x86_64",
        "macos-arm64": r"macosx_(\d+)_\d+_(arm64|universal2)", "windows-x86_64": "win_amd64"}  # fmt: skip
NEWEST = {"linux-x86_64": 28, "macos-arm64": 14, "windows-x86_64": 0}
UNWANTED = {"open3d", "pymeshlab", "av", "wandb", "jupyterlab", "ipython", "viser", "fpsample", "comet-ml", "gsplat"}
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = {canonicalize_name(r.name): r for r in map(Requirement, DECLARED["dependencies"])}

spec = importlib.util.spec_from_file_location("check_environment", ROOT / "packaging" / "check_environment.py")
check_environment = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_environment)


def versions(platform: str) -> dict[str, str]:
    """Everything that the installer puts into an environment on a platform, but for the engine itself."""
    return {
        name: version
        for part in ("", "-torch")
        for name, version in re.findall(r"^([\w.-]+)==(\S+)", (LOCKS / f"{platform}{part}.txt").read_text(), re.M)
    }


def wheels(platform: str) -> list[str]:
    return [
        name
        for part in ("", "-torch")
        for name in re.findall(r"^    # (\S+\.whl) \d+$", (LOCKS / f"{platform}{part}.txt").read_text(), re.M)
    ]


def fits(tag: Tag, platform: str) -> bool:
    interpreter = tag.interpreter in {"py3", "py2", "py38", "py312", "cp312"}
    if tag.abi == "abi3":
        interpreter = int(tag.interpreter.removeprefix("cp3")) <= 12
    if tag.platform == "any":
        return interpreter
    found = re.fullmatch(FITS[platform], tag.platform)
    return interpreter and bool(found) and int(found.groups()[0] or 0 if found.groups() else 0) <= NEWEST[platform]


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_lock_is_binary_wheels_for_its_platform_and_few(platform: str) -> None:
    named = versions(platform)
    assert 60 < len(named) + 1 <= 105
    assert not set(named) & UNWANTED
    have = {}
    for name in wheels(platform):
        package, version, _, tags = parse_wheel_filename(name)
        assert any(fits(tag, platform) for tag in tags), name
        have[package] = str(version)
    assert have == {canonicalize_name(name): version for name, version in named.items()}
    text = "".join((LOCKS / f"{platform}{part}.txt").read_text() for part in ("", "-torch"))
    assert all("--hash=sha256:" in line for line in text.splitlines() if "==" in line)


SYSTEMS = {"linux": "linux", "windows": "win32", "macos": "darwin"}


def test_all_platforms_and_a_checkout_have_the_same_versions() -> None:
    everywhere = {platform: versions(platform) for platform in PLATFORMS}
    checkout = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", check_environment.DEVELOPMENT.read_text(), re.M))
    assert len(checkout) == len(re.findall("==", re.sub(r";.*", "", check_environment.DEVELOPMENT.read_text())))
    for platform, named in everywhere.items():
        assert {name: checkout.get(name) for name in named} == named, platform
    for name, requirement in REQUIREMENTS.items():
        for platform, named in everywhere.items():
            system = {"sys_platform": SYSTEMS[platform.split("-")[0]]}
            if requirement.marker is None or requirement.marker.evaluate(system):
                assert requirement.specifier.contains(named[name]), (name, platform)
            else:
                assert name not in named, (name, platform)


def test_every_bound_has_an_upper_end() -> None:
    groups = DECLARED["optional-dependencies"].values()
    for requirement in [*REQUIREMENTS.values(), *(Requirement(line) for group in groups for line in group)]:
        assert any(each.operator in {"<", "<=", "=="} for each in requirement.specifier), str(requirement)


def test_the_engine_imports_what_it_declares() -> None:
    """Every foreign module that engine/ names is one of a declared package, and every declared package is used."""
    sys.path.insert(0, str(Path(__file__).parent))
    from test_architecture import imports_of

    owners = {top: list(names) for top, names in packages_distributions().items()}
    for distribution in distributions():  # Python 3.11 forgets single extension modules, such as OpenEXR's
        for file in distribution.files or ():
            if len(file.parts) == 1 and file.suffix in (".so", ".pyd"):
                owners.setdefault(file.name.partition(".")[0], []).append(distribution.metadata["Name"])
    used = set()
    for file in (ROOT / "engine").rglob("*.py"):
        for top in {name.split(".")[0] for name in imports_of(file)} - set(sys.stdlib_module_names) - {"engine"}:
            names = {canonicalize_name(name) for name in owners.get(top, ())}
            extra = {"ray"} if (file.parent.name, top) == ("cluster", "ray") else set()  # which is asked for, or not
            assert names & set(REQUIREMENTS) or extra, f"{file.relative_to(ROOT)} imports {top}"
            used |= names
    # Asked for by those: torchsummary by stlpips-pytorch, accelerate by diffusers when it loads weights, torchvision
    # by lpips, scipy by scikit-image.
    assert set(REQUIREMENTS) - used <= {"torchsummary", "accelerate", "torchvision", "scipy"}


def test_faults_of_an_environment_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        def __init__(self, version: str, wheel: str | None):
            self.version, self.wheel = version, wheel

        def read_text(self, name: str) -> str | None:
            return self.wheel

    lock = tmp_path / "development.txt"
    lock.write_text("a==1.0\nb==2.0\nwindows==1 ; sys_platform == 'nowhere'\ntorch==2.0\ngone==3\n")
    monkeypatch.setattr(check_environment, "DEVELOPMENT", lock)
    here = {"a": Fake("1.1", "Tag: py3-none-any"), "b": Fake("2.0", "Tag: cp311-cp311-linux_x86_64"),
            "torch": Fake("2.0+cpu", "Tag: cp311-cp311-linux_x86_64"), "egg": Fake("1", None)}  # fmt: skip
    assert sorted(check_environment.wrong_versions(here)) == [
        "a 1.1 is installed in place of 1.0",
        "egg 1 is installed and not in development.txt",
        "gone 3 is not installed",
    ]
    assert [line.split(" was ")[0] for line in check_environment.built_here(here)] == ["b", "egg"]


UNUSED = """
import importlib.util, sys
sys.path.insert(0, sys.argv[1])
from engine import unused
unused.UNUSED["nowhere_at_all"] = ("embed",)
import viser.transforms
print(viser.__file__ if hasattr(viser, "__file__") else None)
from nowhere_at_all import embed
try:
    embed()
except ImportError as error:
    print(error)
try:
    from nowhere_at_all import get_ipython
except ImportError:
    print("no more than that")
"""


def test_modules_that_nobody_calls_are_answered_and_real_ones_go_first(tmp_path: Path) -> None:
    def run() -> list[str]:
        ran = subprocess.run([sys.executable, "-c", UNUSED, str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.splitlines()

    (tmp_path / "viser").mkdir()
    for name in ("__init__", "transforms"):
        (tmp_path / "viser" / f"{name}.py").touch()
    assert run() == [
        str(tmp_path / "viser" / "__init__.py"),
        "This part of a library is not installed with the engine (engine/unused.py).",
        "no more than that",
    ]
