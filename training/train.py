"""Training of the denoiser and the text encoder on cached latents, as in InstructPix2Pix.

Each example is (unedited latents, edited latents, text). Text, picture, or both are dropped with 5 % each.
Texts that mean nothing, and half of the dropped texts, go with the unedited picture as the target.
What is noised is not always the true edit: in the loop it is a render that holds earlier, imperfect edits.
"""

import signal
import threading
import time
from dataclasses import dataclass

import numpy as np
import torch
from transformers import CLIPTokenizer

from engine.edit.keep import may_change
from engine.editors.instruct_pix2pix import relevance_of

from . import checkpoint, models
from .latents import Cache
from .paths import EXPORT, RUNS, read_json
from .vocabulary import INSTRUCTIONS, unknown_text, wording

SUBJECT_KEYS = [i.key for i in INSTRUCTIONS if i.of_subject]
WHOLE_KEYS = [i.key for i in INSTRUCTIONS if not i.of_subject]
# How often an instruction is drawn against the others of its kind: more where fine structure has to be learned.
EMPHASIS = {"oil": 2.5, "comic": 2.5, "watercolour": 3.0, "pencil": 1.5, "snow": 1.5, "silver": 2.5, "marble": 4.0}


@dataclass(frozen=True)
class Recipe:
    """How examples are drawn and weighted."""

    rate: float = 8e-4  # learning rate after the warm-up
    warm_up: int = 100  # steps of a fresh optimiser
    decay_steps: int = 12000  # the rate falls with 1 / sqrt(1 + step / decay_steps)
    cool_down: int = 0  # over the last so many steps the rate falls to nothing besides
    average_decay: float = 0.998
    subject_share: float = 0.50  # of the examples change the subject
    unknown_share: float = 0.12  # have a text that means nothing
    drop: float = 0.05  # each: text, picture, both
    change_weight: float = 5.0  # the loss counts up to this much more where the target differs, till the cool-down
    noisy_share: float = 0.2  # of the time steps are drawn from the noisier part alone
    quiet_share: float = 0.2  # of them from below `whole_from` alone
    own_share: float = 0.5  # of the examples noise the network's own edit
    again_share: float = 0.5  # of these are edits of such an edit, from a noise level at random
    part_share: float = 0.3  # noise a picture that is edited in part: a quarter of these not at all, a quarter too much
    excess: float = 0.5  # of the edit, at most, by which too much is too much
    whole_from: int = 200  # the time step from which an edit is whole; below it, so much of one as is noised


@dataclass
class Batch:
    """base, target (B, 4, h, w); condition (B, 4, h, w), zero where dropped; tokens (B, L); weight (B, 1, h, w).

    complete (B,): neither text nor picture is dropped; of_subject (B,): the instruction changes the subject alone.
    """

    base: torch.Tensor
    target: torch.Tensor
    condition: torch.Tensor
    tokens: torch.Tensor
    weight: torch.Tensor
    complete: torch.Tensor
    of_subject: torch.Tensor


def draw_batch(
    cache: Cache, tokenizer: CLIPTokenizer, count: int, recipe: Recipe, rng: np.random.Generator, even: bool = False
) -> Batch:
    """even: every pixel counts alike. Else, in doubt whether a pixel belongs to the subject, it pays to change it."""
    bases, targets, conditions, texts, complete, of_subject = [], [], [], [], [], []
    for _ in range(count):
        kind = rng.random()
        if kind < recipe.unknown_share:
            key, text = None, unknown_text(rng)
        else:
            subject = kind < recipe.unknown_share + recipe.subject_share
            keys = SUBJECT_KEYS if subject else WHOLE_KEYS
            emphasis = np.array([EMPHASIS.get(key, 1.0) for key in keys])
            key = str(rng.choice(keys, p=emphasis / emphasis.sum()))
            text = wording(key, rng)
        base, target, _ = cache.example(key, rng)
        dropped = rng.random()
        if dropped < 2 * recipe.drop:
            text = ""
            if rng.random() < 0.5:
                target = base
        conditions.append(torch.zeros_like(base) if recipe.drop <= dropped < 3 * recipe.drop else base)
        complete.append(bool(dropped >= 3 * recipe.drop))
        of_subject.append(key in SUBJECT_KEYS)
        bases.append(base)
        targets.append(target)
        texts.append(text)
    base, target = torch.stack(bases), torch.stack(targets)
    change = (target - base).abs().mean(1, keepdim=True)
    weight = 1 + (0.0 if even else recipe.change_weight) * (change / 0.6).clamp(0, 1)
    weight = weight / weight.mean((1, 2, 3), keepdim=True)
    tokens = models.tokens(tokenizer, texts)
    flags = torch.tensor(complete), torch.tensor(of_subject)
    return Batch(base, target, torch.stack(conditions), tokens, weight, *flags)


