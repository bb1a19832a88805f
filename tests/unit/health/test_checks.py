# SPDX-License-Identifier: Apache-2.0
"""The probes against real servers on loopback, good ones and odd ones."""

import asyncio
import contextlib
import errno
import gc
import os
import re
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import h11
import pytest
from pydantic import TypeAdapter

from tests.support.check_servers import (
    HASTY,
    HERE,
    HERE6,
    PATIENT,
    SHORT,
    Answer,
    at,
    deaf_port,
    full_port,
    probed,
    serving,
    silent,
)
from tests.support.fake_probe import FakeProbe
from xdpdirector.health.checks import (
    CheckFailed,
    CheckImpossible,
    Target,
    direct,
    errno_messages,
    registry,
)
from xdpdirector.model import Address
from xdpdirector.model.checks import CheckSpec, HttpCheck, TcpCheck

BACKEND, VIP = ip_address("192.0.2.21"), ip_address("192.0.2.10")

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def tcp_check(timeout: float = PATIENT) -> TcpCheck:
    return TcpCheck(type="tcp", timeout=timeout, interval=PATIENT)


def http_check(timeout: float = PATIENT, **options: Any) -> HttpCheck:
    document = {"type": "http", "path": "/healthz", "timeout": timeout, "interval": PATIENT, **options}
    return HttpCheck.model_validate(document)


def saying(*parts: bytes) -> Answer:
    """Reads the request's head, says the parts, closes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
        writer.write_eof()
        await reader.read()

    return answer


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An answer whose body never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 16384)
        await writer.drain()


async def failure_of(answer: Answer, spec: HttpCheck) -> str:
    """The sentence, with the server's place as HOST."""
    async with serving(answer) as port:
        with pytest.raises(CheckFailed) as failed:
            await probed(spec, at(port), direct)
    return str(failed.value).replace(f"port {port} of {HERE}", "HOST")


