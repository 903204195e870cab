# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree of edits: choosing, muting, deleting; another on one, or like one; more steps."""

import bpy
from bpy.props import EnumProperty, IntProperty, StringProperty

from .. import lineage, messages, project, tree
from ..words import t
from .base import WIDTH, AsksAgain, OfCapture, attempt, has_capture, idle, say


def has_chosen(cls: type[bpy.types.Operator], context: bpy.types.Context) -> bool:
    """Poll: an edit is chosen in the list."""
    if not has_capture(cls, context):
        return False
    if project.chosen_edit(context.scene) is None:
        cls.poll_message_set("Choose an edit in the list first")
        return False
    return True


def meant(operator: bpy.types.Operator, context: bpy.types.Context) -> messages.Edit | None:
    """The edit that an operator names, else the chosen."""
    edits = project.edits_of(context.scene)
    return lineage.find(edits, operator.edit) if operator.edit else project.chosen_edit(context.scene)


class INSTRUCT_NERF_OT_choose_edit(OfCapture, bpy.types.Operator):
    """See this edit, and take results from it"""

    bl_idname = "instruct_nerf.choose_edit"
    bl_label = "Show Edit"
    bl_options = {"REGISTER", "UNDO"}

    edit: StringProperty(name="Edit", description="Its id; “/” for the captured scene as it was", options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, tree.PANEL, lambda: tree.choose(context.scene, self.edit))


class INSTRUCT_NERF_OT_mute_edit(OfCapture, bpy.types.Operator):
    """Mutes an edit"""

    bl_description = (
        "Leave this edit, and what stands on it, out of what is shown, meshed and rendered: what it stands on is "
        "shown instead. Again: no longer"
    )
    bl_idname = "instruct_nerf.mute_edit"
    bl_label = "Mute Edit"
    bl_options = {"REGISTER"}

    edit: StringProperty(name="Edit", description="Its id; empty: the chosen one", options={"SKIP_SAVE"})
    muted: EnumProperty(
        name="Muted",
        items=(("TOGGLE", "Toggle", "The other way round"), ("ON", "Muted", ""), ("OFF", "Not Muted", "")),
        options={"SKIP_SAVE"},
    )

    def execute(self, context: bpy.types.Context) -> set[str]:
        def mute() -> None:
            edit = tree.wanted_edit(context.scene, self.edit)
            tree.mute(context.scene, edit.id, not edit.muted if self.muted == "TOGGLE" else self.muted == "ON")

        return attempt(self, tree.PANEL, mute)


class INSTRUCT_NERF_OT_rename_edit(OfCapture, bpy.types.Operator):
    """Call an edit something else; an empty name calls it by its instruction again"""

    bl_idname = "instruct_nerf.rename_edit"
    bl_label = "Rename Edit"
    bl_options = {"REGISTER"}

    edit: StringProperty(name="Edit", description="Its id; empty: the chosen one", options={"SKIP_SAVE"})
    name: StringProperty(name="Name", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_chosen(cls, context)

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        edit = meant(self, context)
        self.name = edit.title if edit is not None else ""
        return context.window_manager.invoke_props_dialog(self)

    def draw(self, _context: bpy.types.Context) -> None:
        self.layout.prop(self, "name")

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, tree.PANEL, lambda: tree.rename(context.scene, self.edit or _chosen(context), self.name))


def _chosen(context: bpy.types.Context) -> str:
    return tree.wanted_edit(context.scene).id


