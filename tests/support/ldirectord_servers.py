# SPDX-License-Identifier: Apache-2.0
"""A process on a backend that answers what ldirectord asks: SMTP, DNS over UDP, and HTTPS with a page.

`python ldirectord_servers.py CERTIFICATE NAME`.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import Any

import dns.message
import dns.rrset

SMTP, DNS, HTTPS = 25, 53, 443
RECORD = ("www.example.", 60, "IN", "A", "192.0.2.80")


async def smtp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 backend ESMTP\r\n")
    while line := await reader.readline():
        writer.write(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 well\r\n")
    writer.close()


class Questions(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = dns.message.make_response(dns.message.from_wire(data))
        answer.answer.append(dns.rrset.from_text(*RECORD))
        self.transport.sendto(answer.to_wire(), addr)


def page(name: str) -> bytes:
    text = f"this is {name}\n".encode()
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)


async def serve(certificate: str, name: str) -> None:
    async def https(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(page(name))
        await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    await asyncio.get_running_loop().create_datagram_endpoint(Questions, local_addr=("0.0.0.0", DNS))
    await asyncio.start_server(smtp, "0.0.0.0", SMTP)
    await asyncio.start_server(https, "0.0.0.0", HTTPS, ssl=context)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
