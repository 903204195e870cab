# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests run as the engine does: threads wait without spinning, or two busy processes starve each other."""

from engine.process import set_up_process

set_up_process()
