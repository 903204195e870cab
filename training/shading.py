"""Pictures from a traced view: the scene as it is, and the same scene with its subject made of something else.

Everything is computed in linear light from the buffers of tracing.View, then exposed and encoded, so that the
pictures of one view differ in nothing but what the instruction says.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from . import photos
from .filters import LUMA, smoothstep
from .scenes import FIRST_CLUTTER, FLOOR, NOTHING, SUBJECT, WALL, Scene
from .tracing import AMBIENT, View

# Linear albedo of the painted subject. One colour for each word, always the same.
PAINTS = {
    "red": (0.66, 0.02, 0.02), "blue": (0.02, 0.08, 0.66), "green": (0.02, 0.36, 0.05),
    "yellow": (0.86, 0.60, 0.02), "purple": (0.25, 0.03, 0.45),
}  # fmt: skip


@dataclass
class Light:
    """One scene's light: sun direction (3,) and radiance (3,), ambient radiance by direction (D, 3)."""

    direction: np.ndarray
    sun: np.ndarray
    ambient: np.ndarray
    exposure: float


def random_light(rng: np.random.Generator) -> Light:
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(18, 80))
    direction = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    warm = rng.normal(0, 0.12)
    sun = np.array([1 + warm, 1.0, 1 - warm]) * (rng.uniform(0.5, 2.4) if rng.random() < 0.75 else rng.uniform(0, 0.4))
    sky = np.array([1 - rng.uniform(0, 0.25), 1 - rng.uniform(0, 0.08), 1.0]) * rng.uniform(0.5, 1.1)
    ground = rng.uniform(0.15, 0.45) * np.array([1 + rng.normal(0, 0.1), 1.0, 1 - rng.normal(0, 0.1)])
    up = np.clip(AMBIENT[:, 2:] * 0.5 + 0.5, 0, 1)
    ambient = ground + (sky - ground) * up
    side = AMBIENT @ np.array([np.cos(azimuth), np.sin(azimuth), 0])
    ambient = ambient * (1 + 0.45 * side[:, None])
    return Light(
        direction, np.clip(sun, 0, None), np.clip(ambient, 0.02, None).astype(np.float32), rng.uniform(0.7, 1.25)
    )


def random_colour(rng: np.random.Generator) -> np.ndarray:
    """A linear albedo; greys, browns and vivid colours."""
    kind = rng.random()
    if kind < 0.35:
        return np.float32(rng.uniform(0.04, 0.85) * (1 + rng.normal(0, 0.08, 3))).clip(0.02, 0.95)
    if kind < 0.6:
        return np.float32(np.array([0.5, 0.34, 0.2]) * rng.uniform(0.3, 1.5) * (1 + rng.normal(0, 0.15, 3))).clip(
            0.02, 0.95
        )
    return np.float32(rng.uniform(0.03, 0.9, 3))


