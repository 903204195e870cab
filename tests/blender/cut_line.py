# SPDX-License-Identifier: GPL-3.0-or-later
"""A slow line to an engine, that can be cut: ``python cut_line.py PROGRAM``. A piece is held up for `DELAY` seconds;
once the file `CUT` is there, the line ends without a word, and the engine is left to itself."""

import os
import subprocess
import sys
import threading
import time

DELAY = float(os.environ.get("DELAY", "0.03"))
engine = subprocess.Popen(
    [sys.executable, *sys.argv[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    start_new_session=True,
)  # fmt: skip


def carry(source: int, target: int, last: bool = False) -> None:
    while data := os.read(source, 65536):
        time.sleep(DELAY)
        try:
            os.write(target, data)
        except OSError:
            break
    os.close(target)
    if last:
        os._exit(engine.wait())


for ends in ((0, engine.stdin.fileno()), (engine.stderr.fileno(), 2), (engine.stdout.fileno(), 1, True)):
    threading.Thread(target=carry, args=ends, daemon=True).start()
while not os.path.exists(os.environ["CUT"]):
    time.sleep(0.02)
print("client_loop: send disconnect: Broken pipe", file=sys.stderr, flush=True)
os._exit(255)
