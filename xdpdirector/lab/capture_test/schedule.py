# SPDX-License-Identifier: Apache-2.0
"""Which frames of a capture are played in a lab, when, and with which addresses. Pure.

A frame is played when it is whole, fits on the wire of the lab and is for one host: a capture's ARP, neighbour
discovery and multicast are no clients' requests.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xdpdirector.replay.batch import Batch
from xdpdirector.replay.describe import headers_of

LONGEST = 1514  # an Ethernet frame, without tags
_TAGGED = LONGEST + 8
_ND = range(133, 138)  # ICMPv6 types of neighbour discovery (RFC 4861, 4)
_ICMP6 = 58


@dataclass(frozen=True)
class Played:
    """`number` in the capture; `due`: nanoseconds after the first one is sent."""

    number: int
    due: int
    frame: bytes


@dataclass(frozen=True)
class Bounds:
    """At most so many frames; a pause lasts so long at most, and all together so long; in seconds."""

    frames: int = 10_000
    pause: float = 0.2
    seconds: float = 60.0


@dataclass(frozen=True)
class Score:
    """What is played, and how many of the frames looked at are not. `is_cut`: there is more, beyond the bounds."""

    played: tuple[Played, ...]
    left_out: int
    is_cut: bool


def compose(batches: Iterable[Batch], bounds: Bounds, *, source: bytes, destination: bytes) -> Score:
    """`source` and `destination`: MACs of the client and of the director in the lab."""
    played: list[Played] = []
    left_out, due, before = 0, 0, None
    for batch in batches:
        for place, time in enumerate(batch.times.tolist()):
            due += 0 if before is None else min(max(0, time - before), round(bounds.pause * 1e9))
            before = time
            if len(played) == bounds.frames or due > bounds.seconds * 1e9:
                return Score(tuple(played), left_out, is_cut=True)
            frame = batch.frame(place)
            if batch.captured[place] == batch.lengths[place] and is_playable(frame):
                played.append(Played(batch.number + place, due, destination + source + frame[12:]))
            else:
                left_out += 1
    return Score(tuple(played), left_out, is_cut=False)


def is_playable(frame: bytes) -> bool:
    """A request, or what may be one."""
    headers = headers_of(frame)
    if headers is None or frame[0] & 1 or len(frame) > (LONGEST if headers.network == 14 else _TAGGED):
        return False
    kind = frame[headers.transport : headers.transport + 1] if headers.transport is not None else b""
    return not (headers.protocol == _ICMP6 and kind and kind[0] in _ND)
