# SPDX-License-Identifier: Apache-2.0
"""Monitors the network while the director runs: probes in rounds, listens, and reports what is wrong.

Between rounds it reacts to events: a claim to a VIP, a changed MAC, a failed check. Decides nothing (`rules`)
and changes nothing on the network. Runs on one asyncio loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from datetime import datetime
from functools import partial
from math import inf

from xdpdirector.lan.expected import Machines, Scene, Target, machines_of, scene
from xdpdirector.lan.findings import Ledger, Macs, Publisher
from xdpdirector.lan.frame_parser import Claim, Manner
from xdpdirector.lan.host import HostNetwork, Kernel
from xdpdirector.lan.messages import Draft, blind, replies_dropped
from xdpdirector.lan.observations import Claims
from xdpdirector.lan.packet_socket import PacketWire, Wire
from xdpdirector.lan.prober import Asking
from xdpdirector.lan.request import Inquiry
from xdpdirector.lan.rules import judge
from xdpdirector.lan.timing import Pace, ProbeQueue
from xdpdirector.lan.types import Finding, LanView, NeighbourView, PresenceView
from xdpdirector.lan.vip_probe import Verdict
from xdpdirector.model import Address
from xdpdirector.model.lan import LanSpec
from xdpdirector.model.status import utc_now
from xdpdirector.net.interfaces import Interface
from xdpdirector.net.next_hop import Route
from xdpdirector.net.own_macs import own_macs
from xdpdirector.state.edits import Services
from xdpdirector.system.background_tasks import BackgroundTasks, first_cause

Known = Mapping[tuple[Address, Address], tuple[Verdict, datetime]]


def report(now: Scene, findings: tuple[Finding, ...], macs: Macs, known: Known, *, probing: bool) -> LanView:
    """`known`: by (backend address, VIP)."""
    return LanView(
        probing=probing,
        findings=findings,
        vips={str(vip): now.held.get(vip, ()) for vip in sorted(now.vips, key=str)},
        neighbours=tuple(_neighbour(target, macs) for target in now.targets.values()),
        presence=tuple(_presences(now, known)),
    )


def _neighbour(target: Target, macs: Macs) -> NeighbourView:
    route, known = target.route, macs.of(target.address)
    return NeighbourView(
        address=target.address,
        backends=target.names,
        state=route.kind,
        mac=route.mac.hex(":") if route.mac else None,
        interface=route.interface or None,
        why=route.why,
        mac_changes=known.changes if known else 0,
        mac_changed_at=known.at if known else None,
    )


def _presences(now: Scene, known: Known) -> Iterable[PresenceView]:
    for (address, vip), (verdict, at) in known.items():
        if address in now.targets and vip in now.targets[address].vips:
            yield PresenceView(
                address=address,
                backends=now.targets[address].names,
                vip=vip,
                presence=verdict.presence,
                evidence=verdict.evidence,
                asked_at=at,
            )


ROUNDS_KEPT = 2  # rounds for which an answer counts

log = logging.getLogger(__name__)


class Lan:
    """`services` and `route` return the present services and routes; `interfaces` have the packet program."""

    def __init__(
        self,
        spec: LanSpec,
        interfaces: Collection[str],
        events: Publisher,
        *,
        services: Callable[[], Services],
        route: Callable[[Address], Route],
        wire: Wire | None = None,
        surroundings: HostNetwork | None = None,
        pace: Pace | None = None,
        tasks: BackgroundTasks | None = None,
    ) -> None:
        self._background = tasks or BackgroundTasks()
        self._spec, self._interfaces, self._pace = spec, interfaces, pace or Pace()
        self._services, self._route = services, route
        self._machines: Machines = machines_of({})
        self._surroundings = surroundings or Kernel()
        self._inquiry = Inquiry(wire or PacketWire(), self._on_claim, self._pace)
        self._asking = Asking(self._inquiry, self._judge_soon, self.suspect)
        self._claims, self._ledger = Claims(), Ledger(events)
        self._macs = Macs(events)
        self._links: list[Interface] = []
        self._own: set[bytes] = set()
        self._gateways: Mapping[Address, bytes | None] = {}
        self._lost, self._doubted = ProbeQueue(self._pace.searches), ProbeQueue(self._pace.searches)
        self._sought: set[Address] = set()
        self._allowed = self._pace.neighbours
        self._lost_since: dict[Address, float] = {}
        self._rounds_begun = deque([-inf], maxlen=ROUNDS_KEPT)
        self._blind: tuple[Draft, ...] = ()
        self._probing = False
        self._judging: asyncio.Handle | None = None
        self._tasks: list[asyncio.Task[None]] = []

    # Start and stop

    async def start(self) -> None:
        """Start to probe and listen. Missing permission is a finding, not an error."""
        self._open()
        works = {
            "the watch over the network": self._rounds,
            "the search on the network": self._search,
            "the doubt about VIPs on the network": self._doubt,
        }
        self._tasks = [
            self._background.start(name, partial(self._kept_up, work)) for name, work in works.items()
        ]

    async def look_once(self) -> None:
        """One round instead of `start`; backends without a MAC by then count as lost."""
        self._open()
        self._allowed = 0.0
        await self.round()

    def _open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._surroundings.open()
        if self._spec.probe:
            try:
                self._inquiry.open()
                self._probing = True
            except OSError as error:
                self._blind = (blind(str(error)),)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._judging:
            self._judging.cancel()
        if self._probing:
            self._inquiry.close()
        self._surroundings.close()

    # Events from others

    def see(self, links: Collection[Interface]) -> None:
        """Update with this host's present interfaces and MACs."""
        self._links = list(links)
        self._own = set(own_macs(self._links, self._interfaces))
        self._judge_soon()

    def route_changed(self, address: Address) -> None:
        """The route to a backend changed."""
        if self._macs.note(address, self._route(address).mac, self._target):
            self.suspect(address)
        self._judge_soon()

    def suspect(self, address: Address) -> None:
        """A check of the backend or VIP at this address failed: probe it soon."""
        if self._probing:
            self._lost.add(address)

    def _on_claim(self, interface: str, claim: Claim) -> None:
        if claim.mac in self._own:
            return
        if self._claims.note(interface, claim, self._loop.time()):
            self._judge_soon()
            if claim.manner is Manner.ANNOUNCEMENT:
                self.suspect(claim.address)

    # Results

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self._ledger.findings

    @property
    def mac_changes(self) -> Mapping[Address, int]:
        return self._macs.changes

    def view(self) -> LanView:
        return report(self._scene(), self.findings, self._macs, self._asking.known, probing=self._probing)

    # Probing

    async def _rounds(self) -> None:
        while True:
            await self.round()
            await asyncio.sleep(self._spec.interval * random.uniform(0.9, 1.1))

    async def round(self) -> None:
        """Probe for every VIP and every backend once, then judge."""
        self._rounds_begun.append(self._loop.time())
        self.see(self._surroundings.links())
        self._gateways = self._surroundings.gateways()
        now = self._scene()
        self._asking.keep(now)
        self._macs.keep(now.targets)
        for address, target in now.targets.items():
            self._macs.note(address, target.route.mac, now.targets.get)
        if self._probing:
            self._listen(now)
            await self._asking.owners(now, now.held)
            await self._asking.presences(now, now.targets)
            await asyncio.sleep(self._pace.answer)
        self._judge()

    async def _search(self) -> None:
        """Find the machines at addresses whose MAC is in question. Never waits for a machine that does not
        answer."""
        while True:
            lost = await self._lost.take()
            now = self._scene()
            backends = lost & now.targets.keys()
            for address in backends:
                self._claims.forget(
                    address
                )  # so that present answers show whether there are several machines
            self._sought = backends
            self._listen(now)
            await self._asking.owners(now, lost & now.held.keys())
            await self._asking.whereabouts(now, backends)
            for address in backends:
                self._doubted.add(address)
            self._judge_soon()

    async def _doubt(self) -> None:
        """Probe the VIPs of backends with a failed check."""
        while True:
            doubted = await self._doubted.take()
            now = self._scene()
            await self._asking.presences(now, doubted & now.targets.keys())

    def _listen(self, now: Scene) -> None:
        self._inquiry.listen({*now.held, *self._sought})

    async def _kept_up(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Repeat `work`, also after the kernel failed to answer."""
        while True:
            try:
                await work()
            except* OSError as errors:  # probes run side by side
                log.warning("probing the network failed: %s", first_cause(errors))
            await asyncio.sleep(self._pace.to_all)

    # Judging

    def _target(self, address: Address) -> Target | None:
        return self._scene().targets.get(address)

    def _scene(self) -> Scene:
        services = self._services()
        if self._machines.of is not services:
            self._machines = machines_of(services, self._machines)
        return scene(self._machines, self._route, self._links, self._interfaces, self._gateways)

    def _lost_for_long(self, now: Scene) -> set[Address]:
        """Backends without a MAC for a while: a kernel that resolves many neighbours at once takes a moment."""
        at = self._loop.time()
        before, lost = self._lost_since, {each.address for each in now.targets.values() if each.is_lost}
        self._lost_since = {address: before.get(address, at) for address in lost}
        if lost - before.keys():
            self._loop.call_later(self._allowed, self._judge_soon)
        return {each for each, since in self._lost_since.items() if at - since >= self._allowed}

    def _judge_soon(self) -> None:
        if self._judging is None and self._tasks:
            self._judging = self._loop.call_later(self._pace.judging, self._judge)

    def _judge(self) -> None:
        if self._judging:
            self._judging.cancel()
            self._judging = None
        now = self._scene()
        self._claims.forget_old(
            self._loop.time(), self._rounds_begun[0], lambda each: each in now.held or each in now.targets
        )
        verdicts = {key: verdict for key, (verdict, _) in self._asking.known.items()}
        drafts = judge(now, self._claims, verdicts, self._surroundings.known_as, self._lost_for_long(now))
        self._ledger.settle([*drafts, *self._dropped(now), *self._blind], utc_now())

    def _dropped(self, now: Scene) -> list[Draft]:
        """Only if this host has an IPv4 VIP."""
        if not any(vip.version == 4 for vip in now.held):
            return []
        return [replies_dropped(*each) for each in self._surroundings.dropping(self._interfaces).items()]
