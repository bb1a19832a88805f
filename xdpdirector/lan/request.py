# SPDX-License-Identifier: Apache-2.0
"""Sends a probe and waits for the response; a probe is sent three times before the result is silence.

Handles sending and waiting; `vip_probe` and `rules` interpret the responses.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection
from itertools import count

from xdpdirector.lan import frame_builder
from xdpdirector.lan.frame_builder import Ends
from xdpdirector.lan.frame_parser import (
    Claim,
    Return,
    Token,
    echo_token,
    understand,
)
from xdpdirector.lan.packet_socket import Wire
from xdpdirector.lan.timing import Pace
from xdpdirector.model import Address

TRIES = 3
PORTS = range(20000, 30000)  # source ports, below the ephemeral ports (ip_local_port_range)

OnClaim = Callable[[str, Claim], None]


class Inquiry:
    """Opens and closes its wire. `on_claim(interface, claim)` gets every claim that is received."""

    def __init__(self, wire: Wire, on_claim: OnClaim, pace: Pace, *, tries: int = TRIES) -> None:
        self.pace, self.tries = pace, tries
        self._wire, self._on_claim = wire, on_claim
        self._ident, self._port = random.getrandbits(16), random.choice(PORTS)
        self._sequences = count(1)
        self._wanted: frozenset[Address] = frozenset()
        self._waiting: dict[Token, tuple[asyncio.Future[Return], Ends]] = {}

    def open(self) -> None:
        """OSError without permission."""
        self._wire.open(self._heard)
        self.listen(())

    def close(self) -> None:
        self._wire.close()

    def listen(self, addresses: Collection[Address]) -> None:
        """Receive claims to these addresses."""
        self._wanted = frozenset(addresses)
        self._wire.listen(addresses, self._ident, self._port)

    def who_has(self, interface: str, address: Address, source: Address, mac: bytes) -> None:
        """Send to all: who has the address? Answers arrive as claims."""
        self._wire.send(interface, frame_builder.who_has(address, source, mac))

    async def echo(self, interface: str, ends: Ends) -> Return | None:
        """The response to an echo request; None without one."""
        for _ in range(self.tries):
            sequence = next(self._sequences) & 0xFFFF
            frame = frame_builder.echo(ends, self._ident, sequence)
            answer = await self._ask(interface, frame, echo_token(self._ident, sequence), ends)
            if answer:
                return answer
        return None

    async def knock(self, interface: str, ends: Ends, port: int) -> Return | None:
        """The response to a SYN to that TCP port; None without one. A connection that opens is reset at once."""
        for _ in range(self.tries):
            sequence = random.getrandbits(32)
            frame = frame_builder.segment(ends, (self._port, port), frame_builder.SYN, sequence)
            answer = await self._ask(interface, frame, Token("syn", sequence), ends)
            if answer:
                if answer.opened:
                    reset = frame_builder.segment(ends, (self._port, port), frame_builder.RST, sequence + 1)
                    self._wire.send(interface, reset)
                return answer
        return None

    async def _ask(self, interface: str, frame: bytes, token: Token, ends: Ends) -> Return | None:
        answer: asyncio.Future[Return] = asyncio.get_running_loop().create_future()
        self._waiting[token] = (answer, ends)
        try:
            self._wire.send(interface, frame)
            async with asyncio.timeout(self.pace.answer):
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._waiting[token]

    def _heard(self, interface: str, frame: bytes) -> None:
        said = understand(frame)
        if isinstance(said, Claim):
            if said.address in self._wanted:  # the socket filter may be coarse
                self._on_claim(interface, said)
        elif said and said.token in self._waiting:
            answer, ends = self._waiting[said.token]
            if not answer.done() and _comes_from_outside(said, ends):
                answer.set_result(said)


def _comes_from_outside(said: Return, ends: Ends) -> bool:
    """False for a reply from this host itself, over `lo`, to a bounced probe, if it has the address too."""
    if said.mac in (ends.source_mac, bytes(6)):
        return False
    return said.kind != "reply" or said.sender == ends.target
