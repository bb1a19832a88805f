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

    assert int(done.stdout) < 20_000, "kilobytes; glibc by itself keeps 50,000 and more"


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


QUIET = """
import asyncio, gc
from xdpdirector.daemon import malloc
malloc.DUE = 1
gc.set_threshold(700, 10, 1000)
collected, looks = [], 0
gc.callbacks.append(lambda phase, about: collected.append(looks) if phase == "start" else None)
async def sleep(seconds):
    global looks
    looks += 1
    if looks == 3 * malloc.LOOKS:
        gc.callbacks.clear()
        print(len(collected), collected[-1])
        raise SystemExit
def allocated():
    return 1_000 if looks in (5, malloc.LOOKS + 5) else 2_000
gc.collect(1)
gc.disable()
collected.clear()
asyncio.run(malloc.collect_at_quiet_moments(sleep, allocated))
"""


def test_all_is_looked_through_when_few_objects_are_there() -> None:
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, check=False)

    assert (done.stdout.split(), done.stderr) == (["1", "55"], "")  # as few as at the fifth look


def test_what_is_there_once_the_daemon_has_begun_is_not_looked_through_again() -> None:
    done = subprocess.run([sys.executable, "-c", SETTLED], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["True", "True"]
