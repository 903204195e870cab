# SPDX-License-Identifier: GPL-3.0-or-later
"""The tour's parts in their order, with what its film says of each picture. Free of bpy."""

from __future__ import annotations

# Each part is a function of the module before the point.
PARTS = (
    "begin.prepare", "begin.example", "begin.open_capture", "begin.choose", "begin.look_through",
    "trying.instruct", "trying.knobs", "trying.try_it", "trying.sheet", "trying.gallery",
    "editing.edit", "editing.compare", "results.mesh", "editing.branch",
    "results.splats", "engine.rendered", "results.film",
    "desk.workspace", "desk.languages", "results.details",
)  # fmt: skip

# Pictures in the order in which they are taken, and what the film says of them.
CAPTIONS = {
    "sidebar": "One tab in the sidebar, from top to bottom in the order of the work",
    "example": "No photos at hand? Open an Example photographs a small scene",
    "open": "Your own: a folder of photos, in any of eleven formats, or a video",
    "capture": "Every photo becomes a camera, and the capture stands upright",
    "choose": "Choose the cameras whose photos are to be edited",
    "look-through": "Look through one of them",
    "try": "Say what should change, and try it on one photo",
    "sheet": "A contact sheet over any two of the editor's knobs: click the best picture",
    "gallery": "Everything that was tried is kept, with its settings",
    "key-view": "Use as Key View: the whole scene follows this picture",
    "training": "Start: the engine learns the scene …",
    "editing": "… and edits it; the edited views arrive as they are made",
    "changed": "Pause, say something else, look at a view, go on",
    "before": "Before: the scene as it was captured",
    "after": "After: the edited scene",
    "wipe": "Both, with a line between them that follows the mouse",
    "mesh": "The mesh comes in, exactly where the cameras see it",
    "region": "An edit of the edit, inside a box alone",
    "branch": "Edits stand on edits: a tree, with all its settings",
    "splats": "Show in 3D draws the edited scene in the viewport",
    "rendered": "Instruct NeRF is a render engine, too: the scene in a Rendered viewport",
    "composited": "F12 puts Blender's own objects before and behind what was captured",
    "workspace": "A workspace with all at hand, where one wants it",
    "german": "The tab speaks German, Japanese and Simplified Chinese, too",
    "sequencer": "And the film lies in the sequencer",
}
