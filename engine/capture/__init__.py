# SPDX-License-Identifier: GPL-3.0-or-later
"""A capture on disk, in any of its formats -> pinhole views with poses in the capture frame (docs/frames.md)."""

from engine.capture.opening import open_capture
from engine.capture.types import Capture, CaptureError, Intrinsics, LeftOut, SourceView, View

__all__ = ["Capture", "CaptureError", "Intrinsics", "LeftOut", "SourceView", "View", "open_capture"]
