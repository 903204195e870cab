# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands about this computer: what can compute on it, whether the engine works, and which editors are there."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import tyro
from rich.table import Table
from rich.text import Text

from engine import protocol
from engine.errors import BadInput
from engine.hub import HubModel, in_words
from engine.terminal import console, run_job, say, show_result


def devices() -> None:
    """List the devices and presets of this machine."""
    from engine.devices import find_devices
    from engine.presets import described, preset_infos

    found = find_devices()
    devices = described(found.devices)
    show_result({"computing": found.computing, "devices": devices, "presets": preset_infos(devices[0])})


def check(
    device: str | None = None,
    quick: bool = False,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Check that the engine works here, and say what each kind of work takes; exit status 1 where something is wrong.

    Args:
        device: cpu, cuda:0, mps, as `devices` lists them; the best where not given.
        quick: Look at the installation and the kernels only; train, render and edit nothing.
        as_json: Print JSON for programs instead of lines.
    """
    from engine import check as checks

    found = checks.check(device, quick)
    say(msgspec.json.encode(found).decode() if as_json else "\n".join(checks.lines(found)))
    if found.problems:
        sys.exit(1)


def editors() -> None:
    """List the editors: what is on this computer, what a download would cost, what each was trained on, and the knobs
    that --set turns."""
    from engine.editors.catalogue import find_editors

    for e in find_editors():
        offer = e.offer
        table = Table(title=Text(e.name), title_justify="left", show_header=False)
        table.add_row("label", Text(e.label))
        table.add_row("sees", f"{e.size} pixels")
        if offer.page and not offer.downloaded:
            table.add_row("on disk", Text(f"no; {in_words(offer.bytes)} to download into {offer.folder}"))
        else:
            table.add_row("on disk", Text("yes" + (f", {offer.folder}" if offer.folder else "")))
        if offer.licence:
            terms = "" if offer.commercial else ", not for commercial use"
            gate = f"; its terms must be accepted at {offer.page} before it is downloaded" if offer.gated else ""
            table.add_row("licence", Text(f"{offer.licence}{terms} ({offer.licence_url}){gate}"))
        table.add_row("available", Text(e.reason or "yes"))
        table.add_row("instructions", Text(", ".join(e.vocabulary) or "any"))
        table.add_row("knobs", Text("  ".join(f"{knob.name}={knob.default}" for knob in e.knobs)))
        say(table)


def download(model: Annotated[str, tyro.conf.Positional], yes: bool = False) -> None:
    """Download an editor that `editors` lists, or the model that reports measure by, once you agree to its licence.

    Args:
        model: Its name, such as timbrooks/instruct-pix2pix.
        yes: Agree to its size and licence without being asked.
    """
    from engine.jobs.download import model_of

    found = model_of(model)
    if found.folder.is_dir():
        say(f"{found.label} is in {found.folder}")
    elif yes or _agreed(found):
        _download(found)
    else:
        raise BadInput(f"Nothing was downloaded: {found.name} is only with your consent, `--yes`.", field="yes")


def _agreed(model: HubModel) -> bool:
    """Whether somebody at the terminal agrees to a download; without one, nobody does."""
    terms = f"licence {model.licence}, {model.licence_url}"
    if not model.commercial:
        terms += "; not for commercial use"
    if model.gated:
        terms += f"; accept its terms at {model.page} first"
    console.print(Text(f"{model.label} ({model.name}): {in_words(model.bytes)} into {model.folder}; {terms}"))
    if not sys.stdin.isatty():
        return False
    return console.input("Download it? [y/N] ").strip().lower() in {"y", "yes"}


def _download(model: HubModel) -> None:
    from engine.jobs.download import download_model

    request = protocol.DownloadModel(model.name, model.licence, model.bytes)
    say(f"{model.label} is in {run_job(lambda job: download_model(request, job)).folder}")


def have_editor(editor: str | None, agreed: bool) -> None:
    """Download the editor that is asked for, where it is not here and that is ``agreed`` to, or is now."""
    from engine.editors.catalogue import editor_id, source_of
    from engine.editors.registry import hub_models

    model = hub_models().get(editor_id(editor)) if editor else None
    if model is not None and source_of(model.name) == model.name and (agreed or _agreed(model)):
        _download(model)
