# SPDX-License-Identifier: Apache-2.0
"""The `exec` check: a program of the operator's, fine when it ends with status 0.

It runs without a shell and without the daemon's capabilities, in a session of its own; at the end, in time or not,
all of its process group is killed. It may say 64 KiB at most, of which the first line is kept. Whom to ask stands
in its environment: XDPDIRECTOR_ADDRESS, XDPDIRECTOR_PORT. Whether a program may run at all is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process

from xdpdirector import privileges
from xdpdirector.checks import CheckFailed, CheckImpossible, Dial, Target
from xdpdirector.checkspec import CheckSpec, ExecCheck
from xdpdirector.durations import format_duration

LIMIT = 65536
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> None:
    """Fine when the program says so."""
    assert isinstance(spec, ExecCheck)
    name = spec.command[0]
    try:
        async with asyncio.timeout(spec.timeout):
            status, said = await _run(spec.command, target)
    except TimeoutError:
        raise CheckFailed(
            f"{name} did not end within {format_duration(spec.timeout)}, and was killed"
        ) from None
    except OSError as error:
        raise CheckImpossible(f"{name} cannot be run: {error.strerror}") from error
    if status == 0:
        return
    ended = f"ended with status {status}" if status > 0 else f"was ended by {signal.Signals(-status).name}"
    raise CheckFailed(f"{name} {ended}" + (f": {said}" if said else ""))


async def _run(command: tuple[str, ...], target: Target) -> tuple[int, str]:
    environment = {"PATH": PATH, "LANG": "C.UTF-8"}
    environment |= {"XDPDIRECTOR_ADDRESS": str(target.address), "XDPDIRECTOR_PORT": str(target.port)}
    process = await asyncio.create_subprocess_exec(
        *privileges.without_any(),
        *command,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        env=environment,
        start_new_session=True,
    )
    try:
        said = await _first_line(process, command[0])
        return await process.wait(), said
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _first_line(process: Process, name: str) -> str:
    assert process.stdout
    said = b""
    while data := await process.stdout.read(LIMIT):
        said += data
        if len(said) > LIMIT:
            raise CheckFailed(f"{name} said more than 64 KiB, and was killed")
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[0][:160] if lines else ""
