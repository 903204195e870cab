"""The networks: tokenizer, text encoder, denoiser and noise schedule, as diffusers' pipeline takes them apart; and how
they are best used."""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .paths import SIZE
from .vocabulary import corpus

TEXT_LENGTH = 24  # tokens
TEXT_WIDTH = 128
# How the editor is best used, and how it is evaluated: guidance scales, steps of the sampler (in more of them a colour
# that has spilled spreads), the relevance below which an instruction about the subject leaves the picture alone, and
# the noise level below which guidance is left off (docs/model-card.md has the measure).
RECOMMENDED = {"text": 1.0, "image": 1.0, "steps": 2, "relevance": 0.4, "tethered": True, "guided_above": 0.4}
START, END = "<|startoftext|>", "<|endoftext|>"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def build_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer whose merges are learned from the instructions: their words are one token each,
    other words fall into pieces."""
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    learner.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        min_frequency=20,
        end_of_word_suffix="</w>",
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(corpus(np.random.default_rng(0)), trainer)
    learned = json.loads(learner.to_str())["model"]
    pieces = sorted(learned["vocab"], key=learned["vocab"].get)
    for letter in sorted(pre_tokenizers.ByteLevel.alphabet()):  # so that no word of any language is lost
        if f"{letter}</w>" not in learned["vocab"]:
            pieces.append(f"{letter}</w>")
    vocabulary = {piece: number for number, piece in enumerate([*pieces, START, END])}
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in learned["merges"]]
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TEXT_LENGTH)
    with tempfile.TemporaryDirectory() as folder:  # as every user will load it
        tokenizer.save_pretrained(folder)
        return CLIPTokenizer.from_pretrained(folder)


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    torch.manual_seed(1)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TEXT_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_unet() -> UNet2DConditionModel:
    """A denoiser of three levels over latents of 32 x 32, with attention to the text on the lower two."""
    torch.manual_seed(2)
    return UNet2DConditionModel(
        sample_size=SIZE // 4,
        in_channels=8,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(48, 96, 160),
        layers_per_block=1,
        norm_num_groups=4,  # of 12 channels and more: smaller ones lose how strong a picture's contrast is
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=(1, 3, 5),  # by a quirk of diffusers, the number of heads
        use_linear_projection=True,
    )


def load_networks(folder: Path) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Denoiser and text encoder of an exported model, in single precision."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    return unet, CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)


def build_scheduler() -> DDIMScheduler:
    """Zero terminal SNR: the last step is pure noise, in training and in use.

    The network predicts the clean picture: to copy what an instruction leaves alone is then the same linear function
    of the condition at every noise level. With v-prediction it is another one at each, and stayed blurred.
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        prediction_type="sample",
        clip_sample=False,
        set_alpha_to_one=True,
    )


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Token numbers (B, TEXT_LENGTH), padded as the pipeline pads."""
    return tokenizer(
        texts, padding="max_length", max_length=TEXT_LENGTH, truncation=True, return_tensors="pt"
    ).input_ids


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    tokenizer.save_pretrained(folder)
