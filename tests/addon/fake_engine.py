# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the engine that speaks docs/protocol.md with the standard library alone. A test double only.

Started as ``python fake_engine.py [MODE…]``; the words misbehave on purpose:

``garbage``      prints what is no message between messages, and bytes that are no UTF-8 on the log
``crash-edit``   dies with exit code 7 in the middle of an edit, after a last word on the log
``deaf``         never answers, never leaves, ignores SIGTERM
``flood``        sends a line of 3 MB without an end before it answers anything
``chatter``      talks without end, of its progress (``chatter-views``: of one view; ``chatter-logs``;
                 ``chatter-answers``: to questions never asked)
``liar``         answers capture/open with a capture that is none
``gpu``          says that the machine has a large graphics card
``late``         knows what computes, a large graphics card, only when it is asked for it
``slow``         says that the preset paper takes days on the CPU
``old``          speaks an older protocol
``damaged``      has a damaged edit
``grown``        has three edits, the second of which stands on the first
``stubborn``     does not let edits be named or muted
``wall``         shows, to a render engine, a wall two units ahead at the left, six at the right (else a ramp)
``tick=SECONDS`` time of one step (0.02)
"""

from __future__ import annotations

import json
import math
import os
import struct
import sys
import threading
import time
import zlib
from pathlib import Path

from fake_view import view_file

OUT = sys.stdout.buffer
LOCK = threading.Lock()
MODES = set(sys.argv[1:])
TICK = next((float(m.split("=")[1]) for m in MODES if m.startswith("tick=")), 0.02)


HELD = "The project is in use: another engine (process 4711) has been editing there since 12:00; wait until it is done."


class Cancelled(Exception):
    pass


def send(message: dict) -> None:
    with LOCK:
        if "garbage" in MODES:
            OUT.write(b'Loading checkpoint shards: 100%|####|\n[1, 2, 3]\n{"jsonrpc": "2.0", "id": "x"}\n\n')
            sys.stderr.buffer.write(b"\xff\xfe broken \r 50% \r 100%\n")
            sys.stderr.buffer.flush()
        OUT.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        OUT.flush()


def png(path: Path, width: int, height: int, colour: tuple[int, int, int]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    row = b"\0" + bytes(colour) * width

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(row * height))
        + chunk(b"IEND", b"")
    )
    return str(path)


def cube(path: Path, texture: str = "") -> str:
    """A mesh of six squares, each of which is all of the texture, where it has one."""
    corners = [(x, y, z) for x in (-1, 1) for y in (-2, 2) for z in (-3, 3)]
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    head = (
        "ply\nformat binary_little_endian 1.0\nelement vertex 8\nproperty float x\nproperty float y\n"
        "property float z\nproperty uchar red\nproperty uchar green\nproperty uchar blue\n"
        "element face 6\nproperty list uchar int vertex_indices\n"
    )
    if texture:
        head = head.replace("1.0\n", f"1.0\ncomment TextureFile {texture}\n", 1)
        head += "property list uchar float texcoord\n"
    flat = struct.pack("<B8f", 8, 0, 0, 1, 0, 1, 1, 0, 1) if texture else b""
    head += "end_header\n"
    body = b"".join(struct.pack("<3f3B", *c, 200, 100, 50) for c in corners)
    body += b"".join(struct.pack("<B4i", 4, *f) + flat for f in faces)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head.encode() + body)
    return str(path)


def open_capture(params: dict) -> dict:
    source = Path(params["source"])
    folder = source if source.is_dir() else source.parent
    try:
        data = json.loads((folder / "transforms.json").read_text())
    except FileNotFoundError:
        if list(folder.glob("*.jpg")):
            raise ValueError("The folder holds photos and no cameras; find their cameras first.", "photos") from None
        raise ValueError(f"{folder} holds no transforms.json.") from None
    images = Path(params["workspace"]) / "images"
    views, left_out = [], []
    for index, frame in enumerate(data["frames"]):
        name = Path(frame["file_path"]).name
        if frame.get("missing"):
            left_out.append({"name": name, "reason": "the image does not exist"})
            continue
        k = data | frame  # a frame's own intrinsics over the shared
        views.append({
            "name": name, "image": str(images / f"{Path(name).stem}.png"), "held_out": index % 8 == 0,
            "pose": [v for row in frame["transform_matrix"] for v in row],
            "width": int(k["w"]), "height": int(k["h"]), "fx": k["fl_x"], "fy": k["fl_y"], "cx": k["cx"], "cy": k["cy"],
        })  # fmt: skip
    centre = [0.0, 0.0, 0.0]
    radius = sum(math.dist(centre, v["pose"][3:12:4]) for v in views) / len(views)
    return {
        "workspace": params["workspace"], "source": str(source), "format": "transforms.json", "views": views,
        "left_out": left_out, "centre": centre, "radius": radius, "up": data.get("up", [0.0, 0.0, 1.0]),
        "notes": ["Pictures were made 2 times smaller."],
    }  # fmt: skip


def chatter() -> None:
    """As fast as it is read."""
    text = "x" * 14_000
    said = {
        "chatter": {"method": "job/progress", "params": {"job": 1, "label": text}},
        "chatter-views": {"method": "job/view", "params": {"job": 1, "view": "a", "kind": "edited", "image": text}},
        "chatter-logs": {"method": "job/log", "params": {"job": 1, "text": text}},
        "chatter-answers": {"id": 10**6, "result": text},
    }
    for mode, message in said.items():
        while mode in MODES:
            send(message)


class Engine:
    def __init__(self) -> None:
        self.capture: dict | None = None
        self.captures: dict[str, dict] = {}  # by workspace
        self.scene: dict | None = None
        self.edits: dict[str, dict] = {}
        self.tries: list[dict] = []
        self.number = 0  # of the last edit
        self.damaged: list[dict] = []
        if "damaged" in MODES:
            self.damaged.append({"name": "edit-0", "reason": "The record of edit-0 is damaged."})
        self.job: int | None = None
        self.cancelled = threading.Event()
        self.paused = threading.Event()
        self.thread: threading.Thread | None = None
        self.online, self.downloaded = False, set()
        self.unseen: set[int] = set()  # views that were cancelled

    def view(self, kind: str, view: dict, colour: tuple[int, int, int], edit: str = "") -> str:
        folder = Path(self.capture["workspace"]) / edit / ("images" if kind == "image" else kind)
        path = png(folder / f"{Path(view['name']).stem}.png", view["width"], view["height"], colour)
        send({"method": "job/view", "params": {"job": self.job, "view": view["name"], "kind": kind, "image": path}})
        return path

    def step(self, stage: str, step: int, of: int, fraction: float) -> None:
        while self.paused.is_set() and not self.cancelled.is_set():
            time.sleep(TICK)
        if self.cancelled.is_set():
            raise Cancelled
        time.sleep(TICK)
        send({"method": "job/progress", "params": {
            "job": self.job, "stage": stage, "label": f"{stage} step", "step": step, "of": of, "fraction": fraction,
            "seconds_left": (of - step) * TICK, "losses": {"rgb": 0.1 / max(1, step), "distortion": 0.01},
            "held_out": 20.0 + step if stage == "train" and step % 2 else None,
            "change": 0.1 / max(1, step) if stage == "edit" else None,
        }})  # fmt: skip

    # -- jobs ---

    def open(self, params: dict) -> dict:
        self.capture = self.captures[params["workspace"]] = open_capture(params)
        return {"views": 3} if "liar" in MODES else self.capture

    def grow(self) -> None:
        """Three edits, the second of which stands on the first."""
        self.scene = {
            "steps": 10, "of": 10, "finished": True, "preset": "preview", "device": "cpu", "measures": None,
            "views": {v["name"]: self.view("before", v, (60, 90, 140)) for v in self.capture["views"]},
        }  # fmt: skip
        for said, parent in (("make it night", None), ("turn it into gold", "edit-1"), ("make it sunset", None)):
            self.number += 1
            name = f"edit-{self.number}"
            self.edits[name] = {
                "id": name, "instruction": said, "parent": parent, "preset": "preview", "editor": "small",
                "settings": {"seed": 0, "options": {}}, "chosen": [v["name"] for v in self.capture["views"]],
                "steps": 20, "of": 20, "finished": True, "mesh": None, "seconds": 75.0, "name": "", "muted": False,
                "images": {v["name"]: self.view("edited", v, (9, 90, 9), name) for v in self.capture["views"]},
                "views": {v["name"]: self.view("after", v, (9, 9, 90), name) for v in self.capture["views"]},
                "created": 1.7e9 + self.number,
            }  # fmt: skip

    def images(self, _params: dict) -> dict:
        if "grown" in MODES and not self.edits:
            self.grow()
        for index, view in enumerate(self.capture["views"]):
            self.step("images", index + 1, len(self.capture["views"]), (index + 1) / len(self.capture["views"]))
            self.view("image", view, ((40 + index) % 256, 90, 160))
        return self.capture

    def try_edit(self, params: dict) -> dict:
        view = next(v for v in self.capture["views"] if v["name"] == params["view"])
        number, (width, height) = len(self.tries) + 1, (view["width"], view["height"])
        folder = Path(self.capture["workspace"]) / "tries" / f"20260101-000000-{number:03d}"
        across, down = params.get("across"), params.get("down")
        cells = []
        for y in down["values"] if down else [None]:
            for x in across["values"] if across else [None]:
                cell = {"instruction": params["instruction"], "seed": params["seed"],
                        "options": dict(params.get("options", {}))}  # fmt: skip
                for axis, value in ((across, x), (down, y)):
                    if axis is not None:
                        own = cell if axis["name"] in ("seed", "instruction") else cell["options"]
                        own[axis["name"]] = value
                self.step("try", len(cells) + 1, len(cells) + 1, 1.0)
                place = len(cells)
                image = png(folder / f"{place:02d}.png", width, height, (20 + place, 30, 80))
                kind = "tried" if across else "edited"
                seen = {"job": self.job, "view": view["name"], "kind": kind, "image": image}
                send({"method": "job/view", "params": seen})
                column, row = divmod(place, len(across["values"]))[::-1] if across else (0, 0)
                box = [column * width, row * height, width, height]
                cells.append(cell | {"settings": cell["options"], "image": image, "box": box})
        columns = len(across["values"]) if across else 1
        after = cells[0]["image"]
        if len(cells) > 1:
            after = png(folder / "sheet.png", columns * width, len(cells) // columns * height, (20, 30, 80))
        self.tries.append({
            "id": folder.name, "view": view["name"], "editor": params["editor"], "before": view["image"],
            "parent": params.get("parent"), "after": after, "columns": columns, "cells": cells,
        })  # fmt: skip
        return self.tries[-1]

    def run(self, params: dict) -> dict:
        self.number += 1
        number = f"edit-{self.number}"
        like = self.edits.get(params.get("like"), {})
        edit = {
            "id": number, "instruction": params["instruction"], "parent": params.get("parent", like.get("parent")),
            "preset": params.get("preset") or like["preset"], "editor": params.get("editor") or like.get("editor", ""),
            "settings": like.get("settings", {}) | {k: v for k, v in params.items() if k != "views"},
            "chosen": params.get("views") or like.get("chosen") or [v["name"] for v in self.capture["views"]],
            "steps": 0, "of": params.get("steps") or 20, "finished": False, "images": {}, "views": {}, "mesh": None,
            "seconds": 0.0, "name": "", "muted": False, "created": 1.7e9 + self.number,
        }  # fmt: skip
        self.edits[number] = edit
        return self.go_on(edit)

    def resume(self, params: dict) -> dict:
        edit = self.edits[params["edit"]]
        edit |= {"of": params.get("steps") or edit["of"], "finished": False}
        return self.go_on(edit)

    def label(self, number: int, params: dict) -> None:
        edit = self.edits.get(params["edit"])
        if edit is None or "stubborn" in MODES:
            send({"id": number, "error": {"code": -32000, "message": "That cannot be written."}})
            return
        edit |= {key: params[key] for key in ("name", "muted") if key in params}
        send({"id": number, "result": edit})

    def delete(self, params: dict) -> dict:
        gone = [params["edit"]]
        for above in gone:
            gone += [e["id"] for e in self.edits.values() if e["parent"] == above]
        if gone[1:] and not params.get("with_children"):
            raise ValueError(f"{len(gone) - 1} edits stand on {gone[0]}.", "with_children")
        for edit in gone:
            self.edits.pop(edit, None)
        self.damaged = [entry for entry in self.damaged if entry["name"] not in gone]
        return {"edits": gone, "folder": None}

    def go_on(self, edit: dict) -> dict:
        chosen = [v for v in self.capture["views"] if v["name"] in edit["chosen"]]
        if self.scene is None:
            self.scene = {
                "steps": 10, "of": 10, "finished": True, "preset": edit["preset"], "device": "cpu",
                "measures": {"psnr": 21.5, "ssim": None, "lpips": None, "perceptual": "stlpips"},
                "views": {v["name"]: self.view("before", v, (60, 90, 140)) for v in self.capture["views"]},
            }  # fmt: skip
        while edit["steps"] < edit["of"]:
            self.step("edit", edit["steps"] + 1, edit["of"], edit["steps"] / edit["of"])
            view = chosen[edit["steps"] % len(chosen)]
            edit["images"][view["name"]] = self.view("edited", view, (20, 30, min(255, 60 + edit["steps"])), edit["id"])
            edit["steps"] += 1
            if "crash-edit" in MODES and edit["steps"] == 5:
                print("CUDA error: device-side assert triggered", file=sys.stderr, flush=True)
                sys.stderr.flush()
                import os

                os._exit(7)
        for view in chosen:
            edit["views"][view["name"]] = self.view("after", view, (10, 20 * len(edit["id"]), 90), edit["id"])
        edit.update(finished=True, seconds=12.0)
        return edit

    def mesh(self, params: dict) -> dict:
        self.step("mesh", 1, 1, 1.0)
        path, size = Path(params["workspace"]) / "mesh" / f"{params.get('edit', 'scene')}.ply", params.get("texture", 0)
        picture = path.with_name(f"mesh-{size:012x}.png") if size else None
        if picture is not None:
            png(picture, 4, 4, (20, 200, size // 32))
        cube(path, picture.name if picture else "")
        files = {kind: str(path.with_suffix(f".{kind}")) for kind in params.get("formats", ())}
        for file in files.values():
            Path(file).write_bytes(b"")
        texture = str(picture) if picture else None
        return {"mesh": str(path), "vertices": 8, "faces": 6, "texture": texture, "files": files}

    def splats(self, params: dict, quick: bool = False) -> dict:
        if not quick:
            self.step("splats", 1, 2, 0.5)
        workspace = Path(params["workspace"])
        folder = workspace / "edits" / params["edit"] if "edit" in params else workspace / "scene"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "splats.ply").write_bytes(b"ply\n")
        (folder / "surfels.bin").write_bytes(struct.pack("<8sII4f4B", b"INSURFEL", 1, 1, 0, 0, 0, 1, 255, 0, 0, 255))
        return {"splats": str(folder / "splats.ply"), "count": 1, "surfels": str(folder / "surfels.bin")}

    def frames(self, params: dict) -> dict:
        lists: dict[str, list[str]] = {"before": [], "after": []}
        for index, camera in enumerate(params["cameras"]):
            self.step("frames", index + 1, len(params["cameras"]), index / len(params["cameras"]))
            for kind, colour in (("before", (200, 60, 20)), ("after", (20, 60, 200))):
                folder = Path(params["workspace"]) / "frames" / params["name"] / kind
                name = f"{params['first_frame'] + index * params.get('step', 1):05d}.png"
                lists[kind].append(png(folder / name, camera["width"], camera["height"], colour))
        (Path(params["workspace"]) / "last_frames.json").write_text(json.dumps(params))
        return lists

    def register(self, params: dict) -> dict:
        source = Path(params["source"])
        photos = sorted(source.glob("*.jpg"))
        for index in range(len(photos)):
            self.step("features", index + 1, len(photos), index / len(photos))
        if len(photos) < 3:
            raise ValueError("Of 2 photos 0 were placed: too few of them show the same things.")
        made = Path(params["workspace"]) / "registered"
        made.mkdir(parents=True, exist_ok=True)
        pose = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 4], [0, 0, 0, 1]]
        frames = [{"file_path": photo.name, "transform_matrix": pose} for photo in photos]
        data = {"w": 64, "h": 48, "fl_x": 60, "fl_y": 60, "cx": 32, "cy": 24, "frames": frames}
        (made / "transforms.json").write_text(json.dumps(data))
        return {"source": str(made), "photos": len(photos), "registered": len(photos), "notes": []}

    def report(self, params: dict) -> dict:
        self.step("sds", 1, 1, 1.0)
        page = Path(params["workspace"]) / "report.html"
        page.write_text(params["edit"])
        return {"html": str(page), "json": str(page), "measures": {}}

    def download(self, params: dict) -> dict:
        known = {entry["name"]: entry.get("offer") for entry in (*INITIALIZED["editors"], *INITIALIZED["models"])}
        offer = known[params["model"]]
        if not self.online:
            raise ValueError("Blender is offline.", "online")
        if (params["licence"], params["bytes"]) != (offer["licence"], offer["bytes"]):
            raise ValueError("That is not what was agreed to.", "licence")
        for part in range(5):
            self.step("download", part * offer["bytes"] // 4, offer["bytes"], part / 4)
        self.downloaded.add(params["model"])
        return {"model": params["model"], "folder": offer["folder"]}

    def look(self, number: int, params: dict) -> None:
        """A view for a render engine: known colors, depths and normals, the lowest row first."""
        folder = Path(params["workspace"]) / "tries"
        folder.mkdir(parents=True, exist_ok=True)
        live = bool(params.get("live") and self.job is not None)
        data = view_file(params["camera"], "wall" in MODES, live, params.get("surfaces", False))
        (folder / f"asked-{number}.view").write_bytes(data)
        time.sleep(TICK)
        if number in self.unseen:
            send({"id": number, "error": {"code": -32800, "message": "Cancelled."}})
        else:
            result = {"pixels": str(folder / f"asked-{number}.view"), "step": 7 if live else None}
            send({"id": number, "result": result})

    # -- the wire ---

    def wish(self, number: int, method: str, params: dict) -> None:
        """What a running job is asked; granted at once, for there is no scene that a step could be changing."""
        if self.job is None or params["job"] != self.job:
            error = {"code": -32000, "message": f"The job {params['job']} does not run.", "data": {"field": "job"}}
            send({"id": number, "error": error})
            return
        step = next((edit["steps"] for edit in self.edits.values() if not edit["finished"]), 0)
        if method in ("job/pause", "job/continue"):
            (self.paused.set if method == "job/pause" else self.paused.clear)()
            result: dict = {"paused": method == "job/pause"}
        elif method == "job/render":
            camera = params["camera"]
            folder = Path(self.capture["workspace"]) / "tries"
            image = png(folder / f"asked-{number}.png", camera["width"], camera["height"], (90, 20, 10))
            result = {"image": image, "step": step}
        elif method == "job/surfels":
            made = self.splats({"workspace": self.capture["workspace"], "edit": "live"}, quick=True)
            result = {"surfels": made["surfels"], "step": step}
        else:
            change = {"step": step, "instruction": params.get("instruction") or "", "view": params.get("view")}
            next(edit for edit in self.edits.values() if not edit["finished"]).setdefault("changes", []).append(change)
            result = {"step": step}
        send({"id": number, "result": result})

    def start_job(self, number: int, work, params: dict) -> None:  # type: ignore[no-untyped-def]
        if self.job is not None:
            send({"id": number, "error": {"code": -32001, "message": "A job runs already."}})
            return
        self.job = number
        self.cancelled.clear()
        self.paused.clear()

        def body() -> None:
            try:
                if os.path.exists(os.path.join(params.get("workspace", ""), "held")):  # as by another Blender's engine
                    raise BlockingIOError
                answer = {"result": work(params)}
            except BlockingIOError:
                answer = {"error": {"code": -32001, "message": HELD}}
            except Cancelled:
                answer = {"error": {"code": -32800, "message": "Cancelled."}}
            except ValueError as error:
                sentence, field = [*error.args, "source"][:2]
                answer = {"error": {"code": -32000, "message": sentence, "data": {"field": field}}}
            except Exception as error:
                answer = {"error": {"code": -32603, "message": f"{type(error).__name__}: {error}"}}
            self.job = None
            send({"id": number, **answer})

        self.thread = threading.Thread(target=body, daemon=True)
        self.thread.start()

    def answer(self, request: dict) -> bool:
        number, method, params = request["id"], request["method"], request.get("params", {})
        heard_in = (
            "requests.jsonl" if os.path.basename(os.getcwd()) == "run" else os.devnull
        )  # where the add-on starts it
        with open(heard_in, "a", encoding="utf-8") as heard:
            heard.write(json.dumps({"method": method, **params}) + "\n")
        jobs = {
            "capture/open": self.open, "capture/images": self.images, "edit/try": self.try_edit, "edit/run": self.run,
            "capture/register": self.register, "edit/resume": self.resume, "output/mesh": self.mesh,
            "output/splats": self.splats, "output/frames": self.frames, "output/report": self.report,
            "model/download": self.download,
            "edit/delete": self.delete,
        }  # fmt: skip
        if method in jobs:
            self.start_job(number, jobs[method], params)
        elif method == "edit/label":
            self.label(number, params)
        elif method == "initialize":
            said = json.loads(json.dumps(INITIALIZED))
            self.online = params.get("online", False)
            for name in params.get("own", ()):
                here = os.path.isdir(name)
                reason = "" if here else f"There is no editor model in {name}."
                said["editors"].append({
                    "name": name, "label": Path(name).name, "size": 256, "available": here, "reason": reason,
                    "vocabulary": [], "knobs": knobs(5.0, 2.0) if here else [],
                })  # fmt: skip
            for entry in (*said["editors"], *said["models"]):
                if entry["name"] in self.downloaded:
                    entry["offer"]["downloaded"] = True
                    if "available" in entry:
                        entry |= {"available": True, "reason": ""}
            if "gpu" in MODES:
                said["devices"] = [CARD, *said["devices"]]
            if "slow" in MODES:
                said["devices"] = [said["devices"][0] | {"slow": {"paper": "Paper takes about 3 days on this CPU."}}]
            if "late" in MODES:
                said |= {"settled": False, "computing": "PyTorch is being loaded."}
            if "old" in MODES:
                said["protocol"] = 0
            send({"id": number, "result": said})
        elif method == "devices/read":
            time.sleep(10 * TICK)
            devices = [CARD, *INITIALIZED["devices"]]
            send({"id": number, "result": {"devices": devices, "computing": "Computing on A card.", "settled": True}})
        elif method == "workspace/read":
            capture = self.captures.get(params["workspace"], self.capture)
            result = {"capture": capture, "scene": self.scene, "edits": list(self.edits.values())}
            result |= {"damaged": self.damaged, "tries": self.tries}
            send({"id": number, "result": result})
        elif method in ("job/pause", "job/continue", "job/render", "job/surfels", "job/change", "job/remake"):
            self.wish(number, method, params)
        elif method == "edit/key":
            send({"id": number, "result": {"view": self.capture["views"][5]["name"]}})
        elif method == "edit/delete_try":
            left = [tried for tried in self.tries if tried["id"] != params["id"]]
            deleted, self.tries = len(left) < len(self.tries), left
            send({"id": number, "result": {"deleted": deleted}})
        elif method == "runtime/release":
            print("let go of the editor", file=sys.stderr, flush=True)
            send({"id": number, "result": {"released": ["editor"]}})
        elif method == "view/render":
            if params.get("edit") == "gone":
                send({"id": number, "error": {"code": -32000, "message": "There is no edit gone.", "data": {}}})
            else:
                threading.Thread(target=self.look, args=(number, params), daemon=True).start()
        elif method == "job/cancel" and params["job"] != self.job:
            self.unseen.add(params["job"])
            send({"id": number, "result": {"cancelling": True}})
        elif method == "job/cancel":
            self.cancelled.set()
            send({"id": number, "result": {"cancelling": params.get("job") == self.job}})
        elif method == "shutdown":
            self.cancelled.set()
            send({"id": number, "result": {}})
            return False
        else:
            send({"id": number, "error": {"code": -32601, "message": f"Unknown method {method}."}})
        return True


def knobs(text: float, image: float) -> list[dict]:
    """An editor's knobs, as the engine describes them."""
    numbers = {"minimum": 0.0, "maximum": 100.0, "choices": [], "advanced": False}
    return [
        {"name": "text_guidance", "label": "Text", "description": "", "kind": "float", "default": text, **numbers},
        {"name": "image_guidance", "label": "Image", "description": "", "kind": "float", "default": image, **numbers},
        {"name": "keep_background", "label": "Keep Background", "description": "What is not meant stays",
         "kind": "choice", "default": "auto", "choices": ["auto", "on", "off"], "advanced": False},
        {"name": "diffusion_steps", "label": "Steps", "description": "", "kind": "int", "default": 20, "minimum": 1,
         "maximum": 1000, "advanced": True},
        {"name": "tethered", "label": "Tethered", "description": "", "kind": "bool", "default": False,
         "advanced": True},
    ]  # fmt: skip