class INSTRUCT_NERF_OT_delete_edit(bpy.types.Operator):
    """Deletes an edit"""

    bl_description = (
        "Move this edit, and all that stand on it, to the system's trash or, where there is none, to the project's "
        "folder “deleted”. Meshes and frames that are in Blender stay"
    )
    bl_idname = "instruct_nerf.delete_edit"
    bl_label = "Delete Edit"
    bl_options = {"REGISTER"}

    edit: StringProperty(name="Edit", description="Its id; empty: the chosen one", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_capture(cls, context) and idle(cls)

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        if not self.edit and meant(self, context) is None:
            self.report({"ERROR"}, "Choose an edit in the list first")
            return {"CANCELLED"}
        return context.window_manager.invoke_props_dialog(self, width=WIDTH, confirm_text="Delete")

    def draw(self, context: bpy.types.Context) -> None:
        column = self.layout.column(align=True)
        if meant(self, context) is None:
            said = t("{edit}, which is damaged, goes to the trash.").format(edit=self.edit)
            column.label(text=said, icon="TRASH")
            return
        gone = tree.going(context.scene, self.edit)
        alone = t("“{edit}” goes to the trash.")
        others = t("“{edit}” goes to the trash, and {count} that stand on it:")
        say(column, (others if gone[1:] else alone).format(edit=gone[0].title, count=len(gone) - 1))
        for edit in gone[1:9]:
            column.label(text=edit.title, icon="BLANK1")
        if gone[9:]:
            column.label(text=t("and {count} more").format(count=len(gone) - 9), icon="BLANK1")

    def execute(self, context: bpy.types.Context) -> set[str]:
        damaged = self.edit if self.edit and meant(self, context) is None else ""
        return attempt(self, tree.PANEL, lambda: tree.delete(context.scene, self.edit, damaged))


class INSTRUCT_NERF_OT_stand_on(bpy.types.Operator):
    """Have the next edit change what this one shows, further: choose it, type an instruction, press Start"""

    bl_idname = "instruct_nerf.stand_on"
    bl_label = "Edit Further"
    bl_options = {"REGISTER", "UNDO"}

    edit: StringProperty(
        name="Edit", description="Its id; empty: the chosen one; “/”: the captured scene", options={"SKIP_SAVE"}
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_capture(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        chosen = project.chosen_edit(context.scene)
        edit = self.edit or (chosen.id if chosen is not None else lineage.ROOT)
        title = "the captured scene" if edit == lineage.ROOT else f"“{edit}”"
        return attempt(self, tree.PANEL, lambda: tree.stand_on(context.scene, edit), f"The next edit stands on {title}")


class INSTRUCT_NERF_OT_take_settings(bpy.types.Operator):
    """Set the panels as they were for this edit, but for the region: change what is to be another, and press Start"""

    bl_idname = "instruct_nerf.take_settings"
    bl_label = "Use Its Settings"
    bl_options = {"REGISTER", "UNDO"}

    edit: StringProperty(name="Edit", description="Its id; empty: the chosen one", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_chosen(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, tree.PANEL, lambda: tree.take_settings(context.scene, self.edit))


class _Longer(AsksAgain):
    """An operator with a dialog of its own, in which it also asks again where it takes days."""

    edit: StringProperty(name="Edit", description="Its id; empty: the chosen one", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return has_chosen(cls, context) and idle(cls)

    def too_slow(self, context: bpy.types.Context) -> str:
        edit = meant(self, context)
        return project.too_slow(context.scene, edit.id) if edit is not None else ""

    def asked(self, context: bpy.types.Context, names: tuple[str, ...]) -> None:
        """Draw the dialog: properties, and what takes so long."""
        self.layout.use_property_split = True
        for name in names:
            self.layout.prop(self, name)
        if self.too_slow(context):
            AsksAgain.draw(self, context)


class INSTRUCT_NERF_OT_more_steps(_Longer, bpy.types.Operator):
    """Go on with a finished edit until it has so many steps; refused where others stand on it as it is"""

    bl_idname = "instruct_nerf.more_steps"
    bl_label = "More Steps"
    bl_options = {"REGISTER"}

    steps: IntProperty(name="Steps in All", min=1, max=1_000_000, default=1000, options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        edit = project.chosen_edit(context.scene)
        if edit is not None and lineage.standing_on(project.edits_of(context.scene), edit.id):
            cls.poll_message_set("Others stand on it as it is: duplicate it, with more steps")
            return False
        return has_chosen(cls, context) and idle(cls)

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        edit = meant(self, context)
        self.even_on_cpu = False
        self.steps = edit.steps + max(1, edit.of // 2) if edit is not None else 1000
        return context.window_manager.invoke_props_dialog(self, width=WIDTH)

    def draw(self, context: bpy.types.Context) -> None:
        self.asked(context, ("steps",))

    def execute(self, context: bpy.types.Context) -> set[str]:
        return attempt(self, "edit", lambda: tree.more_steps(context.scene, self.edit, self.steps, self.even_on_cpu))


class INSTRUCT_NERF_OT_duplicate_edit(_Longer, bpy.types.Operator):
    """Duplicates an edit"""

    bl_description = (
        "Make another edit like this one: on the same, with its views, editor, knobs, region and key views, and "
        "another instruction, seed or number of steps"
    )
    bl_idname = "instruct_nerf.duplicate_edit"
    bl_label = "Duplicate Edit"
    bl_options = {"REGISTER"}

    instruction: StringProperty(name="Instruction", description="Empty: that of the edit", options={"SKIP_SAVE"})
    seed: IntProperty(name="Seed", min=0, options={"SKIP_SAVE"})
    steps: IntProperty(name="Steps", description="0: as many", min=0, max=1_000_000, options={"SKIP_SAVE"})

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        edit = meant(self, context)
        self.even_on_cpu = False
        if edit is not None:
            self.instruction, self.seed, self.steps = edit.instruction, max(0, edit.seed) + 1, edit.of
        return context.window_manager.invoke_props_dialog(self, width=WIDTH, confirm_text="Start")

    def draw(self, context: bpy.types.Context) -> None:
        self.asked(context, ("instruction", "seed", "steps"))

    def execute(self, context: bpy.types.Context) -> set[str]:
        edit = meant(self, context)
        said = self.instruction.strip() or (edit.instruction if edit is not None else "")
        return attempt(
            self, "edit",
            lambda: tree.duplicate(context.scene, self.edit, said, self.seed, self.steps, self.even_on_cpu),
        )  # fmt: skip


CLASSES = (
    INSTRUCT_NERF_OT_choose_edit,
    INSTRUCT_NERF_OT_mute_edit,
    INSTRUCT_NERF_OT_rename_edit,
    INSTRUCT_NERF_OT_delete_edit,
    INSTRUCT_NERF_OT_stand_on,
    INSTRUCT_NERF_OT_take_settings,
    INSTRUCT_NERF_OT_more_steps,
    INSTRUCT_NERF_OT_duplicate_edit,
)
