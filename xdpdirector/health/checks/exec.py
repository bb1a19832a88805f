# SPDX-License-Identifier: Apache-2.0
"""The `exec` check: runs an operator's program, which succeeds with exit status 0.

It runs without a shell, in a session of its own, with the least privileges (`xdpdirector.health.sandbox`).
The exit of the program itself decides; then, or at the time-out, all its descendants are killed and their
output is discarded. At most 64 KiB of output are accepted, and the first line is kept. The target is passed
in the environment: XDPDIRECTOR_ADDRESS, XDPDIRECTOR_PORT. Whether a program is permitted is decided
elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import stat
import sys
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path
from typing import Self

from xdpdirector.health import sandbox
from xdpdirector.health.checks import CheckFailed, CheckImpossible, Dial, Target
from xdpdirector.health.checks.budget import budget
from xdpdirector.model.checks import Checks, CheckSpec, ExecCheck
from xdpdirector.model.durations import format_duration

LIMIT = 65536
KILLED_WITHIN = 1.0  # seconds; a process that sleeps longer in the kernel is abandoned
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> None:
    """Succeeds if the program does."""
    assert isinstance(spec, ExecCheck)
    name = spec.command[0]

    def late() -> CheckFailed:
        return CheckFailed(f"{name} did not end within {format_duration(spec.timeout)}, and was killed")

    try:
        with _Output() as output:
            async with budget(spec.timeout, late):
                status = await _run(spec.command, target, output)
            said = output.first_line()
    except OSError as error:
        raise CheckImpossible(f"{name} cannot be run: {error.strerror or error}") from error
    if status == 0:
        return
    if status == sandbox.NOT_EXECUTABLE and said.startswith(f"{name} cannot be run: "):
        raise CheckImpossible(said)
    ended = f"ended with status {status}" if status > 0 else f"was ended by {signal.Signals(-status).name}"
    raise CheckFailed(f"{name} {ended}" + (f": {said}" if said else ""))


def notes(checks: Checks) -> list[str]:
    """Protections of programs that this kernel lacks, as sentences."""
    if not checks.allow_exec or sandbox.landlock():
        return []
    return [
        "programs of `exec` checks can read whatever the daemon can, its databases too, since this kernel has no "
        "Landlock: let `landlock` be in its list of security modules (lsm= on its command line)"
    ]


async def _run(command: tuple[str, ...], target: Target, output: _Output) -> int:
    """The exit status. CheckFailed for too much output, OSError if it cannot be started."""
    environment = {"PATH": PATH, "LANG": "C.UTF-8"}
    environment |= {"XDPDIRECTOR_ADDRESS": str(target.address), "XDPDIRECTOR_PORT": str(target.port)}
    program = Path(command[0]).stat()  # a missing program raises the usual error
    if not os.access(command[0], os.X_OK) or not stat.S_ISREG(program.st_mode):
        raise PermissionError(errno.EACCES, "it may not be executed")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", sandbox.__file__),
        *command,
        stdin=DEVNULL,
        stdout=output.theirs,
        stderr=output.theirs,
        env=environment,
        start_new_session=True,
    )
    ended: asyncio.Future[int] = asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait({ended, output.too_much}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            raise CheckFailed(f"{command[0]} wrote more than 64 KiB of output, and was killed")
        return ended.result()
    finally:
        ended.cancel()
        await _kill(process)


async def _kill(process: Process) -> None:
    """Kill the program, if it still runs, with all its descendants: SIGTERM makes the sandbox do that."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILLED_WITHIN):
                await process.wait()


class _Output:
    """A pipe of our own: asyncio would report the exit only when all processes that inherited its pipe have
    ended."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.too_much: asyncio.Future[int] = self._loop.create_future()
        self._said = bytearray()
        self._ours, self.theirs = os.pipe()
        os.set_blocking(self._ours, False)

    def __enter__(self) -> Self:
        self._loop.add_reader(self._ours, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._ours)
        os.close(self._ours)
        os.close(self.theirs)

    def first_line(self) -> str:
        """Of the output so far."""
        self._hear()
        lines = self._said.decode("utf-8", "replace").strip().splitlines()
        return lines[0][:160] if lines else ""

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while len(self._said) <= LIMIT:
                self._said += os.read(self._ours, LIMIT)
        if len(self._said) > LIMIT and not self.too_much.done():
            self.too_much.set_result(len(self._said))
            self._loop.remove_reader(self._ours)
