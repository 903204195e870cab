"""Cached latents: every shard of rendered views and of photographs, encoded once by the finished codec.

One safetensors file for a shard and a picture size:
    base (V, 4, h, w) and targets (V, K, 4, h, w) float16, K instructions as in its metadata "keys",
    mask (V, h, w) uint8: 255 where the latent pixel lies wholly in the subject (rendered views only).
"""

import json
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from . import filters, pairs, photos
from .paths import DATA, SIZE, replace_file
from .vae import encode, load
from .vocabulary import KEYS

PHOTO_CROPS = 240  # photographs' crops in a shard
WHOLE = tuple(filters.FILTERS)


def shard_path(size: int, name: str) -> Path:
    return DATA / f"latents-{size}" / f"{name}.safetensors"


def _encode_all(vae, pictures: np.ndarray) -> torch.Tensor:
    """(N, S, S, 3) float32 in 0..1 to latents (N, 4, S/4, S/4) float16."""
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    with torch.inference_mode():
        return torch.cat([encode(vae, part).half() for part in x.split(32)])


def _resize(picture: np.ndarray, size: int) -> np.ndarray:
    if picture.shape[0] == size:
        return picture
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)


def encode_views(vae, stack: np.ndarray, masks: np.ndarray, size: int) -> dict[str, torch.Tensor]:
    """Latents of the views of one shard for all instructions, at `size` pixels."""
    base, targets, soft_masks = [], [], []
    for view, mask in zip(stack, masks, strict=True):
        picture = _resize(view[0].astype(np.float32) / 255, size)
        edits = [
            _resize(view[1 + pairs.RENDERED.index(k)].astype(np.float32) / 255, size)
            if k in pairs.RENDERED
            else filters.apply(k, picture)
            for k in KEYS
        ]
        latents = _encode_all(vae, np.stack([picture, *edits]))
        base.append(latents[0])
        targets.append(latents[1:])
        soft = cv2.resize(mask.astype(np.float32), (size // 4, size // 4), interpolation=cv2.INTER_AREA)
        soft_masks.append(torch.from_numpy((soft * 255).astype(np.uint8)))
    return {"base": torch.stack(base), "targets": torch.stack(targets), "mask": torch.stack(soft_masks)}


def encode_photos(vae, crops: list[np.ndarray], size: int) -> dict[str, torch.Tensor]:
    """Latents of photographs' crops (each (size, size, 3)) for the whole-picture instructions."""
    latents = [_encode_all(vae, np.stack([c, *(filters.apply(k, c) for k in WHOLE)])) for c in crops]
    return {"base": torch.stack([z[0] for z in latents]), "targets": torch.stack([z[1:] for z in latents])}


def photo_crops(number: int, size: int, held_out: bool) -> list[np.ndarray]:
    """The crops of one shard of photographs, with a little colour variety. Deterministic."""
    rng = np.random.default_rng([number, 77, int(held_out)])
    pictures = photos.load(held_out)
    crops = []
    for _ in range(PHOTO_CROPS):
        crop = photos.random_crop(pictures[rng.integers(len(pictures))], rng, SIZE)
        if not held_out and rng.random() < 0.5:
            crop = np.clip(crop * rng.uniform(0.75, 1.2, 3), 0, 1).astype(np.float32) ** rng.uniform(0.75, 1.35)
        crops.append(_resize(crop, size))
    return crops


def build(size: int, photo_shards: int = 12) -> None:
    """Encode every rendered shard that is there and `photo_shards` of photographs; those done are left alone."""
    torch.set_num_threads(2)
    vae = load()

    def write(path: Path, make, keys) -> None:
        if path.exists():
            return
        started = time.time()
        tensors = {k: v.contiguous() for k, v in make().items()}
        metadata = {"keys": json.dumps(list(keys))}
        replace_file(path, lambda p: save_file(tensors, p, metadata))
        print(f"{path.name}: {len(tensors['base'])} views in {time.time() - started:.0f} s", flush=True)

    rendered = sorted((DATA / "pairs").glob("*-????.npy"))
    for path in rendered:  # the test shard comes first
        masks = path.with_name(f"{path.stem}-masks.npy")
        make = partial(lambda p, m: encode_views(vae, np.load(p), np.load(m), size), path, masks)
        write(shard_path(size, path.stem), make, KEYS)
    for k in range(photo_shards):
        make = partial(lambda n: encode_photos(vae, photo_crops(n, size, False), size), k)
        write(shard_path(size, f"photos-{k:04d}"), make, WHOLE)


def test_shard(size: int) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """The latents of the held-out views and the instructions of their targets."""
    with safe_open(shard_path(size, "test-0000"), "pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        return tensors, tuple(json.loads(file.metadata()["keys"]))


class Cache:
    """All cached latents of one picture size, in memory, and random training examples from them."""

    def __init__(self, size: int):
        self.size = size
        self.views: list[dict[str, torch.Tensor]] = []
        self.photos: list[dict[str, torch.Tensor]] = []
        self.seen: set[str] = set()
        self.refresh()

    def refresh(self) -> None:
        """Take up shards that have come since."""
        for path in sorted((DATA / f"latents-{self.size}").glob("*.safetensors")):
            if path.name in self.seen or path.name.startswith("test"):
                continue
            with safe_open(path, "pt") as file:
                tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
                keys = tuple(json.loads(file.metadata()["keys"]))
            if keys != (WHOLE if path.name.startswith("photos") else KEYS):
                raise SystemExit(f"{path} was made for another vocabulary: remove it and run the latents command again")
            self.seen.add(path.name)
            (self.photos if path.name.startswith("photos") else self.views).append(tensors)

    def example(self, key: str | None, rng: np.random.Generator):
        """base (4, h, w), target (4, h, w), mask (h, w) in 0..1 for an instruction; the base twice when key is None."""
        use_photo = self.photos and (key is None or key in WHOLE) and rng.random() < 0.45
        shards = self.photos if use_photo or not self.views else self.views
        shard = shards[rng.integers(len(shards))]
        k = int(rng.integers(len(shard["base"])))
        base = shard["base"][k].float()
        mask = shard["mask"][k].float() / 255 if "mask" in shard else torch.ones(base.shape[-2:])
        if key is None:
            return base, base, mask
        keys = WHOLE if shards is self.photos else KEYS
        return base, shard["targets"][k, keys.index(key)].float(), mask
