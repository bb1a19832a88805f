# SPDX-License-Identifier: Apache-2.0
"""Datagrams of a check, over a connected socket, so that it receives ICMP errors. Knows no protocol."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from xdpdirector.health.checks import CheckFailed, Dial, Target, errno_messages
from xdpdirector.health.checks.budget import Late, budget
from xdpdirector.model.checks import CheckSpec
from xdpdirector.model.durations import format_duration

LARGEST, MOST = 65536, 64


@asynccontextmanager
async def exchange(
    spec: CheckSpec,
    target: Target,
    dial: Dial,
    *,
    kind: int = socket.SOCK_DGRAM,
    protocol: int = 0,
    late: Late | None = None,
) -> AsyncIterator[socket.socket]:
    """A socket that sends to the target; the block is limited to `spec.timeout`. UDP, unless `kind` and
    `protocol` say otherwise. `late`: returns the error after the time-out, by default that there was no
    answer."""
    with await errno_messages.dialled(dial, target, kind, protocol) as opened:
        try:
            async with budget(spec.timeout, late or (lambda: silence(spec, target))):
                opened.connect((str(target.address), target.port))
                yield opened
        except OSError as error:
            raise errno_messages.sentence(error, target) from error


def silence(spec: CheckSpec, target: Target) -> CheckFailed:
    """The error for a time-out without an answer."""
    return CheckFailed(f"no answer from {target} within {format_duration(spec.timeout)}", absence="silent")


async def answers(opened: socket.socket, target: Target) -> AsyncIterator[bytes]:
    """The datagrams received; CheckFailed if there are many and none was the right one."""
    for _ in range(MOST):
        yield await asyncio.get_running_loop().sock_recv(opened, LARGEST)
    raise CheckFailed(f"{target} sent {MOST} datagrams, none of which is an answer")
