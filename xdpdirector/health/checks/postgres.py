# SPDX-License-Identifier: Apache-2.0
"""The `postgres` check: starts a session, up to the server's first response (PostgreSQL manual, 55.2.1).

Not with a client library: those cannot stop when a server requests a password, as a healthy one does.
"""

from __future__ import annotations

import struct

from xdpdirector.health.checks import CheckFailed, Dial, Target
from xdpdirector.health.checks.excerpts import excerpt
from xdpdirector.health.checks.stream import LIMIT, Channel, channel
from xdpdirector.model.checks import CheckSpec, PostgresCheck

PROTOCOL = 3 << 16
TERMINATE = b"X\0\0\0\4"
# SQLSTATEs that only a working server sends: wrong user, not in pg_hba.conf; no such database.
_ALIVE = ("28", "3D000")


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> None:
    """Succeeds if the server accepts the login, requests a password, or rejects the user."""
    assert isinstance(spec, PostgresCheck)
    async with channel(spec, target, dial) as talk:
        await talk.send(_startup(spec))
        talk.expected = "an answer to the start of a session"
        kind, body = await _message(talk)
        if kind == b"E":
            _judge(talk, body)
        elif kind != b"R":
            raise CheckFailed(
                f"the answer of {talk.target} is not PostgreSQL: it begins with {excerpt(kind + body[:39])}"
            )
        await talk.farewell(TERMINATE)


def _startup(spec: PostgresCheck) -> bytes:
    words = ["user", spec.user, "application_name", "xdpdirector"]
    if spec.database is not None:
        words += ["database", spec.database]
    body = struct.pack("!I", PROTOCOL) + b"".join(word.encode() + b"\0" for word in words) + b"\0"
    return struct.pack("!I", len(body) + 4) + body


async def _message(talk: Channel) -> tuple[bytes, bytes]:
    head = await talk.exactly(5)
    length = int.from_bytes(head[1:])
    if head[:1] not in (b"R", b"E", b"N", b"v") or not 4 <= length <= LIMIT:
        raise CheckFailed(f"the answer of {talk.target} is not PostgreSQL: it begins with {excerpt(head)}")
    return head[:1], await talk.exactly(length - 4)


def _judge(talk: Channel, body: bytes) -> None:
    """Interpret an ErrorResponse: fields of a letter and a text each."""
    fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
    code = fields.get(b"C", "")
    if not code.startswith(_ALIVE):
        raise CheckFailed(f"{talk.target} says: {fields.get(b'M', 'no reason')[:120]} (SQLSTATE {code})")