@pytest.mark.parametrize("address", [HERE, HERE6], ids=str)
def test_tcp_is_content_with_a_connection(address: Address) -> None:
    ended = []

    async def note_end(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        ended.append(await reader.read())

    async def main() -> None:
        async with serving(note_end, address) as port, asyncio.timeout(PATIENT):
            await registry.probe(tcp_check(), at(port, address), direct)
            while not ended:
                await asyncio.sleep(0.001)

    asyncio.run(main())

    assert ended == [b""]


def test_refused() -> None:
    with deaf_port() as port, pytest.raises(CheckFailed) as failed:
        asyncio.run(probed(tcp_check(), at(port), direct))

    assert str(failed.value) == f"nothing listens on port {port} of 127.0.0.1 (connection refused)"


@pytest.mark.parametrize("spec", [tcp_check(HASTY), http_check(HASTY)], ids=["tcp", "http"])
def test_no_answer(spec: TcpCheck | HttpCheck) -> None:
    with full_port() as port, pytest.raises(CheckFailed) as failed:
        asyncio.run(probed(spec, at(port), direct))

    assert str(failed.value) == f"no answer from port {port} of 127.0.0.1 within 50ms"


PLACE = "port 80 of the VIP 192.0.2.10 on 192.0.2.21"
NO_WAY = "no way to 192.0.2.21: it does not answer ARP or neighbour discovery, or a firewall on it refuses"
THEIRS = {
    errno.ECONNREFUSED: f"nothing listens on {PLACE} (connection refused)",
    errno.EHOSTUNREACH: NO_WAY,
    errno.EHOSTDOWN: NO_WAY,
    errno.ENONET: NO_WAY,
    errno.ETIMEDOUT: f"no answer from {PLACE}",
    errno.ECONNRESET: f"{PLACE} reset the connection",
    errno.ECONNABORTED: f"{PLACE} broke the connection off",
    errno.EPIPE: f"{PLACE} closed the connection",
    errno.EPROTO: "the VIP 192.0.2.10 on 192.0.2.21 does not understand the question (ICMP: parameter problem)",
    errno.ENOPROTOOPT: (
        "the VIP 192.0.2.10 on 192.0.2.21 does not speak the protocol (ICMP: protocol unreachable)"
    ),
}
"""What a peer, or somebody on the way, can cause; nothing else is a backend's failure."""


@pytest.mark.parametrize("number", THEIRS, ids=errno.errorcode.get)
def test_what_a_peer_caused_is_a_sentence(number: int) -> None:
    verdict = errno_messages.sentence(OSError(number, os.strerror(number)), Target(VIP, 80, BACKEND))

    assert isinstance(verdict, CheckFailed)
    assert str(verdict) == THEIRS[number]


@pytest.mark.parametrize("number", sorted(errno.errorcode.keys() - THEIRS.keys()), ids=errno.errorcode.get)
def test_any_other_error_is_no_failure_of_the_backend(number: int) -> None:
    verdict = errno_messages.sentence(OSError(number, os.strerror(number)), at(80, BACKEND))

    assert isinstance(verdict, CheckImpossible)
    assert str(verdict)


def test_a_firewall_that_speaks_icmpv6_is_not_this_directors() -> None:
    """Administratively prohibited (RFC 4443, 3.1) comes as EACCES, which in IPv4 is only said at home."""
    verdict = errno_messages.sentence(
        OSError(errno.EACCES, "Permission denied"), at(80, ip_address("2001:db8::21"))
    )

    assert isinstance(verdict, CheckFailed)
    assert str(verdict) == "a firewall refuses connections to port 80 of 2001:db8::21"


SPECS = [
    {"type": "tcp"},
    {"type": "http"},
    {"type": "https"},
    {"type": "tls"},
    {"type": "smtp"},
    {"type": "pop3"},
    {"type": "imap"},
    {"type": "ftp"},
    {"type": "ldap"},
    {"type": "postgres"},
    {"type": "mysql"},
    {"type": "dns", "name": "example.org"},
    {"type": "dns", "name": "example.org", "transport": "tcp"},
    {"type": "udp"},
    {"type": "icmp"},
    {"type": "sctp"},
    {"type": "agent"},
]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.ECONNREFUSED, errno.ECONNRESET])
@pytest.mark.parametrize("document", SPECS, ids=lambda document: "-".join(document.values()))
def test_who_gets_no_socket_has_asked_nobody(document: dict[str, Any], number: int) -> None:
    """Whatever number the kernel, or the helper that makes sockets, gives the reason."""
    spec: CheckSpec = TypeAdapter(CheckSpec).validate_python(document)

    async def nothing(_target: Target, _kind: int, _protocol: int = 0) -> socket.socket:
        raise OSError(number, os.strerror(number))

    with pytest.raises(CheckImpossible):
        asyncio.run(registry.probe(spec, at(80), nothing))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(saying(OK), id="length"),
        pytest.param(
            saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), id="chunks"
        ),
        pytest.param(saying(b"HTTP/1.0 200 OK\r\n\r\nok"), id="body until the end"),
        pytest.param(saying(b"HTTP/1.1 103 Early Hints\r\n\r\n", OK), id="an informational answer first"),
        pytest.param(saying(*(bytes([octet]) for octet in OK)), id="octet by octet"),
        pytest.param(silent(OK), id="connection kept open"),
        pytest.param(endless, id="endless body"),
    ],
)
def test_http_is_content(answer: Answer) -> None:
    async def main() -> None:
        async with serving(answer) as port:
            await registry.probe(http_check(), at(port), direct)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        pytest.param(
            saying(b"HTTP/1.1 503 Sorry\r\nContent-Length: 0\r\n\r\n"),
            "HOST answered 503 Service Unavailable to GET /healthz, expected 200 or 204",
            id="other status",
        ),
        pytest.param(
            saying(b"SSH-2.0-OpenSSH_9.2\r\n"),
            "the answer of HOST is not HTTP: it begins with 'SSH-2.0-OpenSSH_9.2'",
            id="another protocol",
        ),
        pytest.param(
            saying(), "HOST closed the connection without an answer to GET /healthz", id="closed at once"
        ),
        pytest.param(
            saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"),
            r"the answer of HOST to GET /healthz is broken: .*received 2 bytes, expected 9.*",
            id="body broken off",
        ),
        pytest.param(
            saying(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
            r"the answer of HOST to GET /healthz is broken: .*Content-Length.*",
            id="bad header",
        ),
        pytest.param(
            saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            r"the answer of HOST to GET /healthz is broken: illegal chunk header: 'zz.*",
            id="bad chunk",
        ),
        pytest.param(
            saying(b"\x15\x03\x01\x00\x02\x02\x16"),
            "the answer of HOST is not HTTP: it begins with the octets 15 03 01 00 02 02 16",
            id="TLS",
        ),
        pytest.param(
            saying(b"HTTP/1.1 200 OK\r\n", *[b"A: " + b"x" * 16000 + b"\r\n"] * 5),
            "HOST answered GET /healthz with more than 16 KiB of headers, which is too much",
            id="huge headers",
        ),
        pytest.param(
            saying(*[b"HTTP/1.1 103 Wait\r\n\r\n" * 100] * 50),
            "HOST answered GET /healthz with 64 KiB of headers, which is too much",
            id="informational answers without end",
        ),
    ],
)
def test_http_is_not_content(answer: Answer, sentence: str) -> None:
    found = asyncio.run(failure_of(answer, http_check(status=[200, 204])))

    assert found == sentence or re.fullmatch(sentence, found)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        pytest.param(
            silent(),
            "HOST opened the connection but did not send an answer to GET /healthz within 500ms",
            id="mute",
        ),
        pytest.param(
            silent(OK[:-1]),
            "HOST opened the connection but did not send the end of its answer to GET /healthz within 500ms",
            id="stops in the body",
        ),
    ],
)
def test_http_waits_only_so_long(answer: Answer, sentence: str) -> None:
    assert asyncio.run(failure_of(answer, http_check(SHORT))) == sentence


