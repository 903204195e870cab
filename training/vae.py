"""The picture codec: an AutoencoderTiny of factor 4 with four latent channels, trained from scratch.

The latents are pushed towards white: zero mean, unit variance, no correlation between channels.
So no axis of colour is small enough for the diffusion model to lose it.
"""

import math
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny

from . import checkpoint, filters, pairs, photos
from .paths import EXPORT, RUNS, SIZE, read_json, write_json
from .perceptual import PerceptualDistance

CROP = 64  # pixels: the codec is convolutional and learns on crops
BATCH = 8
RATE = 2e-3
REPORT_EVERY = 300  # steps
ANCHOR_STEPS = 1000  # over which the hold on the latents' meaning fades
LATENT_NOISE = 0.04  # standard deviations added to the latents in training
PERCEPTUAL_WEIGHT = 0.2  # of the perceptual distance, once the decoder is trained alone


def build() -> AutoencoderTiny:
    return AutoencoderTiny(
        encoder_block_out_channels=(32,) * 3,
        decoder_block_out_channels=(32,) * 3,
        num_encoder_blocks=(0, 1, 2),
        num_decoder_blocks=(3, 2, 0),  # no block at full size: two thirds of the cost for little
        latent_channels=4,
        upsampling_scaling_factor=2,
    )


def encode(vae: AutoencoderTiny, pictures: torch.Tensor) -> torch.Tensor:
    """Pictures (B, 3, H, W) in 0..1 to latents (B, 4, H/4, W/4)."""
    return vae.encode(pictures * 2 - 1).latents


def decode(vae: AutoencoderTiny, latents: torch.Tensor) -> torch.Tensor:
    """Latents (B, 4, h, w) to pictures (B, 3, 4h, 4w), about 0..1, not clipped."""
    return vae.decode(latents).sample * 0.5 + 0.5


