# SPDX-License-Identifier: Apache-2.0
"""A QUIC server whose connection IDs name it, and a client that moves, both of aioquic.

    python -m tests.support.quic_peers serve NAME ADDRESS PORT CERTIFICATE KEY PREFIX BOUND
    python -m tests.support.quic_peers ask ADDRESS PORT

The server answers each request on a connection with its name and the number of requests so far. Its connection
IDs begin with PREFIX, in hex. The file BOUND appears when the socket stands.

The client reads a line for each request, and prints a line for each answer, or `lost` when none comes: `ask` sends
it as it is, `rebind` from another port, as behind a NAT, and `move SOURCE` from another address and port, under
another of the server's connection IDs.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from pathlib import Path
from typing import Any, cast

import aioquic.asyncio.server
from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import QuicEvent, StreamDataReceived

PROTOCOL = ["count"]
PATIENCE = 5.0  # seconds; QUIC sends again after fractions of one
RANDOM = 6  # octets behind the prefix


class NamedConnection(QuicConnection):
    """aioquic makes connection IDs in two places, and asks nobody: they are replaced before they are sent."""

    prefix = b""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._host_cids[0].cid = self.host_cid = self._issued()
        self._local_initial_source_connection_id = self.host_cid

    def _replenish_connection_ids(self) -> None:
        known = len(self._host_cids)
        super()._replenish_connection_ids()
        for new in self._host_cids[known:]:
            new.cid = self._issued()

    def _issued(self) -> bytes:
        return self.prefix + os.urandom(RANDOM)


class Server(QuicConnectionProtocol):
    name = ""
    _requests = 0

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived) and event.end_stream:
            self._requests += 1
            answer = f"{self.name} {self._requests}".encode()
            self._quic.send_stream_data(event.stream_id, answer, end_stream=True)
            self.transmit()


async def answer(
    name: str, address: str, port: int, certified: list[str], prefix: bytes, bound: Path
) -> None:
    NamedConnection.prefix, Server.name = prefix, name
    vars(aioquic.asyncio.server)["QuicConnection"] = NamedConnection
    configuration = QuicConfiguration(
        is_client=False, alpn_protocols=PROTOCOL, connection_id_length=len(prefix) + RANDOM
    )
    configuration.load_cert_chain(Path(certified[0]), Path(certified[1]))
    await serve(address, port, configuration=configuration, create_protocol=Server)
    bound.touch()
    await asyncio.Event().wait()


class Client:
    """One connection, whatever address it comes from."""

    def __init__(self, address: str, port: int) -> None:
        configuration = QuicConfiguration(
            is_client=True, alpn_protocols=PROTOCOL, verify_mode=ssl.CERT_NONE, server_name="www.example.org"
        )
        self._is_ipv6 = ":" in address
        self._peer = (address, port, 0, 0) if self._is_ipv6 else (address, port)  # as datagrams come from it
        self._protocol = QuicConnectionProtocol(QuicConnection(configuration=configuration))
        self._transport: asyncio.BaseTransport | None = None

    async def connect(self) -> None:
        await self.bind(None)
        self._protocol.connect(self._peer)
        await self._protocol.wait_connected()

    async def bind(self, source: str | None) -> None:
        """Go on from another port, and from this address."""
        former = self._transport
        family = "::" if self._is_ipv6 else "0.0.0.0"
        self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: self._protocol, local_addr=(source or family, 0)
        )
        if former:
            former.close()

    def change_connection_id(self) -> None:
        self._protocol.change_connection_id()

    async def ask(self) -> str:
        reader, writer = await self._protocol.create_stream()
        writer.write(b"?")
        writer.write_eof()
        return (await reader.read()).decode()


async def ask(address: str, port: int) -> None:
    client = Client(address, port)
    await asyncio.wait_for(client.connect(), PATIENCE)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        verb, *source = line.split()
        if verb != "ask":
            await client.bind(source[0] if source else None)
        if verb == "move":
            client.change_connection_id()
        try:
            print(await asyncio.wait_for(client.ask(), PATIENCE), flush=True)
        except TimeoutError:
            print("lost", flush=True)


def main(verb: str, *arguments: str) -> None:
    if verb == "ask":
        asyncio.run(ask(arguments[0], int(arguments[1])))
        return
    name, address, port, certificate, key, prefix, bound = arguments
    files = [certificate, key]
    asyncio.run(answer(name, address, int(port), files, bytes.fromhex(prefix), Path(bound)))


if __name__ == "__main__":
    main(*cast("tuple[str, ...]", tuple(sys.argv[1:])))
