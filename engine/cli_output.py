# SPDX-License-Identifier: GPL-3.0-or-later
"""What leaves a project, at a terminal: meshes, splats, frames and report cards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import tyro

from engine import protocol, typed
from engine.cli_cluster import Workers
from engine.cli_words import EvenOnCpu, Project
from engine.errors import BadInput
from engine.files import read_bounded
from engine.terminal import full

Shared = Annotated[Workers, tyro.conf.OmitArgPrefixes]
ALONE = Workers()


def mesh(
    workspace: Project,
    edit: str | None = None,
    resolution: int | None = None,
    faces: int | None = None,
    fill_holes: bool = False,
    flat_floor: bool = False,
    texture: int = 0,
    material: Literal["unlit", "lit"] = "unlit",
    part: Literal["all", "subject"] = "all",
    formats: Annotated[tuple[Literal["glb", "obj"], ...], tyro.conf.arg(name="format")] = (),
    device: str | None = None,
    shared: Shared = ALONE,
) -> None:
    """Make a mesh of an edit, or of the unedited scene: a PLY in the capture frame and, of other formats, upright files
    with y up.

    Args:
        workspace: The project's folder.
        edit: The edit's id; the unedited scene where not given.
        resolution: Voxels along the longest edge, 8 to 1024; as fine as the pictures where not given.
        faces: Decimate to about so many, 0 for all; 200,000 where not given, or 50,000 with a texture.
        fill_holes: Close holes, but for where the capture ends.
        flat_floor: Make the floor flat, where there is one.
        texture: Bake a texture of so many texels a side, 1024, 2048 or 4096; 0 for colors a vertex.
        material: Of GLB and OBJ: unlit, as captured, or lit by lamps.
        part: The whole scene, or the edit's subject: its region or, without one, what its instruction is about.
        formats: Files to write beside the PLY: glb, obj. USD is Blender's to export.
        device: cpu, cuda:0, mps, as `devices` lists them; the best where not given.
        shared: Who does what can be done in pieces.
    """
    from engine.jobs import output

    request = protocol.MakeMesh(
        full(workspace),
        edit,
        resolution,
        device,
        faces,
        fill_holes,
        texture,
        material,
        part,
        list(formats),
        flat_floor=flat_floor,
    )
    shared.show(request, lambda job: output.make_mesh(request, job))


def splats(
    workspace: Project,
    edit: str | None = None,
    count: int | None = None,
    device: str | None = None,
    shared: Shared = ALONE,
) -> None:
    """Make 3D Gaussian splats of an edit, or of the unedited scene: a PLY file for viewers and other programs.

    Args:
        workspace: The project's folder.
        edit: The edit's id; the unedited scene where not given.
        count: At most so many Gaussians; 500,000 where not given.
        device: cpu, cuda:0, mps, as `devices` lists them; the best where not given.
        shared: Who does what can be done in pieces.
    """
    from engine.jobs import splats as jobs

    request = protocol.MakeSplats(full(workspace), edit, count, device)
    shared.show(request, lambda job: jobs.make_splats(request, job))


def render(
    workspace: Project,
    cameras: Path,
    edit: Annotated[str | None, tyro.conf.Positional] = None,
    name: str = "path",
    first_frame: int = 1,
    step: int = 1,
    format: Literal["png", "exr"] = "png",
    samples: int = 1,
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    device: str | None = None,
    shared: Shared = ALONE,
) -> None:
    """Render frames along a camera path, before and after; those that are there already are skipped.

    Args:
        workspace: The project's folder.
        edit: The edit's id, before it what it stands on; the unedited scene where not given.
        cameras: A JSON list of cameras, as docs/protocol.md has them.
        name: Of the folder that the frames go to.
        first_frame: The number of the first frame.
        step: Between two frames' numbers.
        format: png, or exr: color, alpha, depth and normals as multilayer OpenEXR.
        samples: So many cameras in the list are moments of one frame, for motion blur.
        overwrite: Render also what is there already, of the same scene and camera.
        device: cpu, cuda:0, mps, as `devices` lists them; the best where not given.
        shared: Who does what can be done in pieces.
    """
    from engine.jobs import frames as jobs

    try:
        path = typed.decode(read_bounded(cameras, 2**28), list[protocol.PathCamera])
    except (OSError, msgspec.MsgspecError) as error:
        raise BadInput(f"{cameras} is no list of cameras ({error}).", file=cameras) from None
    request = protocol.RenderFrames(
        full(workspace), edit, name, path, first_frame, device, step, format, overwrite, samples
    )
    shared.show(request, lambda job: jobs.render_frames(request, job))


def report(
    workspace: Project,
    edit: str | None = None,
    device: str | None = None,
    even_on_cpu: EvenOnCpu = False,
    shared: Shared = ALONE,
) -> None:
    """Run the paper's baselines on an edit's capture and instruction, and write a report card (HTML and JSON).

    Args:
        workspace: The project's folder.
        edit: The edit's id; the newest finished one where not given.
        device: cpu, cuda:0, mps, as `devices` lists them; the best where not given.
        even_on_cpu: Also where that takes hours or days on a CPU.
        shared: Who does what can be done in pieces.
    """
    from engine.jobs import report as jobs
    from engine.workspace import Workspace as Folder

    finished = [record.id for record in Folder(full(workspace)).edits() if record.finished]
    if edit is None and not finished:
        raise BadInput(f"There is no finished edit in {workspace}; make one first.", field="edit")
    request = protocol.MakeReport(full(workspace), edit or finished[-1], device, even_on_cpu)
    shared.show(request, lambda job: jobs.make_report(request, job))