def jitter_colours(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random mix of the channels, gain and gamma, so that every hue is met. (H, W, 3) in 0..1."""
    kind = rng.random()
    if kind < 0.3:
        mix = np.eye(3)[rng.permutation(3)]
    elif kind < 0.6:
        mix = np.eye(3) + rng.normal(0, 0.35, (3, 3))
        mix /= np.maximum(mix.sum(1, keepdims=True), 0.3)
    else:
        mix = np.eye(3)
    tint = rng.uniform(0.3, 1.1, 3) if rng.random() < 0.25 else rng.uniform(0.75, 1.15)
    return np.clip(picture @ mix.T.astype(np.float32) * tint, 0, 1).astype(np.float32) ** rng.uniform(0.7, 1.5)


class PictureSource:
    """Endless random crops: photographs, and the rendered pairs once they are there."""

    def __init__(self, seed: int, held_out: bool = False):
        self.rng = np.random.default_rng(seed)
        self.photos = photos.load(held_out)
        self.held_out = held_out
        self.look_for_renders()

    def look_for_renders(self) -> None:
        """Take up rendered shards that have come since."""
        self.renders = [] if self.held_out else [pictures for pictures, _ in pairs.shards("train")]

    def picture(self) -> np.ndarray:
        """One picture (128, 128, 3) float32 in 0..1."""
        r = self.rng
        if self.renders and r.random() < 0.55:
            shard = self.renders[r.integers(len(self.renders))]
            picture = shard[r.integers(len(shard)), r.integers(shard.shape[1])].astype(np.float32) / 255
        else:
            picture = photos.random_crop(self.photos[r.integers(len(self.photos))], r, SIZE)
            if r.random() < 0.5:
                picture = jitter_colours(picture, r)
        if not self.held_out and r.random() < 0.3:
            picture = filters.apply(str(r.choice(list(filters.FILTERS))), picture)
        return picture

    def batch(self, count: int, crop: int) -> torch.Tensor:
        out = np.empty((count, crop, crop, 3), np.float32)
        for k in range(count):
            top, left = self.rng.integers(0, SIZE - crop + 1, 2)
            out[k] = self.picture()[top : top + crop, left : left + crop]
        return torch.from_numpy(out).permute(0, 3, 1, 2)


def opponent(pictures: torch.Tensor) -> torch.Tensor:
    """The red-green and the blue-yellow axis of pictures (B, 3, H, W), as (B, 2, H, W)."""
    r, g, b = pictures.unbind(1)
    return torch.stack([r - g, b - (r + g) / 2], 1)


def anchor(x: torch.Tensor) -> torch.Tensor:
    """Brightness, red-green and blue-yellow of pictures x, averaged over 4 x 4 pixels, about white: (B, 3, H/4, W/4).

    Left to itself the codec spends all its channels on brightness and never finds red-green: so at the
    beginning three channels are held to these.
    """
    small = F.avg_pool2d(x, 4)
    return torch.cat(
        [(small.mean(1, keepdim=True) - 0.45) / 0.25, opponent(small) / torch.tensor([0.16, 0.20]).view(1, 2, 1, 1)], 1
    )


def loss_terms(
    vae: AutoencoderTiny, x: torch.Tensor, step: int, distance: PerceptualDistance | None = None
) -> dict[str, torch.Tensor]:
    z = encode(vae, x)
    y = decode(vae, z + LATENT_NOISE * torch.randn_like(z))
    if distance is not None:
        return picture_terms(y, x, distance)
    flat = z.permute(1, 0, 2, 3).flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    covariance = centred @ centred.T / flat.shape[1]
    white = ((covariance - torch.eye(4)) ** 2).mean() + (flat.mean(1) ** 2).mean()
    return picture_terms(y, x) | {
        "anchor": 0.5 * math.exp(-step / ANCHOR_STEPS) * F.mse_loss(z[:, 1:], anchor(x)),
        "white": 0.2 * white,
    }


def picture_terms(
    y: torch.Tensor, x: torch.Tensor, distance: PerceptualDistance | None = None
) -> dict[str, torch.Tensor]:
    """How far decoded pictures y (B, 3, H, W) are from true ones x; perceptually too where a distance is given."""
    error = y - x
    terms = {
        "pixel": (error**2 + 1e-4).sqrt().mean() + 2 * (error**2).mean(),
        "chroma": 2 * F.avg_pool2d(opponent(error), 4).abs().mean(),
    }
    if distance is None:
        return terms
    average = 2 * F.avg_pool2d(error, 4).abs().mean()  # the size at which what must stay is compared
    return terms | {"average": average, "perceptual": PERCEPTUAL_WEIGHT * distance(y, x).mean()}


@torch.no_grad()
def measure(vae: AutoencoderTiny, pictures: torch.Tensor) -> dict[str, float]:
    """PSNR in decibels and how much of each opponent colour axis survives (1 is all of it).

    pictures: (B, 3, H, W) in 0..1, never trained on.
    """
    recovered = torch.cat([decode(vae, encode(vae, part)).clamp(0, 1) for part in pictures.split(16)])
    mse = ((recovered - pictures) ** 2).flatten(1).mean(1)
    truth, got = (F.avg_pool2d(opponent(p), 8).transpose(0, 1).flatten(1) for p in (pictures, recovered))
    centred = truth - truth.mean(1, keepdim=True)
    slope = (centred * got).sum(1) / (centred**2).sum(1)
    latents = encode(vae, pictures[:32])
    return {
        "psnr_db": float((-10 * mse.log10()).mean()),
        "psnr_db_worst_tenth": float((-10 * mse.log10()).quantile(0.1)),
        "red_green_kept": float(slope[0]),
        "blue_yellow_kept": float(slope[1]),
        "hue_error": float((truth - got).abs().mean()),
        "latent_std": float(latents.std()),
    }


def held_out_pictures(count: int = 96) -> torch.Tensor:
    """Pictures that training never sees, (count, 3, 128, 128): crops of photographs, half of them with colours mixed,
    and, where they have been rendered, as many views and edits of held-out scenes."""
    source = PictureSource(seed=5, held_out=True)
    crops = source.batch(count, SIZE)
    for stack, _ in pairs.shards("test"):
        views, edits = (source.rng.integers(0, n, count // 2) for n in stack.shape[:2])
        renders = torch.from_numpy(stack[views, edits]).permute(0, 3, 1, 2).float() / 255
        crops = torch.cat([crops[: count - count // 2], renders])
    return crops


@torch.no_grad()
def standardise(vae: AutoencoderTiny, pictures: torch.Tensor) -> None:
    """Fold a shift and a scale into the codec, so that each latent channel has mean 0 and deviation 0.75.

    Not 1, because the decoder bends values beyond 3 and vivid colours lie far out. The bend is not undone by this:
    the decoder has to be trained on afterwards.
    """
    latents = torch.cat([encode(vae, part) for part in pictures.split(16)])
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3)) / 0.75
    last = [m for m in vae.encoder.modules() if isinstance(m, torch.nn.Conv2d)][-1]
    first = next(m for m in vae.decoder.modules() if isinstance(m, torch.nn.Conv2d))
    last.weight.div_(deviation.view(-1, 1, 1, 1))
    last.bias.copy_((last.bias - mean) / deviation)
    first.bias.add_((first.weight.sum((2, 3)) * mean).sum(1))
    first.weight.mul_(deviation.view(1, -1, 1, 1))


def train(steps: int, decoder_only: bool = False, log=print) -> None:
    """Train to `steps` in all, going on from the newest state in `runs/vae`, else from the exported codec.

    decoder_only leaves the encoder, and so the latents that the denoiser learns, as they are, after having
    standardised them once.
    """
    torch.manual_seed(0)
    vae, first = build(), 0
    if (EXPORT / "training.json").exists():
        vae = AutoencoderTiny.from_pretrained(EXPORT / "vae", torch_dtype=torch.float32)
        first = read_json(EXPORT / "training.json")["codec"]["step"]
    vae = vae.to(memory_format=torch.channels_last).train()
    vae.encoder.requires_grad_(not decoder_only)
    distance = PerceptualDistance() if decoder_only else None
    named = {k: v for k, v in vae.named_parameters() if v.requires_grad}
    optimiser = torch.optim.AdamW(named.values(), RATE, betas=(0.9, 0.99), weight_decay=1e-3)
    average = checkpoint.MovingAverage(named, 0.998)
    folder = RUNS / "vae"
    if state := checkpoint.load(folder, "state"):
        groups, scalars = state
        vae.load_state_dict(groups["weights"])
        if groups["average"].keys() == named.keys():  # else the encoder was frozen since
            average.values = groups["average"]
            checkpoint.restore_optimiser(optimiser, groups["optimiser"])
        else:
            vae.load_state_dict(groups["average"], strict=False)
            standardise(vae, PictureSource(seed=4).batch(128, SIZE))
            average = checkpoint.MovingAverage(named, 0.998)
        first = scalars["step"]
    source = PictureSource(seed=1000 + first)
    test = held_out_pictures()
    sums: dict[str, float] = {}
    started = time.time()
    for step in range(first + 1, steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, step / 200) / (1 + step / 4000) ** 0.5
        x = source.batch(BATCH, CROP).contiguous(memory_format=torch.channels_last)
        terms = loss_terms(vae, x, step, distance)
        descend(terms, named, optimiser)
        average.update(named, step)
        for key, value in terms.items():
            sums[key] = sums.get(key, 0.0) + value.item() / REPORT_EVERY
        if step % REPORT_EVERY == 0 or step == steps:
            smooth = averaged(vae, average)
            figures = measure(smooth, test)
            rate = (time.time() - started) / (step - first)
            losses = {k: round(v, 4) for k, v in sums.items()}
            log(f"vae {step}: {rate:.2f} s/step", losses, {k: round(v, 3) for k, v in figures.items()}, flush=True)
            sums = {}
            groups = {
                "weights": vae.state_dict(),
                "average": average.values,
                "optimiser": checkpoint.optimiser_tensors(optimiser),
            }
            checkpoint.save(folder, "state", groups, {"step": step, **figures})
            smooth.save_pretrained(folder / "model")
            write_json(folder / "model" / "figures.json", {"step": step, **figures})
            source.look_for_renders()


def descend(
    terms: dict[str, torch.Tensor], named: dict[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer
) -> None:
    """One optimisation step down the sum of the loss terms."""
    optimiser.zero_grad(set_to_none=True)
    sum(terms.values()).backward()
    torch.nn.utils.clip_grad_norm_(named.values(), 1.0)
    optimiser.step()


def averaged(vae: AutoencoderTiny, average: checkpoint.MovingAverage) -> AutoencoderTiny:
    copy = build()
    copy.load_state_dict({**vae.state_dict(), **average.values})
    return copy.eval().requires_grad_(False)


def load() -> AutoencoderTiny:
    """The newest trained codec, frozen: of this machine's run, else the exported one."""
    trained = RUNS / "vae" / "model"
    folder = trained if trained.exists() else EXPORT / "vae"
    return AutoencoderTiny.from_pretrained(folder, torch_dtype=torch.float32).eval().requires_grad_(False)


def figures() -> dict:
    """Steps and figures of the codec that `load` gives."""
    trained = RUNS / "vae" / "model" / "figures.json"
    return read_json(trained) if trained.exists() else read_json(EXPORT / "training.json")["codec"]
