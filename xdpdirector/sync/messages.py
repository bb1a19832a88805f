# SPDX-License-Identifier: Apache-2.0
"""The messages of connection sync: four octets of length, one of type, then JSON or records.

    sender                                   receiver
    HELLO {protocol, name, fleet, ...}  ->
                                        <-   HELLO, or REFUSED {why}
    NAMES {fronts, backends}            ->   whenever numbers mean something else
    RECORDS4, RECORDS6, CLIENTS, FLUX   ->   `wire_type` of records, clients and flux
    BULK_END {records}                  ->   all that was there has been sent
    HEARTBEAT {at, vips}                ->   ten times a second; `vips`: what stands here, when that is new
                                        <-   HEARTBEAT {at, clock, bulk}: `bulk` asks for all of it again

Lengths are bounded before anything is read. Knows no sockets' life, no tables.
"""

from __future__ import annotations

import asyncio
import json
import struct
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from xdpdirector.sync import clients, flux, records
from xdpdirector.sync.scanner import Batch

PROTOCOL = 1
"""Grows when a director of the version before would misread a message."""
MOST = 1 << 20  # octets of a message
MOST_NAMES = 16 << 20
_HEAD = struct.Struct("!IB")


class Kind(IntEnum):
    """A message's type."""

    HELLO = 1
    REFUSED = 2
    NAMES = 3
    RECORDS4 = 4
    RECORDS6 = 5
    BULK_END = 6
    HEARTBEAT = 7
    CLIENTS = 8
    FLUX = 9


_TABLES = {
    Kind.RECORDS4: ("connections4", records.wire_type("connections4")),
    Kind.RECORDS6: ("connections6", records.wire_type("connections6")),
    Kind.CLIENTS: (clients.TABLE, clients.wire_type()),
    Kind.FLUX: (flux.TABLE, flux.wire_type()),
}
_KINDS = {table: kind for kind, (table, _) in _TABLES.items()}


class ProtocolError(Exception):
    """The peer sent what it must not; the text says what."""


class Message(NamedTuple):
    """`body`: a JSON object, or a batch of records."""

    kind: Kind
    body: dict[str, Any] | Batch


def document(kind: Kind, **fields: Any) -> bytes:
    """A message whose body is a JSON object."""
    return _framed(kind, json.dumps(fields, separators=(",", ":")).encode())


def batch(batch: Batch) -> bytes:
    """A message with records."""
    return _framed(_KINDS[batch.table], batch.records.tobytes())


def _framed(kind: Kind, body: bytes) -> bytes:
    return _HEAD.pack(len(body), kind) + body


async def read(reader: asyncio.StreamReader) -> Message:
    """The next message. ProtocolError; asyncio.IncompleteReadError when the peer has gone."""
    length, number = _HEAD.unpack(await reader.readexactly(_HEAD.size))
    try:
        kind = Kind(number)
    except ValueError:
        raise ProtocolError(f"a message of the unknown type {number}") from None
    if length > (MOST_NAMES if kind is Kind.NAMES else MOST):
        raise ProtocolError(f"a message {kind.name} of {length} octets")
    body = await reader.readexactly(length)
    if kind in _TABLES:
        return Message(kind, _batch(*_TABLES[kind], body))
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a message {kind.name} that is no JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise ProtocolError(f"a message {kind.name} that is no object")
    return Message(kind, parsed)


def _batch(table: str, shape: np.dtype[Any], body: bytes) -> Batch:
    if len(body) % shape.itemsize:
        raise ProtocolError(f"records of {shape.itemsize} octets in a message of {len(body)}")
    return Batch(table, np.frombuffer(body, shape))
