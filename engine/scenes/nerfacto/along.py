# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens along rays: where to sample, how samples add up to a pixel, and nerfacto's two losses of it, with
gradients, over kernels in either language (`warp_rays.py`, `numba_rays.py`). The values are nerfstudio's.

R rays, S samples on each, in order; all tensors are of 32 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

HARMONICS = 16  # numbers that nerfstudio makes of a direction
# By a kernel's name: run it, which reads what is given and writes the tensors that are made. All are contiguous.
Run = Callable[[str, tuple[Tensor | float, ...], tuple[Tensor, ...]], None]


class _Placed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, run: Run, origins: Tensor, directions: Tensor, edges: Tensor, nears: Tensor, fars: Tensor):
        rays, samples = len(edges), edges.shape[1] - 1
        points = edges.new_empty(rays, samples, 3)
        deltas, middles = edges.new_empty(rays, samples), edges.new_empty(rays, samples)
        run("placed", (origins, directions, edges, nears, fars), (points, deltas, middles))
        ctx.run = run
        ctx.save_for_backward(origins, directions, deltas, middles)
        ctx.mark_non_differentiable(deltas, middles)
        return points, deltas, middles

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        origins, directions, deltas, middles = ctx.saved_tensors
        made = torch.empty_like(origins), torch.empty_like(directions)
        ctx.run("placed_back", (origins, directions, deltas, middles, grads[0].contiguous()), made)
        return None, *made, None, None, None


class _Weights(torch.autograd.Function):
    @staticmethod
    def forward(ctx, run: Run, raw: Tensor, deltas: Tensor, initial: float) -> Tensor:
        raw = raw.contiguous()
        weights = torch.empty_like(raw)
        run("weights", (raw, initial, deltas), (weights,))
        ctx.run, ctx.initial = run, initial
        ctx.save_for_backward(raw, deltas, weights)
        return weights

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        raw, deltas, weights = ctx.saved_tensors
        grad = torch.empty_like(raw)
        ctx.run("weights_back", (raw, ctx.initial, deltas, weights, grads[0].contiguous()), (grad,))
        return None, grad, None, None


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx, run: Run, weights: Tensor, colors: Tensor, middles: Tensor, background: Tensor | None):
        rays, colors = len(weights), colors.contiguous()
        rgb, opacity, depth = weights.new_empty(rays, 3), weights.new_empty(rays), weights.new_empty(rays)
        behind = rgb if background is None else background  # of which nothing is read
        run("composite", (weights, colors, middles, behind, int(background is None)), (rgb, opacity, depth))
        ctx.run = run
        ctx.save_for_backward(weights, colors, background)
        ctx.mark_non_differentiable(depth)
        return rgb, opacity, depth

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        weights, colors, background = ctx.saved_tensors
        rgb, opacity = grads[0].contiguous(), grads[1].contiguous()
        behind = rgb if background is None else background
        made = torch.empty_like(weights), torch.empty_like(colors)
        ctx.run("composite_back", (weights, colors, behind, int(background is None), rgb, opacity), made)
        return None, *made, None, None


class _Loss(torch.autograd.Function):
    """The mean over rays of a loss whose kernel computes its slope as well; of the tensors ``given`` the last has a
    gradient."""

    @staticmethod
    def forward(ctx, run: Run, name: str, *given: Tensor) -> Tensor:
        given = tuple(each.contiguous() for each in given)
        losses, slopes = given[-1].new_empty(len(given[-1])), torch.empty_like(given[-1])
        run(name, given, (losses, slopes))
        ctx.save_for_backward(slopes)
        return losses.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        (slopes,) = ctx.saved_tensors
        return *[None] * (len(ctx.needs_input_grad) - 1), slopes * (grads[0] / len(slopes))


@dataclass(frozen=True)
class Along:
    """The functions, by the kernels of one language."""

    run: Run
    # Whether networks are compiled as well (networks.py); else they are PyTorch's matrix products.
    compiled_networks: bool

    def placed(
        self, origins: Tensor, directions: Tensor, edges: Tensor, nears: Tensor, fars: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """origins and directions (R, 3), edges (R, S + 1), where rays begin and end (R,) → the samples' points
        (R, S, 3) in the unit cube, their lengths (R, S) and middles (R, S), of which the points alone have a gradient,
        where the kernels have one."""
        return _Placed.apply(self.run, origins, directions, edges, nears, fars)

    def weighed(self, raw: Tensor, deltas: Tensor, initial: float) -> Tensor:
        """What the network says (R, S), of which the density is ``initial`` times the exponential, and the samples'
        lengths (R, S) → how much each adds to its pixel, (R, S)."""
        return _Weights.apply(self.run, raw, deltas, initial)

    def composited(
        self, weights: Tensor, colors: Tensor, middles: Tensor, background: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """weights (R, S), colors (R, S, 3), the samples' middles (R, S), what is behind them (R, 3) or None, which is
        the last sample → rgb (R, 3), opacity (R,), median depth (R,), which has no gradient."""
        return _Composite.apply(self.run, weights, colors, middles, background)

    def interlevel(self, edges: Tensor, weights: Tensor, coarse_edges: Tensor, coarse_weights: Tensor) -> Tensor:
        """The mean over rays and fine samples: how far ``weights`` (R, S), between ``edges`` (R, S + 1), stand out of
        the coarse ones, which alone have a gradient."""
        given = (edges.detach(), weights.detach(), coarse_edges.detach(), coarse_weights)
        return _Loss.apply(self.run, "interlevel", *given) / weights.shape[1]

    def distortion(self, edges: Tensor, weights: Tensor) -> Tensor:
        """The mean over rays of how spread out ``weights`` (R, S) are between ``edges`` (R, S + 1)."""
        return _Loss.apply(self.run, "distortion", edges.detach(), weights)

    def resampled(self, weights: Tensor, anneal: float, edges: Tensor, jitter: Tensor, count: int) -> Tensor:
        """(R, count + 1) edges of new samples, drawn where ``weights`` (R, S), to the power of ``anneal``, are large
        between the old ``edges`` (R, S + 1). ``jitter`` (R,): how far each lies within its share, 0–1."""
        made = edges.new_empty(len(edges), count + 1)
        self.run("resampled", (weights.detach(), float(anneal), edges, jitter), (made,))
        return made

    def harmonics(self, directions: Tensor) -> Tensor:
        """(R, 16): what nerfstudio makes of directions (R, 3); without a gradient, as there."""
        made = directions.new_empty(len(directions), HARMONICS)
        self.run("harmonics", (directions.detach().contiguous(),), (made,))
        return made
