# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests run as the engine does: threads wait without spinning, or two busy processes starve each other."""

import os

from engine.process import set_up_process

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes: a thread each is what the cores have room for
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")
set_up_process()
