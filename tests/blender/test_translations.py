# SPDX-License-Identifier: GPL-3.0-or-later
"""What Blender shows of the add-on has a translation in each language, and nothing else has one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import bpy
import pytest
from in_blender import settle
from test_panels import drawn

from blender_addon import drawing, operators, panels, settings, translations, words
from engine.editors.registry import KINDS
from engine.presets import PRESETS

ADDON = Path(translations.__file__).parents[1]
LANGUAGES = translations.LANGUAGES
PLACEHOLDER = re.compile(r"\{\w*\}")


def texts_in_code() -> Iterator[str]:
    """What is given to `t`, as a `text`, `title` or `confirm_text`, to `sentences`, or is said in a panel."""
    for path in sorted(ADDON.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            name = ast.unparse(call.func).split(".")[-1]
            found = [k.value for k in call.keywords if k.arg in {"text", "title", "confirm_text"}]
            found += call.args[:1] if name in {"t", "run_task"} else call.args[2:3] if name in {"sentences"} else []
            found += call.args[1:2] if ast.unparse(call.func) == "session.say" else []
            for argument in found:
                parts = [argument.body, argument.orelse] if isinstance(argument, ast.IfExp) else [argument]
                yield from (str(p.value) for p in parts if isinstance(p, ast.Constant) and isinstance(p.value, str))
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):  # what is kept in a name until it is drawn
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in {"text", "STATES", "FIRST", "EMPTY"}:
                named = node.value
                for value in named.values if isinstance(named, ast.Dict) else getattr(named, "elts", [named]):
                    for part in (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,):
                        if isinstance(part, ast.Constant) and isinstance(part.value, str):
                            yield part.value


def classes() -> list[type]:
    return [*operators.CLASSES, *panels.CLASSES, *settings.CLASSES]


def rna_of(cls: type) -> bpy.types.Struct:
    """What Blender knows of a class; an operator's is that of its call."""
    if not issubclass(cls, bpy.types.Operator):
        return cls.bl_rna
    module, name = cls.bl_idname.split(".")
    return getattr(getattr(bpy.ops, module), name).get_rna_type()


def properties(cls: type) -> Iterator[bpy.types.Property]:
    names = {name for base in cls.__mro__ for name in getattr(base, "__annotations__", {})}
    yield from (prop for prop in rna_of(cls).properties if prop.identifier in names)


def labels() -> set[str]:
    """Everything that must have a translation: labels, buttons, names of settings and of their values, sentences of
    panels, and what operators say of themselves."""
    found = set(texts_in_code()) | set(drawing.STAGES.values()) | set(drawing.KINDS.values())
    found |= {text for _, text, _ in drawing.LEGEND.values()}
    for cls in classes():
        found.add(getattr(cls, "bl_label", ""))
        if issubclass(cls, bpy.types.Operator):
            found.add(rna_of(cls).description)
        for prop in properties(cls):
            if not (prop.is_hidden or issubclass(cls, settings.InstructNerfRow)):
                found.add(prop.name)
                found |= {item.name for item in getattr(prop, "enum_items_static", ())}
    found |= {preset.label for preset in PRESETS.values()}
    return {text for text in found if re.search(r"[^\W\d_]{2}", PLACEHOLDER.sub("", text)) and not _is_a_name(text)}


def _is_a_name(text: str) -> bool:
    """Whether a text is the same in every language, or a word between programs."""
    return text in {"NeRF", "PNG", "Instruct NeRF"} or bool(re.fullmatch(r"[a-z_]+|[A-Z_]{3,}|\{\w+\} (s|h|min)", text))


def said_besides() -> set[str]:
    """What may have a translation."""
    found = {"Looking for the sky", "Matching the edited views"}  # what the engine says of stages for a while
    for cls in classes():
        found.add(rna_of(cls).description)
        for prop in properties(cls):
            found |= {prop.name, prop.description}
            found |= {text for item in getattr(prop, "enum_items_static", ()) for text in (item.name, item.description)}
    found |= {preset.description for preset in PRESETS.values()}
    knobs = [knob for kind in KINDS for knob in kind.knobs]  # an editor's are its own to translate
    return found | {text for knob in knobs for text in (knob.label, knob.description)} | set(texts_in_code())


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_label_has_a_translation(addon: object, language: str) -> None:
    missing = labels() - LANGUAGES[language].keys()
    assert not missing, sorted(missing)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_translation_is_of_what_is_not_there_any_more(addon: object, language: str) -> None:
    stale = LANGUAGES[language].keys() - labels() - said_besides()
    assert not stale, sorted(stale)


