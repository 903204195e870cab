# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a node of a cluster is one sentence that names it: before anything is begun, and in a piece."""

import dataclasses
import errno
import socket
import time

import numpy as np
import pytest

from engine.cluster import nodes, worker
from engine.errors import BadInput
from engine.pieces import Here, Place

MINE = nodes.Node("driver", "1.0", "abc", "3.12.1", "2.8.0", 1, 2**34, 2**34)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"version": "0.9"}, "The node far has another engine (0.9"),
        ({"code": "xyz"}, "another engine (1.0, code xyz; here 1.0, abc)"),
        ({"python": "3.11.7"}, "has Python 3.11.7"),
        ({"torch": "2.6.0"}, "with PyTorch 2.6.0"),
        ({"cards": 0}, "has no graphics card"),
        ({"free_memory": 2**29}, "has 0.5 GiB of memory free"),
        ({"free_disk": 2**20}, "has a full disk (1 MiB free)"),
    ],
)
def test_a_node_that_does_not_fit_is_named(other, sentence):
    far = dataclasses.replace(MINE, name="far")
    nodes.check_nodes([far], MINE, needs_card=True)
    with pytest.raises(BadInput) as error:
        nodes.check_nodes([MINE, dataclasses.replace(far, **other)], MINE, needs_card=True)
    assert sentence in error.value.message and "The node far" in error.value.message


def told(piece, files=(), *sent, code=None):
    return worker.do_piece(code or nodes.code_of_engine(), piece, 2, 3, "cpu", files, None, *sent)


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(worker.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path


def test_a_piece_is_done_with_the_files_that_it_was_sent(folder):
    content = np.frombuffer(b"seven", np.uint8)
    sent = worker.SentFile("d" * 64, ".txt", 5)

    def piece(shared, item, place):
        return shared * item, place.files[0].read_bytes(), place.files[0].suffix, place.objects

    assert told(piece, [sent], content, "more") == (6, b"seven", ".txt", ("more",))


def test_what_was_loaded_from_a_file_is_known_again_by_the_next_piece(folder):
    """A scene stays loaded as long as its checkpoint is the same: by its path, size and time."""
    content, sent = np.frombuffer(b"seven", np.uint8), worker.SentFile("d" * 64, ".txt", 5)
    loaded = []

    def piece(_shared, _item, place):
        path = place.files[0]
        return place.keep("test", (str(path), path.stat().st_mtime_ns), lambda: loaded.append(path) or len(loaded))

    assert [told(piece, [sent], content) for _ in range(3) if not time.sleep(0.02)] == [1, 1, 1]
    assert len(loaded) == 1
    worker.RUNTIME.release()


def test_another_engine_is_said():
    failed = told(lambda *_: None, code="other")
    assert "another engine" in failed.message and failed.node == socket.gethostname()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "too little memory"),
        (BadInput("The photo is none.", file="/x.png"), "The photo is none"),
        (ZeroDivisionError("by zero"), "a defect of the engine (ZeroDivisionError: by zero)"),
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/x"), "full"),
    ],
)
def test_what_fails_in_a_piece_is_a_sentence_and_the_node(error, sentence):
    def piece(_shared, _item, _place):
        raise error

    failed = told(piece)
    assert isinstance(failed, worker.Failed) and sentence in failed.message and failed.node == socket.gethostname()


def test_a_disk_that_is_full_when_files_arrive_is_said(monkeypatch, folder):
    def full(path, data):
        from engine.errors import cannot_write

        raise cannot_write(path, OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(worker, "write_bytes", full)
    failed = told(lambda *_: None, [worker.SentFile("d" * 64, ".txt", 5)], np.frombuffer(b"seven", np.uint8))
    assert "disk" in failed.message and "full" in failed.message and failed.node == socket.gethostname()


def test_files_that_were_used_longest_ago_go_first(monkeypatch, folder):
    monkeypatch.setattr(worker, "LARGEST_CACHE", 12)
    for number in range(4):
        sent = worker.SentFile(str(number) * 64, ".txt", 5)
        assert told(lambda _s, _i, place: place.files[0].exists(), [sent], np.frombuffer(b"seven", np.uint8)) is True
    assert len(list(worker.cache_folder().iterdir())) == 2


def test_what_a_piece_tells_goes_to_its_place_on_the_board_and_not_too_often(monkeypatch):
    told, clock = [], iter([10.0, 10.0, 10.5, 12.0, 12.0])

    class Board:
        class tell:
            remote = staticmethod(lambda key, what: told.append((key, what)))

    monkeypatch.setattr(worker.time, "monotonic", lambda: next(clock))
    tell = worker.Word(Board, 3).teller()
    for done in (1, 2, 3):
        tell(done)
    assert told == [(3, 1), (3, 3)]


def test_pieces_done_here_come_with_their_numbers_and_are_heard_under_them():
    heard = []

    def piece(shared, item, place):
        place.tell(item)
        return shared * item, place.device

    here = Here().as_made(
        piece, 2, [5, 6], lambda item: Place(f"cpu:{item}", lambda *_: None), lambda *said: heard.append(said)
    )
    assert list(here) == [(0, (10, "cpu:5")), (1, (12, "cpu:6"))] and heard == [(0, 5), (1, 6)]
