# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that a checkout's environment is what the lock names, that nothing in it was compiled here, and that the
engine imports only what artists get.

    python packaging/check_environment.py

Exit status 1 and a line for each fault where something is wrong.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
DEVELOPMENT = ROOT / "packaging" / "development.txt"
LOCKS = ROOT / "blender_addon" / "locks"
ENGINE = "instruct-nerf-engine"
SEEDED = {"pip"}  # by venv itself

# Run in a process of its own, where what artists do not get cannot be imported: imports every module of the engine and
# edits one picture, so that what is imported late is seen as well; then writes down which packages were loaded.
USE_EVERYTHING = """
import importlib, pkgutil, re, runpy, sys
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions
from pathlib import Path

folder, artists = Path(sys.argv[1]), set(sys.argv[2:])
canonical = lambda name: re.sub("[-_.]+", "-", name).lower()
owners = {top: {canonical(name) for name in names} for top, names in packages_distributions().items()}

class WithoutOthers(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        return None if top in owners and not owners[top] & artists else PathFinder.find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, *arguments):
        found = PathFinder.find_distributions(*arguments)
        return (each for each in found if canonical(each.metadata["Name"]) in artists)

sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutOthers
import cv2, numpy as np
import engine
cv2.imwrite(str(folder / "photo.png"), (np.random.default_rng(0).random((96, 128, 3)) * 255).astype(np.uint8))
extras = {"engine.cluster.pool", "engine.cluster.submitting"}  # which need Ray, of the extra `cluster`
for module in pkgutil.walk_packages(engine.__path__, "engine."):
    if not module.name.endswith("__main__") and module.name not in extras:
        importlib.import_module(module.name)
import lpips, pycolmap
from stlpips_pytorch import stlpips
from transformers import CLIPModel, CLIPProcessor
sys.argv = ["engine", "try", str(folder / "photo.png"), "make it night", "--out", str(folder / "edited.png")]
sys.argv += ["--device", "cpu"]
try:
    runpy.run_module("engine", run_name="__main__")
except SystemExit as end:
    if end.code not in (None, 0):
        raise
assert (folder / "edited.png").is_file()
tops = {name.partition(".")[0] for name, module in list(sys.modules.items()) if getattr(module, "__file__", None)}
(folder / "loaded").write_text(" ".join(sorted({owner for top in tops for owner in owners.get(top, ())})))
"""


def locked(path: Path) -> dict[str, str]:
    """Package and version of each line of a lock that applies to this Python and system."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.split(" --hash")[0].split("#")[0].strip()
        if line:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate():
                (version,) = requirement.specifier
                found[canonicalize_name(requirement.name)] = version.version
    return found


def installed() -> dict[str, Distribution]:
    """What this environment has, by name."""
    return {canonicalize_name(each.metadata["Name"]): each for each in distributions()}


def wrong_versions(here: dict[str, Distribution]) -> Iterator[str]:
    """Packages that the lock does not name, or names otherwise, and those that are missing."""
    wanted = locked(DEVELOPMENT)
    for name, distribution in here.items():
        if name not in wanted and name not in SEEDED | {ENGINE}:
            yield f"{name} {distribution.version} is installed and not in {DEVELOPMENT.name}"
    for name, version in wanted.items():
        if name not in here:
            yield f"{name} {version} is not installed"
        elif here[name].version.partition("+")[0] != version:
            yield f"{name} {here[name].version} is installed in place of {version}"


def built_here(here: dict[str, Distribution]) -> Iterator[str]:
    """Packages that were compiled on this machine: registries take no wheel with a bare ``linux_…`` tag."""
    for name, distribution in here.items():
        tags = [line for line in (distribution.read_text("WHEEL") or "").splitlines() if line.startswith("Tag:")]
        if not tags:
            yield f"{name} was not installed from a wheel"
        elif any("-linux_" in tag for tag in tags) and "+" not in distribution.version:
            yield f"{name} was built from source ({tags[0]})"


def foreign_imports() -> Iterator[str]:
    """Whether the engine runs with what an artist gets and nothing else."""
    artists = {ENGINE, *locked(LOCKS / "linux-x86_64.txt"), *locked(LOCKS / "linux-x86_64-torch.txt")}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", "-c", USE_EVERYTHING, folder, *artists]
        ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        said = Path(folder, "loaded")
        loaded = said.read_text(encoding="utf-8").split() if said.exists() else []
    if ran.returncode or not loaded:
        yield f"the engine does not run with what an artist gets:\n{ran.stderr[-3000:]}"
        return
    print(f"the engine loads {len(loaded)} packages of the {len(artists)} that an artist gets")


def main() -> int:
    """Print what is wrong; 0 where nothing is."""
    here = installed()
    wrong = [*wrong_versions(here), *built_here(here), *foreign_imports()]
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    if not wrong:
        print(f"{len(here)} packages, all from the lock, none built here")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
