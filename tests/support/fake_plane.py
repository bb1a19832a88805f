# SPDX-License-Identifier: Apache-2.0
"""A data plane that remembers what it was told, and refuses what the real one refuses."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Mapping

from xdpdirector.dataplane.explain_types import Finding, Question
from xdpdirector.dataplane.inventory_types import Holdings, ProgramView
from xdpdirector.dataplane.service_plan import ServicePlan, State
from xdpdirector.dataplane.trace_types import Decision, Selection
from xdpdirector.errors import CapacityError
from xdpdirector.model import Key, ServiceSpec
from xdpdirector.model.connection_query import ConnectionQuery
from xdpdirector.model.guard import Prefix
from xdpdirector.model.listener import Address
from xdpdirector.model.passive import PassiveCounts
from xdpdirector.model.status import (
    AttachmentView,
    CidPackets,
    ConnectionCounts,
    ConnectionPage,
    Dropped,
    Fill,
    Refused,
    ServiceCounters,
    Traffic,
    total,
)


class FakePlane:
    """Remembers plans; `applied` has the name for each time. A test says what runs on them, and what goes wrong.

    `known_vips`: by adopted backend, as `adopted_vips` gives them; `attached`: where the program is; `active`
    connections and `packets` by backend; `unsettled` services; `room`: backends that it has room for, and denied
    prefixes; `broken`: raised by every change.
    """

    def __init__(self, adopted: dict[Key, State] | None = None) -> None:
        self.plans: dict[str, ServicePlan] = {}
        self.applied: list[str] = []
        self.swept: list[float] = []
        self.active: dict[Key, int] = {}
        self.packets: dict[Key, int] = {}
        self._departed: dict[str, int] = {}
        self._gone = 0
        self.unsettled: set[str] = set()
        self.room = 1000
        self.denials: frozenset[Prefix] = frozenset()
        self.told_to_deny = self.denials
        self.dropped: dict[Prefix, int] = {}
        self.refusals: dict[str, Refused] = {}
        self.service_drops: dict[str, Dropped] = {}
        self.watched_packets: dict[Key, PassiveCounts] = {}
        self.cid_packets: dict[str, CidPackets] = {}
        self.attached = (AttachmentView(interface="eth0", mode="native", program_id=1),)
        self.findings: dict[Address, Finding] = {}
        self.asked: list[Question] = []
        self.watched: Selection | None = None
        self.told: list[Decision] = []
        self.missed = 0
        self.broken: Exception | None = None
        self._adopted = dict(adopted or {})
        self.known_vips: dict[Key, dict[Address, bool]] = {}

    def adopted(self) -> dict[Key, State]:
        return self._adopted

    def adopted_vips(self) -> dict[Key, dict[Address, bool]]:
        return self.known_vips

    def services(self) -> set[str]:
        return set(self.plans) | {service for service, _ in self._adopted}

    def apply(self, plan: ServicePlan, now: float) -> int:
        if self.broken:
            raise self.broken
        wanted = self.plans | {plan.name: plan}
        self._require(sum(len(each.members) for each in wanted.values()))
        changed = self.plans.get(plan.name) != plan
        self._part({(plan.name, member.name) for member in plan.members}, plan.name)
        self.plans = wanted
        self.applied.append(plan.name)
        return int(changed)

    def require_room(self, services: Mapping[str, ServiceSpec], gone: Collection[str] = ()) -> None:
        members = {name: len(each.members) for name, each in self.plans.items() if name not in gone}
        self._require(sum((members | {name: len(spec.backends) for name, spec in services.items()}).values()))

    def _require(self, backends: int) -> None:
        if backends > self.room:
            raise CapacityError(f"there is room for {self.room} backends")

    def remove(self, name: str) -> None:
        if self.broken:
            raise self.broken
        self._part(set(), name)
        self._gone += self._departed.pop(name, 0)
        self.plans.pop(name, None)
        self._adopted = {key: state for key, state in self._adopted.items() if key[0] != name}

    def _part(self, staying: set[Key], name: str) -> None:
        """Count what was forwarded to those that go."""
        members = self.plans[name].members if name in self.plans else ()
        for key in {(name, member.name) for member in members} - staying:
            packets = self.packets.pop(key, 0)
            self._departed[name] = self._departed.get(name, 0) + packets

    def is_settled(self, service: str) -> bool:
        return service not in self.unsettled

    def counts(self, key: Key) -> ConnectionCounts:
        return ConnectionCounts(active=self.active.get(key, 0))

    def counts_of(self, keys: Collection[Key]) -> dict[Key, ConnectionCounts]:
        return {key: self.counts(key) for key in keys}

    def traffic(self, keys: Collection[Key]) -> dict[Key, Traffic]:
        return {key: Traffic(packets=self.packets.get(key, 0)) for key in keys}

    def departed(self, services: Collection[str]) -> dict[str, Traffic]:
        return {name: Traffic(packets=self._departed.get(name, 0)) for name in services}

    def service_counters(self) -> ServiceCounters:
        values = array("Q")
        for name, plan in self.plans.items():
            present = self.traffic([(name, each.name) for each in plan.members])
            counted = total([*present.values(), *self.departed([name]).values()])
            values.extend((counted.connections, counted.packets, counted.bytes))
            values.append(sum(self.drops([name])[name].values()))
        return ServiceCounters(tuple(self.plans), values)

    def total_traffic(self) -> Traffic:
        present = self.traffic(
            [(name, each.name) for name, plan in self.plans.items() for each in plan.members]
        )
        gone = self._gone + sum(self._departed.values())
        return total([*present.values(), Traffic(packets=gone)])

    def verdicts(self) -> dict[str, int]:
        return {}

    def deny(self, prefixes: Collection[Prefix]) -> int:
        if self.broken:
            raise self.broken
        if len(prefixes) > self.room:
            raise CapacityError(f"there is room for {self.room} denied prefixes")
        before, self.denials = self.denials, frozenset(prefixes)
        self.told_to_deny = self.denials
        return len(before ^ self.denials)

    def deny_some(self, new: Collection[Prefix], gone: Collection[Prefix]) -> int:
        return self.deny((self.denials | set(new)) - set(gone))

    async def denies_as_wanted(self) -> bool:
        if self.broken:
            raise self.broken
        return self.denials == self.told_to_deny

    def denied(self) -> set[Prefix]:
        return set(self.denials)

    def denied_packets(self, prefix: Prefix) -> int:
        return self.dropped.get(prefix, 0)

    def refused(self, services: Collection[str]) -> dict[str, Refused]:
        return {name: self.refusals.get(name, Refused()) for name in services}

    def cids(self, services: Collection[str]) -> dict[str, CidPackets]:
        return {name: self.cid_packets.get(name, CidPackets()) for name in services}

    def passive(self, keys: Collection[Key]) -> dict[Key, PassiveCounts]:
        return {key: self.watched_packets.get(key, PassiveCounts()) for key in keys}

    def drops(self, services: Collection[str]) -> dict[str, Dropped]:
        return {name: dict(self.service_drops.get(name, {})) for name in services}

    def connections(self, query: ConnectionQuery) -> Callable[[], ConnectionPage]:
        return lambda: ConnectionPage((), None)

    def total_connections(self) -> int:
        return sum(self.active.values())

    def clients_turned_away(self) -> int:
        return 0

    def fill(self) -> dict[str, Fill]:
        return {
            "backends": Fill(entries=sum(len(each.members) for each in self.plans.values()), room=self.room)
        }

    def attachments(self) -> tuple[AttachmentView, ...]:
        return self.attached

    def watch(self, selection: Selection | None, seconds: float) -> None:
        if self.broken:
            raise self.broken
        self.watched = selection

    def decisions(self, most: int) -> tuple[int, list[Decision]]:
        found, self.told = self.told[:most], self.told[most:]
        missed, self.missed = self.missed, 0
        return missed, found

    async def holdings(self) -> Holdings:
        program = ProgramView(name="director", id=42, tag="0", instructions=3, verified=3, machine_code=9)
        return Holdings(
            program=program,
            program_digest="0",
            stages={},
            explaining=None,
            carriers=(),
            layout="0",
            bcc="0.26.0",
            maps=(),
            backends=(),
            own_macs=(),
            ticks_per_second=250,
        )

    async def explain(self, question: Question) -> Finding:
        self.asked.append(question)
        return self.findings[question.vip]

    async def sweep(self, now: float) -> None:
        if self.broken:
            raise self.broken
        self.swept.append(now)
