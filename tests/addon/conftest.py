# SPDX-License-Identifier: GPL-3.0-or-later
"""These tests import the add-on's bpy-free modules from the checkout."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
