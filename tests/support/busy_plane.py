# SPDX-License-Identifier: Apache-2.0
"""A fake plane on which much happens: connections, counters, decisions, and an answer to every question."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from ipaddress import ip_address

from tests.support.fake_plane import FakePlane
from xdpdirector.dataplane.explain_types import Finding, Question
from xdpdirector.dataplane.trace_types import Decision, Selection
from xdpdirector.model import Key
from xdpdirector.model.connection_query import ConnectionQuery
from xdpdirector.model.status import ConnectionCounts, ConnectionPage, ConnectionView, Traffic

CLIENT, VIP = ip_address("198.51.100.7"), ip_address("192.0.2.10")
FRAME = bytes.fromhex("020000000015 020000000001 0800") + bytes(46)
ROOM = 100_000


class LivelyPlane(FakePlane):
    """Backends whose name ends in an even digit have connections, and a packet is decided on at every look."""

    def __init__(self) -> None:
        super().__init__()
        self.room = ROOM

    def counts(self, key: Key) -> ConnectionCounts:
        busy = key[1][-1] in "02468"
        return ConnectionCounts(active=3, inactive=2, pending=1) if busy else ConnectionCounts()

    def traffic(self, keys: Collection[Key]) -> dict[Key, Traffic]:
        return {key: Traffic(packets=10, bytes=600, connections=self.counts(key).active) for key in keys}

    def verdicts(self) -> dict[str, int]:
        return {"forward_connection": 10, "drop_denied": 1}

    def connections(self, query: ConnectionQuery) -> Callable[[], ConnectionPage]:
        wanted = (query.service, query.backend, query.client)
        found = [
            ConnectionView(
                service=key[0],
                backend=key[1],
                client=CLIENT,
                client_port=1024 + number,
                vip=VIP,
                port=80,
                protocol="tcp",
                state="established",
                idle=0.5,
            )
            for key in ((name, member.name) for name, plan in self.plans.items() for member in plan.members)
            for number in range(self.counts(key).active)
            if all(ask in (None, told) for ask, told in zip(wanted, (*key, str(CLIENT)), strict=True))
        ]
        behind = query.place + query.limit
        return lambda: ConnectionPage(
            tuple(found[query.place : behind]), behind if behind < len(found) else None
        )

    def watch(self, selection: Selection | None, seconds: float) -> None:
        super().watch(selection, seconds)
        self.told = [] if selection is None else [_decision()]

    def decisions(self, most: int) -> tuple[int, list[Decision]]:
        return 1, [_decision()]

    async def explain(self, question: Question) -> Finding:
        return Finding(
            action="pass",
            reason="pass_not_vip",
            facts=frozenset(),
            service=None,
            backend=None,
            slot=None,
            frame=FRAME,
            interface="eth0",
            way_out=None,
        )


def _decision() -> Decision:
    return Decision(
        time=time.time(),
        client=CLIENT,
        client_port=1024,
        vip=VIP,
        port=80,
        protocol="tcp",
        flags="S",
        reason="forward_new",
        service=None,
        backend=None,
        interface="eth0",
        length=len(FRAME),
        frame=FRAME,
    )
