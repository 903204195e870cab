# SPDX-License-Identifier: GPL-3.0-or-later
"""How near the mesh that an artist takes home is to the true surface."""