CARD = {"name": "cuda:0", "label": "A card", "free_bytes": 2**34, "total_bytes": 2**34, "preset": "paper",
        "editor": "small"}  # fmt: skip

INITIALIZED = {
    "protocol": 2,
    "engine": "0.0-fake",
    "devices": [{"name": "cpu", "label": "Processor", "free_bytes": 8 * 2**30, "total_bytes": 16 * 2**30,
                 "editor": "small"}],
    "editors": [
        {"name": "small", "label": "Small offline editor", "size": 128, "available": True, "reason": "",
         "vocabulary": ["make it night", "make it sunset"], "wordings": ["turn the {noun} to night"],
         "knobs": knobs(3.0, 1.5)},
        {"name": "hub/big", "label": "InstructPix2Pix", "size": 512, "available": False,
         "reason": "Its weights are not on this machine.", "vocabulary": [],
         "knobs": knobs(7.5, 1.5),
         "offer": {"licence": "Some Licence", "licence_url": "https://example.org/licence", "commercial": False,
                   "gated": True, "bytes": 2_100_000_000, "page": "https://example.org/big", "folder": "/models/big",
                   "downloaded": False}},
    ],
    "models": [
        {"name": "hub/measure", "label": "Measure", "use": "Reports measure by it", "offer": {
            "licence": "MIT", "licence_url": "https://example.org/mit", "commercial": True, "gated": False,
            "bytes": 1_700_000_000, "page": "https://example.org/measure", "folder": "/models/measure",
            "downloaded": False}},
    ],
    "presets": [
        {"name": "preview", "label": "Preview", "description": "A few minutes on a processor.", "default": True,
         "long_side": 240, "min_views": 8, "train_seconds": 200.0, "edit_seconds": 270.0, "view_seconds": 4.0,
         "try_seconds": 4.0, "render_seconds": 1.0, "bytes": 82_000_000},
        {"name": "paper", "label": "Paper", "description": "An hour on a large GPU.", "default": False,
         "long_side": 512, "min_views": 20},
    ],
}  # fmt: skip


def main() -> None:
    if "deaf" in MODES:
        import signal

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("not listening", file=sys.stderr, flush=True)
        while True:
            time.sleep(60)
    if "flood" in MODES:
        OUT.write(b"x" * 3_000_000)
        OUT.flush()
    threading.Thread(target=chatter, daemon=True).start()
    engine = Engine()
    for line in sys.stdin.buffer:
        if not engine.answer(json.loads(line)):
            break
    engine.cancelled.set()
    if engine.thread is not None:
        engine.thread.join(5)


if __name__ == "__main__":
    main()
