# SPDX-License-Identifier: GPL-3.0-or-later
"""The tour through a real Blender window that the guide's pictures are taken on."""
