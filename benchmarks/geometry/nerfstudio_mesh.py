# SPDX-License-Identifier: GPL-3.0-or-later
"""What nerfstudio's own commands make of the same photos in the same seconds: `ns-train nerfacto` as it comes, then
`ns-export tsdf` or `ns-export poisson`. Needs an environment with all that nerfstudio asks for (the engine's has less);
`INSTRUCT_NERF_NERFSTUDIO_PYTHON` names its Python where it is not this one.

    python -m benchmarks.geometry.nerfstudio_mesh FOLDER SECONDS DEVICE      # what runs in that environment

Two things differ from the commands, neither of which touches what is learned or exported: LPIPS, which nerfacto builds
to measure itself and downloads weights for, is left out, and training ends by the clock.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

POINTS = 100_000  # of a million that `ns-export poisson` takes by default: those would take as long again as training
METHODS = ("tsdf", "poisson")


def write_capture(pictures: np.ndarray, poses: list[np.ndarray], focal: float, folder: Path) -> None:
    """Photos (N, H, W, 3) uint8 with camera-to-world poses (4, 4), OpenGL axes, as nerfstudio reads them."""
    from PIL import Image

    (folder / "images").mkdir(parents=True, exist_ok=True)
    height, width = pictures.shape[1:3]
    frames = []
    for number, (picture, pose) in enumerate(zip(pictures, poses, strict=True)):
        name = f"images/frame_{number:05d}.png"
        Image.fromarray(picture).save(folder / name)
        frames.append({"file_path": name, "transform_matrix": np.asarray(pose).tolist()})
    camera = {"camera_model": "OPENCV", "w": width, "h": height, "fl_x": focal, "fl_y": focal}
    camera |= {"cx": width / 2, "cy": height / 2}
    # All photos are trained on: nerfstudio would keep some for its own measuring, and needs one to look at.
    names = [frame["file_path"] for frame in frames]
    lists = {"train_filenames": names, "val_filenames": names[:1], "test_filenames": names[:1]}
    (folder / "transforms.json").write_text(json.dumps(camera | {"frames": frames} | lists))


def make(folder: Path, seconds: float, device: str) -> dict:
    """Train on the capture in ``folder`` for so many seconds on ``device`` (cpu, cuda:0), and export;
    {"steps", "seconds", method: seconds}. Meshes lie there as ``tsdf.ply`` and ``poisson.ply``, in its frame."""
    report = folder / "report.json"
    if not report.exists():
        python = os.environ.get("INSTRUCT_NERF_NERFSTUDIO_PYTHON", sys.executable)
        command = [python, "-m", "benchmarks.geometry.nerfstudio_mesh", str(folder), f"{seconds:.0f}", device]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not report.exists():
            raise SystemExit(f"nerfstudio made no mesh:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    return json.loads(report.read_text())


def _without_lpips() -> None:
    import torch
    import torchmetrics.image.lpip

    class Nothing(torch.nn.Module):
        def __init__(self, **_: object):
            super().__init__()

        def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            return one.new_zeros(())

    torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity = Nothing


def _train(folder: Path, seconds: float, device: str) -> tuple[Path, int, float]:
    """The run's config.yml, its steps, and the seconds they took."""
    from nerfstudio.configs.method_configs import method_configs
    from nerfstudio.scripts.train import _set_random_seed

    config = method_configs["nerfacto"]
    config.data = config.pipeline.datamanager.data = folder
    config.output_dir, config.vis = folder / "run", "tensorboard"
    config.machine.device_type = device.partition(":")[0]  # of cards it takes the first
    config.steps_per_eval_batch = config.steps_per_eval_image = config.steps_per_eval_all_images = 10**9
    config.steps_per_save = 10**9
    config.set_timestamp()
    config.save_config()
    _set_random_seed(config.machine.seed)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    original, began, taken = trainer.train_iteration, time.monotonic(), 0

    def until_the_end(step: int):  # type: ignore[no-untyped-def]
        nonlocal taken
        losses = original(step)
        taken = step + 1
        if time.monotonic() - began > seconds:
            trainer.stop_training = True
        return losses

    trainer.train_iteration = until_the_end
    trainer.train()
    return config.get_base_dir() / "config.yml", taken, time.monotonic() - began


def _export(method: str, config: Path, folder: Path) -> None:
    import trimesh
    from nerfstudio.scripts.exporter import ExportPoissonMesh, ExportTSDFMesh

    made = folder / method
    if method == "tsdf":
        ExportTSDFMesh(config, made, texture_method="tsdf").main()
    else:
        ExportPoissonMesh(config, made, num_points=POINTS, normal_method="open3d", texture_method="point_cloud").main()
    mesh = trimesh.load(made / f"{method}_mesh.ply", process=False)
    moved = json.loads((config.parent / "dataparser_transforms.json").read_text())
    whole = np.vstack([np.array(moved["transform"]), [0, 0, 0, 1]])
    vertices = np.asarray(mesh.vertices) / moved["scale"]
    mesh.vertices = (np.c_[vertices, np.ones(len(vertices))] @ np.linalg.inv(whole).T)[:, :3]
    mesh.export(folder / f"{method}.ply")


def _main() -> None:
    folder, seconds, device = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    import torch

    # nerfstudio 1.1.5 loads its checkpoint as PyTorch did before 2.6; these are the numbers in it that are no tensors.
    torch.serialization.add_safe_globals([np.core.multiarray.scalar, np.dtype, np.dtypes.Float64DType])
    _without_lpips()
    config, steps, took = _train(folder, seconds, device)
    report: dict = {"steps": steps, "seconds": took}
    for method in METHODS:
        began = time.monotonic()
        try:
            _export(method, config, folder)
            report[method] = time.monotonic() - began
        except (ValueError, RuntimeError) as error:  # no surface at all, after so few steps: a result like another
            report[method] = f"{type(error).__name__}: {error}"
    part = folder / "report.json.part"
    part.write_text(json.dumps(report))
    part.replace(folder / "report.json")


if __name__ == "__main__":
    _main()
