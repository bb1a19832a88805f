# SPDX-License-Identifier: Apache-2.0
"""Health checks: one type, one file, one function `probe`; `registry` finds the one for a check's options.

A probe tries once and says nothing when the backend is fine. It knows the check's options, an address and a
port; it must not know services, thresholds or what follows from its answer.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from xdpdirector.checkspec import CheckSpec
from xdpdirector.model import Address


class CheckFailed(Exception):  # noqa: N818 (a verdict on a backend, not an error of ours)
    """The backend is not fine; the text is a sentence for the operator."""


class CheckImpossible(Exception):  # noqa: N818
    """This director could not even try (no file descriptor, no port left): says nothing about the backend."""


class Probe(Protocol):
    """One try, at most `spec.timeout` long: returns when the backend is fine, and leaves no socket open.

    Raises CheckFailed or CheckImpossible.
    """

    async def __call__(self, spec: CheckSpec, address: Address, port: int, /) -> None: ...


class FakeProbe:
    """A Probe for tests: fails where `failures` has a sentence for the address; counts what it was asked."""

    def __init__(self) -> None:
        self.failures: dict[Address, str] = {}
        self.asked: Counter[tuple[Address, int]] = Counter()

    async def __call__(self, spec: CheckSpec, address: Address, port: int) -> None:
        self.asked[address, port] += 1
        if address in self.failures:
            raise CheckFailed(self.failures[address])


def place(address: Address, port: int) -> str:
    """Address and port as people write them: `192.0.2.21:80`, `[2001:db8::21]:80`."""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
