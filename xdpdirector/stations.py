# SPDX-License-Identifier: Apache-2.0
"""Which destination MACs are this machine's, and telling the packet program.

A frame for another machine reaches the program where a switch floods it, or the interface is promiscuous. To send
it on would double it, or let it circle between two directors. The kernel takes a frame for its own when it has the
MAC of the interface, or of what is stacked there: VLAN devices, macvlans (keepalived's for VRRP), bonds, bridges.
Who puts the table into memory, and who follows the interfaces, is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from xdpdirector.interfaces import Interface

NO_MAC = (1 << 64) - 1


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


def tell(stations: Any, macs: Sequence[bytes]) -> None:
    """Write exactly these into the shared entry (`struct stations` of bpf/types.h), by words, so that none of them
    is missing in between. When there are more than it has room for, any MAC is this machine's."""
    known, places = stations["known"], stations["macs"][0]
    wanted = [int.from_bytes(mac, "little") for mac in macs]
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
