# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes the pictures of the user guide: drives a real Blender window with mouse and keys through a whole edit.

    BLENDER_GUI="command that runs Blender with a window" \\
        python docs/take_pictures.py --capture FOLDER --engine-python PYTHON [--pictures docs/pictures]

The command gets Blender's own arguments; ``xdotool`` and ImageMagick's ``import`` must be there inside. Everything is
checked on the way, so this is also the window's end-to-end test (tests/window): it ends with exit code 0 and a file
``result.json`` beside the .blend only if the capture was opened, cameras chosen in the viewport, an instruction typed,
the edit watched, and views, mesh and strips came back.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTENSION = "bl_ext.user_default.instruct_nerf"
PARTS = (
    "prepare", "open_capture", "choose", "look_through", "instruct", "knobs", "try_it", "edit", "mesh", "film",
    "details",
)  # fmt: skip

# -- outside Blender ---------------------------------------------------------------------------------------------


def gui_command() -> list[str] | None:
    """The command that runs Blender with a window: BLENDER_GUI, else ../shared/tools/blender-gui, else None."""
    if named := os.environ.get("BLENDER_GUI"):
        return shlex.split(named)
    beside = ROOT.parent / "shared" / "tools" / "blender-gui"
    return [str(beside)] if beside.exists() else None


