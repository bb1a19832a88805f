# SPDX-License-Identifier: Apache-2.0
"""The probes of directories and databases: ldap, postgres, mysql."""

import asyncio
import struct
from typing import Any

import pytest
from pydantic import TypeAdapter

from tests.support.check_servers import (
    PATIENT,
    SHORT,
    Answer,
    at,
    babbling,
    closing,
    deaf_port,
    full_port,
    probed,
    serving,
    silent,
)
from xdpdirector.health.checks import CheckFailed, direct
from xdpdirector.model.checks import CheckSpec

SPEC: TypeAdapter[CheckSpec] = TypeAdapter(CheckSpec)


def ldap(tag: bytes, content: bytes) -> bytes:
    """A message with the number 1, in BER."""

    def sized(octets: bytes) -> bytes:
        return b"\x84" + len(octets).to_bytes(4) + octets

    return b"\x30" + sized(b"\x02\x01\x01" + tag + sized(content))


def number(octets: bytes) -> bytes:
    """An ENUMERATED."""
    return b"\x0a\x84" + len(octets).to_bytes(4) + octets


BIND_OK = bytes.fromhex("300c02010161070a010004000400")
BIND_REFUSED = bytes.fromhex("301202010161 0d 0a0130 0400 0406") + b"no way"
ROOT_DSE = bytes.fromhex("3009020102640404003000")
NO_ROOT_DSE = bytes.fromhex("300c02010265070a012004000400")


def error(code: str, words: str) -> bytes:
    body = f"SFATAL\0C{code}\0M{words}\0\0".encode()
    return b"E" + struct.pack("!I", len(body) + 4) + body


ASKS_PASSWORD = b"R" + struct.pack("!II", 8, 3)


def packet(number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number]) + body


CAPABILITIES = 0x0008A20D | 1 << 15
MYSQL_GREETING = packet(
    0,
    b"\x0a8.0.40\0"
    + struct.pack("<I", 7)
    + b"saltsalt\0"
    + struct.pack("<HBHHB", CAPABILITIES & 0xFFFF, 255, 2, CAPABILITIES >> 16, 21)
    + bytes(10)
    + b"saltsaltsalt\0"
    + b"mysql_native_password\0",
)


def mysql_error(number: int, code: int, words: str) -> bytes:
    return packet(number, b"\xff" + struct.pack("<H", code) + b"#28000" + words.encode())


def check(kind: str, timeout: float = PATIENT, **options: Any) -> CheckSpec:
    return SPEC.validate_python({"type": kind, "timeout": timeout, "interval": PATIENT, **options})


