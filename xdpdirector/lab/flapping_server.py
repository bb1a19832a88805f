# SPDX-License-Identifier: Apache-2.0
"""`python -m xdpdirector.lab.flapping_server BOUND PORT PERIOD`: web servers that are well for PERIOD seconds, and
then ill.

One for each address of the host, all at their own time. The file BOUND appears when they serve.
"""

from __future__ import annotations

import asyncio
import sys
import time
from ipaddress import ip_address
from pathlib import Path


def is_well(address: str, period: float, now: float) -> bool:
    """Addresses one after the other change a little later."""
    phase = int(ip_address(address)) % 97 / 97 * 2 * period
    return (now + phase) % (2 * period) < period


async def serve(bound: Path, port: int, period: float) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            well = is_well(writer.get_extra_info("sockname")[0], period, time.monotonic())
            status = b"200 OK" if well else b"503 Service Unavailable"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # who asked has left
        finally:
            writer.close()

    async with await asyncio.start_server(answer, "0.0.0.0", port, backlog=1024) as server:
        bound.touch()
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
