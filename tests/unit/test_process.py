# SPDX-License-Identifier: GPL-3.0-or-later
"""Freed memory is kept for the next tensor, in the thread that runs the jobs, too."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# 60 times 32 arrays of 2 MiB; the first time they are new pages whatever is set.
PROGRAM = """
import resource, sys, threading
import numpy as np
from engine.process import keep_freed_memory

def use_memory():
    for _ in range(60):
        [np.ones(2**19, np.float32) for _ in range(32)]

if sys.argv[1] == "kept":
    keep_freed_memory()
thread = threading.Thread(target=use_memory)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_is_used_again_without_new_pages():
    faults = {
        how: int(subprocess.run([sys.executable, "-c", PROGRAM, how], cwd=ROOT, capture_output=True, check=True).stdout)
        for how in ("kept", "given back")
    }
    assert faults["kept"] < faults["given back"] / 4, faults
