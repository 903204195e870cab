"""The trained parts as one folder that StableDiffusionInstructPix2PixPipeline.from_pretrained opens."""

import shutil
from pathlib import Path

import torch
from diffusers import StableDiffusionInstructPix2PixPipeline

from . import vae
from .models import RECOMMENDED, build_scheduler, load_networks
from .paths import EXPORT, read_json, write_json
from .train import Recipe, Trainer
from .vocabulary import INSTRUCTIONS


def pipeline(trainer: Trainer) -> StableDiffusionInstructPix2PixPipeline:
    """The averaged weights in single precision, with the newest codec."""
    trainer.use_average()
    made = StableDiffusionInstructPix2PixPipeline(
        vae=vae.load(),
        text_encoder=trainer.text,
        tokenizer=trainer.tokenizer,
        unet=trainer.unet.requires_grad_(False),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


def average_with(made: StableDiffusionInstructPix2PixPipeline, earlier: Path) -> None:
    """Give the pipeline the means of its denoiser's and text encoder's weights and those of an earlier export: what is
    wrong in either alone, as the last thousand steps happened to leave it, halves (Izmailov et al. 2018, UAI)."""
    for own, other in zip((made.unet, made.text_encoder), load_networks(earlier), strict=True):
        theirs = other.state_dict()
        own.load_state_dict({k: v.lerp(theirs[k], 0.5) for k, v in own.state_dict().items()})


def vocabulary_entries(passed: dict[str, bool]) -> list[dict]:
    """What the engine lists: the canonical instruction, its family, whether it changes the subject alone, all wordings
    ({noun} stands for the subject), whether it passed the measure."""
    return [
        {
            "instruction": i.wordings[0],
            "key": i.key,
            "family": i.family,
            "subject": i.of_subject,
            "wordings": list(i.wordings),
            "passed": bool(passed.get(i.key, False)),
        }
        for i in INSTRUCTIONS
    ]


def export(folder: Path = EXPORT, earlier: Path | None = None) -> None:
    """Write the half-precision model, its vocabulary and what it recommends to `folder`, replacing it whole; of the
    weights the mean with those of an `earlier` export, where there is one."""
    trainer = Trainer(Recipe())
    made = pipeline(trainer)
    record = {"denoiser": trainer.scalars(), "codec": vae.figures()}
    if earlier:
        average_with(made, earlier)
        record["averaged_with"] = read_json(earlier / "training.json")["denoiser"]
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    made.to(dtype=torch.float16).save_pretrained(fresh, safe_serialization=True)
    for config in fresh.glob("*/config.json"):
        clean = {k: v for k, v in read_json(config).items() if k != "_name_or_path"}
        write_json(config, clean)
    figures = folder / "figures.json"
    passed = {k: v["passed"] for k, v in read_json(figures)["instructions"].items()} if figures.exists() else {}
    write_json(fresh / "vocabulary.json", vocabulary_entries(passed))
    write_json(fresh / "guidance.json", RECOMMENDED)
    write_json(fresh / "training.json", record)
    if folder.exists():
        shutil.rmtree(folder)
    fresh.rename(folder)
    total = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(f"{folder}: {total / 1e6:.1f} MB")
