# SPDX-License-Identifier: GPL-3.0-or-later
"""What an edit leaves the engine as: meshes and frames."""
