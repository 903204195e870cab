"""Photographs with a free licence: fetched once, held small, split for training and for testing.

Every source and its licence stands in SOURCES and is named in the model card.
Nothing of it is shipped: the pictures lie under `data/photos`, which git ignores.
"""

import os
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .paths import DATA, read_json, replace_file, write_json

os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")

LONG_SIDE = 640  # pixels
PANORAMA_VIEWS = 48  # perspective crops of each panorama

# Debian packages: name -> (licence, folder inside the package, the files that are photographs)
DEBIAN = {
    "lomiri-wallpapers-16.04": (
        "CC-BY-4.0, CC-BY-SA-4.0 or CC0-1.0, by picture",
        "usr/share/backgrounds",
        """Bridge_by_Sander_Klootwijk Dragonfly_by_Bolly Picture_0B_by_freespace Picture_1A_by_freespace
        Wine_by_Jakkub_Mede aitzgorri_by_Aitzol_Berasategi free_by_Peter_Nerlich friends_by_Aitzol_Berasategi
        greentock_by_Peter_Nerlich life_by_Aitzol_Berasategi picosdeeuropa_by_Aitzol_Berasategi
        seeding_by_Clements_Engelhardt sunset_by_Aitzol_Berasategi""",
    ),
    "lomiri-wallpapers-20.04": ("CC-BY-SA-3.0", "usr/share/backgrounds", "Kleiber_by_Lukas_Baubkus"),
    "mate-backgrounds": (
        "GPL-2.0-or-later",
        "usr/share/backgrounds/mate/nature",
        "Aqua Blinds Dune FreshFlower Garden GreenMeadow LadyBird RainDrops Storm TwoWings Wood YellowFlower",
    ),
    "plasma-workspace-wallpapers": (
        "GPL-2.0-or-later (Debian's copyright file) or LGPL-3.0 (the pictures' own metadata)",
        "usr/share/wallpapers",
        "BytheWater ColorfulCups DarkestHour EveningGlow FallenLeaf Kite OneStandsOut Path summer_1am",
    ),
}
# Python packages: module -> (licence, folder inside the module, files)
PYTHON = {
    "skimage": (
        "CC0-1.0 (coffee, chelsea) or public domain (astronaut, rocket)",
        "data",
        "astronaut.png coffee.png chelsea.png rocket.jpg",
    ),
    "sklearn": ("CC-BY-2.0", "datasets/images", "china.jpg flower.jpg"),
}
PANORAMAS = ("bpy", "CC0-1.0 (Poly Haven, bundled with Blender)", "datafiles/studiolights/world")

# Never trained on: the test photographs (names as in `data/photos/index.json`).
HELD_OUT = {
    "chelsea", "coffee", "china", "Wine_by_Jakkub_Mede", "friends_by_Aitzol_Berasategi", "Garden",
    "EveningGlow", "picosdeeuropa_by_Aitzol_Berasategi", "YellowFlower", "Dragonfly_by_Bolly",
    "panorama-courtyard", "panorama-sunrise",
}  # fmt: skip


def module_folder(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"the Python package '{name}' is needed for its pictures: install it")
    return Path(spec.submodule_search_locations[0])


def save_photo(picture: Image.Image, name: str, licence: str, source: str, index: list[dict]) -> None:
    picture = ImageOps.exif_transpose(picture).convert("RGB")
    picture.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    replace_file(DATA / "photos" / f"{name}.jpg", lambda p: picture.save(p, quality=95))
    index.append({"name": name, "licence": licence, "source": source, "held_out": name in HELD_OUT})


def fetch_debian(package: str, index: list[dict]) -> None:
    licence, folder, names = DEBIAN[package]
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["apt-get", "download", package], cwd=scratch, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(scratch).glob("*.deb")
        subprocess.run(["dpkg", "-x", archive.name, "unpacked"], cwd=scratch, check=True)
        for name in names.split():
            base = Path(scratch, "unpacked", folder)
            files = sorted(base.glob(f"{name}.*")) or sorted(base.glob(f"{name}/contents/images/*"))
            with Image.open(files[-1]) as picture:
                save_photo(picture, name, licence, f"Debian package {package}", index)


