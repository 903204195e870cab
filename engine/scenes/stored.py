# SPDX-License-Identifier: GPL-3.0-or-later
"""Tensors on disk, in safetensors files that nobody vouches for: looked at before anything is built or read."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.errors import BadInput, is_out_of_memory
from engine.files import open_file, require_file

LARGEST_FILE = 64 * 2**30  # bytes; 20,000 edited pictures of 512 pixels are 16 GiB
LARGEST_HEADER = 64 * 2**20  # bytes
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """What the file says of a tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None  # None: of a kind that no scene holds


class TensorFile:
    """A safetensors file whose header is read and whole; tensors are read when asked for.

    A tensor is a copy: a mapping of the file would keep Windows from replacing it, and would change with it.
    """

    def __init__(self, path: Path, advice: str):
        """``advice`` ends every sentence about a file that cannot be used. Raises BadInput; FileNotFoundError."""
        self.path, self._advice = path, advice
        try:
            self.size = require_file(path, LARGEST_FILE)
            with open_file(path) as file:
                start = file.read(8)
            if len(start) < 8 or struct.unpack("<Q", start)[0] > LARGEST_HEADER:
                raise self.damaged("it does not begin as such files do")
            with safe_open(path, framework="pt") as file:
                self.metadata: dict[str, str] = file.metadata() or {}
                self.layouts: dict[str, Layout] = {}
                for name in file.keys():  # noqa: SIM118, it is no dictionary
                    part = file.get_slice(name)
                    self.layouts[name] = Layout(tuple(part.get_shape()), _DTYPES.get(part.get_dtype()))
        except FileNotFoundError:
            raise
        except (SafetensorError, OSError, ValueError) as error:
            raise self.damaged(getattr(error, "strerror", None) or str(error)) from None

    def damaged(self, why: str) -> BadInput:
        """The error to raise where something in the file is wrong."""
        return BadInput(f"{self.path.name} cannot be read as a checkpoint ({why}); {self._advice}.", file=self.path)

    def require(self, name: str, shape: Iterable[int], dtype: torch.dtype) -> None:
        """Raises BadInput where the file has no such tensor, or another of that name."""
        layout, shape = self.layouts.get(name), tuple(shape)
        if layout is None:
            raise self.damaged(f"{name[:80]} is missing")
        if layout != Layout(shape, dtype):
            raise self.damaged(f"{name[:80]} is not {list(shape)} of {str(dtype).removeprefix('torch.')}")

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """The named tensors, which exist. Raises BadInput where one holds values that are not numbers."""
        tensors = {}
        try:
            with safe_open(self.path, framework="pt") as file:
                for name in names:
                    tensor = tensors[name] = file.get_tensor(name).clone()
                    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                        raise self.damaged(f"{name[:80]} holds values that are not numbers")
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            raise self.damaged(getattr(error, "strerror", None) or str(error)) from None
        return tensors
