# SPDX-License-Identifier: Apache-2.0
"""Entries of the IPVS sync protocol become records for our tables, or are counted with the reason why not.

Knows entries, places and the layout of records; no tables, no sockets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_network
from typing import Any

import numpy as np

from xdpdirector.dataplane.maps import Array
from xdpdirector.model.listener import Address
from xdpdirector.sync import clients, records
from xdpdirector.sync.ipvs.message import Entry, Flags, Method
from xdpdirector.sync.ipvs.places import PORTLESS, Home, Places, address_of
from xdpdirector.sync.scanner import Batch

TCP, UDP, SCTP = 6, 17, 132
TCP_STATES = {
    1: "CONNECTION_USED_ESTABLISHED",
    2: "CONNECTION_SYN",  # SYN_SENT
    3: "CONNECTION_SYN",  # SYN_RECV
    4: "CONNECTION_FIN",  # FIN_WAIT
    5: "CONNECTION_FIN",  # TIME_WAIT
    6: "CONNECTION_CLOSED",
    7: "CONNECTION_FIN",  # CLOSE_WAIT
    8: "CONNECTION_FIN",  # LAST_ACK
    10: "CONNECTION_SYN",  # SYNACK
}
"""enum ip_vs_tcp_states. A master sends connections that have shown some packets: `sync_threshold`."""
SCTP_STATES = {
    **dict.fromkeys(range(1, 8), "CONNECTION_SYN"),  # INIT1 to COOKIE_ECHOED
    8: "CONNECTION_USED_ESTABLISHED",
    **dict.fromkeys((9, 10, 11), "CONNECTION_FIN"),  # SHUTDOWN_SENT, SHUTDOWN_RECEIVED, SHUTDOWN_ACK_SENT
    **dict.fromkeys((12, 13), "CONNECTION_CLOSED"),  # REJECTED, CLOSED
}
"""enum ip_vs_sctp_states."""
STATES = {TCP: TCP_STATES, SCTP: SCTP_STATES}
DATAGRAMS = "CONNECTION_USED_UDP"
ENDED = ("CONNECTION_FIN", "CONNECTION_CLOSED")
TEMPLATE_ASSURED = 1
"""IP_VS_CTPL_S_ASSURED."""


class Unmapped(StrEnum):
    """Why an entry is not taken."""

    SERVICE = "no_service"
    MARK = "no_fwmark"
    BACKEND = "no_backend"
    PERSISTENCE = "no_persistence"
    METHOD = "method"
    PORT = "port"
    STATE = "state"
    ENGINE = "engine"
    ONE_PACKET = "one_packet"
    OPTION = "option"


class UnmappedError(Exception):
    """`reason`, and a sentence about the entry."""

    def __init__(self, reason: Unmapped, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass
class Rejected:
    """How many entries were not taken, by reason, and a sentence about the last one of each."""

    counts: Counter[Unmapped] = field(default_factory=Counter)
    examples: dict[Unmapped, str] = field(default_factory=dict)

    def count(self, reason: Unmapped, text: str, times: int = 1) -> None:
        self.counts[reason] += times
        self.examples[reason] = text

    def add(self, other: Rejected) -> None:
        self.counts += other.counts
        self.examples |= other.examples


@dataclass
class Incoming:
    """Records of some datagrams, ready to be merged. Those of connections that have ended are apart: they move
    none from one backend to another. With LVS, too, a late end of an earlier connection changes nothing."""

    running: list[Batch]
    ended: list[Batch]
    clients: Array
    rejected: Rejected


class Mapper:
    """`states`: enum connection_state."""

    def __init__(self, places: Places, states: Mapping[str, int]) -> None:
        self._places, self._states = places, states

    def mapped(self, entries: Iterable[Entry]) -> Incoming:
        rejected = Rejected()
        rows: dict[tuple[str, bool], list[tuple[Any, ...]]] = {}
        templates: list[tuple[Any, ...]] = []
        for entry in entries:
            try:
                if entry.is_template:
                    templates.append(self._template(entry))
                else:
                    state = self._state(entry)
                    table = "connections6" if entry.is_ipv6 else "connections4"
                    rows.setdefault((table, state in ENDED), []).append(self._connection(entry, state))
            except UnmappedError as error:
                rejected.count(error.reason, str(error))
        batches: dict[bool, list[Batch]] = {False: [], True: []}
        for (table, ended), found in rows.items():
            batches[ended].append(Batch(table, np.array(found, records.wire_type(table))))
        return Incoming(batches[False], batches[True], np.array(templates, clients.wire_type()), rejected)

    def _connection(self, entry: Entry, state: str) -> tuple[Any, ...]:
        """A row of `records.wire_type`."""
        port = 0 if entry.protocol in PORTLESS else entry.port
        client_port = 0 if entry.protocol in PORTLESS else entry.client_port
        home = self._home(entry)
        front = self._places.front(home, entry.vip, entry.protocol)
        if not front:
            raise UnmappedError(Unmapped.SERVICE, f"service '{home.name}' does not serve {_vip(entry)} yet")
        if home.spec.one_packet:
            raise UnmappedError(Unmapped.ONE_PACKET, f"service '{home.name}' remembers no connections")
        if entry.backend_port != entry.port:
            raise UnmappedError(
                Unmapped.PORT,
                f"{_server(entry)} has another port than {_vip(entry)}: direct routing keeps it",
            )
        flow = entry.client + client_port.to_bytes(2, "big") + port.to_bytes(2, "big")
        backend = self._backend(entry, home)
        return (np.frombuffer(flow, np.uint8), front, backend, self._states[state], 0, records.OLD)

    def _template(self, entry: Entry) -> tuple[Any, ...]:
        """A row of `clients.wire_type`."""
        if entry.engine or entry.engine_data or entry.flags & Flags.NO_CPORT:
            raise UnmappedError(
                Unmapped.ENGINE,
                f"a template of the persistence engine '{_printable(entry.engine)}'",
            )
        if entry.protocol == 0:
            mark = entry.fwmark or int.from_bytes(entry.vip[:4], "big")
            home = self._places.marked_home(mark)
            if home is None:
                raise UnmappedError(
                    Unmapped.MARK,
                    f"firewall mark {mark} stands for no listener of a service: see lvs.fwmarks",
                )
        else:
            home = self._home(entry)
        if home.spec.persistence is None:
            raise UnmappedError(Unmapped.PERSISTENCE, f"service '{home.name}' has no persistence")
        prefix = home.spec.persistence.prefix6 if entry.is_ipv6 else home.spec.persistence.prefix
        client = ip_network((entry.client, prefix), strict=False).network_address.packed
        proven = entry.state == TEMPLATE_ASSURED
        address = np.frombuffer(client.ljust(16, b"\0"), np.uint8)
        return (address, entry.is_ipv6, proven, home.number, self._backend(entry, home), 0, 0)

    def _home(self, entry: Entry) -> Home:
        find = self._places.persistent_home if entry.is_template else self._places.home
        port = 0 if entry.protocol in PORTLESS else entry.port
        if home := find(entry.vip, entry.protocol, port):
            return home
        if entry.fwmark and entry.is_template and (home := self._places.marked_home(entry.fwmark)):
            return home
        raise UnmappedError(Unmapped.SERVICE, f"no service listens on {_vip(entry)}")

    def _backend(self, entry: Entry, home: Home) -> int:
        if entry.method not in (Method.DROUTE, Method.LOCALNODE):
            how = Method(entry.method).name.lower() if entry.method in set(Method) else str(entry.method)
            raise UnmappedError(
                Unmapped.METHOD, f"{_server(entry)} is not reached by direct routing, but by {how}"
            )
        found = home.backends.get(entry.backend)
        if found is None:
            raise UnmappedError(
                Unmapped.BACKEND, f"service '{home.name}' has no backend {address_of(entry.backend)}"
            )
        return found

    def _state(self, entry: Entry) -> str:
        if entry.flags & Flags.ONE_PACKET:
            raise UnmappedError(Unmapped.ONE_PACKET, f"a connection of a single packet to {_vip(entry)}")
        if entry.flags & Flags.NO_CPORT:
            raise UnmappedError(Unmapped.PORT, f"a connection to {_vip(entry)} without the client's port")
        states = STATES.get(entry.protocol)
        found = states.get(entry.state) if states else DATAGRAMS
        if found is None or found not in self._states:
            raise UnmappedError(
                Unmapped.STATE,
                f"a connection to {_vip(entry)} in the state {entry.state}, which says nothing here",
            )
        return found


def _vip(entry: Entry) -> str:
    protocol = {TCP: "tcp", UDP: "udp", SCTP: "sctp"}.get(entry.protocol, str(entry.protocol))
    return f"{_host(address_of(entry.vip))}:{entry.port}/{protocol}"


def _printable(octets: bytes) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in octets.decode("latin-1"))


def _server(entry: Entry) -> str:
    return f"{_host(address_of(entry.backend))}:{entry.backend_port}"


def _host(address: Address) -> str:
    return f"[{address}]" if address.version == 6 else str(address)