def engine_environment(folder: Path) -> Path:
    """A Python that has this checkout's engine: a bare environment that borrows the packages of the running one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    lines = [p for p in sys.path if p.endswith(("site-packages", "dist-packages"))]
    (packages / "borrowed.pth").write_text("\n".join([*lines, str(ROOT)]))
    return folder / "bin" / "python"


def take(options: argparse.Namespace) -> int:
    """Start Blender with this file as its script; the exit code is Blender's."""
    command = gui_command()
    if command is None:
        print("No Blender with a window: set BLENDER_GUI to a command that runs one.", file=sys.stderr)
        return 2
    folder = Path(options.folder or tempfile.mkdtemp(prefix="instruct-nerf-window-")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    # Blender starts the engine in another folder. Not resolved: an environment's Python is a link out of it.
    python = Path(os.path.abspath(options.engine_python or engine_environment(folder / "engine")))
    zip_file = folder / "instruct_nerf.zip"
    build = [sys.executable, str(ROOT / "packaging" / "build_extension.py"), "--output", str(zip_file)]
    subprocess.run([*build, *(["--wheel", str(options.wheel)] if options.wheel else [])], check=True)
    editor = options.editor
    if editor and Path(editor).is_dir():  # beside the .blend, so that no path of this machine is in the pictures
        shutil.copytree(editor, folder / "model", dirs_exist_ok=True)
        editor = "//model"
    settings = {
        "zip": str(zip_file), "python": str(python), "folder": str(folder), "limit": options.limit,
        "capture": str(Path(options.capture).resolve()), "pictures": str(Path(options.pictures).resolve()),
        "instruction": options.instruction, "editor": editor, "steps": options.steps, "dozen": options.dozen,
        "frames": options.frames, "last": options.last,
        "fake": str(options.fake_engine.resolve() if options.fake_engine else ""),
    }  # fmt: skip
    env = os.environ | {
        "INSTRUCT_NERF_WINDOW": json.dumps(settings),
        "BLENDER_USER_RESOURCES": str(folder / "user"),
        "WINDOW_FAILURE": str(folder / "failure.png"),
    }
    (folder / "user").mkdir(exist_ok=True)
    print(f"Working in {folder}", flush=True)
    arguments = ["--factory-startup", "--python", str(Path(__file__).resolve())]
    code = subprocess.run([*command, *arguments], env=env, cwd=ROOT).returncode
    return code if code or (folder / "result.json").exists() else 1


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capture", required=True)
    parser.add_argument("--instruction", default="make it night")
    parser.add_argument("--engine-python", type=Path, help="a Python with the engine (one that borrows this one's)")
    parser.add_argument("--editor", default="", help="a model folder or hub name (the engine's default)")
    parser.add_argument("--steps", type=int, default=0, help="steps of the edit (0: what the preset says)")
    parser.add_argument("--dozen", type=int, default=12, help="how many cameras to choose")
    parser.add_argument("--frames", type=int, default=24, help="frames of the strips (at least one a chosen camera)")
    parser.add_argument("--pictures", default=str(ROOT / "docs" / "pictures"))
    parser.add_argument("--folder", help="where the project goes (a temporary folder)")
    parser.add_argument("--wheel", type=Path, help="an engine wheel that is built already")
    parser.add_argument("--fake-engine", type=Path, help="a script to run in place of the engine, for tests")
    parser.add_argument("--last", choices=PARTS, default=PARTS[-1], help="the part after which to stop")
    parser.add_argument("--limit", type=float, default=2400.0, help="seconds for everything")
    return take(parser.parse_args())


# -- inside Blender ----------------------------------------------------------------------------------------------


def inside() -> None:
    """The program of the window."""
    sys.path.insert(0, str(ROOT / "tests" / "window"))
    sys.path.insert(0, str(ROOT))
    import bpy
    import hand

    from tests.callback_times import Recorder

    recorder = Recorder()
    settings = json.loads(os.environ["INSTRUCT_NERF_WINDOW"])
    pictures = Path(settings["pictures"])
    result: dict[str, object] = {"blender": bpy.app.version_string}

    def addon(name: str):  # type: ignore[no-untyped-def]
        return sys.modules[f"{EXTENSION}.{name}"]

    def state():  # type: ignore[no-untyped-def]
        return addon("session").get()

    def quiet() -> bool:
        return state().settled

    def views() -> list:
        return addon("scene.cameras").cameras_of(addon("project").root_of(bpy.context.scene))

    def into_viewport(share: float = 0.5) -> hand.Program:
        window = hand.region("WINDOW")
        hand.move(window.x + share * window.width * 0.8, window.y + window.height / 2)
        yield 0.3

    def fine(panel: str) -> None:
        if panel in state().notices:
            raise AssertionError(
                f"{state().notices[panel]}\n" + "\n".join(state().client.log() if state().client else [])
            )

    def prepare() -> hand.Program:
        preferences = bpy.context.preferences
        preferences.view.show_splash = False
        preferences.view.filebrowser_display_type = "SCREEN"
        preferences.view.smooth_view = 0
        preferences.system.use_online_access = True
        bpy.ops.extensions.package_install_files(filepath=settings["zip"], repo="user_default", enable_on_install=True)
        assert EXTENSION in preferences.addons, "the extension could not be enabled"
        whole = sys.modules[EXTENSION]
        whole.unregister()  # callbacks are watched from the moment at which Blender gets them
        recorder.watch(addon)
        whole.register()
        preferences.addons[EXTENSION].preferences.engine_python = settings["python"]
        if settings["fake"]:
            addon("jobs").ENGINE_ARGUMENTS = [settings["fake"], "tick=0.2"]
        bpy.data.batch_remove([o for o in bpy.data.objects])
        bpy.ops.wm.save_as_mainfile(filepath=str(Path(settings["folder"]) / "shot.blend"))
        yield 1.0
        yield from into_viewport()
        yield from hand.keys("Escape", "ctrl+space")
        yield 0.7
        yield from into_viewport()
        yield from hand.keys("n")
        yield 0.7
        hand.region("UI").active_panel_category = "Instruct NeRF"
        yield 0.7
        hand.look(pictures / "01-sidebar.png")

    def open_capture() -> hand.Program:
        yield from hand.press("instruct_nerf.open_capture")
        yield 1.5
        browser = next(a for a in bpy.context.window_manager.windows[0].screen.areas if a.type == "FILE_BROWSER")
        browser.spaces.active.params.directory = settings["capture"].encode()
        yield 1.5
        hand.look(pictures / "02-open.png")
        hand.move(browser.x + browser.width * 0.6, browser.y + browser.height * 0.5)
        yield 0.3
        yield from hand.keys("Return")
        yield from hand.wait(lambda: addon("project").project_of(bpy.context.scene) is not None, 60)
        yield from hand.wait(quiet, 300)
        fine("capture")
        result["views"] = len(views())
        yield from into_viewport()
        yield from hand.keys("Home")
        yield 1.0
        hand.look(pictures / "03-capture.png")

    def choose() -> hand.Program:
        from bpy_extras.view3d_utils import location_3d_to_region_2d

        yield from into_viewport()
        yield from hand.keys("KP_7")
        yield from hand.keys("Home")
        yield 0.7
        window = hand.region("WINDOW")
        view = hand.area().spaces.active.region_3d
        places = sorted(
            (tuple(location_3d_to_region_2d(window, view, c.matrix_world.translation)) for c in views()), reverse=True
        )
        xs, ys = zip(*places[: settings["dozen"]], strict=True)  # the ones at the right
        left = (xs[-1] + places[len(xs)][0]) / 2 if len(places) > len(xs) else xs[-1] - 20
        yield from hand.drag(window.x + xs[0] + 60, window.y + max(ys) + 60, window.x + left, window.y + min(ys) - 60)
        result["selected"] = sum("instruct_nerf_view" in o for o in bpy.context.selected_objects)
        yield from hand.press("instruct_nerf.use_selected")
        result["chosen"] = len(addon("scene.cameras").chosen_views(addon("project").root_of(bpy.context.scene)))
        assert result["chosen"] == result["selected"] > 1, result
        yield from into_viewport(0.15)
        hand.look(pictures / "04-choose.png")
        root = addon("project").root_of(bpy.context.scene).name
        for key, expected in (("ctrl+z", 0), ("ctrl+shift+z", result["chosen"])):
            yield from hand.keys(key)
            yield 0.7
            now = addon("scene.cameras").chosen_views(bpy.data.objects[root])
            assert len(now) == expected, f"{key}: {len(now)} chosen instead of {expected}"

    def look_through() -> hand.Program:
        chosen = [c for c in views() if c.get("instruct_nerf_chosen")]
        bpy.context.view_layer.objects.active = chosen[len(chosen) // 2]
        yield 0.5
        yield from hand.press("instruct_nerf.look_through")
        yield 0.7
        assert hand.area().spaces.active.region_3d.view_perspective == "CAMERA"
        yield from into_viewport()
        yield from hand.keys("Home")
        yield 1.0
        hand.look(pictures / "05-look-through.png")

    def instruct() -> hand.Program:
        bpy.context.scene.instruct_nerf.editor_model = settings["editor"]
        bpy.context.scene.instruct_nerf.steps = settings["steps"]
        yield from hand.press("instruct_nerf.instruction")
        yield from hand.keys("ctrl+a")
        yield from hand.write(settings["instruction"])
        yield from hand.keys("Return")
        yield 0.5
        assert bpy.context.scene.instruct_nerf.instruction == settings["instruction"]

    def knobs() -> hand.Program:
        scene = bpy.context.scene
        group = addon("knobs").group_of(scene, addon("project").editor_of(scene))
        x, y = yield from hand.find(".text_guidance")
        hand.move(x, y)
        yield from hand.keys("Return", "ctrl+a")
        yield from hand.write("2.5")
        yield from hand.keys("Return")
        assert group.is_property_set("text_guidance") and group.text_guidance == 2.5
        yield from hand.click(*(yield from hand.beside(x, y, "instruct_nerf.reset_knob")))
        assert not group.is_property_set("text_guidance")

    def try_it() -> hand.Program:
        yield from hand.press("instruct_nerf.try_edit")
        yield from hand.wait(lambda: state().job.title.startswith("Trying"), 10)
        yield from hand.wait(quiet, 300)
        fine("instruction")
        yield from into_viewport(0.15)
        yield 1.0
        hand.look(pictures / "06-try.png")

    def edit() -> hand.Program:
        # Of the panels above, only the headers: the sidebar is shorter than all of them.
        yield from hand.scroll(30)
        yield from hand.press("instruct_nerf.start_edit")
        yield from hand.wait(lambda: state().job.panel == "edit", 10)
        job, began, seen, gap, last = state().job, time.monotonic(), set(), 0.0, time.monotonic()
        yield from into_viewport(0.15)
        while not state().settled:
            now = time.monotonic()
            gap, last = max(gap, now - last), now
            if job.stage not in seen and job.step > 2 and (job.stage != "edit" or job.kind == "edited"):
                if job.stage in {"train", "edit"}:
                    yield 1.0
                    hand.look(pictures / ("07-training.png" if job.stage == "train" else "08-editing.png"))
                    last = time.monotonic()
                seen.add(job.stage)
            yield 0.2
        fine("edit")
        assert job.status == "done" and "edit" in seen, (job, seen)
        result["seconds of the edit"] = time.monotonic() - began
        result["longest pause of the interface"] = gap
        yield from look_at_pictures()

    def look_at_pictures() -> hand.Program:
        scene = bpy.context.scene
        camera = addon("project").active_view(bpy.context)
        yield from hand.scroll(60)
        for shown, number in (("before", "09-before"), ("after", "10-after")):
            scene.instruct_nerf.shown = shown
            image = camera.data.background_images[0].image
            assert addon("project").picture(scene, shown, camera["instruct_nerf_view"]) == bpy.path.abspath(
                image.filepath
            )
            yield 1.5
            hand.look(pictures / f"{number}.png")

    def mesh() -> hand.Program:
        yield from hand.press("instruct_nerf.import_mesh")
        yield from hand.wait(lambda: state().job.title == "Making the mesh", 10)
        yield from hand.wait(quiet, 900)
        fine("results")
        found = [o for o in addon("project").root_of(bpy.context.scene).children if o.type == "MESH"]
        result["vertices"] = len(found[0].data.vertices)
        assert result["vertices"]
        bpy.context.scene.instruct_nerf.in_front = False
        yield from into_viewport()
        yield from hand.keys("KP_0", "Home")  # out of the camera
        view = hand.area().spaces.active.region_3d
        view.view_perspective = "PERSP"
        chosen = [c for c in views() if c.get("instruct_nerf_chosen")]
        view.view_rotation = chosen[len(chosen) // 2].matrix_world.to_quaternion()
        bpy.ops.object.select_all(action="DESELECT")
        found[0].select_set(True)
        yield 0.3
        yield from hand.keys("KP_Decimal")
        yield 1.5
        hand.look(pictures / "11-mesh.png")

    def film() -> hand.Program:
        scene = bpy.context.scene
        chosen = addon("scene.cameras").chosen_views(addon("project").root_of(scene))
        frames = max(settings["frames"], len(chosen))  # a path has a frame for each view at least
        scene.frame_start, scene.frame_end = 1, frames
        yield from hand.press("instruct_nerf.camera_path")
        assert scene.camera.name.startswith("Camera Path")
        scene.instruct_nerf.film = "WIPE"
        yield from hand.press("instruct_nerf.render_to_sequencer")
        yield from hand.wait(lambda: state().job.title == "Rendering frames", 60)
        yield from hand.wait(quiet, 1200)
        fine("results")
        strips = {s.name: s for s in addon("scene.strips").strips_of(scene)}
        assert len(strips) == 3 and {s.frame_final_duration for s in strips.values()} == {frames}
        result["strips"] = sorted(strips)
        yield from into_viewport(0.15)
        area = hand.area()
        area.type = "SEQUENCE_EDITOR"
        area.spaces.active.view_type = "SEQUENCER_PREVIEW"
        area.spaces.active.timeline_overlay.show_strip_source = False
        if hasattr(bpy.context.workspace, "sequencer_scene"):
            bpy.context.workspace.sequencer_scene = scene
        scene.frame_set(frames // 2)
        yield 1.5
        for part in area.regions:
            if part.type in {"WINDOW", "PREVIEW"}:
                hand.move(part.x + part.width / 2, part.y + part.height / 2)
                yield 0.3
                yield from hand.keys("Home")
        yield 2.0
        hand.look(pictures / "13-sequencer.png")

    def details() -> hand.Program:
        """The panels that are closed at first, the dialog of Photograph Scene, and the preferences."""
        area = max(bpy.context.window_manager.windows[0].screen.areas, key=lambda a: a.width * a.height)
        area.type = "VIEW_3D"
        shown: set[str] = set()
        for cls in addon("panels").CLASSES:
            # A copy that is open, below the others: whether a panel is closed is the region's, and no script's.
            if "DEFAULT_CLOSED" in getattr(cls, "bl_options", ()):
                bpy.utils.register_class(opened(cls, shown))
        yield 1.0
        hand.region("UI").active_panel_category = "Instruct NeRF"
        yield from hand.scroll(120)
        yield 1.0
        hand.look(Path(settings["folder"]) / "details.png")
        result["drawn"] = sorted(shown)
        window = bpy.context.window_manager.windows[0]
        yield from into_viewport()
        with bpy.context.temp_override(window=window, area=area, region=hand.region("WINDOW")):
            bpy.ops.instruct_nerf.photograph("INVOKE_DEFAULT", way="DOME")
        yield 1.5
        hand.look(Path(settings["folder"]) / "photograph.png")
        yield from hand.keys("Escape")
        area.type = "PREFERENCES"
        bpy.context.preferences.active_section = "ADDONS"
        bpy.context.window_manager.addon_search = "Instruct"
        bpy.ops.preferences.addon_expand(module=EXTENSION)
        yield 1.5
        hand.look(Path(settings["folder"]) / "preferences.png")

    def opened(cls, shown: set[str]) -> type:  # type: ignore[no-untyped-def]
        def draw(self, context) -> None:  # type: ignore[no-untyped-def]
            cls.draw(self, context)
            shown.add(cls.bl_label)

        own = {name: vars(cls)[name] for name in ("poll", "draw_header", "bl_label") if name in vars(cls)}
        return type(f"{cls.__name__}_opened", cls.__bases__, own | {"draw": draw})

    def program() -> hand.Program:
        parts = (
            prepare, open_capture, choose, look_through, instruct, knobs, try_it, edit, mesh, film, details
        )  # fmt: skip
        assert [part.__name__ for part in parts] == list(PARTS)
        for part in parts[: PARTS.index(settings["last"]) + 1]:
            began = time.monotonic()
            yield from part()
            result[f"seconds: {part.__name__}"] = round(time.monotonic() - began, 1)
            (Path(settings["folder"]) / "callbacks.json").write_text(json.dumps(recorder.table(), indent=1))
            print(f"{part.__name__}: {result[f'seconds: {part.__name__}']} s", flush=True)
        bpy.ops.wm.save_mainfile()
        result["callbacks"] = recorder.table()
        (Path(settings["folder"]) / "result.json").write_text(json.dumps(result, indent=1))

    hand.run(program, settings["limit"])


if __name__ == "__main__":
    if "INSTRUCT_NERF_WINDOW" in os.environ:
        inside()
    else:
        sys.exit(main())
