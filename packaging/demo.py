# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job from one end to the other, with no window and no questions: the program behind ``make demo``.

    python packaging/demo.py [--capture FOLDER] [--instruction "make it night"]

Runs in a Python that has the bpy module. The built extension is installed into a throw-away user folder and driven by
its own operators, as an artist would: a small Blender scene is photographed (or a capture opened), edited with an
instruction, views and mesh imported, a camera flown along some views, its frames rendered into the sequencer, and the
film made by Blender's Render Animation. Ctrl-C stops it; what the engine made so far stays in the workspace.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXTENSION = "bl_ext.user_default.instruct_nerf"
PICTURES, WIDTH, HEIGHT = 32, 160, 120  # of the photographed scene
STOPS = 6  # views that the camera flies through
FILM = 640, 360  # pixels of its frames


class Failed(Exception):
    """The demo cannot go on: one sentence."""


class Clock:
    """Times the parts and prints them."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, float]] = []
        self.began = time.monotonic()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time one part."""
        print(f"\n— {name}", flush=True)
        began = time.monotonic()
        yield
        self.parts.append((name, time.monotonic() - began))
        print(f"  {self.parts[-1][1]:.0f} s", flush=True)

    def table(self) -> str:
        """All parts, one a line."""
        lines = [f"  {seconds:7.1f} s  {name}" for name, seconds in self.parts]
        return "\n".join([*lines, f"  {time.monotonic() - self.began:7.1f} s  in all"])


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capture", type=Path, help="photos with poses; without it a Blender scene is photographed")
    parser.add_argument("--instruction", default="make it night")
    parser.add_argument("--output", type=Path, help="folder to make (demo/DATE-TIME)")
    parser.add_argument("--frames", type=int, default=48, help="frames of the film")
    parser.add_argument("--views", type=int, default=0, help="edit only this many views, evenly picked (0: all)")
    parser.add_argument("--preset", default="", help="the engine's preset (its default for this machine)")
    parser.add_argument("--steps", type=int, default=0, help="training steps of the edit (0: what the preset says)")
    parser.add_argument("--device", default="", help="cpu, cuda:0, … (the best found)")
    parser.add_argument("--editor", default="", help="an editor's name, folder or hub name (the engine's default)")
    parser.add_argument("--engine-python", type=Path, default=Path(sys.executable), help="a Python with the engine")
    parser.add_argument("--extension", type=Path, help="an extension zip (built from this checkout)")
    options = parser.parse_args()
    options.output = (options.output or ROOT / "demo" / time.strftime("%Y%m%d-%H%M%S")).resolve()
    return options


def keep_blenders_words(path: Path) -> None:
    """Send what Blender itself prints (several lines for every sample) to a file, and let only ours through."""
    sys.stdout.flush()
    ours = os.dup(1)
    with open(path, "wb") as file:
        os.dup2(file.fileno(), 1)
    sys.stdout = os.fdopen(ours, "w", encoding="utf-8", buffering=1)


def install(zip_file: Path) -> Any:
    """Install and enable the extension in this bpy; returns its package."""
    import bpy

    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.extensions.package_install_files(filepath=str(zip_file), repo="user_default", enable_on_install=True)
    if EXTENSION not in bpy.context.preferences.addons:
        raise Failed("The extension was installed but could not be enabled; see above.")
    return sys.modules[EXTENSION]


