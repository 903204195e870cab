# SPDX-License-Identifier: GPL-3.0-or-later
"""Every job by hand: `python -m engine COMMAND …`."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import msgspec
import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from engine import protocol, wire
from engine.errors import BadInput, Cancelled, explained
from engine.files import read_bounded
from engine.hub import HubModel, in_words
from engine.progress import Job

console = Console(stderr=True)

Masks = Literal["auto", "object", "unknown", "ignore"]
Workspace = Annotated[Path, tyro.conf.Positional]
EvenOnCpu = Annotated[bool, tyro.conf.FlagCreatePairsOff]


def open(
    source: Annotated[Path, tyro.conf.Positional],
    workspace: Path | None = None,
    preset: str | None = None,
    long_side: int | None = None,
    all_pixels: bool = False,
    background: tuple[int, int, int] = (255, 255, 255),
    masks: Masks = "auto",
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Open a capture and print what is in it; no pixel is decoded, unless its pictures are to be made.

    Args:
        source: The capture's folder or file.
        workspace: Remember the capture in this project folder, and make its pinhole pictures.
        preset: preview, standard or paper; decides the working size.
        long_side: Longer side of the working pictures, pixels.
        all_pixels: Keep every pixel of a distorted photo, with a mask, not the largest picture without empty ones.
        background: Red, green and blue, 0 to 255, behind transparent pixels.
        masks: What masks hide: empty space around an object, or something unknown (a passer-by); or ignore them.
        as_json: Print JSON for programs instead of a table.
    """
    from engine.capture import open_capture
    from engine.capture.description import describe
    from engine.jobs import capture
    from engine.workspace import Workspace as Folder

    if workspace is None:
        long_side = capture.working_size(preset, long_side)
        opened = open_capture(source, long_side, all_pixels=all_pixels, background=background, masks=masks)
    else:
        request = protocol.OpenCapture(
            _full(workspace), _full(source), preset, long_side, all_pixels, background, masks
        )
        _run(lambda job: capture.open_into_workspace(request, job))
        _run(lambda job: capture.write_images(protocol.WriteImages(_full(workspace)), job))
        opened = capture.load_opened(Folder(_full(workspace)))  # without photos that turned out to be unreadable
    found = describe(opened)
    if as_json:
        _say(json.dumps(found, indent=1))
    else:
        _say(_capture_table(found))


def _capture_table(found: dict) -> Table:
    """What `describe` found, for people."""
    table = Table(show_header=False)
    views, cameras = found["views"], found["cameras"]

    def sizes(key: str, of: list[dict]) -> str:
        listed = sorted({tuple(item[key]) for item in of})
        return ", ".join(f"{w} × {h}" for w, h in listed[:6]) + (f" and {len(listed) - 6} more" if listed[6:] else "")

    models = {camera["model"] for camera in cameras}
    table.add_row("format", found["format"])
    table.add_row("views", f"{len(views)}, {sum(view['held_out'] for view in views)} of them held out for measuring")
    table.add_row("cameras", str(len(cameras)))
    table.add_row("camera model", ", ".join(sorted(models)))
    table.add_row("sizes", sizes("size", views))
    table.add_row("working size", sizes("working_size", views))
    table.add_row("sparse points", f"{found['sparse_points']:,}" if found["sparse_points"] else "none")
    table.add_row("bounding size", " × ".join(f"{side:.3g}" for side in found["bounding_size"]))
    table.add_row("centre", " ".join(f"{x:.3f}" for x in found["centre"]) + f", radius {found['radius']:.3f}")
    known = "from the source's gravity" if found["gravity_up"] else "from the cameras"
    table.add_row("up", " ".join(f"{x:.2f}" for x in found["gravity_up"] or found["up"]) + f", {known}")
    table.add_row("left out", str(len(found["left_out"])))
    for left in found["left_out"]:
        table.add_row("", Text(f"{left['name']}: {left['reason']}"))  # names may look like markup
    for note in found["notes"]:
        table.add_row("note", Text(note))
    return table


def register(source: Annotated[Path, tyro.conf.Positional], workspace: Workspace) -> None:
    """Find the cameras of photos that have none; then `open` the folder that it names.

    Args:
        source: A folder of photos, or a video.
        workspace: The project's folder.
    """
    from engine.jobs import registration

    request = protocol.RegisterPhotos(_full(workspace), _full(source))
    _print(_run(lambda job: registration.register_photos(request, job)))


