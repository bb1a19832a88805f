# SPDX-License-Identifier: Apache-2.0
"""`python -m xdpdirector.lab.pair.downloads TARGET... --count N`: long HTTP downloads, a JSON line when one stalls
or breaks.

Each reads at a steady pace from a small receive buffer, so that its server waits for acknowledgements all the time.
A stall is a time of more than a second in which nothing came. A finished download is followed by another one.
SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import time

STALL = 1.0  # seconds
BUFFER = 16 << 10  # octets; the window is closed for 0.3 s, until half of it is read
PAUSE = 0.1  # seconds between two reads
READ = 8 << 10  # octets


class BrokenError(Exception):
    """The server, or what stands in the way, ended a download."""


async def _download(target: tuple[str, int], number: int) -> None:
    """One file."""
    host, port = target
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        sock.setblocking(False)
        await loop.sock_connect(sock, (host, port))
        await loop.sock_sendall(sock, b"GET /big HTTP/1.1\r\nhost: lab\r\nconnection: close\r\n\r\n")
        _tell("opened", number)
        received = total = 0
        while not total or received < total:
            asked = time.monotonic()
            data = await loop.sock_recv(sock, READ)
            waited = time.monotonic() - asked
            if waited > STALL:
                _tell("stalled", number, seconds=round(waited, 3), since=asked)
            if not data:
                raise BrokenError(f"the connection was closed after {received} of {total} octets")
            if not total:
                total = _length(data)
            received += len(data)
            await asyncio.sleep(PAUSE)
        _tell("done", number)


def _length(head: bytes) -> int:
    """Of the whole answer, head and body."""
    text, separator, _ = head.partition(b"\r\n\r\n")
    lines = text.decode("latin-1").lower().split("\r\n")
    length = next((line.split(":")[1] for line in lines if line.startswith("content-length:")), None)
    if not separator or not lines[0].startswith("http/1.1 200") or length is None:
        raise BrokenError(f"the server answers {lines[0]!r}")
    return len(text) + len(separator) + int(length)


async def _keep(target: tuple[str, int], number: int) -> None:
    while True:
        try:
            await _download(target, number)
        except (OSError, BrokenError) as error:
            _tell("broken", number, why=str(error))
            await asyncio.sleep(1.0)


def _tell(what: str, number: int, **more: object) -> None:
    print(json.dumps({"what": what, "number": number, "at": time.monotonic(), **more}), flush=True)


async def _run(targets: list[tuple[str, int]], count: int) -> None:
    tasks = []
    for number in range(count):
        tasks.append(asyncio.create_task(_keep(targets[number % len(targets)], number)))
        await asyncio.sleep(0.002)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("targets", nargs="+", metavar="TARGET")
    parser.add_argument("--count", type=int, default=300)
    options = parser.parse_args()
    targets = [text.rpartition(":") for text in options.targets]
    asyncio.run(_run([(host.strip("[]"), int(port)) for host, _, port in targets], options.count))


if __name__ == "__main__":
    main()