class Texture:
    """A random solid texture: albedo at local points. Photographs are laid round or onto the object."""

    def __init__(self, rng: np.random.Generator, pictures: list[np.ndarray], plain: float):
        self.colours = [random_colour(rng) for _ in range(12)]
        self.kind = (
            "plain"
            if rng.random() < plain
            else str(rng.choice(["noise", "stripes", "checks", "photo", "photo", "parts", "parts", "spots"]))
        )
        self.waves = rng.normal(0, 1, (6, 3)).astype(np.float32) * rng.uniform(2, 9)
        self.phases = rng.uniform(0, 6.3, 6).astype(np.float32)
        self.scale = rng.uniform(1.5, 6)
        self.axis = rng.integers(3)
        self.round = rng.random() < 0.5
        self.grain = rng.uniform(0, 0.18)
        self.repeat = rng.uniform(0.4, 1.6)
        if self.kind == "photo":
            crop = photos.random_crop(pictures[rng.integers(len(pictures))], rng, 128)
            self.photo = (crop**2.2 * rng.uniform(0.6, 1.0)).astype(np.float32)

    def _noise(self, p: np.ndarray) -> np.ndarray:
        wobble = np.sin(p @ self.waves[:3].T * 0.6 + self.phases[:3])
        return np.sin((p + 0.25 * wobble) @ self.waves[3:].T + self.phases[3:]).mean(-1, keepdims=True)

    def albedo(self, p: np.ndarray, parts: np.ndarray) -> np.ndarray:
        """p (N, 3) local points, parts (N,) to albedo (N, 3)."""
        a, b = self.colours[0], self.colours[1]
        if self.kind == "plain":
            colour = np.broadcast_to(a, p.shape)
        elif self.kind == "noise":
            colour = a + (b - a) * smoothstep(-0.5, 0.5, self._noise(p))
        elif self.kind == "stripes":
            colour = np.where(np.sin(p[:, self.axis, None] * self.scale * 3 + 0.8 * self._noise(p)) > 0, a, b)
        elif self.kind == "checks":
            colour = np.where(np.floor(p * self.scale).astype(int).sum(-1, keepdims=True) % 2 == 0, a, b)
        elif self.kind == "spots":
            colour = np.where(self._noise(p * 1.4) > 0.35, b, a)
        elif self.kind == "parts":
            palette = np.stack(self.colours)
            colour = palette[np.where(parts < 4, parts, parts % 12)]
        else:
            u = np.arctan2(p[:, 0], -p[:, 1]) / np.pi if self.round else p[:, 0]
            grid = np.stack([u, -p[:, 2] if self.round or self.axis != 2 else p[:, 1]], -1) * self.repeat
            cell = np.abs((grid * 0.5 + 0.5) % 2 - 1)  # mirrored repeats, without seams
            ij = (cell * 127).astype(np.float32)
            colour = cv2.remap(self.photo, ij[None, :, 0], ij[None, :, 1], cv2.INTER_LINEAR)[0]
        if self.grain:
            colour = colour * (1 + self.grain * self._noise(p * 2.7))
        return np.clip(colour, 0.01, 0.98).astype(np.float32)


@dataclass
class Look:
    """What a scene is made of: textures and gloss by object number, light, backdrop."""

    textures: dict[int, Texture]
    gloss: dict[int, float]
    light: Light
    backdrop_photo: np.ndarray | None  # (H, W, 3) uint8
    backdrop_colours: np.ndarray  # (2, 3) linear, top and bottom
    backdrop_blur: float  # pixels


def random_look(scene: Scene, pictures: list[np.ndarray]) -> Look:
    rng = scene.rng
    textures = {
        SUBJECT: Texture(rng, pictures, 0.3),
        FLOOR: Texture(rng, pictures, 0.3),
        WALL: Texture(rng, pictures, 0.5),
    }
    textures[FLOOR].repeat *= 0.35
    textures[WALL].repeat *= 0.2
    textures[FLOOR].axis = 2
    textures[FLOOR].round = textures[WALL].round = False
    for number in scene.meshes:
        if number >= FIRST_CLUTTER:
            textures[number] = Texture(rng, pictures, 0.5)
    gloss = {n: float(rng.choice([0, 0.05, 0.15, 0.4])) for n in textures}
    photo = pictures[rng.integers(len(pictures))] if rng.random() < 0.8 else None
    colours = np.stack([random_colour(rng), random_colour(rng)])
    return Look(textures, gloss, random_light(rng), photo, colours, float(rng.choice([0, 0.5, 1.5, 3.0])))


def environment(directions: np.ndarray) -> np.ndarray:
    """A studio for reflections: brightness by direction (..., 3), the same for all scenes."""
    z = directions[..., 2]
    bright = 0.14 + 0.95 * smoothstep(-0.05, 0.75, z) + 0.32 * smoothstep(-0.25, -0.9, z)
    return bright + 0.5 * smoothstep(0.55, 0.95, directions[..., 0] * 0.5 + directions[..., 1] * -0.5 + z * 0.7)


