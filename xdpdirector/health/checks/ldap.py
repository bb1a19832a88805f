# SPDX-License-Identifier: Apache-2.0
"""The `ldap` check: an anonymous bind and, if configured, a search of the root DSE (RFC 4511, RFC 4512).

Not with ldap3, which opens its own sockets; a check gets its socket from a dial.
"""

from __future__ import annotations

from xdpdirector.health.checks import (
    CheckFailed,
    Dial,
    Target,
    ber,
    tls,
)
from xdpdirector.health.checks.excerpts import excerpt
from xdpdirector.health.checks.stream import LIMIT, Channel, channel
from xdpdirector.model.checks import CheckSpec, LdapCheck

BIND = bytes.fromhex("300c 020101 6007 020103 0400 8000")  # version 3, no name, no password
# Search of the root DSE only ("", baseObject) for its short attribute objectClass: (objectClass=*), one entry
# at most.
_OBJECT_CLASS = b"objectClass".hex()
SEARCH = bytes.fromhex(
    f"3032 020102 632d 0400 0a0100 0a0100 020101 020100 010100 870b {_OBJECT_CLASS} 300d 040b {_OBJECT_CLASS}"
)
UNBIND = bytes.fromhex("3005 020103 4200")
_ANSWERS = {
    0x61: "bindResponse",
    0x64: "searchResEntry",
    0x65: "searchResDone",
    0x73: "searchResRef",
    0x78: "extendedResp",
}
_WITH_RESULT = {"bindResponse", "searchResDone", "extendedResp"}
_RESULTS = {  # RFC 4511, appendix A
    1: "operationsError",
    2: "protocolError",
    3: "timeLimitExceeded",
    4: "sizeLimitExceeded",
    7: "authMethodNotSupported",
    8: "strongerAuthRequired",
    10: "referral",
    11: "adminLimitExceeded",
    13: "confidentialityRequired",
    32: "noSuchObject",
    48: "inappropriateAuthentication",
    49: "invalidCredentials",
    50: "insufficientAccessRights",
    51: "busy",
    52: "unavailable",
    53: "unwillingToPerform",
    80: "other",
}


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> None:
    """Succeeds if the server accepts the bind, and returns its root DSE."""
    assert isinstance(spec, LdapCheck)
    async with channel(spec, target, dial) as talk:
        if spec.tls == "direct":
            await tls.secure(talk, spec)
        await talk.send(BIND)
        await _expect(talk, "bindResponse", "the bind")
        if spec.ask == "root_dse":
            await talk.send(SEARCH)
            await _expect(talk, "searchResEntry", "the search for the root DSE")
        await talk.send(UNBIND)


async def _expect(talk: Channel, operation: str, question: str) -> None:
    talk.expected = f"an answer to {question}"
    data = await _receive(talk)
    try:
        name, code, said = _parse(data)
    except ValueError as error:
        raise CheckFailed(f"the answer of {talk.target} to {question} is not LDAP: {error}") from error
    if code:
        words = f"{_RESULTS.get(code, 'the result')} ({code})" + (f": {said}" if said else "")
        raise CheckFailed(f"{talk.target} refused {question}: {words}")
    if name != operation:
        raise CheckFailed(f"{talk.target} answered {question} with {name}, expected {operation}")


def _parse(data: bytes) -> tuple[str, int, str]:
    """The type of the response, with its result code and message; 0 and empty for responses without a result.
    ValueError."""
    message, _ = ber.read(data)
    number, answer = ber.first(message, 2)
    number.number(4)
    name = _ANSWERS.get(answer.tag)
    if name is None:
        raise ValueError(f"it has the tag 0x{answer.tag:02x}")
    if name not in _WITH_RESULT:
        return name, 0, ""
    code, _matched, words = ber.first(answer, 3)
    return name, code.number(4), bytes(words.content[:480]).decode("utf-8", "replace")[:120]


async def _receive(talk: Channel) -> bytes:
    """Receive one message: tag and length (X.690, 8.1), and that many bytes."""
    head = await talk.exactly(2)
    if head[:1] != b"\x30":
        raise CheckFailed(f"the answer of {talk.target} is not LDAP: it begins with {excerpt(head)}")
    if not head[1] & 0x80:
        return head + await talk.exactly(head[1])
    size = await talk.exactly(head[1] & 0x7F)
    length = int.from_bytes(size)
    if length > LIMIT:
        raise CheckFailed(f"{talk.target} announces an answer of {length} octets, which is too much")
    return head + size + await talk.exactly(length)
