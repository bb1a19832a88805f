# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.support.lvs_clients ADDRESS PORT --downloads N --rate R`: clients of one process, for a machine
that is slow: long HTTP downloads that run all the time, and new connections, R a second, each with one request.

Standard output has a JSON line for each download that begins or breaks, for each new connection that fails, and
each second one with the sums of the new ones. A download that broke is not begun anew. SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import time
from collections import Counter

BUFFER = 16 << 10  # octets that wait in the kernel, so that the server always waits for the client
READ = 4 << 10  # octets
OPENINGS = 0.05  # seconds between two downloads that begin
WITHIN = 30.0  # seconds until a new connection must be answered
AT_ONCE = 200  # new connections that may wait


def tell(what: str, **more: object) -> None:
    print(json.dumps({"what": what, "at": time.monotonic(), **more}), flush=True)


def opened(size: int = 0) -> socket.socket:
    sock = socket.socket()
    if size:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    sock.setblocking(False)
    return sock


async def download(target: tuple[str, int], number: int, pause: float) -> None:
    """Reads a little, again and again. It ends when it breaks, and when the server has sent all."""
    loop = asyncio.get_running_loop()
    with opened(BUFFER) as sock:
        try:
            await loop.sock_connect(sock, target)
            await loop.sock_sendall(sock, b"GET /big HTTP/1.1\r\nhost: lab\r\nconnection: close\r\n\r\n")
            begun = False
            while data := await loop.sock_recv(sock, READ):
                if not begun:
                    tell("opened", number=number, port=sock.getsockname()[1])
                begun = True
                await asyncio.sleep(pause)
                del data
            tell("broken", number=number, why="the server closed it")
        except OSError as error:
            tell("broken", number=number, why=str(error))


async def ask(target: tuple[str, int], sums: Counter[str]) -> None:
    """One new connection, and what became of it."""
    loop, begun, step = asyncio.get_running_loop(), time.monotonic(), "connect"
    with opened() as sock:
        try:
            async with asyncio.timeout(WITHIN):
                await loop.sock_connect(sock, target)
                step = "answer"
                await loop.sock_sendall(sock, b"GET /who HTTP/1.0\r\nhost: lab\r\n\r\n")
                data = await loop.sock_recv(sock, READ)
            outcome = "ok" if data.startswith(b"HTTP/1.1 200") else "closed without an answer"
        except TimeoutError:
            outcome = f"no {step} within {WITHIN:g} s"
        except ConnectionResetError:
            outcome = f"reset, no {step}"
        except OSError as error:
            outcome = f"{error.strerror}, no {step}"
    sums[outcome] += 1
    if outcome != "ok":
        tell("failed", why=outcome, age=round(time.monotonic() - begun, 3))


async def new_ones(target: tuple[str, int], rate: float) -> None:
    """At an even pace, whatever the earlier ones do; those for which there is no room are counted as not begun."""
    sums: Counter[str] = Counter()
    running: set[asyncio.Task[None]] = set()
    began = said = time.monotonic()
    number = 0
    while True:
        number += 1
        now = time.monotonic()
        if len(running) < AT_ONCE:
            task = asyncio.create_task(ask(target, sums))
            running.add(task)
            task.add_done_callback(running.discard)
        else:
            sums["not begun"] += 1
        if now - said >= 1.0:
            tell("new", sums=dict(sums))
            said = now
        due = began + number / rate
        if due < now - 1.0:  # this machine cannot: go on from here
            began, number, due = now, 0, now
        await asyncio.sleep(max(0.0, due - now))


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--downloads", type=int, default=0)
    parser.add_argument("--pause", type=float, default=5.0)
    parser.add_argument("--rate", type=float, default=0.0)
    said = parser.parse_args()
    target = (said.address, said.port)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    tasks = []
    for number in range(said.downloads):
        tasks.append(asyncio.create_task(download(target, number, said.pause)))
        await asyncio.sleep(OPENINGS)
    if said.rate:
        tasks.append(asyncio.create_task(new_ones(target, said.rate)))
    await ended.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
