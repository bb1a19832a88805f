# SPDX-License-Identifier: Apache-2.0
"""Small servers on loopback for the probes to ask, good ones and odd ones."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from typing import Any

from xdpdirector.health.checks import CheckImpossible, Dial, Target, registry
from xdpdirector.model import Address
from xdpdirector.model.checks import CheckSpec

HERE, HERE6 = ip_address("127.0.0.1"), ip_address("::1")
PATIENT, SHORT, HASTY = 20.0, 0.5, 0.05
TRIES = 20

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def at(port: int, address: Address = HERE) -> Target:
    return Target(address, port, address)


async def probed(spec: CheckSpec, target: Target, dial: Dial) -> None:
    """`registry.probe`; again, a few times, where this machine was too busy to say anything about the server."""
    for tries_left in reversed(range(TRIES)):
        try:
            await registry.probe(spec, target, dial)
        except CheckImpossible as impossible:
            if not tries_left or "too busy" not in str(impossible):
                raise
        else:
            return


@asynccontextmanager
async def serving(
    answer: Answer, address: Address = HERE, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """A TCP server that handles each connection with `answer`; its port. At the end every handler has ended."""
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        handlers.add(task)
        try:
            await answer(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(handle, str(address), 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


def script(*steps: tuple[bytes, bytes], greeting: bytes = b"", tls: ssl.SSLContext | None = None) -> Answer:
    """Greets; then takes lines that begin as a step does, and says the step's answer. `tls` starts after the step
    that asks for it: STARTTLS, STLS or AUTH."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        for begin, reply in steps:
            line = await reader.readline()
            assert line.startswith(begin), (line, begin)
            writer.write(reply)
            await writer.drain()
            if tls and any(word in begin for word in (b"STARTTLS", b"STLS", b"AUTH")):
                await writer.start_tls(tls)
        await reader.read()

    return answer


def silent(*parts: bytes) -> Answer:
    """Says the parts and then nothing more, while the connection stays."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.writelines(parts)
        await reader.read()

    return answer


def closing(*parts: bytes) -> Answer:
    """Says the parts and closes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.writelines(parts)
        writer.write_eof()
        await reader.read()

    return answer


async def babbling(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never ends, and never says a line."""
    while True:
        writer.write(b"x" * 16384)
        await writer.drain()


class Datagrams(asyncio.DatagramProtocol):
    """Answers each datagram with what `answer` makes of it."""

    def __init__(self, answer: Callable[[bytes], list[bytes]]) -> None:
        self._answer = answer

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for each in self._answer(data):
            self._transport.sendto(each, addr)


@asynccontextmanager
async def answering(answer: Callable[[bytes], list[bytes]], address: Address = HERE) -> AsyncIterator[int]:
    """A UDP server; its port."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Datagrams(answer), (str(address), 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


@contextmanager
def deaf_port(kind: int = socket.SOCK_STREAM) -> Iterator[int]:
    """A port at which nobody listens: the kernel refuses what comes."""
    with socket.socket(type=kind) as taken:
        taken.bind((str(HERE), 0))
        port: int = taken.getsockname()[1]
        if kind == socket.SOCK_DGRAM:
            taken.close()
        yield port


@contextmanager
def full_port() -> Iterator[int]:
    """A listening port whose queue is full: further connections get no answer."""
    with socket.socket() as full:
        full.bind((str(HERE), 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        yield address[1]
        for one in waiting:
            one.close()
