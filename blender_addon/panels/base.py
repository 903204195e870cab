# SPDX-License-Identifier: GPL-3.0-or-later
"""What all panels share."""

CATEGORY = "Instruct NeRF"


class Base:
    """Where a panel of the tab lies."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = CATEGORY
