# SPDX-License-Identifier: Apache-2.0
"""The API's services and connections as IPVS would show them: weights in force, counts, counters, rates. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address

from xdpdirector.lvs import documents
from xdpdirector.lvs.documents import Document, Marks
from xdpdirector.lvs.listing import Connection, Format
from xdpdirector.lvs.virtual import Counters, Destination, Rates, Virtual, VirtualKey

STATES = {
    "syn": ("SYN_RECV", "syn"),
    "established": ("ESTABLISHED", "tcp"),
    "fin": ("FIN_WAIT", "tcpfin"),
    "closed": ("CLOSE", "tcpfin"),
    "udp": ("UDP", "udp"),
}
"""By the API's state: what IPVS calls it, and the time-out that it has."""
SCTP_STATES = {"syn": "INIT1", "fin": "SHUTDOWN_RECEIVED", "closed": "CLOSED"}
"""Those that IPVS calls otherwise of SCTP, of which it, too, sees the client's half."""
Base = Callable[[str, str], Counters]
"""What the counters of a service (backend ``) or a backend showed when they were zeroed."""


def virtuals(services: Sequence[Document], marks: Marks, base: Base) -> list[Virtual]:
    """Each virtual service of each service, with what is counted since `base`."""
    return [
        _observed(service, key, base)
        for service in services
        for key in documents.keys_of(service, marks).keys
    ]


def remarks(services: Sequence[Document], marks: Marks, shown: Format) -> Iterator[str]:
    """What a list in ipvsadm's form cannot say."""
    for service in services:
        name, found = service["name"], documents.keys_of(service, marks)
        if found.without:
            listed = ", ".join(map(str, found.without))
            yield f"not listed, as IPVS has no form for it: {listed} of the service '{name}'"
        if (shown.stats or shown.rate) and len(found.keys) > 1:
            yield f"counted together: all listeners of the service '{name}'"
    if shown.persistent_conn and any(each.get("persistence") for each in services):
        yield "PersistConn is 0: clients that keep their server are not counted by server here"


def _observed(service: Document, key: VirtualKey, base: Base) -> Virtual:
    name = service["name"]
    wanted = documents.virtual_of(name, service, key)
    views = {each["name"]: each for each in service["backends"]}
    others = any(each["serving"] for backend, each in views.items() if backend != service["fallback"])
    return replace(
        wanted,
        destinations=tuple(
            _with_life(each, views[each.key[1]], service, base, spare=others) for each in wanted.destinations
        ),
        counters=counters_of(service).less(base(name, "")),
    )


def _with_life(
    wanted: Destination, view: Document, service: Document, base: Base, *, spare: bool
) -> Destination:
    """`spare`: others serve, so the fallback gets nothing."""
    rests = (
        view["admin"] != "enabled"
        or view["operational"] == "down"
        or (spare and view["name"] == service["fallback"])
    )
    counts = view["connections"]
    return replace(
        wanted,
        weight=0 if rests else wanted.weight,
        active=counts["active"] + counts["pending"],
        inactive=counts["inactive"],
        counters=counters_of(view).less(base(*wanted.key)),
    )


def counters_of(document: Document) -> Counters:
    traffic = document["traffic"]
    return Counters(traffic["connections"], traffic["packets"], traffic["bytes"])


def with_rates(before: Sequence[Virtual], after: Sequence[Virtual], seconds: float) -> list[Virtual]:
    """What `after` counted more than `before`, a second."""
    services = {(each.name, each.key): each.counters for each in before}
    servers = {each.key: each.counters for virtual in before for each in virtual.destinations}
    return [
        replace(
            virtual,
            rates=_rate(services.get((virtual.name, virtual.key)), virtual.counters, seconds),
            destinations=tuple(
                replace(each, rates=_rate(servers.get(each.key), each.counters, seconds))
                for each in virtual.destinations
            ),
        )
        for virtual in after
    ]


def _rate(before: Counters | None, after: Counters, seconds: float) -> Rates:
    if before is None:
        return Rates()
    more = after.less(before)
    return Rates(*(round(each / seconds) for each in more)) if more is not after else Rates()


def connections(items: Sequence[Document], services: Mapping[str, Document]) -> Iterator[Connection]:
    """Those of services and backends that there are, in the API's order."""
    for item in items:
        service = services.get(item["service"])
        backends = dict(documents.backends_of(service)) if service else {}
        backend = backends.get(item["backend"])
        if service is None or backend is None:
            continue
        state, timeout = STATES.get(item["state"], (item["state"].upper(), "tcp"))
        if item["protocol"] == "sctp":
            state = SCTP_STATES.get(item["state"], state)
        lasts = documents.seconds(service["timeouts"][timeout])
        key = VirtualKey(0, item["protocol"], ip_address(item["vip"]), item["port"])
        yield Connection(
            item["protocol"],
            state,
            ip_address(item["client"]),
            item["client_port"],
            key.address,
            item["port"],
            documents.destination_of(service["name"], item["backend"], backend, key, service).address,
            max(0, round(lasts - item["idle"])),
        )
