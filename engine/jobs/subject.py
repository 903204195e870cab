# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a mesh an edit is about: its region or, without one, where its instruction matters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import trimesh

from engine.capture import Capture, View
from engine.edit.agreement import agreed_relevance
from engine.edit.keep import may_change, relevance_of
from engine.edit.region import region_of
from engine.edit.settings import Told, settings_for
from engine.editors.catalogue import known_options
from engine.errors import BadInput
from engine.jobs.named_editor import opened_editor
from engine.jobs.parents import check_parent, original_pictures
from engine.jobs.scene import kept_scene
from engine.output.subject import part_of, shown_values
from engine.pictures import load_picture
from engine.presets import SECONDS_A_RELEVANCE
from engine.progress import Job, Plan, Stage
from engine.records import EditRecord
from engine.workspace import Workspace

MOST_VIEWS = 24  # whose relevance is asked for
THRESHOLD = 0.5  # of relevance, where the edit has none of its own


@dataclass(frozen=True)
class Subject:
    """What an edit is about, to be cut out of a mesh."""

    workspace: Workspace
    capture: Capture
    record: EditRecord
    views: list[View]  # whose relevance is asked for; none where there is a region

    @classmethod
    def of(cls, workspace: Workspace, capture: Capture, edit: str | None) -> Subject:
        """Raises BadInput where the edit cannot say what it is about."""
        if edit is None:
            raise BadInput(
                "The unedited scene has no subject: choose an edit, or the whole scene.",
                field="part",
            )
        record = workspace.edit_record(edit)
        if record.last_region is not None:
            return cls(workspace, capture, record, [])
        known = {view.name: view for view in capture.views}
        views = [known[name] for name in record.chosen if name in known]
        picked = np.linspace(0, len(views) - 1, min(len(views), MOST_VIEWS)).round().astype(int)
        views = [views[index] for index in dict.fromkeys(picked.tolist())]
        if not views:
            raise BadInput(
                "The views of this edit are no longer in its capture; open the capture again.", field="views"
            )
        check_parent(workspace, record.parent, views, record.id)
        return cls(workspace, capture, record, views)

    @property
    def stages(self) -> list[Stage]:
        """What it takes."""
        return [Stage("understand", "Finding the subject", len(self.views), SECONDS_A_RELEVANCE)] if self.views else []

    def cut_out(self, mesh: trimesh.Trimesh, device: str, plan: Plan, job: Job) -> trimesh.Trimesh:
        """The part of a mesh that the edit is about. Raises BadInput."""
        region = region_of(self.record.last_region)
        if region is not None:
            values = job.wait_for(lambda: region.may_change(np.asarray(mesh.vertices)))
        else:
            values = self._relevance(mesh, device, plan, job)
        return part_of(mesh, values)

    def _relevance(self, mesh: trimesh.Trimesh, device: str, plan: Plan, job: Job) -> np.ndarray:
        record = self.record
        settings = settings_for(record.settings, record.editor)
        told: Told = settings.told(record.instruction)
        for change in record.changes:
            if change.view is None:
                told = Told(change.instruction, known_options(record.editor, change.options), change.keep, change.step)
        stage = plan.begin("understand")
        editor = opened_editor(record.editor, device, job)
        prepared = editor.prepare(told.instruction, told.options)
        begun = original_pictures(self.workspace, self.views, record.parent)
        maps = []
        for index, view in enumerate(self.views):
            job.check()
            picture = load_picture(begun.get(view.name, self.workspace.images / view.image)).to(device).float() / 255
            try:
                maps.append(relevance_of(prepared.view(picture)))
            except BadInput as problem:
                raise BadInput(
                    f"What “{told.instruction}” is about is not known ({problem.message.split(';')[0].rstrip('.')}): "
                    "give the edit a region, or make a mesh of the whole scene.",
                    field="part",
                ) from None
            plan.advance(index + 1)
            job.report(plan, stage)
        before = kept_scene(self.workspace, record.parent, device, job)
        threshold = settings.agreed_relevance or told.keep or THRESHOLD
        agreed = agreed_relevance(maps, before, self.views, job.check)
        return shown_values(mesh, [may_change(said, threshold) for said in agreed], self.views, job.check)
