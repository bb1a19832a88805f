# SPDX-License-Identifier: Apache-2.0
"""The `sctp` probe against a responder on loopback."""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
import struct

import pytest
from pydantic import TypeAdapter

from tests.support.check_servers import HASTY, HERE, HERE6, PATIENT, at
from tests.support.sctp_responder import Reply, Responder, abort, init_ack, packet
from xdpdirector.health.checks import CheckFailed, CheckImpossible, Target, direct, registry
from xdpdirector.model import Address
from xdpdirector.model.checks import CheckSpec
from xdpdirector.net.checksum import crc32c

PORT = 3868
SPEC: TypeAdapter[CheckSpec] = TypeAdapter(CheckSpec)


def probe(address: Address = HERE, timeout: float = PATIENT, port: int = PORT) -> None:
    spec = SPEC.validate_python({"type": "sctp", "timeout": timeout, "interval": PATIENT})
    asyncio.run(registry.probe(spec, at(port, address), direct))


@pytest.mark.root
@pytest.mark.parametrize("address", [HERE, HERE6], ids=str)
def test_an_init_that_is_acknowledged(address: Address) -> None:
    """What is sent is an INIT as RFC 9260 has it, with its checksum."""
    with Responder(PORT) as responder:
        for _ in range(3):
            probe(address)

    assert (responder.answered, responder.wrong) == (3, [])


@pytest.mark.root
@pytest.mark.parametrize("address", [HERE, HERE6], ids=str)
def test_a_port_that_nobody_has(address: Address) -> None:
    with (
        Responder(PORT, abort),
        pytest.raises(CheckFailed, match=f"nothing listens on port {PORT}") as failed,
    ):
        probe(address)

    assert failed.value.absence == "refused"


def with_tag(reply: Reply, tag: bytes) -> Reply:
    return lambda init: [packet(init, reply(init)[0][12:], tag)]


def from_port(port: int) -> Reply:
    return lambda init: [struct.pack("!H", port) + init_ack(init)[0][2:]]


SILENT: dict[str, Reply] = {
    "nothing": lambda _init: [],
    "another tag": with_tag(init_ack, b"\0\0\0\1"),
    "an ABORT with another tag": with_tag(abort, b"\0\0\0\1"),
    "another port": from_port(PORT + 1),
    "too short": lambda init: [init_ack(init)[0][:15]],
    "other chunks": lambda init: [
        packet(init, struct.pack("!BBH", kind, 0, 4)) for kind in (0, 1, 3, 10, 11)
    ],
}


@pytest.mark.root
@pytest.mark.parametrize("reply", SILENT.values(), ids=SILENT)
def test_what_is_no_answer(reply: Reply) -> None:
    with (
        Responder(PORT, reply) as responder,
        pytest.raises(CheckFailed, match="no answer from port") as failed,
    ):
        probe(timeout=HASTY)

    assert failed.value.absence == "silent"
    assert responder.answered == 1


@pytest.mark.root
def test_an_answer_among_others() -> None:
    with Responder(PORT, lambda init: [*SILENT["other chunks"](init), *init_ack(init)]):
        probe()


@pytest.mark.root
def test_a_server_that_sends_much_else() -> None:
    def flood(init: bytes) -> list[bytes]:
        return list(itertools.repeat(packet(init, struct.pack("!BBH", 3, 0, 4)), 100))

    with Responder(PORT, flood), pytest.raises(CheckFailed, match="datagrams, none of which is an answer"):
        probe()


def test_without_the_right_to_raw_sockets() -> None:
    async def nothing(_target: Target, _kind: int, _protocol: int = 0) -> socket.socket:
        raise PermissionError(errno.EPERM, "not permitted")

    spec = SPEC.validate_python({"type": "sctp"})
    with pytest.raises(CheckImpossible, match="this director may not send SCTP: give CAP_NET_RAW"):
        asyncio.run(registry.probe(spec, at(PORT), nothing))


def test_the_checksum() -> None:
    """RFC 3720, B.4."""
    assert crc32c(bytes(32)).to_bytes(4, "little").hex() == "aa36918a"
    assert crc32c(bytes(range(32))).to_bytes(4, "little").hex() == "4e79dd46"
