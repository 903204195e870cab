"""Last of all the decoder is trained on what the denoiser gives, so that it makes sharp pictures of it.

The codec's own latents are exact, the denoiser's are a little wrong everywhere, and a decoder that knows only the
former shows that as blur and mottles. A third of the examples stay exact. Of the denoiser's edits half begin at pure
noise, half at noised truths: as in the loop, where what is wrong in an edit depends on the level that it begins at, and
a decoder that mends what is wrong in the ones would make the others so.
"""

import time

import numpy as np
import torch

from . import checkpoint, filters, models, pairs, photos, vae
from .paths import RUNS, SIZE, write_json
from .perceptual import PerceptualDistance
from .train import SUBJECT_KEYS, WHOLE_KEYS, Recipe, Trainer
from .vocabulary import unknown_text, wording

BATCH = 4
RATE = 5e-4
FROM_NOISE, FROM_RENDERS = 0.35, 0.3  # shares of the examples: edits from pure noise, edits from noised truths
REPORT_EVERY = 100  # steps


class Examples:
    """Endless random (unedited picture, text, true edited picture), pictures (S, S, 3) in 0..1."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.shards = [pictures for pictures, _ in pairs.shards("train")][:-1]  # the last one is for `tune`
        self.photos = photos.load(False)

    def draw(self) -> tuple[np.ndarray, str, np.ndarray]:
        rng, kind = self.rng, self.rng.random()
        key = None if kind < 0.12 else str(rng.choice(SUBJECT_KEYS if kind < 0.5 else WHOLE_KEYS))
        if key in filters.FILTERS and rng.random() < 0.45:
            before = photos.random_crop(self.photos[rng.integers(len(self.photos))], rng, SIZE)
            return before, wording(key, rng), filters.apply(key, before)
        shard = self.shards[rng.integers(len(self.shards))]
        view = shard[rng.integers(len(shard))]
        before = view[0].astype(np.float32) / 255
        if key is None:
            return before, unknown_text(rng), before
        return before, wording(key, rng), pairs.target(key, view)


def as_tensor(pictures) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def finish(steps: int, log=print) -> None:
    """Train the decoder for `steps` more, from the newest codec and the averaged denoiser, and save the codec."""
    torch.manual_seed(0)
    trainer = Trainer(Recipe())
    trainer.use_average()
    figures = vae.figures()
    codec = vae.load().to(memory_format=torch.channels_last)
    codec.decoder.requires_grad_(True).train()
    named = {k: v for k, v in codec.named_parameters() if v.requires_grad}
    optimiser = torch.optim.AdamW(named.values(), RATE, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    average = checkpoint.MovingAverage(named, 0.99)
    distance, examples = PerceptualDistance(), Examples(7 + figures["step"])
    sums: dict[str, float] = {}
    started = time.time()
    for step in range(1, steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, step / 50, 2 * (1 - step / (steps + 1)))
        before, texts, after = zip(*(examples.draw() for _ in range(BATCH)), strict=True)
        truth = as_tensor(after)
        z = vae.encode(codec, truth).detach()
        kind = torch.rand(BATCH)
        levels = torch.where(kind < FROM_NOISE, 999, torch.randint(0, 1000, (BATCH,)))
        tokens = models.tokens(trainer.tokenizer, list(texts))
        with torch.no_grad():
            edits = trainer.edit_noised(z, vae.encode(codec, as_tensor(before)), levels, tokens)
        z = torch.where((kind < FROM_NOISE + FROM_RENDERS).view(-1, 1, 1, 1), edits, z)
        terms = vae.picture_terms(vae.decode(codec, z), truth, distance)
        vae.descend(terms, named, optimiser)
        average.update(named, step)
        for key, value in terms.items():
            sums[key] = sums.get(key, 0.0) + value.item() / REPORT_EVERY
        if step % REPORT_EVERY == 0 or step == steps:
            smooth = vae.averaged(codec, average)
            figures |= vae.measure(smooth, vae.held_out_pictures(48))
            pace = (time.time() - started) / step
            log(f"finish {step}: {pace:.2f} s/step", {k: round(v, 4) for k, v in sums.items()},
                {k: round(v, 3) for k, v in figures.items()}, flush=True)  # fmt: skip
            sums = {}
    folder = RUNS / "vae" / "model"
    smooth.save_pretrained(folder)
    write_json(folder / "figures.json", figures | {"finished": figures.get("finished", 0) + steps})
