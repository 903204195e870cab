# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits whose right answer is known: Blender scenes before and after a change, and every method measured against it."""
