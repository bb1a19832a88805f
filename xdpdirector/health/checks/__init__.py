# SPDX-License-Identifier: Apache-2.0
"""Health checks: one module with one function `probe` per type; `registry` finds it by the check's options.

A probe tries once, and returns if the backend is healthy. It knows the check's options, the target, and how
to get a socket to it; it must not know services, thresholds or what follows from the result.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from xdpdirector.model import Address
from xdpdirector.model.checks import CheckSpec
from xdpdirector.model.tunnel import Encapsulation
from xdpdirector.system import sanitize


class CheckFailed(Exception):  # noqa: N818 (a verdict on a backend, not an error of ours)
    """The backend is not healthy; the text is a sentence for the operator. `absence`: no answer (`silent`),
    or the port is closed there; then probing another address of the same machine may show why."""

    def __init__(self, sentence: str, *, absence: Literal["", "silent", "refused"] = "") -> None:
        super().__init__(sanitize.line(sentence))
        self.absence = absence


class CheckImpossible(Exception):  # noqa: N818
    """The probe could not be made, which says nothing about the backend: its state stays. The text is a
    sentence for the operator: something is wrong with this director (no file descriptor, no port left) or its
    configuration."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sanitize.line(sentence))


class NoWay(CheckImpossible):
    """There is no path to the backend now. The state of the path is reported elsewhere."""


@dataclass(frozen=True)
class Target:
    """What a probe connects to: `address` on the machine that has `backend`; they differ for a VIP. Port 0:
    none. `encapsulation`: how packets for a VIP reach the machine, None for direct routing."""

    address: Address
    port: int
    backend: Address
    encapsulation: Encapsulation | None = None

    @property
    def is_vip(self) -> bool:
        return self.address != self.backend

    @property
    def is_routed(self) -> bool:
        """Whether the backend may be behind a gateway."""
        return self.encapsulation is not None

    def direct(self) -> Target:
        """The target with the backend's own address and the same port."""
        return replace(self, address=self.backend)

    @property
    def host(self) -> str:
        return f"the VIP {self.address} on {self.backend}" if self.is_vip else str(self.address)

    def __str__(self) -> str:
        """`port 80 of the VIP 192.0.2.10 on 192.0.2.21`."""
        return f"port {self.port} of {self.host}" if self.port else self.host


class Dial(Protocol):
    """Makes a non-blocking socket (`kind`: SOCK_STREAM ...) from which `target.address` leads to its backend.

    Not connected yet, and closed by the caller. OSError says nothing about the backend: nothing was sent yet.
    """

    async def __call__(self, target: Target, kind: int, protocol: int = 0, /) -> socket.socket: ...


async def direct(
    target: Target,
    kind: int,
    protocol: int = 0,
    make: Callable[[int, int, int], Awaitable[socket.socket]] | None = None,
) -> socket.socket:
    """The plain Dial, for a backend's own address. `make`: creates the socket."""
    family, kind = (
        socket.AF_INET6 if target.address.version == 6 else socket.AF_INET,
        kind | socket.SOCK_NONBLOCK,
    )
    return await make(family, kind, protocol) if make else socket.socket(family, kind, protocol)


class Probe(Protocol):
    """One attempt: returns if the backend is healthy, and leaves no socket open. Takes at most `spec.timeout`
    from when it has a socket.

    Returns the share of its weight that the server requests, if it does: 0.75, or 0 for none. Raises
    CheckFailed, CheckImpossible or OSError.
    """

    async def __call__(self, spec: CheckSpec, target: Target, dial: Dial, /) -> float | None: ...
