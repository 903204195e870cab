# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast training and rendering are, beside stock nerfstudio and beside what the machine could do."""

import engine  # noqa: F401, first: it leaves out what nerfstudio imports and we never call
