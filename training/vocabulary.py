# ruff: noqa: E501
"""What can be said: the instructions, their wordings, and texts that mean nothing to the editor.

An instruction is known by its `key`; its first wording is the canonical one that the engine lists.
`{noun}` in a wording stands for whatever the subject is called.
"""

from dataclasses import dataclass

import numpy as np

FAMILIES = ("light and weather", "style", "material", "colour")


@dataclass(frozen=True)
class Instruction:
    key: str
    family: str
    wordings: tuple[str, ...]

    @property
    def of_subject(self) -> bool:
        """Whether the subject alone changes, not the whole picture."""
        return self.family in ("material", "colour")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _whole(key: str, family: str, wordings: str) -> Instruction:
    return Instruction(key, family, tuple(w.strip() for w in wordings.split("/")))


def _material(key: str, adjective: str, *nouns: str) -> Instruction:
    wordings = [f"turn it into {key}", f"make it {adjective}", f"make it out of {key}", f"make the {{noun}} {adjective}",
                f"turn the {{noun}} into {key}", f"make the {{noun}} out of {key}", f"a {{noun}} made of {key}",
                f"turn it into a {adjective} statue", f"turn the {{noun}} into a {adjective} statue",
                f"as a {adjective} sculpture", f"make it look like {key}", f"cover it in {key}"]  # fmt: skip
    wordings += [f"turn it into {n}" for n in nouns] + [f"make the {{noun}} {n}" for n in nouns]
    return Instruction(key, "material", tuple(dict.fromkeys(wordings)))


def _colour(key: str) -> Instruction:
    return Instruction(key, "colour", tuple(w.format(key=key, noun="{noun}") for w in (
        "make it {key}", "paint it {key}", "colour it {key}", "color it {key}", "turn it {key}",
        "make the {noun} {key}", "paint the {noun} {key}", "turn the {noun} {key}", "colour the {noun} {key}",
        "color the {noun} {key}", "a {key} {noun}", "give it a {key} colour", "change its colour to {key}",
        "change the {noun} to {key}",
    )))  # fmt: skip


INSTRUCTIONS: tuple[Instruction, ...] = (
    _whole("night", "light and weather", """make it night / make it night time / turn it into night / at night /
        change it to night / make it look like night / as if it were night / make it midnight / turn day into night /
        make it a dark night"""),
    _whole("sunset", "light and weather", """make it sunset / turn it into a sunset / at sunset / make it dusk /
        as if at sunset / make it look like sunset / evening light / give it sunset light / make it golden hour /
        change it to sunset"""),
    _whole("snow", "light and weather", """make it snowy / make it snow / add snow / cover it with snow / make it winter /
        turn it into winter / as if it had snowed / in the snow / make it a snowy day / let it snow"""),
    _whole("fog", "light and weather", """make it foggy / add fog / put it in fog / fill it with fog / make it misty /
        in the mist / as if in fog / add mist / make it a foggy day / cover it with fog"""),
    _whole("autumn", "light and weather", """make it autumn / turn it into autumn / in autumn / make it fall /
        autumn colours / as if it were autumn / make the leaves turn autumn / change the season to autumn /
        make it look like autumn / give it autumn colors"""),
    _whole("storm", "light and weather", """make it stormy / turn it into a storm / in a storm / add a storm /
        make it overcast / make it a stormy day / as if before a storm / under storm clouds / make it look stormy /
        add a thunderstorm"""),
    _whole("underwater", "light and weather", """put it underwater / make it underwater / underwater / under water /
        under the sea / as if under water / sink it in the ocean / make it look underwater / at the bottom of the sea /
        turn it into an underwater scene"""),
    _whole("pencil", "style", """make it a pencil sketch / turn it into a pencil sketch / as a pencil drawing /
        draw it with a pencil / pencil sketch / make it a sketch / turn it into a pencil drawing / sketch it /
        in the style of a pencil sketch / make it look like a pencil drawing"""),
    _whole("oil", "style", """make it an oil painting / turn it into an oil painting / as an oil painting / oil painting /
        paint it in oil / make it a painting / in the style of an oil painting / make it look like an oil painting /
        turn it into a painting / with oil paint"""),
    _whole("comic", "style", """make it a comic / turn it into a comic / as a comic book / comic book style / make it a cartoon /
        turn it into a cartoon / in the style of a comic / make it look like a comic / draw it as a comic /
        comic style"""),
    _whole("mosaic", "style", """make it a mosaic / turn it into a mosaic / as a mosaic / mosaic / made of mosaic tiles /
        in the style of a mosaic / make it out of tiles / make it look like a mosaic / tile it / mosaic style"""),
    _whole("black and white", "style", """make it black and white / turn it into black and white / in black and white /
        black and white / remove the colour / remove the color / make it grayscale / make it monochrome /
        as a black and white photo / take the colour away"""),
    _whole("sepia", "style", """make it sepia / turn it into an old photo / as an old photo / sepia / make it vintage /
        make it a sepia photograph / make it look old fashioned / in sepia / sepia tone / like an old photograph"""),
    _whole("watercolour", "style", """make it a watercolour / make it a watercolor / turn it into a watercolour /
        as a watercolour painting / as a watercolor painting / watercolour / watercolor / in the style of a watercolour /
        paint it in watercolour / make it look like a watercolor"""),
    _whole("blueprint", "style", """make it a blueprint / turn it into a blueprint / as a blueprint / blueprint /
        draw it as a blueprint / in the style of a blueprint / make it a technical drawing /
        make it look like a blueprint / blueprint style / turn it into a technical drawing"""),
    _material("gold", "golden", "a gold statue"),
    _material("silver", "silver", "polished silver"),
    _material("bronze", "bronze", "a bronze bust"),
    _material("marble", "marble", "white marble"),
    _material("wood", "wooden", "carved wood"),
    _material("clay", "clay", "terracotta"),
    *(_colour(c) for c in ("red", "blue", "green", "yellow", "purple")),
)  # fmt: skip
BY_KEY = {i.key: i for i in INSTRUCTIONS}
KEYS = tuple(BY_KEY)

