# SPDX-License-Identifier: GPL-3.0-or-later
"""What appears in Blender: cameras, pictures, mesh, strips. Knows nothing of the engine or of panels."""