def train(
    workspace: Workspace,
    capture: Path | None = None,
    preset: str | None = None,
    device: str | None = None,
    seed: int = 0,
    steps: int | None = None,
    even_on_cpu: EvenOnCpu = False,
) -> None:
    """Train the unedited scene, or go on with it.

    Args:
        workspace: The project's folder.
        capture: Open this capture first.
        preset: preview, standard or paper; by the machine where not given.
        device: cpu, cuda:0, mps, as `devices` lists them; the best where not given.
        seed: For everything random.
        steps: How many steps the scene is to have in all; the preset's where not given.
        even_on_cpu: Also with a preset that takes hours or days on a CPU.
    """
    from engine.jobs import scene

    _open_first(workspace, capture, preset)
    request = protocol.TrainScene(_full(workspace), preset, device, seed, steps, even_on_cpu)
    _print(_run(lambda job: scene.train_scene(request, job)))


@dataclass
class How:
    """How a picture or a scene is edited: what every request to edit says."""

    instruction: tyro.conf.Positional[str]
    """What should change, in a sentence."""
    editor: str | None = None
    """An editor's id, as `editors` lists them, a folder or a hub name."""
    options: Annotated[list[str], tyro.conf.arg(name="set", metavar="NAME=VALUE")] = field(default_factory=list)
    """Knobs of the editor, as `editors` lists them: --set text_guidance=5 keep_background=on."""
    seed: int = 0
    """For everything random."""
    device: str | None = None
    """cpu, cuda:0, mps, as `devices` lists them; the best where not given."""
    download: bool = False
    """Download the editor where it is not on this computer, agreeing to its licence."""

    def words(self) -> dict[str, Any]:
        """The fields of a protocol.Instruct."""
        given = dataclasses.asdict(self)
        del given["download"]
        return given | {"options": dict(_option(text) for text in self.options)}


def _option(text: str) -> tuple[str, protocol.OptionValue]:
    """NAME=VALUE: true and false, a number, or a word. Raises BadInput."""
    name, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"--set takes NAME=VALUE, not {text!r}.", field="set")
    if value in {"true", "false"}:
        return name, value == "true"
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def try_(
    photo: Annotated[Path, tyro.conf.Positional],
    how: Annotated[How, tyro.conf.OmitArgPrefixes],
    out: Path = Path("edited.png"),
    sheet: bool = False,
) -> None:
    """Edit one photo, without any NeRF.

    Args:
        photo: A picture file.
        how: The instruction, and what the editor is to do with it.
        out: Where the edited picture goes.
        sheet: A contact sheet over the editor's first two numbers instead of one picture.
    """
    from engine.jobs import trying

    _have_editor(how)
    request = protocol.TryPhoto(photo=str(photo), out=str(out), sheet=sheet, **how.words())
    _run(lambda job: trying.try_photo(request, job))
    console.print(f"Written: {out}")


def edit(
    workspace: Workspace,
    how: Annotated[How, tyro.conf.OmitArgPrefixes],
    capture: Path | None = None,
    views: list[str] | None = None,
    preset: str | None = None,
    steps: int | None = None,
    parent: str | None = None,
    schedule: Literal["paper", "projected"] | None = None,
    keys: list[str] | None = None,
    even_on_cpu: EvenOnCpu = False,
) -> None:
    """Edit the scene by Iterative Dataset Update, training the unedited one first where there is none.

    Args:
        workspace: The project's folder.
        how: The instruction, and what the editor is to do with it.
        capture: Open this capture first.
        views: Names of the views to edit; all that are not held out where not given.
        preset: preview, standard or paper; by the machine where not given.
        steps: NeRF steps of the edit.
        parent: The id of the edit to stand on; the unedited scene where not given.
        schedule: As in the paper, or as it settles sooner; if not given, the latter with key views.
        keys: Key views, VIEW=PICTURE: image files approved as the edits of one to four views, which the others follow.
        even_on_cpu: Also with a preset that takes hours or days on a CPU.
    """
    from engine.jobs import edit as jobs

    named = [key.partition("=") for key in keys or []]
    if len(named) > 4 or not all(view and picture for view, _, picture in named):
        raise BadInput("Key views are one to four of VIEW=PICTURE.", field="keys")
    _have_editor(how)
    _open_first(workspace, capture, preset)
    request = protocol.RunEdit(
        workspace=_full(workspace), views=views, preset=preset, steps=steps, parent=parent, even_on_cpu=even_on_cpu,
        schedule=schedule,
        key_views=[protocol.KeyView(view, _full(Path(picture))) for view, _, picture in named], **how.words()
    )  # fmt: skip
    _print(_run(lambda job: jobs.run_edit(request, job)))


