# SPDX-License-Identifier: GPL-3.0-or-later
"""nerfacto: build, step, render rays, save, load. The only owner of the NeRF frame."""
