# SPDX-License-Identifier: Apache-2.0
"""What an operator may ask of the guard: prefixes that are denied, and limits of new connections.

Knows addresses and numbers; nothing of services, packets or who asks.
"""

from __future__ import annotations

import math
import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from xdpdirector.model.fields import NUMBER, Frozen, key

Prefix = IPv4Network | IPv6Network

MOST_DENIED = 1 << 20
FASTEST = 10_000_000  # connections per second
_SLOWEST = 1 / 3600
_LONGEST_BURST = 86400  # seconds
_UNITS = {"s": 1, "m": 60, "h": 3600}
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)/([smh])")


def parse_prefix(value: object) -> Prefix:
    """An IPv4 or IPv6 prefix, or an address that is one alone; ValueError says what is wrong."""
    if isinstance(value, (IPv4Network, IPv6Network)):
        return value
    text = str(value)
    try:
        prefix = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"'{text}' is not a prefix: write 203.0.113.0/24, 2001:db8:7::/48 or an address"
        ) from None
    if isinstance(prefix, IPv6Network) and (
        prefix.network_address.scope_id or prefix.network_address.ipv4_mapped
    ):
        raise ValueError(f"{prefix} is scoped or IPv4-mapped: packets have plain addresses, write those")
    host = text.partition("/")[0]
    alone = ip_network(host)
    if alone.network_address != prefix.network_address:
        raise ValueError(f"'{text}' has bits behind its prefix: write {prefix} for all of it, or {alone}")
    return prefix


def parse_rate(value: object) -> float:
    """Connections per second, from `1000/s`, `10/m`, `5/h` or a plain number of them."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        rate: float | None = float(value)
    else:
        rate = _per_second(str(value))
    if rate is None:
        raise ValueError(f"'{value}' is not a rate: write connections by time, like 1000/s, 10/m or 5/h")
    if not rate:
        raise ValueError(
            "a rate of 0 lets nobody in: put the backends into maintenance, or leave the limit out"
        )
    if not _SLOWEST <= rate <= FASTEST:
        raise ValueError(f"'{value}' is out of range: use 1/h to {FASTEST}/s")
    return rate


def _per_second(text: str) -> float | None:
    match = _RATE.fullmatch(text)
    return float(match[1]) / _UNITS[match[2]] if match else None


def format_rate(rate: float) -> str:
    """As it is written: with the shortest time that makes it a whole number, or else exactly."""
    whole = [f"{round(rate * seconds)}/{unit}" for unit, seconds in _UNITS.items()]
    written = (*whole, f"{rate * 3600:.9g}/h")
    return next((text for text in written if _per_second(text) == rate), f"{rate!r}/s")


PrefixField = Annotated[
    Prefix,
    BeforeValidator(parse_prefix),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "format": "prefix",
            "pattern": r"^[0-9A-Fa-f:.]+(/[0-9.]+)?$",
            "examples": ["203.0.113.0/24", "2001:db8:7::/48", "198.51.100.7"],
        }
    ),
]
Rate = Annotated[
    float,
    BeforeValidator(parse_rate),
    PlainSerializer(format_rate, return_type=str),
    WithJsonSchema(
        {
            "type": ["string", "number"],
            "pattern": f"^{_RATE.pattern}$",
            "minimum": _SLOWEST,
            "maximum": FASTEST,
            "examples": ["1000/s", "10/m", "5/h"],
        }
    ),
]
DenyReason = Annotated[str, Field(max_length=200)]
Burst = Annotated[int, Field(ge=1, le=10_000_000), NUMBER]


class DenyEntry(Frozen):
    """A prefix whose packets are dropped, and why."""

    prefix: PrefixField = Field(description="Whose packets to any service are dropped.")
    reason: DenyReason = key("", "Why; shown with the prefix.")


class GuardSpec(Frozen):
    """The guard in the configuration file."""

    deny: Annotated[tuple[DenyEntry, ...], Field(max_length=MOST_DENIED)] = key(
        (), "Prefixes whose packets to any service are dropped; those denied at run time come on top."
    )

    @model_validator(mode="after")
    def _prefixes_differ(self) -> Self:
        refuse_repeated(self.deny)
        return self


def refuse_repeated(entries: tuple[DenyEntry, ...]) -> None:
    """ValueError when a prefix stands twice."""
    seen: set[Prefix] = set()
    for entry in entries:
        if entry.prefix in seen:
            raise ValueError(f"prefix {entry.prefix} stands twice: remove one")
        seen.add(entry.prefix)


def _in_burst(rate: float, burst: int | None) -> int:
    """What a second earns, unless it is said."""
    return burst or max(1, math.ceil(rate))


def _refuse_long(rate: float, burst: int | None) -> None:
    if burst and burst / rate > _LONGEST_BURST:
        raise ValueError(
            f"a burst of {burst} takes longer than a day to be earned at {format_rate(rate)}: make it smaller"
        )


class SourceLimit(Frozen):
    """New connections of all clients under one prefix, for each such prefix."""

    rate: Rate = Field(description="New connections of each source over time.")
    burst: Burst | None = key(
        None, "How many it may open at once; by default what the rate gives in a second.", "connections"
    )
    prefix: Annotated[int, Field(ge=1, le=32), NUMBER] = key(32, "What is one source of IPv4.", "bits")
    prefix6: Annotated[int, Field(ge=1, le=128), NUMBER] = key(64, "What is one source of IPv6.", "bits")

    @model_validator(mode="after")
    def _burst_fits(self) -> Self:
        _refuse_long(self.rate, self.burst)
        return self

    @property
    def in_burst(self) -> int:
        return _in_burst(self.rate, self.burst)


class ServiceLimit(Frozen):
    """How many new connections a service takes, and each source of them (`per_source`). What is beyond is dropped
    and counted; TCP clients try again by themselves. `burst`, so many at once, is what the rate gives in a second
    if it is not said. Running connections are never limited.
    """

    rate: Rate | None = key(
        None, "New connections of the whole service over time; without it only sources are limited."
    )
    burst: Burst | None = key(
        None, "How many it takes at once; by default what the rate gives in a second.", "connections"
    )
    per_source: SourceLimit | None = key(None, "The same for each source.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.rate is None:
            if self.burst is not None:
                raise ValueError("burst needs a rate: add it, like 1000/s")
            if self.per_source is None:
                raise ValueError("there is no limit in it: say rate, per_source, or both")
        else:
            _refuse_long(self.rate, self.burst)
        return self

    @property
    def in_burst(self) -> int:
        """0 when the service as a whole has no limit."""
        return _in_burst(self.rate, self.burst) if self.rate else 0