class Artist:
    """Uses the add-on as an artist does; each method returns once Blender and the engine have done it."""

    def __init__(self, addon: Any) -> None:
        import bpy

        self.bpy, self.addon = bpy, addon
        self.session, self.project, self.cameras = addon.session, addon.project, addon.scene.cameras
        self.said = ""

    @property
    def scene(self) -> Any:
        """The scene."""
        return self.bpy.context.scene

    @property
    def views(self) -> list[Any]:
        """The capture's cameras."""
        return self.cameras.cameras_of(self.project.root_of(self.scene))

    def settle(self, panel: str) -> None:
        """Wait until nothing runs any more, showing how it goes. Raises :class:`Failed` with the panel's sentence."""
        while True:
            self.session.pump()
            state = self.session.get()
            self._show(state)
            if state.settled:
                break
            if state.task is None:
                time.sleep(0.05)
        notices = state.notices.get(panel) or state.notices.get("engine")
        if notices:
            log = "\n".join(list(state.last_log)[-20:] + (state.client.log()[-20:] if state.client else []))
            raise Failed(f"{notices}\n{log}")

    def _show(self, state: Any) -> None:
        job = state.job
        if job is None or not job.active or not job.label:
            return
        left = job.seconds_left
        share = int(20 * job.fraction)
        said = f"{job.label} {job.stage} {share}"
        if said != self.said:
            self.said = said
            time_left = f", {left:.0f} s left" if left is not None else ""
            print(f"  {100 * job.fraction:3.0f} %  {job.label} ({job.step} of {job.of}){time_left}", flush=True)

    def select(self, views: list[Any]) -> None:
        """Select cameras as in the viewport."""
        self.bpy.ops.object.select_all(action="DESELECT")
        for view in views:
            view.select_set(True)
            self.bpy.context.view_layer.objects.active = view

    def spread(self, count: int) -> list[Any]:
        """Some cameras out of all, evenly picked."""
        views = self.views
        return [views[i * len(views) // count] for i in range(min(count, len(views)))]

    def ring(self, count: int) -> list[Any]:
        """Some cameras of middling height, along a half turn around the capture."""
        import math

        # Under the root, so upright or not does not matter: heights and headings are the world's.
        self.bpy.context.view_layer.update()
        views = self.views
        heights = sorted(v.matrix_world.translation.z for v in views)
        low, high = heights[len(heights) // 4], heights[3 * len(heights) // 4]
        middle = [v for v in views if low <= v.matrix_world.translation.z <= high]
        middle.sort(key=lambda v: math.atan2(v.matrix_world.translation.y, v.matrix_world.translation.x))
        half = middle[: max(count, len(middle) // 2)]
        return [half[i * (len(half) - 1) // (count - 1)] for i in range(min(count, len(half)))]


def main_job(options: argparse.Namespace, clock: Clock, user_folder: Path) -> None:
    """All parts, one after the other."""
    zip_file = options.extension
    if zip_file is None:
        with clock.part("Building the extension"):
            zip_file = user_folder / "instruct_nerf.zip"
            subprocess.run(
                [sys.executable, ROOT / "packaging" / "build_extension.py", "--output", zip_file], check=True
            )
    with clock.part("Installing it in Blender"):
        artist = Artist(install(zip_file))
    import bpy

    artist.project.preferences().engine_python = str(options.engine_python.absolute())
    blend = options.output / "demo.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    settings = artist.scene.instruct_nerf
    settings.preset, settings.device, settings.editor_model = options.preset, options.device, options.editor
    if options.capture is None:
        with clock.part(f"Photographing a Blender scene ({PICTURES} pictures)"):
            example = importlib.import_module(f"{EXTENSION}.scene.example")
            artist.select(example.build(artist.scene))
            bpy.ops.instruct_nerf.photograph(
                count=PICTURES,
                width=WIDTH,
                height=HEIGHT,
                lens=35.0,
                distance=2.2,
                lowest=18.0,
                highest=48.0,
                sweep=150.0,
            )
            artist.settle("capture")
    else:
        with clock.part("Opening the capture"):
            bpy.ops.instruct_nerf.open_capture(filepath=str(options.capture.resolve()), find_cameras=True)
            artist.settle("capture")
    capture = artist.project.project_of(artist.scene).capture
    print(f"  {len(capture.views)} views, {len(capture.left_out)} left out")
    with clock.part(f"Editing: {options.instruction}"):
        settings.instruction, settings.steps = options.instruction, options.steps
        if options.views:
            artist.select(artist.spread(options.views))
            bpy.ops.instruct_nerf.use_selected()
        for warning in artist.project.warnings_of_choice(artist.scene):
            print(f"  {warning}")
        bpy.ops.instruct_nerf.start_edit()
        artist.settle("edit")
    results(artist, options, clock)
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    report(artist, options, clock, blend)


def results(artist: Artist, options: argparse.Namespace, clock: Clock) -> None:
    """Views, mesh, camera path, frames and film."""
    bpy, scene = artist.bpy, artist.scene
    with clock.part("Importing the mesh"):
        bpy.ops.instruct_nerf.import_mesh()
        artist.settle("results")
    with clock.part(f"Rendering {options.frames} frames before and after"):
        chosen = artist.cameras.chosen_views(artist.project.root_of(scene))
        artist.select(artist.ring(STOPS))
        bpy.ops.instruct_nerf.use_selected()
        scene.frame_start, scene.frame_end = 1, options.frames
        bpy.ops.instruct_nerf.camera_path()
        artist.cameras.choose(artist.project.root_of(scene), chosen)
        scene.render.resolution_x, scene.render.resolution_y = FILM
        scene.instruct_nerf.film = "WIPE"
        bpy.ops.instruct_nerf.render_to_sequencer()
        artist.settle("results")
    with clock.part("Render Animation: the film"):
        bpy.ops.render.render(animation=True)
        film = Path(bpy.path.abspath(scene.render.filepath))
        if not film.is_file() or film.stat().st_size < 1000:
            raise Failed(f"Blender wrote no film at {film}.")


def report(artist: Artist, options: argparse.Namespace, clock: Clock, blend: Path) -> None:
    """Say where everything lies and how long it took."""
    scene, edit = artist.scene, artist.project.edit_of(artist.scene)
    trained = artist.project.project_of(scene).scene
    mesh = next(o for o in artist.project.root_of(scene).children if o.type == "MESH" and len(o.data.vertices))
    psnr = trained.measures.get("psnr") if trained else None
    quality = f"{psnr:.1f} dB on the held-out views" if isinstance(psnr, float) else "not measured"
    print(f"""
Done.
  Blender file   {blend}
  film           {artist.bpy.path.abspath(scene.render.filepath)}
  mesh           {edit.mesh} ({len(mesh.data.vertices)} vertices, in the Blender file under the capture's root)
  edited photos  {Path(next(iter(edit.images.values()), "-")).parent}
  edited views   {Path(next(iter(edit.views.values()), "-")).parent}
  project        {artist.project.workspace_of(scene)}
  unedited NeRF  {trained.steps if trained else 0} steps, {quality}
  edit           {edit.steps} steps on {len(edit.chosen)} views, preset {edit.preset}

{clock.table()}""")


def main() -> int:
    """Run the demo; the exit code: 0 done, 1 failed, 130 stopped."""
    options, clock = arguments(), Clock()
    if options.capture is not None and not options.capture.exists():
        print(f"There is no capture at {options.capture}.", file=sys.stderr)
        return 1
    options.output.mkdir(parents=True, exist_ok=True)
    user_folder = Path(tempfile.mkdtemp(prefix="instruct-nerf-demo-"))
    os.environ["BLENDER_USER_RESOURCES"] = str(user_folder)  # before bpy is imported: nothing of the user's is touched
    keep_blenders_words(options.output / "blender.log")
    code = 0
    try:
        main_job(options, clock, user_folder)
    except KeyboardInterrupt:
        print("\nStopped; the engine saves what it has.", file=sys.stderr)
        code = 130
    except (Failed, RuntimeError, subprocess.CalledProcessError) as error:
        print(f"\nThe demo stopped: {error}", file=sys.stderr)
        code = 1
    finally:
        addon = sys.modules.get(EXTENSION)
        if addon is not None:
            addon.session.unregister()  # stops the engine and reaps it
        shutil.rmtree(user_folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
