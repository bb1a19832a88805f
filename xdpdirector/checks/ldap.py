# SPDX-License-Identifier: Apache-2.0
"""The `ldap` check: an anonymous bind and, where it is asked for, a look at the root DSE (RFC 4511, RFC 4512).

pyasn1 speaks BER; ldap3, the client library, opens its sockets itself, and a check must be handed one.
"""

from __future__ import annotations

from pyasn1.codec.ber import decoder, encoder
from pyasn1.error import PyAsn1Error
from pyasn1.type.univ import Null
from pyasn1_modules import rfc2251

from xdpdirector.checks import CheckFailed, Dial, Target, tls
from xdpdirector.checks.channel import LIMIT, Channel, channel
from xdpdirector.checkspec import CheckSpec, LdapCheck


def _message(number: int, operation: str) -> rfc2251.LDAPMessage:
    message = rfc2251.LDAPMessage()
    message["messageID"] = number
    message["protocolOp"][operation] = message["protocolOp"].componentType[operation].asn1Object.clone()
    return message


def _bind() -> bytes:
    message = _message(1, "bindRequest")
    request = message["protocolOp"]["bindRequest"]
    request["version"], request["name"] = 3, ""
    request["authentication"]["simple"] = ""
    return bytes(encoder.encode(message))


def _search() -> bytes:
    """Of the root DSE alone, for its vendor's name, which is short."""
    message = _message(2, "searchRequest")
    request = message["protocolOp"]["searchRequest"]
    request["baseObject"], request["scope"], request["derefAliases"] = "", "baseObject", "neverDerefAliases"
    request["sizeLimit"], request["timeLimit"], request["typesOnly"] = 1, 0, False
    request["filter"]["present"] = "objectClass"
    request["attributes"][0] = "objectClass"
    return bytes(encoder.encode(message))


BIND, SEARCH = _bind(), _search()
UNBIND = bytes.fromhex(
    "30050201034200"
)  # pyasn1-modules takes its NULL for constructed, and writes 62 for 42


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> None:
    """Fine when the server takes the bind, and shows its root DSE."""
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
        message, _ = decoder.decode(data, asn1Spec=rfc2251.LDAPMessage())
    except PyAsn1Error as error:
        raise CheckFailed(f"the answer of {talk.target} to {question} is not LDAP") from error
    answer = message["protocolOp"]
    body = answer.getComponent()
    if not isinstance(body, Null) and "resultCode" in body and (code := int(body["resultCode"])):
        words = f"{body['resultCode'].prettyPrint()} ({code})"
        if said := str(body["errorMessage"])[:120]:
            words += f": {said}"
        raise CheckFailed(f"{talk.target} refused {question}: {words}")
    if answer.getName() != operation:
        raise CheckFailed(f"{talk.target} answered {question} with {answer.getName()}, expected {operation}")


async def _receive(talk: Channel) -> bytes:
    """One message: BER's tag and length (X.690, 8.1), and as much as that says."""
    head = await talk.exactly(2)
    if head[:1] != b"\x30":
        raise CheckFailed(f"the answer of {talk.target} is not LDAP: it begins with {head!r}")
    if not head[1] & 0x80:
        return head + await talk.exactly(head[1])
    size = await talk.exactly(head[1] & 0x7F)
    length = int.from_bytes(size)
    if length > LIMIT:
        raise CheckFailed(f"{talk.target} announces an answer of {length} octets, which is too much")
    return head + size + await talk.exactly(length)
