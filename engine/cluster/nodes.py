# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node of a cluster says of itself, and why it cannot be used."""

from __future__ import annotations

import functools
import hashlib
import platform
import shutil
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import engine
from engine.errors import BadInput
from engine.memory import free_and_total

LEAST_MEMORY = 2 * 2**30  # bytes: PyTorch and a small editor take as much
LEAST_DISK = 2**30  # bytes, for the files of the pieces at work


@dataclass(frozen=True)
class Node:
    """A node, as it is now; sizes in bytes."""

    name: str
    version: str
    code: str  # of the engine, all of it: the same code makes the same pictures
    python: str
    torch: str
    cards: int
    free_memory: int
    free_disk: int


@functools.cache
def code_of_engine() -> str:
    """A digest of the engine's code."""
    digest = hashlib.sha256()
    folder = Path(engine.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def this_node(cards: int = 0) -> Node:
    """What this machine says of itself; ``cards``: how many the cluster counts here."""
    import torch

    free, _ = free_and_total("cpu")
    return Node(
        socket.gethostname(), engine.__version__, code_of_engine(), platform.python_version(), torch.__version__,
        cards, free, shutil.disk_usage(tempfile.gettempdir()).free,
    )  # fmt: skip


def check_nodes(nodes: Sequence[Node], mine: Node, needs_card: bool) -> None:
    """Raises BadInput, one sentence that names the node, where one cannot do what this one can."""
    if not nodes:
        raise BadInput("The cluster has no node that answers; see “ray status” there.", field="cluster")
    for node in nodes:
        if wrong := _wrong_with(node, mine, needs_card):
            raise BadInput(f"The node {node.name} {wrong}.", field="cluster")


def _wrong_with(node: Node, mine: Node, needs_card: bool) -> str:
    if node.version != mine.version or node.code != mine.code:
        return (
            f"has another engine ({node.version}, code {node.code}; here {mine.version}, {mine.code}): install the "
            "same there, or take it out of the cluster"
        )
    if _minor(node.python) != _minor(mine.python) or _minor(node.torch) != _minor(mine.torch):
        return (
            f"has Python {node.python} with PyTorch {node.torch}, and here are {mine.python} and {mine.torch}: make "
            "its environment as this one, or take it out of the cluster"
        )
    if needs_card and not node.cards:
        return "has no graphics card: take it out of the cluster, or compute on CPUs with --device cpu"
    if node.free_memory < LEAST_MEMORY:
        return f"has {node.free_memory / 2**30:.1f} GiB of memory free, and a worker needs {LEAST_MEMORY / 2**30:.0f}"
    if node.free_disk < LEAST_DISK:
        return f"has a full disk ({node.free_disk / 2**20:.0f} MiB free): make room in {tempfile.gettempdir()} there"
    return ""


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
