# SPDX-License-Identifier: GPL-3.0-or-later
"""Every job by hand: `python -m engine COMMAND …`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.table import Table
from rich.text import Text

from engine import protocol
from engine.cli_cluster import batch
from engine.cli_jobs import jobs
from engine.cli_machine import check, devices, download, editors, have_editor
from engine.cli_output import ALONE, Shared, mesh, render, report, splats
from engine.cli_region import Where
from engine.cli_tree import delete, mute, rename, tree
from engine.cli_words import EvenOnCpu, How, Project, axis_of
from engine.errors import BadInput, Cancelled, explained
from engine.terminal import claiming, console, full, run_job, say, show_result

Masks = Literal["auto", "object", "unknown", "ignore"]


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
        request = protocol.OpenCapture(full(workspace), full(source), preset, long_side, all_pixels, background, masks)
        run_job(lambda job: capture.open_into_workspace(request, job))
        run_job(lambda job: capture.write_images(protocol.WriteImages(full(workspace)), job))
        opened = capture.load_opened(Folder(full(workspace)))  # without photos that turned out to be unreadable
    found = describe(opened)
    if as_json:
        say(json.dumps(found, indent=1))
    else:
        say(_capture_table(found))


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


def register(source: Annotated[Path, tyro.conf.Positional], workspace: Project) -> None:
    """Find the cameras of photos that have none; then `open` the folder that it names.

    Args:
        source: A folder of photos, or a video.
        workspace: The project's folder.
    """
    from engine.jobs import registration

    request = protocol.RegisterPhotos(full(workspace), full(source))
    show_result(run_job(lambda job: registration.register_photos(request, job)))


def train(
    workspace: Project,
    capture: Path | None = None,
    preset: str | None = None,
    device: str | None = None,
    seed: int = 0,
    steps: int | None = None,
    even_on_cpu: EvenOnCpu = False,
    depths: bool = True,
    planes: bool = True,
    shared: Shared = ALONE,
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
        depths: Compare the photos beforehand to know the depth of some of their pixels, where the preset asks for it.
        planes: Find the flat surfaces on which those pixels lie, and plain walls.
        shared: Who renders its views afterwards.
    """
    from engine.jobs import scene

    _open_first(workspace, capture, preset)
    request = protocol.TrainScene(full(workspace), preset, device, seed, steps, even_on_cpu, depths, planes)
    shared.show(request, lambda job: scene.train_scene(request, job))


def try_(
    photo: Annotated[Path, tyro.conf.Positional],
    how: Annotated[How, tyro.conf.OmitArgPrefixes],
    where: Annotated[Where, tyro.conf.OmitArgPrefixes],
    out: Path = Path("edited.png"),
    sheet: bool = False,
    across: Annotated[list[str] | None, tyro.conf.arg(metavar="NAME [VALUES]")] = None,
    down: Annotated[list[str] | None, tyro.conf.arg(metavar="NAME [VALUES]")] = None,
    workspace: Path | None = None,
    shared: Shared = ALONE,
) -> None:
    """Edit one photo, or one view of a project, the scene untouched.

    Args:
        photo: A picture file; with a workspace, the name of a view.
        how: The instruction, and what the editor is to do with it.
        where: Where alone the view is to change, by its project's scene.
        out: Where the edited picture goes.
        sheet: A contact sheet instead of one picture, over the editor's first two numbers where no other is named.
        across: What differs from column to column of the sheet: a knob, seed or instruction, and its values.
        down: What differs from row to row.
        workspace: The folder of the project whose view it is.
        shared: Who makes a sheet's cells.
    """
    from engine.jobs import trying

    region = where.region()
    have_editor(how.editor, how.download)
    words = how.words() | {"region": region, "across": axis_of(across), "down": axis_of(down)}
    if workspace is None:
        request = protocol.TryPhoto(photo=str(photo), out=str(out), sheet=sheet, **words)
        shared.do(request, lambda job: trying.try_photo(request, job))
    else:
        if sheet and across is None:
            raise BadInput("Name what the contact sheet of a view is over with --across.", field="sheet")
        wanted = protocol.TryEdit(workspace=full(workspace), view=str(photo), **words)
        shared.do(wanted, lambda job: trying.copy_of_try(wanted, out, job))
    console.print(f"Written: {out}")


