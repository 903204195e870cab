# SPDX-License-Identifier: GPL-3.0-or-later
"""Instruct NeRF's engine: trains a NeRF of a capture and edits it from one sentence. Knows nothing of Blender."""

from .unused import answer_unused_modules

__version__ = "0.1.0"

answer_unused_modules()
