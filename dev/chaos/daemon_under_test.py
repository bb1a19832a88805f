# SPDX-License-Identifier: Apache-2.0
"""`python -m dev.chaos.daemon_under_test DIRECTORY ARGUMENT...`: a command line that can be disturbed from inside.

This machine's clock is not ours to change, and no task fails because somebody asks for it. So the process hears
orders from DIRECTORY/orders, a pipe:

    clock SECONDS     its wall clock is so many from the true time
    task NUMBER       one of its background tasks fails, as by an error in its code; which one, or an empty line
                      when none waits for anything, is written to DIRECTORY/failed
    descriptors MORE  it may open so many more files; fewer than none: as many as before

DIRECTORY/clock has the seconds that hold from the start on.
"""

from __future__ import annotations

import asyncio
import datetime as datetimes
import resource
import sys
import threading
import time
from contextlib import suppress
from io import FileIO
from itertools import count
from pathlib import Path
from typing import Any, TextIO

import xdpdirector

TIGHTEN_EVERY = 0.2  # seconds
_PACKAGE = Path(xdpdirector.__file__).parent
_true_time = time.time
_offset = 0.0


class _Datetime(datetimes.datetime):
    """Without the time of day as the machine has it."""

    @classmethod
    def now(cls, tz: datetimes.tzinfo | None = None) -> Any:
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        return cls.fromtimestamp(time.time(), datetimes.UTC).replace(tzinfo=None)


def _disturbed_time() -> float:
    return _true_time() + _offset


class _Policy(asyncio.DefaultEventLoopPolicy):
    """Remembers the loop."""

    latest: asyncio.AbstractEventLoop | None = None

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        loop = super().new_event_loop()
        _Policy.latest = loop
        return loop


class TaskDisturbedError(RuntimeError):
    """What a disturbed task fails with."""


def fail(loop: asyncio.AbstractEventLoop, number: int) -> str:
    """Let one of the program's own tasks that wait for something fail; its name, or nothing when none waits. All
    checks of a kind count as one: there are many more of them than of the others."""
    waiting = {
        task.get_name(): waiter
        for task in asyncio.all_tasks(loop)
        if _is_background(task)
        and isinstance(waiter := getattr(task, "_fut_waiter", None), asyncio.Future)
        and not isinstance(waiter, asyncio.Task)
        and not waiter.done()
    }
    if not waiting:
        return ""
    kinds = {name.partition(" check of ")[0]: name for name in sorted(waiting)}
    name = kinds[sorted(kinds)[number % len(kinds)]]
    waiting[name].set_exception(TaskDisturbedError("chaos disturbs this task"))
    return name


def _is_background(task: asyncio.Task[Any]) -> bool:
    """Whether it is the program's own, supervised or not; not the daemon as a whole, nor what answers a request."""
    from xdpdirector import api
    from xdpdirector.daemon import lifecycle

    code = getattr(task.get_coro(), "cr_code", None)
    file = code.co_filename if code else ""
    of_requests = file.startswith(tuple(api.__path__))
    return file.startswith(str(_PACKAGE)) and file != lifecycle.__file__ and not of_requests


class _DescriptorLimit:
    """What the process may open: RLIMIT_NOFILE, of which the kernel gives the lowest number that is free."""

    def __init__(self) -> None:
        self._spare: int | None = None
        threading.Thread(target=self._tighten_again, daemon=True).start()

    def set(self, spare: int) -> None:
        """So many more than are open now; negative: as many as before."""
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self._spare = spare if spare >= 0 else None
        self._tighten()

    def _tighten(self) -> None:
        if self._spare is None:
            return
        now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken = {int(entry.name) for entry in Path("/proc/self/fd").iterdir()}
        lowest = next(number for number in count() if number not in taken)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(now, lowest + self._spare), most))

    def _tighten_again(self) -> None:
        """A daemon that has just started closes what it read then: that is no room for others."""
        while True:
            time.sleep(TIGHTEN_EVERY)
            with suppress(OSError):  # the last descriptor is in use: this look needs one
                self._tighten()


def _obey(orders: FileIO, failed: TextIO) -> None:
    global _offset
    limit = _DescriptorLimit()
    with orders, failed:
        while order := orders.readline().split():
            if order[0] == b"clock":
                _offset = float(order[1])
            elif order[0] == b"descriptors":
                limit.set(int(order[1]))
            elif (loop := _Policy.latest) and loop.is_running():
                loop.call_soon_threadsafe(_fail_one, loop, int(order[1]), failed)


def _fail_one(loop: asyncio.AbstractEventLoop, number: int, failed: TextIO) -> None:
    print(fail(loop, number), file=failed, flush=True)


def main() -> None:
    global _offset
    directory = Path(sys.argv.pop(1))
    _offset = float((directory / "clock").read_text())
    time.time = _disturbed_time
    datetimes.datetime = _Datetime  # type: ignore[misc]
    asyncio.set_event_loop_policy(_Policy())
    # Read and write: the pipe does not end with a writer.
    orders = (directory / "orders").open("r+b", buffering=0)
    threading.Thread(target=_obey, args=[orders, (directory / "failed").open("a")], daemon=True).start()
    # Only now: the modules take their `datetime` as they are imported.
    from xdpdirector.cli import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