class Shader:
    """All pictures of one traced view. Colours are linear until `_encode`."""

    def __init__(self, scene: Scene, look: Look, view: View, rng: np.random.Generator):
        self.scene, self.look, self.view = scene, look, view
        self.subject = view.ids == SUBJECT
        facing = np.clip(view.normals @ look.light.direction.astype(np.float32), 0, 1)
        self.direct = (facing * view.sun)[..., None] * look.light.sun.astype(np.float32)
        self.ambient = view.sky @ look.light.ambient * (2.0 / len(AMBIENT)) * 1.6
        self.diffuse = self.direct + self.ambient  # irradiance over pi
        half = look.light.direction - view.rays
        half = half / np.maximum(np.linalg.norm(half, axis=-1, keepdims=True), 1e-6)
        self.highlight = np.clip((view.normals * half).sum(-1), 0, 1)
        reflected = view.rays - 2 * (view.rays * view.normals).sum(-1, keepdims=True) * view.normals
        self.reflection = (environment(reflected) * view.open)[..., None]
        self.albedo = np.zeros_like(view.rays)
        for number in scene.meshes:
            here = view.ids == number
            if not here.any():
                continue
            points = view.positions[here]
            if number in scene.local_from_world:
                m = scene.local_from_world[number].astype(np.float32)
                points = points @ m[:3, :3].T + m[:3, 3]
            self.albedo[here] = look.textures[number].albedo(points, view.parts[here])
        self.backdrop = self._backdrop(rng)
        self.scale = self._exposure()
        self.shared = self._camera_effects(rng)

    def _backdrop(self, rng: np.random.Generator) -> np.ndarray:
        size = self.view.ids.shape[0]
        if self.look.backdrop_photo is None:
            t = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
            return np.broadcast_to(
                self.look.backdrop_colours[0] * (1 - t) + self.look.backdrop_colours[1] * t, (size, size, 3)
            ).copy()
        picture = photos.random_crop(self.look.backdrop_photo, rng, size)
        if self.look.backdrop_blur:
            picture = cv2.GaussianBlur(picture, (0, 0), self.look.backdrop_blur)
        return picture**2.2

    def _exposure(self) -> float:
        """A gain that puts the lit surfaces at a common brightness."""
        surface = self.view.ids != NOTHING
        level = float(np.median((self.albedo * self.diffuse)[surface] @ LUMA)) if surface.any() else 0.2
        typical = float(np.median(self.diffuse[self.subject] @ LUMA)) if self.subject.any() else 1.0
        return self.look.light.exposure * 0.5 / (0.5 * typical + 1.0 * level + 0.05)

    def _camera_effects(self, rng: np.random.Generator) -> dict:
        size = self.view.ids.shape[0]
        axis = np.linspace(-1, 1, size, dtype=np.float32)
        vignette = 1 - rng.uniform(0, 0.35) * (axis[:, None] ** 2 + axis[None] ** 2) / 2
        balance = 1 + rng.normal(0, 0.07, 3)
        return {
            "gain": (vignette[..., None] * balance / balance.mean()).astype(np.float32),
            "gamma": rng.uniform(0.85, 1.2),
            "black": rng.uniform(0, 0.05),
            "blur": rng.uniform(0.3, 1.0) if rng.random() < 0.4 else 0.0,
            "noise": rng.normal(0, rng.uniform(0, 0.03), (size, size, 3)).astype(np.float32)
            if rng.random() < 0.5
            else 0.0,
        }

    def _encode(self, linear: np.ndarray, gain: np.ndarray) -> np.ndarray:
        """Linear light (..., 3) through this view's exposure curve."""
        x = linear * gain
        x = np.clip(x * (1 + 0.15 * x) / (1 + x * 0.75), 0, 1) ** (self.shared["gamma"] / 2.2)
        return self.shared["black"] + (1 - self.shared["black"]) * x

    def _finish(self, encoded: np.ndarray, size: int) -> np.ndarray:
        """Noise, blur and the final size, the same for all pictures of a view: (size, size, 3) in 0..1."""
        x = encoded + self.shared["noise"]
        if self.shared["blur"]:
            x = cv2.GaussianBlur(x, (0, 0), self.shared["blur"])
        return np.clip(cv2.resize(x, (size, size), interpolation=cv2.INTER_AREA), 0, 1)

    def base(self) -> np.ndarray:
        """The unedited scene, linear."""
        gloss = np.zeros(256, np.float32)
        for number, value in self.look.gloss.items():
            gloss[number] = value
        g = gloss[self.view.ids][..., None]
        shine = g * (self.direct * (self.highlight**40)[..., None] * 4 + 0.25 * self.reflection * self.ambient.mean())
        surface = (self.albedo * self.diffuse + shine) * self.scale
        return np.where((self.view.ids == NOTHING)[..., None], self.backdrop, surface)

    def pictures(self, keys: list[str], size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The base picture and its edits of the subject, (size, size, 3) each in 0..1."""
        encoded = self._encode(self.base(), self.shared["gain"])
        gain = self.shared["gain"][self.subject]
        edits = {}
        for key, radiance in self._materials(keys):
            changed = encoded.copy()
            changed[self.subject] = self._encode(radiance * self.scale, gain)
            edits[key] = self._finish(changed, size)
        return self._finish(encoded, size), edits

    def _materials(self, keys: list[str]):
        """Yield (key, radiance (N, 3)) of the subject's N pixels for each material or colour."""
        s = self.subject
        diffuse, direct, ambient_open = self.diffuse[s], self.direct[s], self.view.open[s][:, None]
        reflection, highlight = self.reflection[s], self.highlight[s][:, None]
        luminance = self.albedo[s] @ LUMA
        detail = np.clip(luminance / max(float(np.median(luminance)), 0.02), 0.25, 2.5)[:, None] ** 0.5
        faint = detail**0.3
        shine = highlight**40 * direct
        level = diffuse.mean(-1, keepdims=True)
        typical = max(float(np.median(level)), 0.05)

        def metal(colour, polish: float, dark: float, contrast: float = 1.0) -> np.ndarray:
            """polish: the share of reflected studio light against scattered light, whose contrast is raised."""
            scattered = typical * (level / typical) ** contrast
            light = polish * reflection * typical * 1.15 + (1 - polish) * scattered + dark
            return np.float32(colour) * (light + 1.6 * highlight**30 * direct)

        for key in keys:
            if key in PAINTS:
                yield key, np.float32(PAINTS[key]) * detail * diffuse + 0.25 * shine
            elif key == "gold":
                yield key, metal((1.30, 0.72, 0.10), 0.65, 0.03) * faint
            elif key == "silver":  # brushed, its brightness by the light more than by what it reflects
                yield key, metal((0.86, 0.90, 0.96), 0.5, 0.0, contrast=1.7) * faint
            elif key == "bronze":
                crevice = 0.6 * (1 - smoothstep(0.35, 0.8, ambient_open))
                patina = np.float32([0.10, 0.28, 0.22]) * diffuse
                yield key, (metal((0.36, 0.17, 0.06), 0.5, 0.02) * (1 - crevice) + crevice * patina) * faint
            elif key == "marble":
                light = 0.75 * diffuse + 0.25 * diffuse.mean()
                yield key, np.float32([0.88, 0.86, 0.82]) * light * detail**0.25 + 0.3 * shine
            elif key == "wood":
                rings = np.sin(level / typical * 9)  # they follow the light, as on a carved figure
                yield key, np.float32([0.40, 0.19, 0.065]) * (1 + 0.25 * rings) * diffuse * detail**0.35
            elif key == "clay":
                yield key, np.float32([0.64, 0.22, 0.105]) * diffuse * faint
            else:
                raise KeyError(key)

    def aids(self, size: int) -> dict[str, np.ndarray]:
        """What fog and snow use: relative depth and how far each pixel faces the open sky, (size, size)."""
        near = float(np.median(self.view.depth[self.subject])) if self.subject.any() else 4.0
        depth = np.clip(self.view.depth / near, 0, 6)
        upward = smoothstep(0.25, 0.75, self.view.normals[..., 2]) * smoothstep(0.3, 0.7, self.view.open)
        backdrop = self.view.ids == NOTHING
        rows = np.linspace(0, 1, upward.shape[0], dtype=np.float32)[:, None]
        upward = np.where(backdrop, 0.8 * smoothstep(0.45, 0.95, rows), upward)
        depth = np.where(backdrop, 3.2 - 1.2 * rows, depth)
        shrink = {"dsize": (size, size), "interpolation": cv2.INTER_AREA}
        return {
            "depth": cv2.resize(depth.astype(np.float32), **shrink),
            "upward": cv2.resize(upward.astype(np.float32), **shrink),
        }
