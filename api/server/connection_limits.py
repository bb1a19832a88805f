# SPDX-License-Identifier: Apache-2.0
"""How many connections there may be, and whose: nobody takes all places, and who is in charge always finds one.

Over TCP a client is a stranger until it has said who it is. Strangers have places of their own, of which the one
that waits longest goes when another comes. Over the unix socket the kernel says whose a connection is. Knows
neither sockets nor what is asked.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from xdpdirector.api.auth.identity import Peer, whence
from xdpdirector.errors import OverloadedError

ROOT = 0


@dataclass(frozen=True)
class Room:
    """Connections over TCP: of those who have said who they are, `tcp`, and `reserved` more of administrators;
    `strangers`; of all, from one address (of IPv6: one /64), `address`. Over the unix socket: of all users but
    root, `unix`; of one of them, `user`; of root, again `unix`."""

    tcp: int = 128
    address: int = 32
    strangers: int = 64
    unix: int = 256
    user: int = 128
    reserved: int = 32


class Guest:
    """One connection that is inside."""

    def __init__(self, guests: Guests, peer: Peer) -> None:
        self._guests, self.peer = guests, peer
        self.is_known = peer.uid is not None
        self.is_inside = True
        self.expel: Callable[[], None] = lambda: None
        """Ends the connection."""

    def introduce(self, *, privileged: bool) -> None:
        """It has said who it is. OverloadedError when there is no room for one more."""
        self._guests.introduce(self, privileged)

    def leave(self) -> None:
        """Can be called twice."""
        if self.is_inside:
            self.is_inside = False
            self._guests.forget(self)


class Guests:
    """Counts connections that live."""

    def __init__(self, room: Room) -> None:
        self._room, self._known = room, 0
        self._by_place = Counter[str]()
        self._strangers: OrderedDict[Guest, None] = OrderedDict()

    def refusal(self, peer: Peer) -> str:
        """Why this one cannot come in; empty when it can."""
        place = whence(peer)
        if peer.uid == ROOT:
            return f"{self._room.unix} connections of root are open" * (
                self._by_place[place] >= self._room.unix
            )
        if peer.uid is not None:
            if self._by_place[place] >= self._room.user:
                return f"{self._room.user} connections of {place} are open on the socket"
            others = sum(count for name, count in self._by_place.items() if name.startswith("uid "))
            others -= self._by_place[f"uid {ROOT}"]
            return f"{self._room.unix} connections are open on the socket" * (others >= self._room.unix)
        if self._by_place[place] >= self._room.address:
            return f"{self._room.address} connections from {place} are open"
        return ""

    def enter(self, peer: Peer) -> Guest:
        """It takes the place of a stranger where there is none left."""
        guest = Guest(self, peer)
        self._by_place[whence(peer)] += 1
        if not guest.is_known:
            while len(self._strangers) >= self._room.strangers:
                oldest = next(iter(self._strangers))
                oldest.leave()
                oldest.expel()
            self._strangers[guest] = None
        return guest

    def introduce(self, guest: Guest, privileged: bool) -> None:
        room = self._room.tcp + (self._room.reserved if privileged else 0)
        if self._known >= room:
            raise OverloadedError(
                f"{self._known} connections are open: close some of them, or come back later."
            )
        if guest.is_inside:
            self._strangers.pop(guest, None)
            guest.is_known = True
            self._known += 1

    def forget(self, guest: Guest) -> None:
        place = whence(guest.peer)
        self._by_place[place] -= 1
        if not self._by_place[place]:
            del self._by_place[place]
        if guest.peer.uid is None and guest.is_known:
            self._known -= 1
        self._strangers.pop(guest, None)
