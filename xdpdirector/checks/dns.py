# SPDX-License-Identifier: Apache-2.0
"""The `dns` check: one question, its code and its answer. dnspython speaks the protocol."""

from __future__ import annotations

import dns.exception
import dns.flags
import dns.message
import dns.rcode

from xdpdirector.checks import CheckFailed, CheckImpossible, Dial, Target
from xdpdirector.checks.channel import channel
from xdpdirector.checks.datagrams import answers, exchange
from xdpdirector.checkspec import CheckSpec, DnsCheck


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> None:
    """Fine when the answer has the code and the record that are wanted."""
    assert isinstance(spec, DnsCheck)
    try:
        question = dns.message.make_query(spec.name, spec.query)
    except (dns.exception.DNSException, ValueError) as error:
        raise CheckImpossible(f"the question {spec.query} {spec.name} cannot be asked: {error}") from error
    ask = _by_tcp if spec.transport == "tcp" else _by_udp
    judge(spec, target, await ask(spec, target, dial, question))


async def _by_udp(
    spec: DnsCheck, target: Target, dial: Dial, question: dns.message.QueryMessage
) -> dns.message.Message:
    """Datagrams that do not answer this question are passed over (RFC 5452, 9.1)."""
    async with exchange(spec, target, dial) as opened:
        opened.send(question.to_wire())
        async for wire in answers(opened, target):
            reply = _read(wire, target)
            if question.is_response(reply):
                return reply
    raise AssertionError("answers end in a failure")


async def _by_tcp(
    spec: DnsCheck, target: Target, dial: Dial, question: dns.message.QueryMessage
) -> dns.message.Message:
    async with channel(spec, target, dial) as talk:
        wire = question.to_wire()
        await talk.send(len(wire).to_bytes(2) + wire)
        talk.expected = f"an answer to the question {spec.query} {spec.name}"
        length = int.from_bytes(await talk.exactly(2))
        reply = _read(await talk.exactly(length), target)
    if not question.is_response(reply):
        raise CheckFailed(f"{target} answered another question than {spec.query} {spec.name}")
    return reply


def _read(wire: bytes, target: Target) -> dns.message.Message:
    try:
        return dns.message.from_wire(wire, ignore_trailing=True)
    except dns.exception.DNSException as error:
        raise CheckFailed(f"the answer of {target} is not DNS: {error}") from error


def judge(spec: DnsCheck, target: Target, reply: dns.message.Message) -> None:
    """CheckFailed for another code, and for an answer that is not there."""
    question = f"{spec.query} {spec.name}"
    code = dns.rcode.to_text(reply.rcode())
    if code != spec.rcode:
        raise CheckFailed(f"{target} answered {code} to {question}, expected {spec.rcode}")
    if spec.answer is None:
        return
    found = [record.to_text() for records in reply.answer for record in records]
    if spec.answer not in found:
        shown = ", ".join(found[:4]) or "no record"
        raise CheckFailed(f"{target} answered {shown[:120]} to {question}, expected {spec.answer}")