def test_no_sentence_of_a_panel_is_put_together_before_it_is_translated() -> None:
    """News, and warnings of views and settings: what is put together is in no table."""
    warning = {"looking_at_choice", "warnings_of_settings"}
    for path in sorted(ADDON.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            calls = [node] if isinstance(node, ast.Call) and ast.unparse(node.func) == "session.say" else []
            if isinstance(node, ast.FunctionDef) and node.name in warning:
                calls = [c for c in ast.walk(node) if isinstance(c, ast.Call) and ast.unparse(c.func) == "found.append"]
                assert calls
            for call in calls:
                assert not isinstance(call.args[-1], ast.JoinedStr), f"{path.name}:{call.lineno}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_are_whole(language: str) -> None:
    for text, translated in LANGUAGES[language].items():
        assert translated.strip() == translated and translated, text
        assert sorted(PLACEHOLDER.findall(text)) == sorted(PLACEHOLDER.findall(translated)), text
        assert not text.endswith(".") or translated[-1] in ".。", text
        assert text.endswith(".") or translated[-1] not in ".。", text
    same = [text for text, translated in LANGUAGES[language].items() if text == translated]
    assert len(same) < 0.12 * len(LANGUAGES[language]), same


def test_they_are_registered_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for Blender's own register: the bpy module has none that does anything."""
    known: dict[str, dict] = {}
    german = LANGUAGES["de_DE"]
    asked = SimpleNamespace(
        register=lambda name, tables: known.update({name: tables}),
        unregister=known.pop,
        pgettext_iface=lambda text, context="*": known[translations.NAME]["de_DE"].get((context, text), text),
    )
    monkeypatch.setattr(translations, "bpy", SimpleNamespace(app=SimpleNamespace(translations=asked)))
    before = words.t("{count} views")
    translations.register()
    try:
        assert known[translations.NAME]["de_DE"][words.CONTEXT, "Open Capture"] == german["Open Capture"]
        assert words.t("{count} views") == german["{count} views"] and words.t("of nobody") == "of nobody"
    finally:
        translations.unregister()
    assert not known and words.t("{count} views") == before == "{count} views"


def test_properties_are_looked_up_in_our_context(addon: object) -> None:
    """Or Blender shows what it calls so itself: Invert is Umkehren here, and Invertieren there."""
    found = {prop.identifier: prop.translation_context for cls in classes() for prop in properties(cls)}
    assert len(found) > 100 and set(found.values()) == {words.CONTEXT}


def test_annotations_that_are_made_when_they_are_asked_for_are_found() -> None:
    """As those of Python 3.14 are, which some builds of Blender 5.2 have: no class's own dictionary holds them."""

    class Late(type):
        @property
        def __annotations__(cls) -> dict[str, object]:
            return {"seed": seed, "steps": steps}

    seed = SimpleNamespace(keywords={"name": "Seed"})
    steps = SimpleNamespace(keywords={"name": "Steps", "translation_context": "*"})
    words.in_our_context(Late("Settings", (), {}))
    assert seed.keywords["translation_context"] == words.CONTEXT and steps.keywords["translation_context"] == "*"


def test_they_go_and_come_with_the_add_on(addon: object) -> None:
    addon.unregister()
    addon.register()
    assert words.t("Open Capture") in {"Open Capture", *(table["Open Capture"] for table in LANGUAGES.values())}


@pytest.mark.parametrize("language", LANGUAGES)
def test_panels_are_drawn_in_every_language(opened: bpy.types.Scene, language: str) -> None:
    """As Blender looks them up: this module of it has no languages of its own."""
    table = LANGUAGES[language]
    words.look_up_with(lambda text: table.get(text, text))
    try:
        opened.instruct_nerf.instruction = "make it night"
        bpy.ops.instruct_nerf.start_edit()
        running = drawn()
        settle()
        shown = drawn()
    finally:
        translations.look_up()
    assert table["{count} views"].format(count=12) in shown and table["All {all} views"].format(all=12) in shown
    assert "{" not in shown and "{" not in running


def test_names_in_lists_are_not_gone_when_blender_reads_them(
    opened: bpy.types.Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not ASCII was shown as garbage: Blender reads texts that Python had freed, once a function that gives
    them was called again."""
    import dataclasses

    from blender_addon import project, session, sheet_settings

    workspace, panel = project.workspace_of(opened), opened.instruct_nerf
    panel.instruction = "größer → kleiner"
    bpy.ops.instruct_nerf.start_edit()
    settle()
    known = session.get().projects[workspace]
    assert [edit.title for edit in known.edits] == [panel.instruction]
    words.look_up_with(lambda text: f"日本語 {text}")
    lists = (settings._presets, settings._devices, settings._editors, settings._parents)
    asked = [(give, panel) for give in lists]
    asked += [(sheet_settings._axes, axis) for axis in (panel.sheet_across, panel.sheet_down)]
    for give, owner in asked:
        first = [text for item in give(owner, None) for text in item[:3]]
        # As the engine says it anew: other texts, that read the same.
        session.get().projects[workspace] = dataclasses.replace(
            known, edits=tuple(dataclasses.replace(e, instruction="".join(list(e.instruction))) for e in known.edits)
        )
        second = [text for item in give(owner, None) for text in item[:3]]
        assert any(not text.isascii() for text in first)
        assert all(one is other for one, other in zip(first, second, strict=True)), give