def edit(
    workspace: Project,
    how: Annotated[How, tyro.conf.OmitArgPrefixes],
    where: Annotated[Where, tyro.conf.OmitArgPrefixes],
    capture: Path | None = None,
    views: list[str] | None = None,
    preset: str | None = None,
    steps: int | None = None,
    parent: str | None = None,
    like: str | None = None,
    schedule: Literal["paper", "projected"] | None = None,
    keys: list[str] | None = None,
    even_on_cpu: EvenOnCpu = False,
    depths: bool = True,
    planes: bool = True,
    staleness: int = 0,
    shared: Shared = ALONE,
) -> None:
    """Edit the scene by Iterative Dataset Update, training the unedited one first where there is none.

    Args:
        workspace: The project's folder.
        how: The instruction, and what the editor is to do with it.
        where: Where alone the scene is to change.
        capture: Open this capture first.
        views: Names of the views to edit; all that are not held out where not given.
        preset: preview, standard or paper; by the machine where not given.
        steps: NeRF steps of the edit.
        parent: The id of the edit to stand on, as `tree` lists them; the unedited scene where not given.
        like: The id of an edit: what is not given here, but for seed and device, is as that one has it.
        schedule: As in the paper, or as it settles sooner; if not given, the latter with key views.
        keys: Key views, VIEW=PICTURE: image files approved as the edits of one to four views, which the others follow.
        even_on_cpu: Also with a preset that takes hours or days on a CPU.
        depths: Compare the photos before the unedited scene is trained, as in `train`.
        planes: Find flat surfaces before it is trained, as in `train`.
        staleness: Rounds that a render may be old when its edit takes its place: with workers, more are made at once.
        shared: Who edits the pictures and renders the views.
    """
    from engine.jobs import edit as jobs

    named = [key.partition("=") for key in keys or []]
    if len(named) > 4 or not all(view and picture for view, _, picture in named):
        raise BadInput("Key views are one to four of VIEW=PICTURE.", field="keys")
    region = where.region()
    have_editor(how.editor, how.download)
    _open_first(workspace, capture, preset)
    request = protocol.RunEdit(
        workspace=full(workspace), views=views, preset=preset, steps=steps, parent=parent, like=like,
        even_on_cpu=even_on_cpu, depths=depths, planes=planes, schedule=schedule, region=region, staleness=staleness,
        key_views=[protocol.KeyView(view, full(Path(picture))) for view, _, picture in named], **how.words()
    )  # fmt: skip
    shared.show(request, lambda job: jobs.run_edit(request, job))


def resume(
    workspace: Project,
    edit: Annotated[str, tyro.conf.Positional],
    steps: int | None = None,
    device: str | None = None,
    even_on_cpu: EvenOnCpu = False,
    shared: Shared = ALONE,
) -> None:
    """Go on with a stopped edit, or with a finished one that is to have more steps.

    Args:
        workspace: The project's folder.
        edit: The edit's id, as `tree` lists it.
        steps: How many steps it is to have in all; those that it was begun with where not given.
        device: cpu, cuda:0, mps, as `devices` lists them; the best where not given.
        even_on_cpu: Also with a preset that takes hours or days on a CPU.
        shared: Who edits the pictures and renders the views.
    """
    from engine.jobs import edit as jobs

    request = protocol.ResumeEdit(full(workspace), edit, device, even_on_cpu, steps)
    shared.show(request, lambda job: jobs.resume_edit(request, job))


def show(workspace: Project) -> None:
    """Print what a project's folder holds, as JSON.

    Args:
        workspace: The project's folder.
    """
    from engine.jobs import capture

    show_result(capture.read_workspace(protocol.ReadWorkspace(full(workspace))))


def serve(shared: Shared = ALONE) -> None:
    """Serve Blender on standard input and output.

    Args:
        shared: Who does what can be done in pieces; the cluster, where none is named, is that of the environment
            variable INSTRUCT_NERF_CLUSTER.
    """
    from engine.serving import serve as run

    run(pieces=shared.pieces(os.environ.get("INSTRUCT_NERF_CLUSTER") or None))


COMMANDS = {
    "open": open,
    "register": register,
    "train": train,
    "try": try_,
    "edit": edit,
    "resume": resume,
    "tree": tree,
    "rename": rename,
    "mute": mute,
    "delete": delete,
    "show": show,
    "mesh": mesh,
    "splats": splats,
    "render": render,
    "report": report,
    "editors": editors,
    "download": download,
    "devices": devices,
    "check": check,
    "batch": batch,
    "jobs": jobs,
    "serve": serve,
}


def main() -> None:
    """Run the command line; exit status 2 for bad input, 130 when interrupted."""
    try:
        commands = {name: c if c is serve else claiming(c) for name, c in COMMANDS.items()}
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

        request = protocol.OpenCapture(full(workspace), full(capture), preset)
        opened = run_job(lambda job: open_into_workspace(request, job))
        console.print(f"{len(opened.views)} views of {opened.format}, {len(opened.left_out)} left out")
