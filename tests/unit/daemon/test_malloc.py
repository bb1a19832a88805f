# SPDX-License-Identifier: Apache-2.0
"""What is freed goes back to the machine, and what stays is looked through once.

In a process of its own each, as settings are for good.
"""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xdpdirector.daemon import malloc
malloc.give_back()
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4
def work(_):
    held = [bytes(100_000) for _ in range(50)]
    return len(bytes(20 << 20)) + len(held)
with ThreadPoolExecutor(4) as threads:
    list(threads.map(work, range(4)))
    before = resident()
    for _ in range(5):
        list(threads.map(work, range(20)))
    print(resident() - before)
"""


def test_memory_that_threads_used_for_a_moment_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)

    assert int(done.stdout) < 5_000, "kilobytes"


SETTLED = """
import gc
from xdpdirector.daemon import malloc
class Node:
    pass
kept = [{"number": number, "list": [number]} for number in range(100_000)]
malloc.settle()
left = Node()
left.itself = left
del left
print(len(gc.get_objects()) < 10_000, gc.collect() > 0)
"""


def test_what_is_there_once_the_daemon_has_begun_is_not_looked_through_again() -> None:
    done = subprocess.run([sys.executable, "-c", SETTLED], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["True", "True"]