def answering(*answers: bytes, greeting: bytes = b"") -> Answer:
    """One answer for each piece that comes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        for each in answers:
            assert await reader.read(65536)
            writer.write(each)
            await writer.drain()
        await reader.read()

    return answer


async def failure(answer: Answer, spec: CheckSpec) -> str:
    async with serving(answer) as port:
        try:
            await probed(spec, at(port), direct)
        except CheckFailed as failed:
            return str(failed).replace(f"port {port} of 127.0.0.1", "HOST")
    return ""


@pytest.mark.parametrize(
    ("spec", "answer"),
    [
        pytest.param(check("ldap"), answering(BIND_OK), id="ldap bind"),
        pytest.param(check("ldap", ask="root_dse"), answering(BIND_OK, ROOT_DSE), id="ldap root DSE"),
        pytest.param(check("postgres"), answering(ASKS_PASSWORD), id="postgres asks for a password"),
        pytest.param(
            check("postgres"), answering(error("28000", "no pg_hba.conf entry")), id="postgres, not us"
        ),
        pytest.param(
            check("postgres", database="x"),
            answering(error("3D000", "no such database")),
            id="postgres, no database",
        ),
        pytest.param(
            check("mysql"),
            answering(mysql_error(2, 1045, "Access denied"), greeting=MYSQL_GREETING),
            id="mysql denies",
        ),
    ],
)
def test_a_good_server(spec: CheckSpec, answer: Answer) -> None:
    assert asyncio.run(failure(answer, spec)) == ""


@pytest.mark.parametrize(
    ("spec", "answer", "sentence"),
    [
        pytest.param(
            check("ldap"),
            answering(BIND_REFUSED),
            "HOST refused the bind: inappropriateAuthentication (48): no way",
            id="ldap refuses",
        ),
        pytest.param(
            check("ldap", ask="root_dse"),
            answering(BIND_OK, NO_ROOT_DSE),
            "HOST refused the search for the root DSE: noSuchObject (32)",
            id="ldap without a root DSE",
        ),
        pytest.param(
            check("ldap"),
            silent(b"220 hello\r\n"),
            "the answer of HOST is not LDAP: it begins with '22'",
            id="not ldap",
        ),
        pytest.param(
            check("ldap"),
            silent(b"0\x04oops"),
            "the answer of HOST to the bind is not LDAP: it is broken off",
            id="garbage in BER",
        ),
        pytest.param(
            check("ldap"),
            silent(b"0\x84\x7f\xff\xff\xff"),
            "HOST announces an answer of 2147483647 octets, which is too much",
            id="ldap oversize",
        ),
        pytest.param(
            check("ldap"),
            silent(ldap(b"\x61", number(b"\x7f" * 50000) + b"\x04\x00\x04\x00")),
            "the answer of HOST to the bind is not LDAP: an integer has the wrong type or size",
            id="ldap, a number without end",
        ),
        pytest.param(
            check("ldap"),
            silent(ldap(b"\x61", b"\x04\x00" * 30000)),
            "the answer of HOST to the bind is not LDAP: an integer has the wrong type or size",
            id="ldap, many elements",
        ),
        pytest.param(
            check("ldap"),
            silent(ldap(b"\x61", b"")),
            "the answer of HOST to the bind is not LDAP: an element is missing",
            id="ldap, nothing in it",
        ),
        pytest.param(
            check("ldap"),
            silent(ldap(b"\x78", b"\x0a\x01\x34\x04\x00\x04\x05later")),
            "HOST refused the bind: unavailable (52): later",
            id="ldap disconnects",
        ),
        pytest.param(
            check("mysql"),
            silent(b"\x01\x00\x00\x00\x0a"),
            "HOST does not speak MySQL: it sent the octets 01 00 00 00 0a",
            id="mysql, an empty greeting",
        ),
        pytest.param(
            check("postgres"),
            answering(error("57P03", "the database system is starting up")),
            "HOST says: the database system is starting up (SQLSTATE 57P03)",
            id="postgres starts up",
        ),
        pytest.param(
            check("postgres"),
            silent(b"220 hello\r\n"),
            "the answer of HOST is not PostgreSQL: it begins with '220 h'",
            id="not postgres",
        ),
        pytest.param(
            check("postgres"),
            silent(b"R\x7f\xff\xff\xff"),
            "the answer of HOST is not PostgreSQL: it begins with the octets 52 7f ff ff ff",
            id="postgres oversize",
        ),
        pytest.param(
            check("mysql"),
            silent(mysql_error(0, 1040, "Too many connections")),
            "HOST did not finish the handshake: Too many connections (1040)",
            id="mysql full",
        ),
    ],
)
def test_a_server_that_is_not_well(spec: CheckSpec, answer: Answer, sentence: str) -> None:
    assert asyncio.run(failure(answer, spec)) == sentence


@pytest.mark.parametrize("kind", ["ldap", "postgres", "mysql"])
@pytest.mark.parametrize(
    "answer", [closing(), closing(b"\0\1\2\3garbage"), babbling], ids=["closed", "garbage", "endless"]
)
def test_an_odd_server(kind: str, answer: Answer) -> None:
    assert asyncio.run(failure(answer, check(kind))).count("HOST") == 1


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        ("ldap", "an answer to the bind"),
        ("postgres", "an answer to the start of a session"),
        ("mysql", "the end of the handshake"),
    ],
)
def test_a_mute_server(kind: str, missing: str) -> None:
    sentence = f"HOST opened the connection but did not send {missing} within 500ms"

    assert asyncio.run(failure(silent(), check(kind, SHORT))) == sentence


@pytest.mark.parametrize("kind", ["ldap", "postgres", "mysql"])
def test_nobody_there(kind: str) -> None:
    with deaf_port() as refusing, full_port() as mute:
        for port, words in ((refusing, "nothing listens on port"), (mute, "no answer from port")):
            with pytest.raises(CheckFailed, match=words):
                asyncio.run(probed(check(kind, 0.05), at(port), direct))
