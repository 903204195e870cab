# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m engine`."""

import os
import warnings

# Threads that wait for each other by spinning starve whatever else runs, Blender first; with one busy program beside
# the engine an edit was measured 10 to 25 times slower. Read when torch loads its OpenMP.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

# Libraries' own deprecations are nobody's news here.
warnings.filterwarnings("ignore", category=FutureWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"nerfstudio|torch|diffusers|transformers")

if __name__ == "__main__":
    from engine.cli import main

    main()
