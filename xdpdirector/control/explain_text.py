# SPDX-License-Identifier: Apache-2.0
"""Puts the packet program's finding on a packet into a verdict and sentences for people. Pure.

The decision is the program's; nothing is decided here again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xdpdirector.dataplane.explain_types import Finding, Question
from xdpdirector.model import Address, Scheduler
from xdpdirector.model.fields import Frozen
from xdpdirector.model.passive import PassiveState
from xdpdirector.model.status import BackendView, ServiceView


class Candidate(Frozen):
    """A backend as the scheduler sees it; `weight`: what it has of it now."""

    backend: str
    weight: float
    serving: bool
    active: int
    inactive: int


class SlotView(Frozen):
    """The flow's slot in the service's ring: `number` of so many. In flux, flows from before run on `before`."""

    number: int
    slots: int
    backend: str | None
    before: str | None
    in_flux: bool


class Explanation(Frozen):
    """`verdict`: `forward`, `pass` (to the host itself), `reject` or `drop`; `reason` as in `Statistics.verdicts`.
    `backend` is whom the reason speaks of. `mac`: the backend's, or its
    gateway's, where the frame is sent. `recorded`: the flow has
    a record in the table of connections."""

    verdict: str
    reason: str
    why: str
    service: str | None
    backend: str | None
    mac: str | None
    interface: str
    way_out: str | None
    recorded: bool
    slot: SlotView | None
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class _Case:
    """What a sentence may speak of."""

    question: Question
    found: Finding
    service: ServiceView | None

    @property
    def target(self) -> str:
        return self.found.backend or "a backend that is gone"

    @property
    def backend(self) -> BackendView | None:
        backends = self.service.backends if self.service else ()
        return next((each for each in backends if each.name == self.found.backend), None)

    @property
    def name(self) -> str:
        return self.service.name if self.service else "the service"

    @property
    def slot(self) -> str:
        if self.found.slot is None or self.service is None:
            return "the flow's slot"
        return f"slot {self.found.slot.number} of {self.service.ring_slots}"


def explain(question: Question, found: Finding, service: ServiceView | None) -> Explanation:
    """`service`: the one that the program found, as it is now."""
    case = _Case(question, found, service)
    slot = found.slot
    is_forwarded = found.reason.startswith("forward_") and found.way_out is not None
    why = _WHY[found.reason](case)
    if found.reason.startswith("forward_"):
        why += _way_there(case)
    if found.reason in _OPENING:
        why += _passively(case)
    return Explanation(
        verdict=found.reason.partition("_")[0],
        reason=found.reason,
        why=why,
        service=found.service,
        backend=found.backend,
        mac=found.frame[:6].hex(":") if is_forwarded else None,
        interface=found.interface,
        way_out=found.way_out,
        recorded="record" in found.facts,
        slot=SlotView(slots=service.ring_slots, **vars(slot)) if slot and service else None,
        candidates=_candidates(service, question.vip)
        if "scheduled" in found.facts and not slot and service
        else (),
    )


def _candidates(service: ServiceView, vip: Address) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(
            backend=each.name,
            weight=each.effective_weight,
            serving=each.serving and _state(each, vip)[0] in ("up", f"up for {vip}"),
            active=each.connections.active,
            inactive=each.connections.inactive,
        )
        for each in service.backends
    )


_SCHEDULED = {
    Scheduler.RR: "it is {0}'s turn",
    Scheduler.WRR: "by the weights it is {0}'s turn",
    Scheduler.LC: "{0} has the least load: an active connection weighs 257, an inactive one 1",
    Scheduler.WLC: "{0} has the least load for its weight: an active connection weighs 257, an inactive one 1",
    Scheduler.SED: "{0} promises the shortest delay: its active connections and this one, by its weight",
    Scheduler.NQ: "{0} is idle, or else promises the shortest delay",
    Scheduler.FO: "{0} has the highest weight of those that are up",
    Scheduler.OVF: "{0} has the highest weight of those that have not more connections than that",
    Scheduler.DH: "{0} is the backend that the VIP's hash names",
    Scheduler.TWOS: "{0} has the lesser load for its weight of two that the flow draws",
    Scheduler.LBLC: "{0} serves the VIP, or has the least load for its weight in place of one that is overloaded",
    Scheduler.LBLCR: "{0} is the least loaded of those that serve the VIP, or joins them as they are overloaded",
    Scheduler.MH: "{0} owns the flow's slot of the ring",
    Scheduler.SH: "{0} owns the client's slot of the ring",
}


def _choice(case: _Case) -> str:
    """Why a new connection goes there."""
    if "cid" in case.found.facts:
        return f"its QUIC connection ID has the ID of {case.target}"
    if "client" in case.found.facts:
        return f"its client has gone to {case.target} lately, and persistence keeps it there"
    if "partial" in case.found.facts and "fallback" not in case.found.facts:
        owner = case.found.slot.backend if case.found.slot else None
        return (
            f"{case.slot} belongs to {owner or 'a backend'}, which is down for {case.question.vip}, so "
            f"{case.target} stands in for it"
        )
    if "fallback" in case.found.facts:
        return f"no other backend takes new connections, so {case.target} does, the fallback"
    if "record" in case.found.facts and "scheduled" not in case.found.facts:
        return f"the flow's connection before, which has ended, was on {case.target}, where it stays"
    if case.service is None:
        return f"{case.target} was chosen"
    how = _SCHEDULED[case.service.scheduler].format(case.target)
    if "drawn" in case.found.facts:
        how += "; it was compared with 15 others, which the flow draws"
    return f"{how} ({case.service.scheduler})"


def _ring(case: _Case) -> str:
    return f"{case.target} owns {case.slot}, which is at rest: no record is needed"


def _before(case: _Case) -> str:
    now = case.found.slot.backend if case.found.slot else None
    return (
        f"{case.slot} passes from {case.target} to {now or 'nobody'} just now; the packet opens nothing and has no "
        f"record, so its flow is from before and stays on {case.target}, and is recorded"
    )


def _lost(case: _Case) -> str:
    """The backend that a running flow has lost."""
    runs = "its connection runs" if "record" in case.found.facts else f"by {case.slot}, its connection runs"
    view = case.backend
    if view is None:
        return f"{runs} on {case.target}"
    if view.admin == "maintenance":
        state, reason = str(view.admin), view.reason
    else:
        state, reason = _state(view, case.question.vip)
    return f"{runs} on {case.target}, which is {state}" + (f" ({reason})" if reason else "")


def _state(view: BackendView, vip: Address) -> tuple[str, str]:
    """How a backend is at this VIP, and why."""
    here = next((each for each in view.vips if each.vip == vip), None)
    if view.operational != "partial" or here is None:
        return str(view.operational), view.reason
    return f"{here.operational} for {vip}", here.reason


_OPENING = ("forward_new", "forward_ring", "pass_local")


def _passively(case: _Case) -> str:
    """What passive health says of the chosen backend, and who gets nothing because of it."""
    views = case.service.backends if case.service else ()
    states = {each.name: each.passive.state for each in views if each.passive}
    words = ""
    if states.get(case.target) is PassiveState.SUSPECT:
        words = f"; {case.target} is suspect, by its clients' SYNs"
    if states.get(case.target) is PassiveState.TRIAL:
        words = f"; {case.target} is on trial, as its clients' SYNs had to be sent again"
    ejected = [
        name for name, state in states.items() if state is PassiveState.EJECTED and name != case.target
    ]
    if ejected:
        words += f"; passive health has ejected {', '.join(ejected[:5])}"
    return words


def _taking(view: BackendView, state: str) -> str:
    """Why a backend takes no new connections, in a word."""
    if not state.startswith("up"):
        return state
    is_ejected = view.passive and view.passive.state is PassiveState.EJECTED
    return "ejected" if is_ejected and view.admin == "enabled" else str(view.admin)


def _nobody(case: _Case) -> str:
    if not case.service or not case.service.backends:
        return f"{case.name} has no backends"
    states = [(view, _state(view, case.question.vip)[0]) for view in case.service.backends[:5]]
    each = ", ".join(f"{view.name} is {_taking(view, state)}" for view, state in states)
    return f"no backend of {case.name} takes new connections: {each}"


def _reopened(case: _Case) -> str:
    return (
        "it is of a running connection that has no usable backend; on_down or on_unknown say schedule, "
        f"and {_choice(case)}"
    )


def _policy(field: str, what: str) -> str:
    return f"{field} says {what}"


def _dropped(case: _Case, field: str) -> str:
    """Why it is not scheduled, either."""
    says = getattr(case.service, field, "drop")
    if says != "schedule":
        return _policy(field, "drop")
    return f"{_policy(field, says)}, but {_refusal(case)} is never scheduled"


def _refusal(case: _Case) -> str:
    return "an ABORT" if case.question.protocol == "sctp" else "a RST"


_TUNNELS = {"ipip": "IP in IP", "gue": "GUE"}


def _way_there(case: _Case) -> str:
    """The tunnel to the backend, if it has one."""
    view = case.backend
    if view is None or view.tunnel is None or view.effective_forward == "direct":
        return ""
    gateway = f" by the gateway {view.tunnel.gateway}" if view.tunnel.gateway else ""
    return f"; it goes there as {_TUNNELS[view.effective_forward]} to {view.address}{gateway}"


def _too_big(case: _Case) -> str:
    tunnel = case.backend.tunnel if case.backend else None
    takes = f" takes ({tunnel.longest} bytes)" if tunnel else " takes"
    told = "packet too big" if case.question.vip.version == 6 else "fragmentation needed"
    return f"it is longer than the tunnel to {case.target}{takes}, so its sender is told by ICMP: {told}"


_WHY: dict[str, Callable[[_Case], str]] = {
    "pass_not_ip": lambda case: "it is no IP packet to one host: the host's own",
    "pass_not_vip": lambda case: f"{case.question.vip} is no VIP of this director: the host's own",
    "pass_no_listener": lambda case: (
        f"no service has the listener {case.question.listener}: the host answers"
    ),
    "pass_no_connection": lambda case: "it is an ICMP error about no known connection: the host's own",
    "pass_other_host": lambda case: (
        "its destination MAC is of another machine on this interface, which gets it"
    ),
    "pass_directed": lambda case: (
        f"it came from a backend of {case.name}, which has scheduled it to this machine: the host's own"
    ),
    "pass_local": lambda case: f"{_choice(case)}, and {case.target} is the director itself",
    "forward_ring": _ring,
    "forward_connection": lambda case: f"the connection is recorded, on {case.target}",
    "forward_cid": lambda case: (
        f"its QUIC connection ID has the ID of {case.target}, where its addresses alone would not lead it"
    ),
    "forward_new": lambda case: f"it opens a connection, and {_choice(case)}",
    "forward_before": _before,
    "forward_reopened": _reopened,
    "forward_unrecorded": lambda case: (
        f"each datagram is scheduled by itself (one_packet), and {_choice(case)}"
    ),
    "forward_fragment": lambda case: f"its packet's first fragment went to {case.target}",
    "forward_error": lambda case: f"it is an ICMP error about a connection that runs on {case.target}",
    "reject_empty": lambda case: f"{_nobody(case)}; {_policy('on_empty', 'reject')}",
    "reject_down": lambda case: (
        f"{_lost(case)}; {_policy('on_down', 'reject')}, so the client gets {_refusal(case)}"
    ),
    "reject_unknown": lambda case: (
        f"it is of a running connection that nothing is known of; {_policy('on_unknown', 'reject')}, "
        f"so the client gets {_refusal(case)}"
    ),
    "reject_too_big": lambda case: _too_big(case),
    "drop_malformed_ip": lambda case: "the lengths in its IP header contradict the frame",
    "drop_malformed_tcp": lambda case: "its TCP header is cut short, or its offset is wrong",
    "drop_malformed_udp": lambda case: "its UDP header is cut short, or its length is wrong",
    "drop_malformed_sctp": lambda case: "its SCTP header or its first chunk is cut short",
    "drop_extension_headers": lambda case: "it has more IPv6 extension headers than are followed",
    "drop_fragment": lambda case: "its packet's first fragment has not come, or was dropped",
    "drop_empty": lambda case: f"{_nobody(case)}; it is not to be answered",
    "drop_down": lambda case: f"{_lost(case)}; {_dropped(case, 'on_down')}",
    "drop_unknown": lambda case: (
        f"it is of a running connection that nothing is known of; {_dropped(case, 'on_unknown')}"
    ),
    "drop_reset": lambda case: (
        "it would be answered with an ABORT, but is one itself, or a HEARTBEAT (RFC 9260, 8.4)"
        if case.question.protocol == "sctp"
        else "it would be answered with a RST, but is one itself (RFC 9293, 3.10.7.1)"
    ),
    "drop_answer": lambda case: "it would be answered, but so many were a moment ago",
    "drop_error": lambda case: (
        "it is an ICMP error about a connection that no record proves, and so many came a moment ago"
    ),
    "drop_unresolved": lambda case: _unresolved(case),
    "drop_unanswerable": lambda case: (
        "it would be answered, but its sender is no single host, or it is a later fragment or an ICMP error itself "
        "(RFC 1122, 3.2.2)"
    ),
    "drop_denied": lambda case: f"{case.question.client} is under a denied prefix",
    "drop_limited_service": lambda case: f"it would open a connection, but {case.name} had too many lately",
    "drop_limited_source": lambda case: (
        f"it would open a connection, but its client opened too many to {case.name} lately"
    ),
    "drop_full": lambda case: (
        "it would open a connection, but the table of connections has no room beside the running ones: "
        "raise sizes.connections"
    ),
    "drop_other_host": lambda case: "its destination MAC is no interface's of this machine: not for it",
    "drop_internal": lambda case: "the program met what cannot happen: please report it",
}


def _unresolved(case: _Case) -> str:
    view = case.backend
    return f"{case.target} was chosen, but its MAC address is not known" + (
        f": {view.reason}" if view and view.reason else ""
    )
