# SPDX-License-Identifier: GPL-3.0-or-later
"""Loading a diffusers pipeline from a folder or the hub: safetensors only, and one sentence where it cannot be had."""

from __future__ import annotations

from typing import Any

import torch

from engine.errors import BadInput, is_out_of_memory


def load_pipeline(pipeline: type, source: str, name: str, dtype: torch.dtype, **more: Any) -> Any:
    """The diffusers ``pipeline`` in a folder, or of a hub name, ``source``, on the CPU; it is called ``name``. Raises
    BadInput where it cannot be had, with the reason."""
    try:
        return pipeline.from_pretrained(source, dtype=dtype, use_safetensors=True, **more)  # type: ignore
    except Exception as error:  # diffusers raises a dozen kinds; to the artist they are one
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInput(f"The editor {name} could not be loaded: {reason}", field="editor") from error