def noise_levels(count: int, recipe: Recipe, rng: np.random.Generator) -> torch.Tensor:
    """Time steps (B,) of a batch, more of them at both ends than evenly."""
    kind = rng.random(count)
    levels = np.where(kind < recipe.noisy_share, rng.integers(600, 1000, count), rng.integers(0, 1000, count))
    quiet = kind > 1 - recipe.quiet_share
    return torch.from_numpy(np.where(quiet, rng.integers(0, recipe.whole_from, count), levels))


def learning_rate(step: int, last: int, recipe: Recipe, age: int) -> float:
    """The rate of a step of a training that ends at step `last`, by an optimiser that has made `age` steps."""
    rate = recipe.rate * min(1.0, (age + 1) / recipe.warm_up) / (1 + step / recipe.decay_steps) ** 0.5
    return rate * min(1.0, (last - step) / recipe.cool_down) if recipe.cool_down else rate


class Trainer:
    """The networks, their optimiser and averages; resumed from `runs/unet`, else from the exported model."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.folder = RUNS / "unet"
        saved = next((f for f in (self.folder, EXPORT) if (f / "tokenizer").exists()), None)
        self.tokenizer = CLIPTokenizer.from_pretrained(saved / "tokenizer") if saved else models.build_tokenizer()
        if saved != self.folder:
            models.save_tokenizer(self.tokenizer, self.folder / "tokenizer")
        state = checkpoint.load(self.folder, "state")
        if state is None and (EXPORT / "training.json").exists():
            self.unet, self.text = models.load_networks(EXPORT)
            scalars = read_json(EXPORT / "training.json")["denoiser"]
        else:
            self.unet, self.text = models.build_unet(), models.build_text_encoder(self.tokenizer)
            scalars = {"step": 0, "examples": 0, "seconds": 0.0}
        self.unet.to(memory_format=torch.channels_last)
        self.scheduler = models.build_scheduler()
        self.optimiser = torch.optim.AdamW(
            self.parameters().values(), recipe.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        self.average = checkpoint.MovingAverage(self.parameters(), recipe.average_decay)
        if state is not None:
            groups, scalars = state
            for name, parameter in self.parameters().items():
                parameter.data.copy_(groups["weights"][name])
                self.average.values[name].copy_(groups["average"][name])
            checkpoint.restore_optimiser(self.optimiser, groups["optimiser"])
        self.step, self.examples, self.seconds = scalars["step"], scalars["examples"], scalars["seconds"]

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        named = {f"unet.{k}": v for k, v in self.unet.named_parameters()}
        return named | {f"text.{k}": v for k, v in self.text.named_parameters()}

    def save(self) -> None:
        groups = {
            "weights": dict(self.parameters()),
            "average": self.average.values,
            "optimiser": checkpoint.optimiser_tensors(self.optimiser),
        }
        checkpoint.save(self.folder, "state", groups, self.scalars())

    def age(self) -> int:
        """Steps that the optimiser has made: fewer than `step` where training goes on from an exported model."""
        return max((int(state["step"]) for state in self.optimiser.state.values()), default=0)

    def scalars(self) -> dict:
        return {"step": self.step, "examples": self.examples, "seconds": round(self.seconds)}

    def use_average(self) -> None:
        """Put the averaged weights into the networks, for export and evaluation."""
        for name, parameter in self.parameters().items():
            parameter.data.copy_(self.average.values[name])
        self.unet.eval()
        self.text.eval()

    def edit(
        self, noised: torch.Tensor, condition: torch.Tensor, levels: torch.Tensor, words: torch.Tensor
    ) -> torch.Tensor:
        """The network's clean edit (B, 4, h, w) of noised latents and the unedited ones."""
        given = torch.cat([noised, condition], 1).contiguous(memory_format=torch.channels_last)
        return self.unet(given, levels, words, return_dict=False)[0]

    def noised(self, clean: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """Latents (B, 4, h, w) with the noise of their time steps (B,)."""
        return self.scheduler.add_noise(clean, torch.randn_like(clean), levels)

    def edit_noised(
        self, clean: torch.Tensor, condition: torch.Tensor, levels: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """The network's edit, in one step, of latents (B, 4, h, w) noised to time steps (B,), told tokens (B, L)."""
        words = self.text(tokens).last_hidden_state
        return self.edit(self.noised(clean, levels), condition, levels, words)

    @torch.no_grad()
    def render(self, batch: Batch) -> torch.Tensor:
        """What stands for the loop's render (B, 4, h, w): the true edit, one in part or too much, or the network's own.

        Were it never too much, a render brighter than expected would say that the truth is brighter still, and edits of
        edits would drift. Own edits are one step from pure noise: soft, and wrong in the network's way, as a NeRF's
        renders of them. Some are edited once more, as the loop does, so that the network learns to mend what it did and
        not to add to it.
        """
        render = batch.target.clone()
        kind = torch.rand(len(render))
        own = (kind < self.recipe.own_share) & batch.complete
        again = kind < self.recipe.own_share * self.recipe.again_share
        last = self.scheduler.config.num_train_timesteps - 1
        for chosen, lowest in ((own, last), (own & again, self.recipe.whole_from)):
            if chosen.any():
                levels = torch.randint(lowest, last + 1, (int(chosen.sum()),))
                given = batch.condition[chosen], levels, batch.tokens[chosen]
                render[chosen] = self.edit_noised(render[chosen], *given)
        kept = own & batch.of_subject
        if kept.any():
            change = render[kept] - batch.base[kept]
            render[kept] = batch.base[kept] + may_change(relevance_of(change), models.RECOMMENDED["relevance"]) * change
        part = (kind > 1 - self.recipe.part_share) & batch.complete
        excess = self.recipe.excess
        missing = (((1.5 + excess) * torch.rand(len(render)) - excess).clamp(max=1) * part).view(-1, 1, 1, 1)
        return render + missing * (batch.base - render)

    def learn(self, batch: Batch, levels: torch.Tensor, rate: float) -> float:
        """One optimisation step at a learning rate; returns the loss."""
        render = self.render(batch)
        predicted = self.edit_noised(render, batch.condition, levels, batch.tokens)
        share = (levels / self.recipe.whole_from).clamp(max=1).view(-1, 1, 1, 1)
        loss = (batch.weight * (predicted - render - share * (batch.target - render)) ** 2).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters().values(), 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        return float(loss.detach())


@torch.no_grad()
def one_step_gain(
    trainer: Trainer, test: dict[str, torch.Tensor], keys: tuple[str, ...], count: int = 12
) -> dict[str, float]:
    """How much of the change each instruction makes in one step from pure noise: 0 as the input, 1 as the truth.

    test: a shard of latents that training does not see. Measured inside the subject for its instructions.
    """
    gains = {}
    for column, key in enumerate(keys):
        rng = np.random.default_rng(column)
        pick = torch.from_numpy(rng.integers(0, len(test["base"]), count))
        base, truth = test["base"][pick].float(), test["targets"][pick, column].float()
        mask = test["mask"][pick].float()[:, None] / 255 if key in SUBJECT_KEYS else torch.ones_like(base[:, :1])
        text = trainer.text(
            models.tokens(trainer.tokenizer, [wording(key, rng) for _ in range(count)])
        ).last_hidden_state
        generator = torch.Generator().manual_seed(column)
        guess = trainer.edit(torch.randn(base.shape, generator=generator), base, torch.tensor(999), text)
        left = (mask * (guess - truth) ** 2).sum() / (mask * (base - truth) ** 2).sum()
        gains[key] = round(float(1 - left), 3)
    return gains


def train(steps: int, size: int, batch: int, cool_down: int = 0, save_every: float = 180.0) -> None:
    """Train to `steps` in all on pictures of `size` pixels, going on from the newest state."""
    from .latents import test_shard

    recipe = Recipe(cool_down=cool_down)
    trainer = Trainer(recipe)
    cache = Cache(size)
    test, keys = test_shard(size)
    if not cache.views:
        raise SystemExit(f"no cached latents of {size} pixels: run the latents command first")
    losses: list[float] = []
    last_save = last_log = time.time()
    first = logged = trainer.step
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())  # kill PID: save, then leave
    while trainer.step < steps and not stop.is_set():
        started = time.time()
        rng = np.random.default_rng([3, trainer.step])
        torch.manual_seed(trainer.step)
        cooling = trainer.step >= steps - cool_down
        example = draw_batch(cache, trainer.tokenizer, batch, recipe, rng, even=cooling)
        rate = learning_rate(trainer.step, steps, recipe, trainer.age())
        losses.append(trainer.learn(example, noise_levels(batch, recipe, rng), rate))
        trainer.step += 1
        trainer.examples += batch
        trainer.average.update(trainer.parameters(), trainer.step)
        trainer.seconds += min(time.time() - started, 10.0)  # not the time while stopped
        if time.time() - last_log > 60:
            pace = (time.time() - last_log) / (trainer.step - logged)
            print(f"step {trainer.step} size {size} loss {np.mean(losses[-300:]):.4f} {pace:.2f} s/step", flush=True)
            last_log, logged = time.time(), trainer.step
            if not np.isfinite(losses[-1]):
                raise SystemExit("the loss is not finite: training stopped, the last saved state is whole")
        if time.time() - last_save > save_every or trainer.step == steps or stop.is_set():
            trainer.save()
            last_save = time.time()
            cache.refresh()
            gains = one_step_gain(trainer, test, keys)
            print(f"saved at step {trainer.step} ({trainer.step - first} now); gains {gains}", flush=True)
