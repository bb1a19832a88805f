# SPDX-License-Identifier: Apache-2.0
"""Which destination MACs are this machine's, and telling the packet program.

A frame for another machine reaches the program where a switch floods it, or the interface is promiscuous. To send
it on would double it, or let it circle between two directors. The kernel takes a frame for its own when it has the
MAC of the interface, or of what is stacked there: VLAN devices, macvlans (keepalived's for VRRP), bonds, bridges.
Who puts the table into memory, and who follows the interfaces, is not known here.

What an interface had for a MAC a moment ago stays this machine's for a while (`FormerMacs`): neighbours send to it
until they have heard of the other one. When it comes back, the kernel takes frames for it before anybody can say
so. A frame that the program leaves to the kernel then meets a host that has the VIP and knows no such connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from xdpdirector.net.interfaces import Interface

NO_MAC = (1 << 64) - 1
FORMER_FOR = 60.0  # seconds


class FormerMacs:
    """What interfaces that carry the program had for MACs. Not those of interfaces that stand on them: a virtual
    router's MAC goes to another machine, and its frames with it."""

    def __init__(self, carrying: Iterable[str], now: Callable[[], float] = time.monotonic) -> None:
        self._names, self._now = frozenset(carrying), now
        self._present: dict[str, bytes] = {}
        self._until: dict[bytes, float] = {}

    def see(self, links: Collection[Interface]) -> list[bytes]:
        """The interfaces are these now. Former MACs that no interface has now, first the one that was left last."""
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
    """The MACs that frames for this machine can have on the interfaces that carry the program: first their own."""
    return list(dict.fromkeys(link.mac for link in related(links, carrying) if link.mac))


def related(links: Collection[Interface], carrying: Iterable[str]) -> list[Interface]:
    """The interfaces that carry the program, first, and all that see the same frames, above and below them."""
    by_name = {link.name: link for link in links}
    first = [by_name[name] for name in carrying if name in by_name]
    below = _closure(first, lambda link: (other for other in links if _is_below(other, link)))
    return _closure(below, lambda link: (other for other in links if _is_below(link, other)))


def _is_below(lower: Interface, upper: Interface) -> bool:
    return upper.lower == lower.index or lower.master == upper.index


def _closure(
    links: Iterable[Interface], following: Callable[[Interface], Iterable[Interface]]
) -> list[Interface]:
    found = list(links)
    for link in found:  # grows meanwhile
        found += [other for other in following(link) if other not in found]
    return found


def tell(stations: Any, macs: Sequence[bytes], former: Sequence[bytes] = ()) -> None:
    """Write exactly these into the shared entry (`struct stations` of bpf/types.h), by words, so that none of them
    is missing in between. When there are more than it has room for, any MAC is this machine's; of `former` ones
    only as many are written as there is room for."""
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
    for place in _at(places.tolist(), [0, *stale]):
        places[place] = NO_MAC
    known[0] = 1


def told(stations: Any) -> list[bytes]:
    """The MACs that were told; none when any is this machine's."""
    macs = [int(mac).to_bytes(6, "little") for mac in stations["macs"][0] if mac not in (0, NO_MAC)]
    return macs if stations["known"][0] else []


def any_own(stations: Any) -> bytes | None:
    """One of this machine's MACs, when they are known."""
    return next(iter(told(stations)), None)


def _at(words: Sequence[int], these: Collection[int]) -> list[int]:
    return [place for place, word in enumerate(words) if word in these]
