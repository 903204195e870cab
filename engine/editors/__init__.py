# SPDX-License-Identifier: GPL-3.0-or-later
"""Editors: an instruction and pictures → edited pictures."""
