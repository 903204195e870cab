# SPDX-License-Identifier: GPL-3.0-or-later
"""Instruct NeRF's engine: trains a NeRF of a capture and edits it from one sentence. Knows nothing of Blender."""

import os

from .unused import answer_unused_modules

__version__ = "0.1.0"

# Set before any of these libraries is imported, which read it once: nothing here loads from a network. What downloads,
# with consent, is a process of its own (hub_worker.py).
os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

answer_unused_modules()
