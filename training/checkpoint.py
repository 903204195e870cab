"""Whole training states as safetensors with a JSON of scalars beside them; no pickle."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from .paths import read_json, replace_file, write_json


def save(folder: Path, name: str, groups: dict[str, dict[str, torch.Tensor]], scalars: dict) -> None:
    """Write `name.safetensors` (keys "group/tensor") and `name.json`; each file is replaced whole."""
    flat = {
        f"{group}/{key}": tensor.detach().cpu().contiguous().clone()
        for group, tensors in groups.items()
        for key, tensor in tensors.items()
    }
    replace_file(folder / f"{name}.safetensors", lambda p: save_file(flat, p))
    write_json(folder / f"{name}.json", scalars)


def load(folder: Path, name: str) -> tuple[dict[str, dict[str, torch.Tensor]], dict] | None:
    """The groups and scalars that `save` wrote, or None when there is no such state."""
    if not (folder / f"{name}.safetensors").exists() or not (folder / f"{name}.json").exists():
        return None
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in load_file(folder / f"{name}.safetensors").items():
        group, name_in_group = key.split("/", 1)
        groups.setdefault(group, {})[name_in_group] = tensor
    return groups, read_json(folder / f"{name}.json")


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Adam's moments by parameter number: "3.exp_avg" and so on."""
    return {f"{i}.{k}": v for i, state in optimiser.state_dict()["state"].items() for k, v in state.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    state_dict = optimiser.state_dict()
    for key, tensor in tensors.items():
        number, name = key.split(".", 1)
        state_dict["state"].setdefault(int(number), {})[name] = tensor
    optimiser.load_state_dict(state_dict)


class MovingAverage:
    """Exponential moving average of a set of named parameters, with a warm-up of its decay."""

    def __init__(self, named: dict[str, torch.Tensor], decay: float):
        self.decay = decay
        self.values = {k: v.detach().float().clone() for k, v in named.items()}

    @torch.no_grad()
    def update(self, named: dict[str, torch.Tensor], step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.values.values()), [named[k].detach().float() for k in self.values], 1 - decay)
