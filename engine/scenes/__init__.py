# SPDX-License-Identifier: GPL-3.0-or-later
"""Representations of a scene: each learns pictures and renders cameras."""
