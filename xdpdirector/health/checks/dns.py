# SPDX-License-Identifier: Apache-2.0
"""The `dns` check: one question; compares the response code and answer. dnspython implements the protocol.

The answer is decoded record by record: decoding a whole malicious message of 512 bytes with dnspython can
take a quarter of a second.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdata

from xdpdirector.health.checks import CheckFailed, CheckImpossible, Dial, Target
from xdpdirector.health.checks.datagrams import answers, exchange
from xdpdirector.health.checks.stream import channel
from xdpdirector.model.checks import CheckSpec, DnsCheck

MOST_RECORDS = 256
AT_ONCE = 8  # records decoded before other tasks of the event loop run
_HEADER = struct.Struct("!HHHHHH")  # number, flags, questions, answers, authorities, others
_RECORD = struct.Struct("!HHIH")  # type, class, time to live, length
_TYPE_AND_CLASS = 4
_POINTER = 0xC0


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> None:
    """Succeeds if the response has the expected code and record."""
    assert isinstance(spec, DnsCheck)
    try:
        question = dns.message.make_query(spec.name, spec.query)
    except (dns.exception.DNSException, ValueError) as error:
        raise CheckImpossible(f"the question {spec.query} {spec.name} cannot be asked: {error}") from error
    ask = _by_tcp if spec.transport == "tcp" else _by_udp
    await ask(spec, target, dial, question)


async def _by_udp(spec: DnsCheck, target: Target, dial: Dial, question: dns.message.QueryMessage) -> None:
    """Ignores datagrams that do not answer this question (RFC 5452, 9.1)."""
    async with exchange(spec, target, dial) as opened:
        opened.send(question.to_wire())
        async for wire in answers(opened, target):
            reply = _read(wire, target)
            if question.is_response(reply):
                await judge(spec, target, reply, wire)
                return


async def _by_tcp(spec: DnsCheck, target: Target, dial: Dial, question: dns.message.QueryMessage) -> None:
    async with channel(spec, target, dial) as talk:
        wire = question.to_wire()
        await talk.send(len(wire).to_bytes(2) + wire)
        talk.expected = f"an answer to the question {spec.query} {spec.name}"
        length = int.from_bytes(await talk.exactly(2))
        wire = await talk.exactly(length)
        reply = _read(wire, target)
        if not question.is_response(reply):
            raise CheckFailed(f"{target} answered another question than {spec.query} {spec.name}")
        await judge(spec, target, reply, wire)


def _read(wire: bytes, target: Target) -> dns.message.Message:
    """Decode header and question of a message."""
    try:
        return dns.message.from_wire(wire, ignore_trailing=True, question_only=True)
    except (dns.exception.DNSException, ValueError, LookupError, struct.error) as error:
        raise CheckFailed(f"the answer of {target} is not DNS: {_words(error)}") from error


async def judge(spec: DnsCheck, target: Target, reply: dns.message.Message, wire: bytes) -> None:
    """CheckFailed for another code, or if the expected record is missing."""
    question = f"{spec.query} {spec.name}"
    code = dns.rcode.to_text(dns.rcode.from_flags(reply.flags, 0))
    if code != spec.rcode:
        raise CheckFailed(f"{target} answered {code} to {question}, expected {spec.rcode}")
    if spec.answer is None:
        return
    found: list[str] = []
    try:
        async for text in _answers(wire):
            if text == spec.answer:
                return
            found.append(text)
    except (dns.exception.DNSException, ValueError, LookupError, struct.error) as error:
        if not reply.flags & dns.flags.TC:  # the last record may be truncated
            raise CheckFailed(f"the answer of {target} to {question} is broken: {_words(error)}") from error
    if reply.flags & dns.flags.TC:
        remedy = ": ask by TCP, with `transport: tcp`" if spec.transport == "udp" else ""
        raise CheckFailed(
            f"{target} truncated its answer to {question}, and {spec.answer} is not in what is left{remedy}"
        )
    shown = ", ".join(found[:4])[:120] or "no record"
    raise CheckFailed(f"{target} answered {shown} to {question}, expected {spec.answer}")


async def _answers(wire: bytes) -> AsyncIterator[str]:
    """The records of the answer section, in zone file format. Raises as `judge`."""
    _, _, questions, records, _, _ = _HEADER.unpack_from(wire)
    at = _HEADER.size
    for _ in range(questions):
        at = _after_name(wire, at) + _TYPE_AND_CLASS
    for number in range(min(records, MOST_RECORDS)):
        at = _after_name(wire, at)
        kind, family, _, length = _RECORD.unpack_from(wire, at)
        at += _RECORD.size
        yield dns.rdata.from_wire(family, kind, wire, at, length).to_text()
        at += length
        if number % AT_ONCE == AT_ONCE - 1:
            await asyncio.sleep(0)


def _after_name(wire: bytes, at: int) -> int:
    """The offset after a name, which ends with an empty label or a pointer (RFC 1035, 4.1.4)."""
    while length := wire[at]:
        if length & _POINTER:
            return at + 2
        at += 1 + length
    return at + 1


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, dns.exception.DNSException) else "it ends too early"
