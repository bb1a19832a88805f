# SPDX-License-Identifier: Apache-2.0
"""This machine's destination MACs, and writing them for the packet program.

A frame for another machine reaches the program if a switch floods it or the interface is promiscuous.
Forwarding it would duplicate it, or make it loop between two directors. The kernel accepts frames for the MAC
of the interface and of the devices stacked on it: VLAN devices, macvlans (keepalived's for VRRP), bonds,
bridges. Does not know who maps the memory or tracks the interfaces.

A previous MAC of an interface stays valid for a while (`FormerMacs`): neighbours send to it until they learn
the new one. When an interface gets a MAC back, the kernel accepts frames for it before the program can be
told, and the host, which has the VIP but no such connection, would answer frames that the program leaves to
the kernel.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from xdpdirector.net.interfaces import Interface
from xdpdirector.system.memory_order import barrier

NO_MAC = (1 << 64) - 1
FORMER_FOR = 60.0  # seconds


class FormerMacs:
    """Previous MACs of interfaces with the program. Not of interfaces stacked on them: a virtual router's MAC
    moves to another machine, and its frames with it."""

    def __init__(self, carrying: Iterable[str], now: Callable[[], float] = time.monotonic) -> None:
        self._names, self._now = frozenset(carrying), now
        self._present: dict[str, bytes] = {}
        self._until: dict[bytes, float] = {}

    def see(self, links: Collection[Interface]) -> list[bytes]:
        """Update with the present interfaces. Returns former MACs that no interface has now, most recent
        first."""
        now = self._now()
        present = {link.name: link.mac for link in links if link.name in self._names and link.mac}
        for name, mac in present.items():
            if (before := self._present.get(name, mac)) != mac:
                self._until[before] = now + FORMER_FOR
        self._present |= present
        self._until = {mac: until for mac, until in self._until.items() if until > now}
        taken = {link.mac for link in links}
        return sorted(self._until.keys() - taken, key=lambda mac: -self._until[mac])


def own_macs(links: Collection[Interface], carrying: Iterable[str]) -> list[bytes]:
    """The destination MACs of this machine on the interfaces with the program; the interfaces' own MACs
    first."""
    return list(dict.fromkeys(link.mac for link in related(links, carrying) if link.mac))


def related(links: Collection[Interface], carrying: Iterable[str]) -> list[Interface]:
    """The interfaces with the program, and all above and below them, which may see the same frames."""
    below = _closure(
        _named(links, carrying), lambda link: (other for other in links if _is_below(other, link))
    )
    return _closure(below, lambda link: (other for other in links if _is_below(link, other)))


def covered(links: Collection[Interface], carrying: Iterable[str]) -> list[Interface]:
    """The interfaces whose frames all pass the program: those that carry it, their ports, and all above them.

    Not those below a macvlan or VLAN device with the program: their other frames do not pass it.
    """
    first = _named(links, carrying)
    ports = _closure(first, lambda link: (other for other in links if other.master == link.index))
    return _closure(first, lambda link: (other for other in links if _is_below(link, other))) + [
        link for link in ports if link not in first
    ]


def _named(links: Collection[Interface], names: Iterable[str]) -> list[Interface]:
    by_name = {link.name: link for link in links}
    return [by_name[name] for name in names if name in by_name]


def _is_below(lower: Interface, upper: Interface) -> bool:
    return upper.lower == lower.index or lower.master == upper.index


def _closure(
    links: Iterable[Interface], following: Callable[[Interface], Iterable[Interface]]
) -> list[Interface]:
    found = list(links)
    for link in found:  # `found` grows in the loop
        found += [other for other in following(link) if other not in found]
    return found


def write(stations: Any, macs: Sequence[bytes], former: Sequence[bytes] = ()) -> None:
    """Write exactly these MACs into the shared entry (`struct stations` of bpf/types.h), word by word, so
    that none is missing in between. If `macs` do not fit, every MAC counts as own; of `former`, as many are
    written as fit."""
    known, places = stations["known"], stations["macs"][0]
    room = max(0, len(places) - len(macs)) if macs else 0
    wanted = [int.from_bytes(mac, "little") for mac in (*macs, *former[:room])]
    if not wanted or len(wanted) > len(places):
        known[0] = 0
        return
    present = places.tolist()
    free, stale = (0, NO_MAC), [mac for mac in present if mac not in wanted]
    to_fill = [*_at(present, free), *_at(present, [mac for mac in stale if mac not in free])]
    for mac in wanted:
        if mac not in present:
            places[to_fill.pop(0)] = mac
    barrier()
    for place in _at(places.tolist(), [0, *stale]):
        places[place] = NO_MAC
    barrier()
    known[0] = 1


def read(stations: Any) -> list[bytes]:
    """The MACs that were written; empty if every MAC counts as own."""
    macs = [int(mac).to_bytes(6, "little") for mac in stations["macs"][0] if mac not in (0, NO_MAC)]
    return macs if stations["known"][0] else []


def any_own(stations: Any) -> bytes | None:
    """One of this machine's MACs, None if unknown."""
    return next(iter(read(stations)), None)


def _at(words: Sequence[int], these: Collection[int]) -> list[int]:
    return [place for place, word in enumerate(words) if word in these]
