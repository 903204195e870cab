# SPDX-License-Identifier: GPL-3.0-or-later
"""Views that are edited in one batch attend to one of them, the key view, beside themselves: so they are drawn alike,
without any training (GaussCtrl, Wu et al., ECCV 2024, for several keys; I-Mix2Mix for a random one)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class KeyAttention:
    """A self-attention's processor in the place of ``inner``, which it asks for its answers."""

    def __init__(self, inner: Any, views: int, key: int, share: float):
        self.inner, self.views, self.key, self.share = inner, views, key, share

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        own = self.inner(attn, hidden_states, encoder_hidden_states, *args, **kwargs)
        if encoder_hidden_states is not None:
            return own
        parts = hidden_states.unflatten(0, (-1, self.views))
        key = parts[:, self.key : self.key + 1].expand_as(parts).flatten(0, 1)
        return torch.lerp(own, self.inner(attn, hidden_states, key, *args, **kwargs), self.share)


@contextmanager
def attending(unet: Any, views: int, key: int, share: float) -> Iterator[None]:
    """While the block runs, a batch of ``views`` (once, or one part of the guidance after another) attends to its
    ``key``-th by ``share``, 0–1."""
    processors = dict(unet.attn_processors)
    own = {
        name: KeyAttention(inner, views, key, share)
        for name, inner in processors.items()
        if name.endswith("attn1.processor")
    }
    unet.set_attn_processor(processors | own)
    try:
        yield
    finally:
        unet.set_attn_processor(processors)
