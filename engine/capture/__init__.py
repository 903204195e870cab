# SPDX-License-Identifier: GPL-3.0-or-later
"""A capture on disk, in any of its formats -> pinhole views with poses in the capture frame (docs/frames.md)."""

from engine.capture.images import write_images
from engine.capture.lens import Lens
from engine.capture.opening import open_capture
from engine.capture.store import load_capture, save_capture
from engine.capture.types import Capture, CaptureError, Intrinsics, LeftOut, SourceView, View

__all__ = [
    "Capture",
    "CaptureError",
    "Intrinsics",
    "LeftOut",
    "Lens",
    "SourceView",
    "View",
    "load_capture",
    "open_capture",
    "save_capture",
    "write_images",
]
