"""ST-LPIPS (Ghildyal, Liu 2022) with the AlexNet trunk, weights as its package ships them."""

import torch


class PerceptualDistance:
    """Of pictures (B, 3, H, W), about 0..1, to others: (B,). Differentiable."""

    def __init__(self):
        from stlpips_pytorch import stlpips

        self.net = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False).eval().requires_grad_(False)

    def __call__(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self.net(a * 2 - 1, b * 2 - 1).flatten()
