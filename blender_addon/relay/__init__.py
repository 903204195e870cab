# SPDX-License-Identifier: GPL-3.0-or-later
"""The line to an engine on another machine that sees other files: a program of its own, so that Blender waits for none
of them, between the add-on and the command that leads to the engine. It sends photos, fetches what was made of them,
and writes paths as each side knows them. Free of bpy; the standard library alone.

The other side is not trusted: it is given what an artist opens and nothing else, and what comes from it lands in the
project's own folders, under names and endings that the add-on shows, or not at all.
"""
