# SPDX-License-Identifier: GPL-3.0-or-later
"""Structs that several threads read for the first time at once."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Fresh structs with many fields, whose types take msgspec a while to look into; four threads meet there.
MEET = """
import sys, threading, types
from engine import typed
read = {read}
sys.setswitchinterval(1e-6)
inner = "class Inner(msgspec.Struct):\\n" + "".join(f"    b{{i}}: int | None = None\\n" for i in range(20))
outer = "class Outer(msgspec.Struct):\\n" + "".join(f"    a{{i}}: list[Inner] | None = None\\n" for i in range(20))
data = {{f"a{{i}}": [{{"b19": i}}] for i in range(20)}}
line = typed.msgspec.json.encode(data)
wrong = []
for number in range(100):
    module = sys.modules[f"m{{number}}"] = types.ModuleType(f"m{{number}}")
    exec("from __future__ import annotations\\nimport msgspec\\n" + inner + outer, module.__dict__)
    barrier = threading.Barrier(4)

    def meet():
        barrier.wait()
        found = read(module.Outer)
        if found.a19[0].b19 != 19:
            wrong.append(number)

    threads = [threading.Thread(target=meet) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
assert not wrong
"""


@pytest.mark.parametrize("read", ["lambda kind: typed.decode(line, kind)", "lambda kind: typed.convert(data, kind)"])
def test_threads_that_read_a_struct_first_at_once_all_read_it(read: str) -> None:
    # In a process of its own: where it goes wrong, the process is gone.
    code = MEET.format(read=read)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr or done.returncode
