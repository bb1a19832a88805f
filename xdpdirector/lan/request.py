# SPDX-License-Identifier: Apache-2.0
"""Asks the network something and waits for what comes back: each question three times before silence is an answer.

Knows wires and waiting; what the answers mean for backends and VIPs is decided in `vip_probe` and `rules`.
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
PORTS = range(20000, 30000)  # below those that Linux gives away (ip_local_port_range)

OnClaim = Callable[[str, Claim], None]


class Inquiry:
    """Over a wire that it opens and closes. `on_claim(interface, claim)` gets every claim that is heard."""

    def __init__(self, wire: Wire, on_claim: OnClaim, pace: Pace, *, tries: int = TRIES) -> None:
        self.pace, self.tries = pace, tries
        self._wire, self._on_claim = wire, on_claim
        self._ident, self._port = random.getrandbits(16), random.choice(PORTS)
        self._sequences = count(1)
        self._wanted: frozenset[Address] = frozenset()
        self._waiting: dict[Token, tuple[asyncio.Future[Return], Ends]] = {}

    def open(self) -> None:
        """OSError when this process may not."""
        self._wire.open(self._heard)
        self.listen(())

    def close(self) -> None:
        self._wire.close()

    def listen(self, addresses: Collection[Address]) -> None:
        """Claims to which addresses are of interest."""
        self._wanted = frozenset(addresses)
        self._wire.listen(addresses, self._ident, self._port)

    def who_has(self, interface: str, address: Address, source: Address, mac: bytes) -> None:
        """Ask all; claims will tell."""
        self._wire.send(interface, frame_builder.who_has(address, source, mac))

    async def echo(self, interface: str, ends: Ends) -> Return | None:
        """What an echo request leads to; None: nothing."""
        for _ in range(self.tries):
            sequence = next(self._sequences) & 0xFFFF
            frame = frame_builder.echo(ends, self._ident, sequence)
            answer = await self._ask(interface, frame, echo_token(self._ident, sequence), ends)
            if answer:
                return answer
        return None

    async def knock(self, interface: str, ends: Ends, port: int) -> Return | None:
        """What a SYN to that TCP port leads to. A connection that opens is taken back at once."""
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
            if said.address in self._wanted:  # the wire's filter may be coarser
                self._on_claim(interface, said)
        elif said and said.token in self._waiting:
            answer, ends = self._waiting[said.token]
            if not answer.done() and _comes_from_outside(said, ends):
                answer.set_result(said)


def _comes_from_outside(said: Return, ends: Ends) -> bool:
    """A question that bounced is answered by this host itself, over `lo`, when it has the address too."""
    if said.mac in (ends.source_mac, bytes(6)):
        return False
    return said.kind != "reply" or said.sender == ends.target
