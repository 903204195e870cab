# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m engine`."""

import warnings

from engine.process import set_up_process

set_up_process()

# Libraries' own deprecations are nobody's news here.
warnings.filterwarnings("ignore", category=FutureWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"nerfstudio|torch|diffusers|transformers")

if __name__ == "__main__":
    from engine.cli import main

    main()
