# SPDX-License-Identifier: Apache-2.0
"""`python -m dev.chaos.echo NAME BOUND PORT...`: TCP servers that say NAME in front of every line.

A client notices on every answer whether it still speaks to the same one. The line `download` asks for lines without
end. The file BOUND appears when all ports are bound.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

DOWNLOAD = b"download\n"
PADDING = b" " + b"." * 4000 + b"\n"
APART = 0.5  # seconds between two lines of a download
_BACKLOG = 4096


class Echo(asyncio.Protocol):
    def __init__(self, name: bytes) -> None:
        self._name, self._rest = name, b""
        self._next: asyncio.TimerHandle | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line + b"\n" == DOWNLOAD:
                self._send_more()
            else:
                self._transport.write(self._name + b" " + line + b"\n")

    def _send_more(self) -> None:
        if not self._paused:
            self._transport.write(self._name + PADDING)
        self._next = asyncio.get_running_loop().call_later(APART, self._send_more)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False

    def connection_lost(self, _error: Exception | None) -> None:
        if self._next:
            self._next.cancel()


async def serve(name: str, bound: Path, ports: list[int]) -> None:
    loop = asyncio.get_running_loop()
    for port in ports:
        await loop.create_server(lambda: Echo(name.encode()), None, port, backlog=_BACKLOG)
    bound.touch()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2]), [int(port) for port in sys.argv[3:]]))
