# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's jobs on many processes, cards and machines, by Ray: an extra (``pip install
instruct-nerf-engine[cluster]``) that nothing else of the engine imports but its command line, when it is asked for.

Only the process that began a job writes in its project. The others are given what they need and give back what they
made; whichever of them dies, Ray has its piece done again elsewhere, and the result is the same.
"""