def panorama_view(panorama: np.ndarray, rng: np.random.Generator, size: int = 256) -> np.ndarray:
    """A perspective crop (size, size, 3) uint8 of a latitude-longitude radiance map (H, W, 3)."""
    import cv2

    yaw = rng.uniform(0, 2 * np.pi)
    pitch = np.radians(rng.uniform(-25, 18))
    half = np.tan(np.radians(rng.uniform(45, 85)) / 2)
    u, v = np.meshgrid(np.linspace(-half, half, size), np.linspace(half, -half, size))
    y = np.sin(pitch) + v * np.cos(pitch)
    z = np.cos(pitch) - v * np.sin(pitch)
    longitude = np.arctan2(u, z) + yaw
    latitude = np.arctan2(y, np.hypot(u, z))
    height, width = panorama.shape[:2]
    x = (longitude / (2 * np.pi) % 1.0) * width
    row = (0.5 - latitude / np.pi) * height
    view = cv2.remap(
        panorama, x.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
    )
    view = view * (0.42 / max(float(np.median(view)), 1e-3))
    return (np.clip(view / (1 + 0.35 * view), 0, 1) ** (1 / 2.2) * 255).astype(np.uint8)


def fetch_panoramas(index: list[dict]) -> None:
    import cv2

    module, licence, folder = PANORAMAS
    root = module_folder(module)
    rng = np.random.default_rng(11)
    for file in sorted(root.glob(f"*/{folder}/*.exr")):
        radiance = cv2.imread(str(file), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)[..., :3][..., ::-1]
        radiance = np.ascontiguousarray(radiance, dtype=np.float32)
        name = f"panorama-{file.stem}"
        for k in range(PANORAMA_VIEWS):
            view = Image.fromarray(panorama_view(radiance, rng))
            path = DATA / "photos" / f"{name}-{k:02d}.jpg"
            replace_file(path, lambda p, view=view: view.save(p, quality=95))
            held_out = name in HELD_OUT
            index.append({"name": path.stem, "licence": licence, "source": f"bpy {file.name}", "held_out": held_out})


def fetch() -> None:
    """Fetch all photographs and write `data/photos/index.json`. Does nothing when that is there."""
    index_path = DATA / "photos" / "index.json"
    if index_path.exists():
        return
    if shutil.which("apt-get") is None:
        raise SystemExit("the photographs come from Debian packages: run this on Debian or Ubuntu")
    index: list[dict] = []
    for package in DEBIAN:
        fetch_debian(package, index)
    for module, (licence, folder, names) in PYTHON.items():
        for name in names.split():
            with Image.open(module_folder(module) / folder / name) as picture:
                save_photo(picture, Path(name).stem, licence, f"Python package {module}", index)
    fetch_panoramas(index)
    write_json(index_path, index)
    print(f"{len(index)} photographs, {sum(p['held_out'] for p in index)} of them held out")


def load(held_out: bool) -> list[np.ndarray]:
    """The photographs of one side of the split, each (H, W, 3) uint8."""
    index = read_json(DATA / "photos" / "index.json")
    return [
        np.asarray(Image.open(DATA / "photos" / f"{p['name']}.jpg").convert("RGB"))
        for p in index
        if p["held_out"] == held_out
    ]


def random_crop(photo: np.ndarray, rng: np.random.Generator, size: int, smallest: int = 110) -> np.ndarray:
    """A random square crop (size, size, 3) float32 in 0..1, mirrored at random."""
    import cv2

    height, width = photo.shape[:2]
    largest = min(height, width)
    side = int(rng.uniform(min(smallest, largest), largest + 1))
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    crop = photo[top : top + side, left : left + side]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    interpolation = cv2.INTER_AREA if side >= size else cv2.INTER_CUBIC
    crop = cv2.resize(np.ascontiguousarray(crop), (size, size), interpolation=interpolation)
    return crop.astype(np.float32) / 255
