# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that has a batch made by a cluster, to be killed: ``ADDRESS FILE``. It prints every change of a row."""

import sys
from pathlib import Path

from engine.cluster.batch import run_batch
from engine.cluster.pool import Pool
from engine.progress import Job

from .cluster_setup import begin

if __name__ == "__main__":
    begin()
    with Pool(sys.argv[1], setup="tests.engine.cluster_setup.begin") as pool:
        run_batch(Path(sys.argv[2]), pool, Job(), lambda rows: print([row.state for row in rows], flush=True))
