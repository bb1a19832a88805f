# SPDX-License-Identifier: Apache-2.0
"""The `tcp` check, and the connection that the other checks start from.

Plain sockets instead of streams: `with` closes them on the spot, cancelled or not, and nothing waits for
the peer. Turns the system's error numbers into sentences; must not know what is said over the connection.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from xdpdirector.checks import CheckFailed, CheckImpossible, place
from xdpdirector.checkspec import CheckSpec
from xdpdirector.durations import format_duration
from xdpdirector.model import Address

_FAILURES = {
    errno.ECONNREFUSED: "connection refused by {place}",
    errno.ECONNRESET: "{place} reset the connection",
    errno.EPIPE: "{place} closed the connection",
    errno.ETIMEDOUT: "no answer from {place}",
    errno.EHOSTUNREACH: "no route to host {address}: it does not answer ARP or neighbour discovery",
    errno.EHOSTDOWN: "no route to host {address}: it does not answer ARP or neighbour discovery",
    errno.ENETUNREACH: "no route to the network of {address}",
    errno.EACCES: "a firewall on this director forbids connections to {place}",
    errno.EPERM: "a firewall on this director forbids connections to {place}",
}
_OUR_OWN = {
    errno.EMFILE: "this director has no file descriptor left (raise LimitNOFILE)",
    errno.ENFILE: "this machine has no file descriptor left (raise fs.file-max)",
    errno.ENOBUFS: "this machine has no buffer memory left",
    errno.ENOMEM: "this machine has no memory left",
    errno.EADDRNOTAVAIL: "this machine has no free port or no address for a connection to {place}",
    errno.EAFNOSUPPORT: "this machine does not speak the protocol of {address}",
}


async def probe(spec: CheckSpec, address: Address, port: int) -> None:
    """Fine when the connection opens in time."""
    try:
        async with asyncio.timeout(spec.timeout), connection(address, port):
            pass
    except TimeoutError:
        raise CheckFailed(
            f"no answer from {place(address, port)} within {format_duration(spec.timeout)}"
        ) from None


@asynccontextmanager
async def connection(address: Address, port: int) -> AsyncIterator[socket.socket]:
    """A connected non-blocking socket, closed at the end. System errors inside become sentences as well."""
    try:
        with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET) as opened:
            opened.setblocking(False)
            await asyncio.get_running_loop().sock_connect(opened, (str(address), port))
            yield opened
    except OSError as error:
        if error.errno is None:  # asyncio's TimeoutError
            raise
        raise sentence(error, address, port) from error


def sentence(error: OSError, address: Address, port: int) -> Exception:
    """The verdict that a system error means: CheckFailed, or CheckImpossible when the lack is ours."""
    number = error.errno or 0
    if number in _OUR_OWN:
        return CheckImpossible(_OUR_OWN[number].format(place=place(address, port), address=address))
    reason = _FAILURES.get(number, f"{{place}}: {error.strerror}")
    return CheckFailed(reason.format(place=place(address, port), address=address))