def resume(
    workspace: Workspace,
    edit: Annotated[str, tyro.conf.Positional],
    device: str | None = None,
    even_on_cpu: EvenOnCpu = False,
) -> None:
    """Go on with a stopped edit.

    Args:
        workspace: The project's folder.
        edit: The edit's id, as `show` lists it.
        device: cpu, cuda:0, mps, as `devices` lists them; the best where not given.
        even_on_cpu: Also with a preset that takes hours or days on a CPU.
    """
    from engine.jobs import edit as jobs

    request = protocol.ResumeEdit(_full(workspace), edit, device, even_on_cpu)
    _print(_run(lambda job: jobs.resume_edit(request, job)))


def show(workspace: Workspace) -> None:
    """Print what a project's folder holds, as JSON.

    Args:
        workspace: The project's folder.
    """
    from engine.jobs import capture

    _print(capture.read_workspace(protocol.ReadWorkspace(_full(workspace))))


def mesh(
    workspace: Workspace, edit: str | None = None, resolution: int | None = None, device: str | None = None
) -> None:
    """Make a coloured mesh of an edit, or of the unedited scene.

    Args:
        workspace: The project's folder.
        edit: The edit's id; the unedited scene where not given.
        resolution: Voxels along the longest edge.
        device: cpu, cuda:0, mps, as `devices` lists them; the best where not given.
    """
    from engine.jobs import output

    _print(_run(lambda job: output.make_mesh(protocol.MakeMesh(_full(workspace), edit, resolution, device), job)))


def render(
    workspace: Workspace,
    edit: Annotated[str, tyro.conf.Positional],
    cameras: Path,
    name: str = "path",
    device: str | None = None,
) -> None:
    """Render frames along a camera path, before and after.

    Args:
        workspace: The project's folder.
        edit: The edit's id.
        cameras: A JSON list of cameras, as docs/protocol.md has them.
        name: Of the folder that the frames go to.
        device: cpu, cuda:0, mps, as `devices` lists them; the best where not given.
    """
    from engine.jobs import output

    try:
        path = msgspec.json.decode(read_bounded(cameras, 2**28), type=list[protocol.Camera])
    except (OSError, msgspec.MsgspecError) as error:
        raise BadInput(f"{cameras} is no list of cameras ({error}).", file=cameras) from None
    request = protocol.RenderFrames(_full(workspace), edit, name, path, device=device)
    _print(_run(lambda job: output.render_frames(request, job)))


def report(
    workspace: Workspace, edit: str | None = None, device: str | None = None, even_on_cpu: EvenOnCpu = False
) -> None:
    """Run the paper's baselines on an edit's capture and instruction, and write a report card (HTML and JSON).

    Args:
        workspace: The project's folder.
        edit: The edit's id; the newest finished one where not given.
        device: cpu, cuda:0, mps, as `devices` lists them; the best where not given.
        even_on_cpu: Also where that takes hours or days on a CPU.
    """
    from engine.jobs import report as jobs
    from engine.workspace import Workspace as Folder

    finished = [record.id for record in Folder(_full(workspace)).edits() if record.finished]
    if edit is None and not finished:
        raise BadInput(f"There is no finished edit in {workspace}; make one first.", field="edit")
    request = protocol.MakeReport(_full(workspace), edit or finished[-1], device, even_on_cpu)
    _print(_run(lambda job: jobs.make_report(request, job)))


