# SPDX-License-Identifier: Apache-2.0
"""Finds what a daemon would refuse in a valid configuration: maps that are too small, files it cannot read.

Uses no kernel, network or daemon: the result is the same on each machine with these files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from xdpdirector.config.json_pointer import pointer
from xdpdirector.dataplane.maps import port_prefixes
from xdpdirector.model import Configuration, Listener
from xdpdirector.model.checks import Secured
from xdpdirector.system import files


def refusals(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """A sentence for each, and a JSON pointer to what it is about."""
    yield from _room(configuration)
    yield from _authorities(configuration)


def _room(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """As the data plane counts; see `xdpdirector.dataplane.capacity.Capacity.require_room`."""
    services, sizes = configuration.services.values(), configuration.sizes
    needs = {
        "services": len(services),
        "backends": sum(len(spec.backends) for spec in services),
        "members": max((len(spec.backends) for spec in services), default=0),
        "ring_slots": sum(spec.ring_slots for spec in services if spec.scheduler.is_ring),
        "listeners": max(_entries(configuration).values(), default=0),
    }
    for name, need in needs.items():
        room = getattr(sizes, name)
        if need > room:
            text = f"there is room for {room} {name.replace('_', ' ')}, and {need} are wanted: raise sizes.{name}"
            yield text, pointer("sizes", name)


def _entries(configuration: Configuration) -> Counter[tuple[int, bool]]:
    """By map: one for each version of IP, and for single ports and ranges."""
    found: Counter[tuple[int, bool]] = Counter()
    for spec in configuration.services.values():
        for listener in spec.listeners:
            found[listener.address.version, listener.is_exact] += _places(listener)
    return found


def _places(listener: Listener) -> int:
    return 1 if listener.is_exact else sum(1 for _ in port_prefixes(listener.ports))


def _authorities(configuration: Configuration) -> Iterator[tuple[str, str]]:
    for name, spec in configuration.services.items():
        if not isinstance(spec.check, Secured) or spec.check.ca is None:
            continue
        try:
            files.read(spec.check.ca)
        except OSError as error:
            place = pointer("services", name, "check", "ca")
            yield f"check of service '{name}': ca {spec.check.ca} cannot be read: {error.strerror}", place
