"""Where training keeps its files. Nothing here is needed by the engine."""

import json
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent
DATA = Path(os.environ.get("INSTRUCT_NERF_TRAINING_DATA", ROOT / "data"))
RUNS = Path(os.environ.get("INSTRUCT_NERF_TRAINING_RUNS", ROOT / "runs"))
EXPORT = ROOT.parent / "engine" / "editors" / "weights" / "instruct-pix2pix-small"

SIZE = 128  # picture side in pixels, for training and for the model's native size


def replace_file(path: Path, write) -> None:
    """Call `write(temporary_path)`, then rename it to `path`, so that `path` is always whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")
    write(temporary)
    os.replace(temporary, path)


def write_json(path: Path, value) -> None:
    replace_file(path, lambda p: p.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n"))


def read_json(path: Path):
    return json.loads(path.read_text())