def download(model: Annotated[str, tyro.conf.Positional], yes: bool = False) -> None:
    """Download an editor that `editors` lists, or the model that reports measure by, once you agree to its licence.

    Args:
        model: Its name, such as timbrooks/instruct-pix2pix.
        yes: Agree to its size and licence without being asked.
    """
    from engine.jobs.download import model_of

    found = model_of(model)
    if found.folder.is_dir():
        _say(f"{found.label} is in {found.folder}")
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
    _say(f"{model.label} is in {_run(lambda job: download_model(request, job)).folder}")


def _have_editor(how: How) -> None:
    """Download the editor that is asked for, where it is not here and that is agreed to."""
    from engine.editors.catalogue import editor_id, source_of
    from engine.editors.registry import hub_models

    model = hub_models().get(editor_id(how.editor)) if how.editor else None
    if model is not None and source_of(model.name) == model.name and (how.download or _agreed(model)):
        _download(model)


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
        _say(table)


def devices() -> None:
    """List the devices and presets of this machine."""
    from engine.devices import find_devices
    from engine.presets import described, preset_infos

    found = find_devices()
    devices = described(found.devices)
    _print({"computing": found.computing, "devices": devices, "presets": preset_infos(devices[0])})


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
    _say(msgspec.json.encode(found).decode() if as_json else "\n".join(checks.lines(found)))
    if found.problems:
        sys.exit(1)


def serve() -> None:
    """Serve Blender on standard input and output."""
    from engine.server import serve as run

    run()


_out: TextIO | None = None  # standard output, once a command has claimed it for its result alone


def _claiming(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with standard output for its result alone: what libraries print on the way goes to standard error.
    Not before it is called, for tyro prints its help there."""

    @functools.wraps(command)
    def run(*arguments: Any, **named: Any) -> None:
        global _out
        _out = io.TextIOWrapper(io.BufferedWriter(wire.claim_stdout()), encoding="utf-8", errors="backslashreplace")
        command(*arguments, **named)

    return run


def _say(result: Any) -> None:
    """Print a command's result, text or a table, on standard output."""
    if isinstance(result, str):
        print(result, file=_out, flush=True)
    else:
        Console(file=_out).print(result)


COMMANDS = {
    "open": open,
    "register": register,
    "train": train,
    "try": try_,
    "edit": edit,
    "resume": resume,
    "show": show,
    "mesh": mesh,
    "render": render,
    "report": report,
    "editors": editors,
    "download": download,
    "devices": devices,
    "check": check,
    "serve": serve,
}


def main() -> None:
    """Run the command line; exit status 2 for bad input, 130 when interrupted."""
    try:
        commands = {name: c if c is serve else _claiming(c) for name, c in COMMANDS.items()}
        tyro.extras.subcommand_cli_from_dict(commands, prog="python -m engine", description=__doc__)
    except (Cancelled, KeyboardInterrupt):
        console.print("Stopped; what was made is saved.")
        sys.exit(130)
    except Exception as error:
        if (known := explained(error)) is None:
            raise
        console.print(Text(str(known), style="red"))  # paths may look like markup
        sys.exit(2)


def _open_first(workspace: Path, capture: Path | None, preset: str | None) -> None:
    if capture is not None:
        from engine.jobs.capture import open_into_workspace

        request = protocol.OpenCapture(_full(workspace), _full(capture), preset)
        opened = _run(lambda job: open_into_workspace(request, job))
        console.print(f"{len(opened.views)} views of {opened.format}, {len(opened.left_out)} left out")


def _run(work):
    """Run a job with a bar on the terminal; Ctrl-C cancels it, and it saves what it made."""
    import signal
    import threading

    stop = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[detail]}"))
    try:
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("Starting", total=1.0, detail="")

            def on_progress(p: protocol.Progress) -> None:
                left = "" if p.seconds_left is None else f", {_clock(p.seconds_left)} left"
                done, of = (in_words(p.step), in_words(p.of)) if p.stage == "download" else (p.step, p.of)
                bar.update(task, completed=p.fraction, description=p.label, detail=f"{done} of {of}{left}")

            return work(Job(on_progress=on_progress, log=console.print, cancelled=stop.is_set))
    finally:
        signal.signal(signal.SIGINT, before)


def _full(path: Path) -> str:
    """As requests have paths: from the root on; `~` is left to those who check them."""
    return str(path if str(path).startswith("~") else path.absolute())


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"


def _print(result) -> None:
    _say(json.dumps(msgspec.to_builtins(result), indent=2))
