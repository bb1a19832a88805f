# SPDX-License-Identifier: Apache-2.0
"""The probes that send datagrams: udp, dns, icmp."""

import asyncio
import errno
import random
import socket
import struct
from collections.abc import Callable
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from pydantic import TypeAdapter

from tests.support.check_servers import (
    HASTY,
    HERE,
    HERE6,
    PATIENT,
    SHORT,
    Answer,
    answering,
    at,
    closing,
    deaf_port,
    probed,
    serving,
)
from xdpdirector.health.checks import (
    CheckFailed,
    CheckImpossible,
    Dial,
    Target,
    direct,
    registry,
)
from xdpdirector.health.checks import dns as dns_check
from xdpdirector.model import Address
from xdpdirector.model.checks import CheckSpec, DnsCheck

SPEC: TypeAdapter[CheckSpec] = TypeAdapter(CheckSpec)
NAME, RECORD = "www.example.org.", "192.0.2.80"


def check(kind: str, timeout: float = PATIENT, **options: Any) -> CheckSpec:
    return SPEC.validate_python({"type": kind, "timeout": timeout, "interval": PATIENT, **options})


def echo(data: bytes) -> list[bytes]:
    return [b"you said " + data]


def answer(query: bytes, *, code: str = "NOERROR", records: tuple[str, ...] = (RECORD,)) -> bytes:
    reply = dns.message.make_response(dns.message.from_wire(query))
    reply.set_rcode(dns.rcode.from_text(code))
    if records:
        reply.answer.append(dns.rrset.from_text(NAME, 60, "IN", "A", *records))
    return reply.to_wire()


async def failure(port: int, spec: CheckSpec, address: Address = HERE) -> str:
    try:
        await probed(spec, at(port, address), direct)
    except CheckFailed as failed:
        return str(failed).replace(f"port {port} of {address}", "HOST")
    return ""


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        pytest.param({"send": "ping", "expect": "said p"}, "", id="answered"),
        pytest.param({"send_hex": "70696e67", "expect": "ping$"}, "", id="octets"),
        pytest.param({"send": "ping"}, "", id="any answer"),
        pytest.param(
            {"send": "ping", "expect": "pong"},
            "HOST answered 'you said ping', in which 'pong' is not found",
            id="another answer",
        ),
    ],
)
@pytest.mark.parametrize("address", [HERE, HERE6], ids=str)
def test_udp(address: Address, options: dict[str, Any], sentence: str) -> None:
    async def main() -> str:
        async with answering(echo, address) as port:
            return await failure(port, check("udp", **options), address)

    assert asyncio.run(main()) == sentence


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({}, ""), ({"expect": "x"}, "no answer from HOST within 50ms")],
    ids=["no news is good news", "an answer is expected"],
)
def test_udp_without_an_answer(options: dict[str, Any], sentence: str) -> None:
    async def main() -> str:
        async with answering(lambda _data: []) as port:
            return await failure(port, check("udp", HASTY, **options))

    assert asyncio.run(main()) == sentence


@pytest.mark.parametrize("kind", ["udp", "dns"])
def test_a_closed_port(kind: str) -> None:
    options = {"name": NAME} if kind == "dns" else {"send": "x"}
    with deaf_port(socket.SOCK_DGRAM) as port:
        found = asyncio.run(failure(port, check(kind, **options)))

    assert found == "nothing listens on HOST (connection refused)"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        pytest.param({}, "", id="any answer"),
        pytest.param({"answer": RECORD}, "", id="the record"),
        pytest.param(
            {"answer": "192.0.2.81"},
            f"HOST answered {RECORD} to A www.example.org, expected 192.0.2.81",
            id="another record",
        ),
        pytest.param(
            {"rcode": "NXDOMAIN"},
            "HOST answered NOERROR to A www.example.org, expected NXDOMAIN",
            id="another code",
        ),
    ],
)
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_dns(transport: str, options: dict[str, Any], sentence: str) -> None:
    spec = check("dns", name="www.example.org", transport=transport, **options)

    assert asyncio.run(failure_of(answer, spec)) == sentence


def test_dns_passes_over_what_answers_another_question() -> None:
    """RFC 5452, 9.1: whoever guesses must not be believed."""

    def stray(query: bytes) -> list[bytes]:
        other = bytes([query[0] ^ 1]) + query[1:]
        return [answer(other, code="SERVFAIL"), answer(query)]

    async def main() -> str:
        async with answering(stray) as port:
            return await failure(port, check("dns", name=NAME))

    assert asyncio.run(main()) == ""


def test_dns_garbage() -> None:
    async def main() -> str:
        async with answering(lambda _query: [b"garbage"]) as port:
            return await failure(port, check("dns", name=NAME))

    assert asyncio.run(main()).startswith("the answer of HOST is not DNS: ")


