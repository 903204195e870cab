# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways to edit a scene by editing its training images."""
