# SPDX-License-Identifier: Apache-2.0
"""Decodes BER and DER (X.690) as far as checks need it: tags of one byte, definite lengths.

Not with pyasn1, which can be kept busy for seconds, on the event loop, by data that a hostile server can
send. This decodes only what the caller reads. Pure; ValueError for malformed data.
"""

from __future__ import annotations

from dataclasses import dataclass

INTEGER, OCTETS, NULL, ENUMERATED, SEQUENCE = 0x02, 0x04, 0x05, 0x0A, 0x30


@dataclass(frozen=True)
class Element:
    """`tag`: the identifier octet."""

    tag: int
    content: memoryview

    def number(self, octets: int) -> int:
        """The value of an INTEGER or ENUMERATED of at most that many bytes."""
        if self.tag not in (INTEGER, ENUMERATED) or not 1 <= len(self.content) <= octets:
            raise ValueError("an integer has the wrong type or size")
        return int.from_bytes(self.content, signed=True)


def first(element: Element, number: int) -> list[Element]:
    """The first `number` elements inside the element."""
    found, rest = [], element.content
    for _ in range(number):
        if not rest:
            raise ValueError("an element is missing")
        one, rest = read(rest)
        found.append(one)
    return found


def read(data: bytes | memoryview) -> tuple[Element, memoryview]:
    """The first element, and the data after it."""
    view = memoryview(data)
    if len(view) < 2 or view[0] & 0x1F == 0x1F:
        raise ValueError("no element")
    length, start = view[1], 2
    if length & 0x80:
        start += length & 0x7F
        if not 2 < start <= 6 or len(view) < start:
            raise ValueError("the length is indefinite or too large")
        length = int.from_bytes(view[2:start])
    if len(view) - start < length:
        raise ValueError("it is broken off")
    return Element(view[0], view[start : start + length]), view[start + length :]