NOUNS = _words("""
    subject object thing statue man woman person face head bust figure animal dog cat fox horse bird fish
    bear rabbit lion monkey toy doll robot car truck bike chair table sofa lamp vase bottle can cup mug pot
    plate bowl box crate barrel ball cube cone ring knot shoe hat helmet book guitar phone camera clock house
    tower bridge tree plant flower apple pumpkin cake rock stone shell boat plane engine machine bulldozer
    digger tool sword shield crown mask skull hand bag basket bell candle coin key door window sculpture
    figurine model
""")
_PRONOUNS = ("it", "him", "her", "this", "them")

# Words that ask for what the editor never learned.
_UNKNOWN_ADJECTIVES = _words("""
    happy sad angry old young tall tiny huge fast slow soft loud quiet smart famous clean dirty wet broken
    shiny fluffy hairy smiling sleepy electric magnetic invisible transparent round flat spiky striped spotted
    dotted orange pink black white grey brown turquoise glass plastic rubber paper leather velvet diamond
    crystal chocolate candy furry slimy rusty burning melting frozen floating flying dancing royal medieval
    futuristic modern cheap expensive better worse bigger smaller sharper blurry bright
""")
_UNKNOWN_NOUNS = _words("""
    einstein batman clown pirate zombie vampire knight king queen soldier astronaut cowboy ninja wizard
    elephant giraffe tiger panda penguin dragon unicorn dinosaur spider butterfly banana pizza burger sandwich
    potato carrot cactus castle pyramid spaceship submarine helicopter train bicycle violin piano trumpet
    umbrella glasses beard moustache wig tattoo scarf tie necklace smile jungle desert city beach volcano
    island forest galaxy moon mars spring summer morning polaroid hologram emoji puppet skeleton mummy ghost
    alien van gogh picasso lego minecraft
""")
_UNKNOWN_TEMPLATES = ("make it {a}", "make the {n} {a}", "turn it into {u}", "turn it into a {u}", "turn him into a {u}",
    "turn the {n} into a {u}", "add a {u}", "give it a {u}", "give him a {u}", "as a {u}", "make it look like a {u}",
    "in the style of {u}", "put it in the {u}", "remove the {u}", "{a} {n}", "{u}", "{a}", "a {a} {u}", "make it {a} and {a}",
    "change the {n} to {a}", "paint the {n} {a}", "turn it into {a} {u}", "replace the {n} with a {u}")  # fmt: skip
_SYLLABLES = _words("""
    ba be bo da do du fa fi go ha jo ka ki lo lu ma mi mo na no pa pe po ra ri ro sa so ta te to va vo wa zi
""")


def _made_up_word(rng: np.random.Generator) -> str:
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.integers(2, 5)))


def unknown_text(rng: np.random.Generator) -> str:
    """A text in the grammar of the instructions, without any word that the editor knows."""

    def pick(words) -> str:
        return _made_up_word(rng) if rng.random() < 0.25 else str(rng.choice(words))

    text = str(rng.choice(_UNKNOWN_TEMPLATES))
    while "{a}" in text:
        text = text.replace("{a}", pick(_UNKNOWN_ADJECTIVES), 1)
    return text.replace("{u}", pick(_UNKNOWN_NOUNS)).replace("{n}", pick(NOUNS))


def wording(key: str, rng: np.random.Generator) -> str:
    """One of the wordings of an instruction, the canonical one more often, with a noun put in."""
    choices = BY_KEY[key].wordings
    text = choices[0] if rng.random() < 0.2 else str(rng.choice(choices))
    noun = _made_up_word(rng) if rng.random() < 0.15 else str(rng.choice(NOUNS))
    text = text.replace("{noun}", noun)
    if rng.random() < 0.2:
        text = text.replace(" it", f" {rng.choice(_PRONOUNS)}", 1)
    if rng.random() < 0.08:
        text = f"please {text}"
    return text + ("." if rng.random() < 0.08 else "")


def corpus(rng: np.random.Generator, count: int = 20000) -> list[str]:
    """Texts on which the tokenizer learns its merges."""
    known = [w.replace("{noun}", str(rng.choice(NOUNS))) for i in INSTRUCTIONS for w in i.wordings for _ in range(8)]
    return (
        known + [wording(str(rng.choice(KEYS)), rng) for _ in range(count)] + [unknown_text(rng) for _ in range(count)]
    )
