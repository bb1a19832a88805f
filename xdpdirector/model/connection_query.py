# SPDX-License-Identifier: Apache-2.0
"""Which connections of the table are asked for, and which page of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ConnectionQuery:
    """Connections of this service, to the backend of this name, of this client (an address or a prefix); None: of
    any. At most `limit` of them, from the place `place` in the table on."""

    service: str | None = None
    backend: str | None = None
    client: str | None = None
    limit: int = 100
    place: int = 0
