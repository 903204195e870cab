# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes of the edits: made by the engine, brought under the capture's root, and written for other programs.

Like :mod:`jobs`: functions that return at once and raise ``ValueError`` or ``RuntimeError`` with a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import bpy
from mathutils import Matrix

from . import asking, chores, conversion, session, wire
from .editing import keep_edit
from .jobs import ready, scene_for
from .project import device_name, photographed_here, project_of, root_of, scene_of, undo_step
from .scene import example, mesh, points, usd
from .words import t

RESOLUTION = (8, 1024)  # cells along the longest side, as the engine takes them
FACES = (100, 10_000_000)  # as the engine takes them; 0: all
TEXTURES = (0, 1024, 2048, 4096)  # texels a side, as the engine takes them; 0: none
HEAVY, TEXTURED = 200_000, 50_000  # faces of a mesh without a texture, and with one, unless another number is chosen
FORMATS = ("glb", "obj", "usd")  # beside the engine's own PLY; USD is Blender's to write


@dataclass(frozen=True)
class Choices:
    """How a mesh is to be made; 0: as fine as the pictures, all faces, no texture."""

    resolution: int = 0
    faces: int = HEAVY
    fill_holes: bool = False
    flat_floor: bool = False
    texture: int = 0
    lit: bool = False
    subject: bool = False
    formats: frozenset[str] = field(default_factory=frozenset)

    def checked(self) -> Choices:
        """Itself. Raises ``ValueError`` with a sentence for what the engine would refuse."""
        if self.resolution and not RESOLUTION[0] <= self.resolution <= RESOLUTION[1]:
            raise ValueError(f"A mesh has {RESOLUTION[0]} to {RESOLUTION[1]} cells along its longest side.")
        if self.faces and not FACES[0] <= self.faces <= FACES[1]:
            raise ValueError(f"A mesh has {FACES[0]} to {FACES[1]:,} faces.")
        if self.texture not in TEXTURES:
            raise ValueError("A texture has 1024, 2048 or 4096 texels a side.")
        return self

    def words(self) -> dict[str, object]:
        """What of a request to the engine they are."""
        said: dict[str, object] = {"faces": self.faces}
        if self.resolution:
            said["resolution"] = self.resolution
        if self.fill_holes:
            said["fill_holes"] = True
        if self.flat_floor:
            said["flat_floor"] = True
        if self.texture:
            said["texture"] = self.texture
        if self.lit:
            said["material"] = "lit"
        if self.subject:
            said["part"] = "subject"
        if formats := sorted(self.formats - {"usd"}):
            said["formats"] = formats
        return said


def import_mesh(scene: bpy.types.Scene, edit: str, choices: Choices) -> None:
    """Have the mesh of an edit (of the unedited scene for an empty id) made, import it under the root, and write it in
    the other formats that are chosen, as it lies in Blender's world."""
    choices = choices.checked()
    workspace, uid = ready(scene), scene.session_uid
    params: dict[str, object] = {"workspace": workspace, **choices.words()}
    if edit:
        params["edit"] = edit
    if device_name(scene):
        params["device"] = device_name(scene)
    root = root_of(scene)
    if choices.formats and root is not None:
        world = conversion.matrix_from_rows(root.matrix_world)
        conversion.scale_of_similarity(world)  # says what is wrong with it
        params["world"] = [value for row in world for value in row]

    asking.run_job(
        wire.OUTPUT_MESH, params, mesh_made(workspace, uid, edit, choices), panel="results", title="Making the mesh",
        workspace=workspace, scene=uid,
    )  # fmt: skip


def mesh_made(workspace: str, uid: int, edit: str, choices: Choices | None = None) -> Callable[[object], None]:
    """What follows the answer to a mesh: it is imported into the scene that asked, with the material that was chosen,
    and written as USD where that was. Of a job that was followed nothing more is known than what it made."""

    def made(result: tuple[str, dict[str, str]]) -> None:
        path, files = result
        found = scene_for(workspace, uid, t("The mesh"))
        root = root_of(found) if found else None
        if found is None or root is None:
            return

        def steps() -> Iterator[float]:
            return _importing(workspace, uid, edit, path, choices or Choices(), list(files.values()))

        chores.do(("mesh", uid, edit), steps, "results", "Importing the mesh")

    return made


def _importing(workspace: str, uid: int, edit: str, path: str, choices: Choices, written: list[str]) -> Iterator[float]:
    found = scene_of(workspace, uid)
    root = root_of(found) if found else None
    if found is None or root is None:
        return
    project = project_of(found)
    known = next((e for e in project.edits if e.id == edit), None) if project else None
    name = f"{Path(workspace).name}, {known.title if known is not None else edit or 'as captured'}"
    item = yield from mesh.importing(root, path, name, edit, choices.lit)
    if known is not None:
        keep_edit(workspace, replace(known, mesh=path))
    mesh.show_only(found, root, edit)
    points.hide(found, root)
    news = []
    if example.put_away(found):
        news.append(t("The example's own things are hidden: the mesh lies where they do."))
    elif photographed_here(found) and root.matrix_world == Matrix():
        news.append(t("The mesh lies where what was photographed does: hide one of them, or both are seen in patches."))
    if "usd" in choices.formats:
        file = Path(path).with_suffix(".usdc")
        usd.write_usd(found, item, file)
        written.append(str(file))
        yield 1.0
    if written:
        names = ", ".join(Path(file).name for file in written)
        news.append(t("{names}: in {folder}.").format(names=names, folder=Path(path).parent))
    if news:
        session.say("results", " ".join(news))
    chores.then(("undo", uid), lambda: undo_step("Import Mesh"), "results")
