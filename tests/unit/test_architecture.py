# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports run one way (docs/architecture.md); what must load fast or inside Blender imports little."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A package may import those below its own line, and its own.
LAYERS = [
    {"__main__"},
    {"cli", "submitted"},
    {"cli_output", "cli_jobs"},
    {"cli_cluster", "cli_machine", "cli_region", "cli_tree", "cli_words"},
    {"cluster"},
    {"terminal", "serving"},
    {"server", "check"},
    {"looks", "methods"},
    {"warm"},
    {"jobs"},
    {"presets"},
    {"edit", "output", "metrics"},
    {"scenes", "editors"},
    {"geometry"},
    {"capture"},
    {"tries", "detached", "exchange"},
    {"pictures", "hub_worker"},
    {"workspace", "progress", "devices", "rpc"},
    {"hub"},
    {"runtime", "wishes", "wire", "process", "results"},
    {"records"},
    {"protocol"},
    {"offers"},
    {"trash"},
    {"files"},
    {"lock"},
    {"paths"},
    {"errors", "randomness", "text", "unused", "memory", "counting", "workers", "pieces"},
    {"typed"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imports_of(file: Path) -> set[str]:
    """Full names of the modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


ALONE = {"typed.py", "hub_worker.py", "registration_worker.py"}  # two are processes that read one request


def test_structs_are_read_by_what_any_thread_may_call():
    wrong = []
    for file in sorted((ROOT / "engine").rglob("*.py")):
        if file.name in ALONE:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and (called := ast.unparse(node.func)).startswith("msgspec."):
                types = len(node.args) > 1 or any(word.arg == "type" for word in node.keywords)
                if called.endswith(("convert", "Decoder")) or (called.endswith(".decode") and types):
                    wrong.append(f"{file.relative_to(ROOT)}:{node.lineno} calls {called}: engine.typed does it safely")
    assert not wrong


def test_engine_imports_run_downward():
    wrong = []
    for file in sorted((ROOT / "engine").rglob("*.py")):
        own = file.relative_to(ROOT / "engine").parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        assert own in LEVEL, f"{own} has no place in the written order"
        for name in imports_of(file):
            parts = name.split(".")
            other = parts[1] if parts[0] == "engine" and len(parts) > 1 else None
            if other in LEVEL and other != own and LEVEL[other] <= LEVEL[own]:
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
    assert not wrong


# Within a package, in the same way.
INSIDE = {
    "jobs": [
        {"live_surfels", "kept_depths"},
        {"capture", "depths", "named_editor", "registration", "asked", "following", "views"},
        {"scene"},
        {"looking", "edit_stages", "download", "key_views", "like", "parents", "tree"},
        {"edit"},
        {"subject", "baselines"},
        {"contact_sheet", "output", "report"},
        {"trying"},
        {"frames", "splats"},
    ],
    "capture": [
        {"photos", "lens", "color", "upright", "effort"},
        {"fingerprint", "masks", "exif", "panorama"},
        {"decoding", "types"},
        {"pinhole", "texts", "description", "fields", "ply", "registration_worker"},
        {"images", "lookup"},
        {"central", "changes", "contents", "reading"},
        {"formats", "registration", "store"},
        {"opening"},
    ],
}


@pytest.mark.parametrize("package", INSIDE)
def test_imports_inside_a_package_run_one_way(package):
    level = {name: number for number, names in enumerate(INSIDE[package]) for name in names}
    wrong = []
    for file in sorted((ROOT / "engine" / package).rglob("*.py")):
        own = file.relative_to(ROOT / "engine" / package).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        assert own in level, f"{package}/{own} has no place in the written order"
        for name in imports_of(file):
            parts = name.split(".")
            other = parts[2] if parts[:2] == ["engine", package] and len(parts) > 2 else None
            if other in level and other != own and level[other] >= level[own]:
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_the_cluster_is_an_extra():
    """Nothing imports it but its own command line, and that not before it is asked for."""
    for file in (ROOT / "engine").rglob("*.py"):
        if "cluster" in file.relative_to(ROOT / "engine").parts:
            continue
        used = {name for name in imports_of(file) if name.startswith("engine.cluster") or name.split(".")[0] == "ray"}
        assert not used or file.name == "cli_cluster.py", (file, used)
    code = "import sys, engine.cli; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def module_of(name: str) -> Path | None:
    """The engine's file that is imported by that full name; None where it is no module, or a package's face."""
    file = ROOT.joinpath(*name.split(".")).with_suffix(".py")
    return file if name.startswith("engine.") and file.exists() else None


def test_no_modules_import_each_other_in_a_circle():
    """Not by a late import, inside a function, either."""
    imported = {
        file: {other for name in imports_of(file) if (other := module_of(name)) not in (None, file)}
        for file in (ROOT / "engine").rglob("*.py")
    }
    free: set[Path] = set()  # of circles: all that they import is
    while more := {file for file, others in imported.items() if file not in free and others <= free}:
        free |= more
    assert not [file.relative_to(ROOT).as_posix() for file in imported.keys() - free]


def names_in(file: Path) -> set[str]:
    """Every name and attribute that the code of a file uses or defines."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.arg | ast.keyword):
            found.add(node.arg or "")
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
    return found


@pytest.mark.parametrize("package", ["edit", "jobs", "output", "metrics", "runtime"])
def test_only_a_representation_knows_its_frame_and_only_an_editor_its_latents(package):
    """What goes through the two interfaces knows no NeRF frame, no nerfstudio class and no diffusion model."""
    files = [*(ROOT / "engine" / package).rglob("*.py"), *(ROOT / "engine").glob(f"{package}.py")]
    for file in files:
        for name in imports_of(file):
            assert not name.startswith(("nerfstudio", "diffusers", "transformers.models")), (file, name)
            assert not name.startswith("engine.scenes.nerfacto"), (file, name)
            assert not name.startswith("engine.editors.instruct_pix2pix"), (file, name)
        wrong = {"latents", "NerfFrame", "RayBundle", "Cameras", "unet", "vae", "frame_of", "Nerfacto"}
        assert not names_in(file) & wrong, file


def test_the_engine_knows_nothing_of_blender():
    for file in (ROOT / "engine").rglob("*.py"):
        names = {name.split(".")[0] for name in imports_of(file)}
        assert not names & {"bpy", "mathutils", "blender_addon"}, file


# Functions that unpickle what they read, or may.
UNPICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def test_nothing_is_unpickled_by_any_way():
    for file in (ROOT / "engine").rglob("*.py"):
        names = {name.split(".")[0] for name in imports_of(file)}
        assert not names & UNPICKLES, file
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            call = ast.unparse(node.func)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert call not in {"torch.load", "pd.read_pickle", "pandas.read_pickle"}, (file, node.lineno)
            assert given.get("allow_pickle", "False") == "False", (file, node.lineno)
            if call in {"np.load", "numpy.load"}:
                assert given.get("allow_pickle") == "False", (file, node.lineno)
            if call.endswith("from_pretrained"):
                safe = given.get("use_safetensors") == "True" or "Tokenizer" in call or "Config" in call
                assert safe or "Processor" in call, (file, node.lineno)
            assert given.get("trust_remote_code", "False") == "False", (file, node.lineno)
            assert given.get("shell", "False") == "False", (file, node.lineno)


@pytest.mark.parametrize(
    "module", ["engine.server", "engine.jobs.capture", "engine.presets", "engine.editors.catalogue"]
)
def test_what_answers_first_imports_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_no_file_is_longer_than_a_sitting():
    for folder in ("engine", "blender_addon", "training", "packaging", "benchmarks", "tests"):
        for file in (ROOT / folder).rglob("*.py"):
            assert len(file.read_text().splitlines()) <= 600, file