@pytest.mark.parametrize(
    ("options", "lines", "share"),
    [
        pytest.param({"body": "^o.$"}, (), None, id="body"),
        pytest.param({"weight_header": "X-Weight"}, ("x-weight: 75%",), 0.75, id="weight"),
        pytest.param({"weight_header": "X-Weight"}, ("X-Weight:  0 %",), 0.0, id="no weight"),
        pytest.param({"weight_header": "X-Weight"}, (), None, id="weight not said"),
    ],
)
def test_http_body_and_weight(options: dict[str, Any], lines: Sequence[str], share: float | None) -> None:
    head = OK.replace(b"\r\n\r\n", "".join(f"\r\n{line}" for line in lines).encode() + b"\r\n\r\n")

    async def main() -> float | None:
        async with serving(saying(head)) as port:
            return await registry.probe(http_check(**options), at(port), direct)

    assert asyncio.run(main()) == share


@pytest.mark.parametrize(
    ("options", "answer", "sentence"),
    [
        pytest.param(
            {"body": "ready"},
            OK,
            "the answer of HOST to GET /healthz does not contain 'ready'",
            id="body",
        ),
        pytest.param(
            {"weight_header": "X-Weight"},
            OK.replace(b"\r\n\r\n", b"\r\nX-Weight: much\r\n\r\n"),
            "HOST sent X-Weight: 'much', expected like '75%'",
            id="weight",
        ),
    ],
)
def test_http_body_and_weight_that_are_not_right(
    options: dict[str, Any], answer: bytes, sentence: str
) -> None:
    assert asyncio.run(failure_of(saying(answer), http_check(**options))) == sentence


@pytest.mark.parametrize(
    ("address", "options", "host"),
    [
        pytest.param(HERE, {}, "127.0.0.1:PORT", id="address and port"),
        pytest.param(HERE6, {}, "[::1]:PORT", id="IPv6 in brackets"),
        pytest.param(HERE, {"host": "www.example.org"}, "www.example.org", id="the name that is asked for"),
    ],
)
def test_http_request(address: Address, options: dict[str, Any], host: str) -> None:
    heads = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        await reader.read()

    async def main() -> int:
        async with serving(note, address) as port:
            await registry.probe(http_check(**options), at(port, address), direct)
        return port

    port = asyncio.run(main())

    first, *fields = heads[0].decode().split("\r\n")
    assert first == "GET /healthz HTTP/1.1"
    assert f"Host: {host.replace('PORT', str(port))}" in fields
    assert "Connection: close" in fields


def test_a_cancelled_probe_leaves_no_socket() -> None:
    """An unclosed socket would be a ResourceWarning, which is an error in this suite."""
    arrived = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.append(await reader.readuntil(b"\r\n\r\n"))
        assert await reader.read() == b""
        arrived.append(b"closed")

    async def main() -> None:
        async with serving(note) as port, asyncio.timeout(PATIENT):
            probing = asyncio.create_task(registry.probe(http_check(), at(port), direct))
            while not arrived:
                await asyncio.sleep(0.001)
            probing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await probing
            while len(arrived) < 2:
                await asyncio.sleep(0.001)

    asyncio.run(main())

    assert arrived[-1] == b"closed"


def test_the_fake_fails_where_it_is_told() -> None:
    fake = FakeProbe()
    fake.failures[HERE] = "is tired"

    with pytest.raises(CheckFailed, match="is tired"):
        asyncio.run(fake(tcp_check(), at(80), direct))
    asyncio.run(fake(tcp_check(), at(80, HERE6), direct))

    assert fake.asked == {(HERE, 80): 1, (HERE6, 80): 1}


def test_an_answer_that_is_no_http_leaves_no_cycle_behind() -> None:
    """h11's errors and the frames that raised them refer to each other: 250 failing checks would leave thousands of
    objects a minute to the garbage collector, which keeps the loop from running."""

    async def fail(answer: Answer) -> None:
        async with serving(answer) as port:
            with contextlib.suppress(CheckFailed):
                await probed(http_check(), at(port), direct)

    gc.collect()
    gc.disable()
    try:
        for answer in (saying(), saying(b"what?\r\n\r\n")):
            asyncio.run(fail(answer))

        assert not any(isinstance(each, h11.RemoteProtocolError) for each in gc.get_objects())
    finally:
        gc.enable()
