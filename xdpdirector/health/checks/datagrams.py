# SPDX-License-Identifier: Apache-2.0
"""Datagrams of a check: a connected socket, so that the kernel hands it ICMP errors as well. Knows no protocol."""

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
    """A socket that sends to the target; all that happens in the block has `spec.timeout` together. UDP, unless
    `kind` and `protocol` say otherwise. `late`: what to say after that, unless it is that nobody answered."""
    with await errno_messages.dialled(dial, target, kind, protocol) as opened:
        try:
            async with budget(spec.timeout, late or (lambda: silence(spec, target))):
                opened.connect((str(target.address), target.port))
                yield opened
        except OSError as error:
            raise errno_messages.sentence(error, target) from error


def silence(spec: CheckSpec, target: Target) -> CheckFailed:
    """Nobody answered in time."""
    return CheckFailed(f"no answer from {target} within {format_duration(spec.timeout)}", absence="silent")


async def answers(opened: socket.socket, target: Target) -> AsyncIterator[bytes]:
    """The datagrams that come; CheckFailed when they are many and none was the right one."""
    for _ in range(MOST):
        yield await asyncio.get_running_loop().sock_recv(opened, LARGEST)
    raise CheckFailed(f"{target} sent {MOST} datagrams, none of which is an answer")
