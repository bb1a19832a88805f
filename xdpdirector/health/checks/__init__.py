# SPDX-License-Identifier: Apache-2.0
"""Health checks: one type, one file, one function `probe`; `registry` finds the one for a check's options.

A probe tries once and says nothing when the backend is fine. It knows the check's options, whom to ask, and how
to get a socket that leads there; it must not know services, thresholds or what follows from its answer.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from xdpdirector.model import Address
from xdpdirector.model.checks import CheckSpec
from xdpdirector.system import sanitize


class CheckFailed(Exception):  # noqa: N818 (a verdict on a backend, not an error of ours)
    """The backend is not fine; the text is a sentence for the operator. `absence`: nobody answered (`silent`), or
    nothing listens there; then asking another address of the same machine may tell why."""

    def __init__(self, sentence: str, *, absence: Literal["", "silent", "refused"] = "") -> None:
        super().__init__(sanitize.line(sentence))
        self.absence = absence


class CheckImpossible(Exception):  # noqa: N818
    """No try could be made, which says nothing about the backend: its verdict stays. The text is a sentence for the
    operator, as something is wrong with this director (no file descriptor, no port left) or its configuration."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sanitize.line(sentence))


class NoWay(CheckImpossible):
    """Nothing leads to the backend now. Whoever knows the way judges by that, and says why."""


@dataclass(frozen=True)
class Target:
    """Whom a check asks: `address` on the machine that has `backend`; they differ for a VIP. Port 0: none."""

    address: Address
    port: int
    backend: Address

    @property
    def is_vip(self) -> bool:
        return self.address != self.backend

    def direct(self) -> Target:
        """The same port of the backend's own address."""
        return replace(self, address=self.backend)

    @property
    def host(self) -> str:
        return f"the VIP {self.address} on {self.backend}" if self.is_vip else str(self.address)

    def __str__(self) -> str:
        """`port 80 of the VIP 192.0.2.10 on 192.0.2.21`."""
        return f"port {self.port} of {self.host}" if self.port else self.host


class Dial(Protocol):
    """A non-blocking socket (`kind`: SOCK_STREAM ...) from which `target.address` is the one on its backend.

    Not connected yet, and the caller's to close. Raises OSError, which says nothing about the backend: nobody was
    asked yet.
    """

    async def __call__(self, target: Target, kind: int, protocol: int = 0, /) -> socket.socket: ...


async def direct(
    target: Target,
    kind: int,
    protocol: int = 0,
    make: Callable[[int, int, int], Awaitable[socket.socket]] | None = None,
) -> socket.socket:
    """The plain Dial: for a backend's own address. `make`: where the socket comes from."""
    family, kind = (
        socket.AF_INET6 if target.address.version == 6 else socket.AF_INET,
        kind | socket.SOCK_NONBLOCK,
    )
    return await make(family, kind, protocol) if make else socket.socket(family, kind, protocol)


class Probe(Protocol):
    """One try: returns when the backend is fine, and leaves no socket open. From when it has a socket it takes
    `spec.timeout` at most.

    What it returns is the part of its weight that the server asks for, if it speaks of that: 0.75, or 0 for none.
    Raises CheckFailed, CheckImpossible or OSError.
    """

    async def __call__(self, spec: CheckSpec, target: Target, dial: Dial, /) -> float | None: ...
