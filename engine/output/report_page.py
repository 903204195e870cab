# SPDX-License-Identifier: GPL-3.0-or-later
"""The report card as one HTML file: pictures inside, no script, nothing loaded from anywhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.files import read_bounded

LARGEST_FILE = 64 * 2**20  # bytes, of a picture
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; margin-bottom: 0; } p.about { color: #555; margin-top: .3rem; }
table { border-collapse: collapse; } th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; } tr.ours { background: #eef6ee; font-weight: 600; }
small.remark { color: #a33; font-weight: 400; }
.wide { overflow-x: auto; } table.pictures td { padding: 2px; border: 0; }
table.pictures img { display: block; height: 150px; }
table.pictures th { font-weight: 500; white-space: nowrap; border: 0; }
@media (prefers-color-scheme: dark) { body { background: #1c1c1c; color: #ddd; } p.about { color: #aaa; }
  th, td { border-color: #444; } tr.ours { background: #23331f; } }
"""


@dataclass(frozen=True)
class Column:
    """A measure: its key, heading, format, and a sentence that says what it is."""

    key: str
    heading: str
    form: str
    meaning: str


@dataclass(frozen=True)
class Method:
    """A row: its measures by key, and its pictures' files."""

    name: str
    measures: dict[str, float]
    pictures: Sequence[Path]
    ours: bool = False
    remark: str = ""  # about the method here, beside its name


def page(title: str, about: str, columns: Sequence[Column], methods: Sequence[Method], notes: Sequence[str]) -> str:
    """The whole page. Texts are escaped; pictures are read now."""
    text = html.escape
    shown = [c for c in columns if any(c.key in m.measures for m in methods)]
    head = "".join(f'<th title="{text(c.meaning)}">{text(c.heading)}</th>' for c in shown)
    rows = "".join(
        f"<tr{' class=ours' if m.ours else ''}><td>{text(m.name)}{_remark(m)}</td>"
        + "".join(f"<td>{c.form.format(m.measures[c.key]) if c.key in m.measures else '–'}</td>" for c in shown)
        + "</tr>"
        for m in methods
    )
    pictures = "".join(
        f"<tr><th>{text(m.name)}</th>"
        + "".join(f'<td><img alt="{text(m.name)}, {text(p.stem)}" src="{_inline(p)}"></td>' for p in m.pictures)
        + "</tr>"
        for m in methods
    )
    meanings = "".join(f"<li><b>{text(c.heading)}</b>: {text(c.meaning)}</li>" for c in shown)
    said = "".join(f"<li>{text(note)}</li>" for note in notes)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f'<h1>{text(title)}</h1><p class="about">{text(about)}</p>'
        f'<div class="wide"><table><tr><th>Method</th>{head}</tr>{rows}</table></div>'
        f'<h2>Pictures</h2><div class="wide"><table class="pictures">{pictures}</table></div>'
        f"<h2>What the figures mean</h2><ul>{meanings}</ul><ul>{said}</ul></body></html>"
    )


def _remark(method: Method) -> str:
    return f'<br><small class="remark">{html.escape(method.remark)}</small>' if method.remark else ""


def _inline(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(read_bounded(path, LARGEST_FILE)).decode()
