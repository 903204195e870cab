# SPDX-License-Identifier: GPL-3.0-or-later
"""Every job by its name: what the server and the command line both call."""