@pytest.mark.parametrize(
    ("server", "sentence"),
    [
        (closing(), "HOST closed the connection without an answer to the question A www.example.org."),
        (closing(b"\0\7garbage"), "the answer of HOST is not DNS: "),
    ],
    ids=["closed", "garbage"],
)
def test_dns_over_tcp_that_goes_wrong(server: Answer, sentence: str) -> None:
    async def main() -> str:
        async with serving(server) as port:
            return await failure(port, check("dns", name=NAME, transport="tcp"))

    assert asyncio.run(main()).startswith(sentence)


@pytest.mark.parametrize(
    ("transport", "remedy"), [("udp", ": ask by TCP, with `transport: tcp`"), ("tcp", "")], ids=["UDP", "TCP"]
)
def test_a_truncated_answer_is_called_so(transport: str, remedy: str) -> None:
    def cut(query: bytes) -> bytes:
        reply = dns.message.from_wire(answer(query))
        reply.flags |= dns.flags.TC
        reply.answer.clear()
        return reply.to_wire()

    spec = check("dns", name=NAME, answer=RECORD, transport=transport)

    assert asyncio.run(failure_of(cut, spec)) == (
        f"HOST truncated its answer to A {NAME}, and {RECORD} is not in what is left{remedy}"
    )


def test_a_truncated_answer_that_has_what_is_wanted_will_do() -> None:
    def cut(query: bytes) -> bytes:
        reply = dns.message.from_wire(answer(query))
        reply.flags |= dns.flags.TC
        return reply.to_wire()

    assert asyncio.run(failure_of(cut, check("dns", name=NAME, answer=RECORD))) == ""


def test_an_answer_that_was_made_to_keep_its_reader_busy() -> None:
    """Thousands of records whose names are pointers to a name of 127 labels: minutes of work for dnspython's reader
    of messages, which would be nobody else's then."""

    def hostile(query: bytes) -> bytes:
        name = b"\x01a" * 127 + b"\0"
        first = len(query)
        pointer = (0xC000 | first).to_bytes(2)
        record = struct.pack("!HHIH", 1, 1, 1, 4) + bytes(4)
        more = b"".join(pointer + struct.pack("!HHIH", 5, 1, n, 2) + pointer for n in range(4000))
        head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, 4001, 0, 0)
        return head + query[12:] + name + record + more

    spec = check("dns", name=NAME, answer=RECORD, transport="tcp")
    found = asyncio.run(asyncio.wait_for(failure_of(hostile, spec), PATIENT))

    assert found.startswith("HOST answered 0.0.0.0, a.a.a")


def test_whatever_a_name_server_says_it_is_its_own_fault() -> None:
    """A defect in reading it would leave a broken server in the pool."""
    chance = random.Random(1)
    spec = check("dns", name=NAME, answer="203.0.113.250")
    assert isinstance(spec, DnsCheck)
    query = dns.message.make_query(NAME, "A").to_wire()
    whole = answer(query)

    async def story() -> None:
        for _ in range(2000):
            wire = bytearray(whole)
            for _ in range(chance.randint(1, 5)):
                wire[chance.randrange(12, len(wire))] = chance.randrange(256)
            del wire[chance.randrange(12, len(wire) + 1) :]
            with pytest.raises(CheckFailed):
                await dns_check.judge(spec, at(53), dns_check._read(bytes(wire), at(53)), bytes(wire))

    asyncio.run(story())


async def failure_of(reply: Callable[[bytes], bytes], spec: CheckSpec) -> str:
    """By UDP or TCP, as the check wants it."""
    assert isinstance(spec, DnsCheck)

    async def by_tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
        said = reply(query)
        writer.write(len(said).to_bytes(2) + said)
        await reader.read()

    if spec.transport == "tcp":
        async with serving(by_tcp) as port:
            return await failure(port, spec)
    async with answering(lambda query: [reply(query)]) as port:
        return await failure(port, spec)


def test_a_question_that_cannot_be_asked() -> None:
    with pytest.raises(CheckImpossible, match="the question NOTYPE"):
        asyncio.run(registry.probe(check("dns", name=NAME, query="NOTYPE"), at(53), direct))


async def raw(target: Target, kind: int, protocol: int = 0) -> socket.socket:
    """A Dial of somebody who may have no ping socket."""
    if kind == socket.SOCK_DGRAM:
        raise PermissionError(errno.EACCES, "no pings")
    return await direct(target, kind, protocol)


@pytest.mark.root
@pytest.mark.parametrize("dial", [direct, raw], ids=["ping socket", "raw socket"])
@pytest.mark.parametrize("address", [HERE, HERE6], ids=str)
def test_icmp(address: Address, dial: Dial) -> None:
    asyncio.run(registry.probe(check("icmp", SHORT), at(0, address), dial))


def test_icmp_without_the_right_to_it() -> None:
    async def nothing(_target: Target, _kind: int, _protocol: int = 0) -> socket.socket:
        raise PermissionError(errno.EPERM, "not permitted")

    with pytest.raises(CheckImpossible, match="this director may not send pings: give it CAP_NET_RAW"):
        asyncio.run(registry.probe(check("icmp"), at(0), nothing))
