# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that measure. They call the engine; nothing imports them."""
