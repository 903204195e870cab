# SPDX-License-Identifier: GPL-3.0-or-later
"""Readers, one a format: each finds its files by name and says what it finds as a `Reading`. `opening.FORMATS` lists
them; what they share of untrusted files is in `source_files`."""
