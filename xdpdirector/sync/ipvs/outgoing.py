# SPDX-License-Identifier: Apache-2.0
"""Our connections and persistent clients as entries of the IPVS sync protocol.

A `timeout` is what is left of it, since a backup begins to count anew when it hears of a connection. Knows records
and places; no tables, no sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address

import numpy as np

from xdpdirector.dataplane.maps import Array
from xdpdirector.model import ServiceSpec
from xdpdirector.model.listener import PROTOCOLS, Listener
from xdpdirector.sync.ipvs.incoming import SCTP, TCP, TEMPLATE_ASSURED, UDP
from xdpdirector.sync.ipvs.message import Entry, Flags, Method
from xdpdirector.sync.ipvs.places import FTP, Places
from xdpdirector.sync.names import Names
from xdpdirector.sync.scanner import Batch

TCP_STATES = {"_ESTABLISHED": 1, "_FIN": 4, "_CLOSED": 6}
"""enum ip_vs_tcp_states: ESTABLISHED, FIN_WAIT, CLOSE; by the end of our state's name."""
SCTP_STATES = {"_ESTABLISHED": 8, "_FIN": 10, "_CLOSED": 13}
"""enum ip_vs_sctp_states: ESTABLISHED, SHUTDOWN_RECEIVED, CLOSED."""
UDP_STATES = {"_UDP": 0}
RUNS = Method.DROUTE | Flags.NOOUTPUT
"""Flags of a connection by direct routing, whose replies bypass the director."""
ENDS = RUNS | Flags.INACTIVE
IS_TEMPLATE = RUNS | Flags.TEMPLATE
DIRECTED = (TCP, UDP, SCTP)
"""Protocols that IPVS directs, and we, too."""


def state_code(name: str, codes: Mapping[str, int]) -> int | None:
    """IPVS's number of our state; None for what a master does not tell: connections of a single packet."""
    return next((code for end, code in codes.items() if name.endswith(end)), None)


class Writer:
    """`states`: enum connection_state. `timeout`: milliseconds of a service's connections, by number and state."""

    def __init__(
        self,
        places: Places,
        names: Names,
        states: Mapping[str, int],
        timeout: Callable[[int, int], int],
    ) -> None:
        self._places, self._names, self._timeout = places, names, timeout
        self._services = {name: number for number, name in names.services.items()}
        self._vips = {
            number: (service, ip_address(vip).packed, protocol)
            for number, (service, vip, protocol) in names.fronts.items()
            if protocol in DIRECTED
        }
        self._codes = {
            protocol: {number: state_code(name, codes) for name, number in states.items()}
            for protocol, codes in ((TCP, TCP_STATES), (SCTP, SCTP_STATES), (UDP, UDP_STATES))
        }
        self._ended = {number for name, number in states.items() if name.endswith(("_FIN", "_CLOSED"))}

    def connections(self, batch: Batch) -> Iterator[Entry]:
        """Without those that IPVS has no form for, as a backend of the other address family."""
        width = 16 if batch.table.endswith("6") else 4
        columns = (batch.records[name].tolist() for name in ("front", "backend", "state", "idle"))
        for flow, front, backend, state, idle in zip(_rows(batch.records["flow"]), *columns, strict=True):
            place, address = self._vips.get(front), self._places.backends.get(backend)
            if place is None or address is None:
                continue
            service, vip, protocol = place
            code = self._codes[protocol].get(state)
            left = self._timeout(self._services.get(service, 0), state) - idle
            if code is None or left <= 0 or not len(vip) == len(address.packed) == width:
                continue
            cport, port = (int.from_bytes(flow[width + i : width + i + 2], "big") for i in (0, 2))
            yield Entry(
                protocol, flow[:width], cport, vip, port, address.packed, port,
                RUNS if protocol != UDP and state not in self._ended else ENDS, code, _seconds(left),
            )  # fmt: skip

    def templates(self, records: Array) -> Iterator[Entry]:
        """Of records as `clients.wire_type` has them. A service with several listeners that no firewall mark names
        has a template for each."""
        names = ("ipv6", "proven", "service", "backend", "idle")
        columns = (records[name].tolist() for name in names)
        for client, ipv6, proven, service, backend, idle in zip(
            _rows(records["address"]), *columns, strict=True
        ):
            home, address = self._places.homes.get(service), self._places.backends.get(backend)
            if home is None or address is None or home.spec.persistence is None:
                continue
            width, left = 16 if ipv6 else 4, int(1000 * home.spec.persistence.timeout) - idle
            if left <= 0 or len(address.packed) != width:
                continue
            for protocol, vip, port, mark in self._keys(home.spec, width):
                yield Entry(
                    protocol, client[:width], 0, vip, port, address.packed, port, IS_TEMPLATE,
                    TEMPLATE_ASSURED if proven else 0, _seconds(left), mark,
                )  # fmt: skip

    def _keys(self, spec: ServiceSpec, width: int) -> list[tuple[int, bytes, int, int]]:
        """Protocol, VIP, port and mark of the templates of a client, each once."""
        found: dict[tuple[int, bytes, int, int], None] = {}
        for listener in spec.listeners:
            if len(listener.address.packed) == width and PROTOCOLS[listener.protocol] in DIRECTED:
                found[self._key(listener, FTP in spec.exact_ports)] = None
        return list(found)

    def _key(self, listener: Listener, is_ftp: bool) -> tuple[int, bytes, int, int]:
        """With a mark the protocol is IPPROTO_IP, and the mark stands for the VIP."""
        vip, mark = listener.address.packed, self._places.mark_of.get(listener, 0)
        if mark:
            return 0, mark.to_bytes(4, "big").ljust(len(vip), b"\0"), 0, mark
        port = listener.ports.first if listener.is_exact and not is_ftp else 0
        return PROTOCOLS[listener.protocol], vip, port, 0


def _rows(octets: Array) -> Iterator[bytes]:
    whole, width = np.ascontiguousarray(octets).tobytes(), octets.shape[1]
    return (whole[i : i + width] for i in range(0, len(whole), width))


def _seconds(milliseconds: int) -> int:
    return max(1, milliseconds // 1000)
