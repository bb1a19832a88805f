# SPDX-License-Identifier: Apache-2.0
"""Which probe belongs to which type of check. A new type gets its file and one row here."""

from __future__ import annotations

from xdpdirector.checks import Probe, http, tcp
from xdpdirector.checkspec import CheckSpec
from xdpdirector.model import Address

PROBES: dict[str, Probe] = {"tcp": tcp.probe, "http": http.probe}


async def probe(spec: CheckSpec, address: Address, port: int) -> None:
    """The Probe for any check."""
    await PROBES[spec.type](spec, address, port)
