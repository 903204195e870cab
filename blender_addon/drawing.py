# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panels share: wrapped sentences, errors, and the bar of what runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import bpy

from . import curves, previews, session, wire, words
from .install import Installer
from .words import duration, size, t, wrapped

STAGES = {
    wire.DOWNLOADING: "Downloading",
    "images": "Preparing pictures", "depths": "Comparing the photos", "planes": "Finding flat surfaces",
    "train": "Training the NeRF",
    "before": "Rendering views", "understand": "Finding the subject", "first": "Editing every view", "edit": "Editing",
    "after": "Rendering views", "try": "Trying", "mesh": "Making the mesh",
    "texture": "Baking the texture", "frames": "Rendering frames",
}  # fmt: skip


KINDS = {
    wire.VIEW_EDITED: "edited",
    wire.VIEW_TRIED: "edited",
    wire.VIEW_BEFORE: "NeRF before",
    wire.VIEW_AFTER: "NeRF after",
    "now": "NeRF now",
}


def sentences(layout: Any, context: bpy.types.Context, text: str, icon: str = "NONE") -> None:
    """A text in as many lines as the sidebar's width needs: labels do not wrap by themselves."""
    scale = context.preferences.system.ui_scale
    width = context.region.width if context.region else 300
    room = (width / scale - (78 if icon != "NONE" else 58)) / 6.2  # in a box, too
    lines = layout.column(align=True)
    lines.scale_y = 0.8
    for index, line in enumerate(wrapped(t(text), max(18, int(room))) or [""]):
        if icon == "NONE":
            lines.label(text=line)
        else:
            lines.label(text=line, icon=icon if index == 0 else "BLANK1")


def cost(layout: Any, context: bpy.types.Context, sentence: str) -> None:
    """What a button takes, below it and fainter; nothing where that is not known."""
    if sentence:
        faint = layout.column()
        faint.active = False
        sentences(faint, context, sentence)


def share_of_labels(context: bpy.types.Context, labels: Iterable[str]) -> float:
    """The share of the sidebar's width that labels before fields need: Blender's own 40 % cut off longer ones."""
    scale = context.preferences.system.ui_scale
    width = context.region.width if context.region else 300
    longest = max((words.width(t(label)) for label in labels), default=0.0)
    needed = (6.4 * longest + 12) / max(1.0, width / scale - 42)
    return min(0.6, max(0.4, needed))


def field(layout: Any, owner: Any, name: str, share: float) -> Any:
    """A property with its label before it, as wide as ``share`` says; the row that the field stands in, for more."""
    split = layout.split(factor=share)
    label = split.row()
    label.alignment = "RIGHT"
    label.label(text=t(owner.bl_rna.properties[name].name))
    row = split.row(align=True)
    row.prop(owner, name, text="")
    return row


def notice(layout: Any, context: bpy.types.Context, panel: str) -> None:
    """The panel's error and news, if it has any."""
    text, news = session.get().notices.get(panel), session.get().news.get(panel)
    if text:
        box = layout.box()
        box.alert = True
        sentences(box, context, text, "ERROR")
    if news:
        sentences(layout.box(), context, news, "INFO")


def installing(layout: Any, context: bpy.types.Context, installer: Installer) -> None:
    """What the installer does: a bar where it downloads, its last word, Cancel."""
    there, total = installer.progress
    row = layout.row(align=True)
    if total:
        row.progress(
            factor=there / total,
            text=t("{done} of {total} GB").format(done=f"{there / 1e9:.2f}", total=f"{total / 1e9:.2f}"),
        )
    else:
        row.label(text=t(installer.label), icon="IMPORT")
    row.operator("instruct_nerf.cancel_install", text="", icon="CANCEL")
    if installer.lines:
        sentences(layout, context, installer.lines[-1][:160])


def running(layout: Any, context: bpy.types.Context, panel: str) -> bool:
    """What runs on behalf of a panel: a bar, the step, the time remaining, Cancel; whether something does."""
    state = session.get()
    task, job = state.task, state.job
    for chore in state.chores.values():
        if chore.title and chore.panel == panel:
            layout.progress(factor=min(1.0, max(0.0, chore.fraction)), text=t(chore.title))
    if task is not None and task.panel == panel:
        row = layout.row(align=True)
        row.progress(factor=task.fraction, text=f"{t(task.name)}  {100 * task.fraction:.0f} %")
        row.operator("instruct_nerf.cancel", text="", icon="CANCEL")
        return True
    if job is None or job.panel != panel or not job.active:
        return False
    column = layout.column(align=True)
    row = column.row(align=True)
    left = job.seconds_left
    text = f"{100 * job.fraction:.0f} %"
    if left is not None:
        text = f"{text}   {t('{time} left').format(time=duration(left))}"
    row.progress(factor=job.fraction, text=text)
    if job.method in wire.PAUSABLE:
        name, icon = ("go_on", "PLAY") if job.paused else ("pause", "PAUSE")
        row.operator(f"instruct_nerf.{name}", text="", icon=icon)
    if job.method in wire.DETACHABLE:
        row.operator("instruct_nerf.detach", text="", icon="UNLINKED")
    row.operator("instruct_nerf.cancel", text="", icon="CANCEL")
    if job.status == "cancelling":
        column.label(text=t("Cancelling; what was made is kept"), icon="SORTTIME")
    elif job.paused:
        paused = t("Paused at {step} of {of}").format(step=job.step, of=job.of) if job.of > 1 else t("Paused")
        column.label(text=paused, icon="PAUSE")
    else:
        label = t(job.label or STAGES.get(job.stage, "") or job.title)
        if job.stage == wire.DOWNLOADING:
            column.label(text=label, icon="IMPORT")
            column.label(text=t("{done} of {total}").format(done=size(job.step), total=size(job.of)), icon="BLANK1")
            return True
        of = t("{done} of {total}").format(done=job.step, total=job.of)
        column.label(text=f"{label}, {of}" if job.of > 1 else label, icon="SORTTIME")
    if job.image and job.kind != wire.VIEW_IMAGE and (icon := previews.icon(job.image, "job")):
        column.template_icon(icon_value=icon, scale=9.0)
        column.label(text=f"{job.view} — {t(KINDS.get(job.kind, job.kind))}")
    plot(column, job)
    return True


def plot(layout: Any, job: session.Job) -> None:
    """What a running job says of itself, as small curves, and the latest values."""
    drawn = job.curves
    if drawn.stage != job.stage or not drawn.worth_drawing:
        return
    if icon := previews.plot(drawn):
        layout.template_icon(icon_value=icon, scale=8.0)
    column = layout.column(align=True)  # beside each other they would be cut off
    for name, (icon_name, text, pattern) in LEGEND.items():
        if name in drawn.latest:
            column.label(text=f"{t(text)} {pattern.format(drawn.latest[name])}", icon=icon_name)


LEGEND = {
    curves.LOSS: ("COLORSET_02_VEC", "Loss", "{:.3g}"),
    curves.HELD_OUT: ("COLORSET_04_VEC", "Held Out", "{:.1f} dB"),
    curves.CHANGE: ("COLORSET_04_VEC", "Change", "{:.1%}"),
}
