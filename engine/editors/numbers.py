# SPDX-License-Identifier: GPL-3.0-or-later
"""Half precision holds nothing above 65,504: what an editor computes is looked at before it becomes a picture, where an
infinity would be clamped to white and a NaN cast to black."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from engine.errors import BadInput


def all_finite(values: Tensor) -> bool:
    """Whether there is neither a NaN nor an infinity among them. Waits for a GPU."""
    return bool(torch.isfinite(values).all())


def checked(values: Tensor, editor: str) -> Tensor:
    """``values``, which ``editor`` computed. Raises BadInput where not all of them are numbers."""
    if not all_finite(values):
        how = "half precision" if values.dtype == torch.float16 else f"{values.dtype}".removeprefix("torch.")
        raise BadInput(
            f"The editor {editor} computed values that are not numbers (NaN) in {how}, so its picture was not kept; "
            "lower the guidance scales, or choose another editor or device.",
            field="editor",
        )
    return values


def in_full_where_needed(
    network: nn.Module, own: torch.dtype, run: Callable[[torch.dtype], Tensor], editor: str
) -> Tensor:
    """What ``run`` makes with ``network`` of inputs in the precision that it is given: the network's ``own`` or, where
    that is half and not all that came out are numbers, 32 bits, which the network then has meanwhile. Raises BadInput
    where they are no numbers then either."""
    values = run(own)
    # A graph that autograd keeps would lose the weights that it was made with.
    if own == torch.float16 and not torch.is_grad_enabled() and not all_finite(values):
        network.to(torch.float32)
        try:
            values = run(torch.float32)
        finally:
            network.to(own)
    return checked(values, editor)


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies numbers of 16 bits (AVX512-BF16, AMX): a denoiser then takes two thirds of the time
    and half the memory, and its pictures differ by far less than another seed's do (docs/speed.md)."""
    return torch.cpu._is_avx512_bf16_supported()  # every CPU with AMX has it, too
