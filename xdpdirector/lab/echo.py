# SPDX-License-Identifier: Apache-2.0
"""`python -m xdpdirector.lab.echo NAME BOUND PORT ADDRESS...`: answer UDP datagrams with NAME and themselves.

One socket for each address, so that a reply leaves from the address that was asked: a socket bound to no
address would answer for the VIP with the host's own. The file BOUND appears when all sockets stand.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path


class _Echo(asyncio.DatagramProtocol):
    def __init__(self, name: bytes) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str | int, ...]) -> None:
        self._transport.sendto(self._name + b" " + data, address)


async def serve(name: str, bound: Path, port: int, addresses: list[str]) -> None:
    loop = asyncio.get_running_loop()
    for address in addresses:
        await loop.create_datagram_endpoint(lambda: _Echo(name.encode()), local_addr=(address, port))
    bound.touch()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
