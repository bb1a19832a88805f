# SPDX-License-Identifier: Apache-2.0
"""What an operator may ask for of a service: the one model behind the configuration file, REST and the core.

Frozen pydantic models; an option is written here once. Knows nothing of files, HTTP, maps or live state.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from xdpdirector.model.checks import CheckSpec as CheckSpec
from xdpdirector.model.checks import usual_port
from xdpdirector.model.fields import NUMBER, ByName, Flag, key
from xdpdirector.model.fields import DayAtMost as DayAtMost
from xdpdirector.model.fields import Frozen as Frozen
from xdpdirector.model.fields import HostAddress as HostAddress
from xdpdirector.model.fields import InterfaceName as InterfaceName
from xdpdirector.model.fields import ListenerField as ListenerField
from xdpdirector.model.fields import Name as Name
from xdpdirector.model.fields import Timeout as Timeout
from xdpdirector.model.guard import ServiceLimit
from xdpdirector.model.labels import Labels
from xdpdirector.model.listener import Address as Address
from xdpdirector.model.listener import Listener as Listener
from xdpdirector.model.passive import PassiveSpec
from xdpdirector.model.quic import QuicId, QuicSpec
from xdpdirector.model.tunnel import Encapsulation, Forward, TunnelSpec, encapsulation

Key = tuple[str, str]
"""Of a backend: its service's name, and its own."""


class AdminState(StrEnum):
    """What the operator wants of a backend."""

    ENABLED = "enabled"
    DRAIN = "drain"
    MAINTENANCE = "maintenance"


MOST_BACKENDS = 4096
"""Of one service."""


class Scheduler(StrEnum):
    """ipvsadm's names and meanings; `wrr` interleaves smoothly, `sh` is consistent as `mh` is. `dh` chooses by the
    VIP alone, so it divides the VIPs of a service among its backends; `lblc` and `lblcr` do so by load."""

    RR = "rr"
    WRR = "wrr"
    LC = "lc"
    WLC = "wlc"
    SED = "sed"
    NQ = "nq"
    SH = "sh"
    MH = "mh"
    FO = "fo"
    OVF = "ovf"
    DH = "dh"
    LBLC = "lblc"
    LBLCR = "lblcr"
    TWOS = "twos"

    @property
    def is_ring(self) -> bool:
        """Whether it hashes clients onto a ring, and needs no connection table at rest."""
        return self in (Scheduler.MH, Scheduler.SH)

    @property
    def most_backends(self) -> int:
        """How many backends a service may have. `dh` has 256 buckets, as in IPVS; `twos`, `lblc` and `lblcr`
        compare all backends for each connection (bpf/types.h, LINEAR)."""
        is_linear = self in (Scheduler.DH, Scheduler.TWOS, Scheduler.LBLC, Scheduler.LBLCR)
        return 256 if is_linear else MOST_BACKENDS


class BackendSpec(Frozen):
    """A real server. It has no port: in direct routing the destination port cannot change.

    At `max_connections`, running and ended ones in the table together, it takes no new ones, until it has fewer
    than `resume_connections` (three quarters of the maximum by default); so does a fallback. A client that
    persistence keeps there still gets in, as with IPVS.
    """

    address: HostAddress = Field(
        description="Its own address: on a network of the director, or with `ipip` and `gue` anywhere."
    )
    weight: Annotated[int, Field(ge=0, le=65535), NUMBER] = key(
        1,
        "Its part of the new connections, beside those of the others; with 0 it gets none, and keeps what it has.",
    )
    max_connections: Annotated[int, Field(ge=1, le=(1 << 31) - 1), NUMBER] | None = key(
        None,
        "It takes no new connections once it has so many in the table, running and ended ones together. Not with "
        "`mh` and `sh`.",
        "connections",
    )
    resume_connections: Annotated[int, Field(ge=1, le=(1 << 31) - 1), NUMBER] | None = key(
        None,
        "It takes new ones again once it has fewer; by default three quarters of the maximum.",
        "connections",
    )
    forward: Forward | None = key(None, "How packets reach it; by default as the service says.")
    router: bool = key(
        False,
        "Clients' packets come in through this machine, too: they are scheduled like others, and not taken for "
        "those of another director.",
    )
    quic_id: QuicId | None = key(
        None,
        "Its ID in QUIC connection IDs, in hex, as long as `quic: {length}` says; by default the last octets of "
        "its address. Write it in quotes.",
    )
    admin: AdminState = key(
        AdminState.ENABLED,
        "What is wanted of it: all traffic, no new connections (`drain`), none at all (`maintenance`).",
    )

    labels: Labels = Field(
        default_factory=dict, description="What selectors choose it by, such as `rack: b3`."
    )

    @model_validator(mode="after")
    def _thresholds_fit(self) -> Self:
        if self.resume_connections and self.resume_connections > (self.max_connections or 0):
            raise ValueError("resume_connections must not be above max_connections, and needs it")
        return self

    @property
    def thresholds(self) -> tuple[int, int]:
        """Upper and lower, as ipvsadm's -x and -y; zeros when there are none."""
        upper = self.max_connections or 0
        return upper, self.resume_connections or upper - upper // 4


class Persistence(Frozen):
    """A client keeps its backend for new connections to any listener of the service, until it has opened none for
    `timeout`. Clients under one prefix are one client. `on_drain`: whether it stays (`keep`) with a backend that
    drains or has weight 0, as with IPVS, or is given another one (`leave`). One that is down never keeps anybody.
    """

    timeout: Timeout = key(300.0, "For how long a client that opens no connection keeps its backend.")
    prefix: Annotated[int, Field(ge=1, le=32), NUMBER] = key(32, "What is one client of IPv4.", "bits")
    prefix6: Annotated[int, Field(ge=1, le=128), NUMBER] = key(128, "What is one client of IPv6.", "bits")
    on_drain: Literal["keep", "leave"] = key(
        "leave", "Whether clients stay with a backend that drains or has weight 0, or get another one."
    )


class Timeouts(Frozen):
    """How long an idle connection is remembered; defaults are those of IPVS (`ipvsadm --set 900 120 300`)."""

    tcp: DayAtMost = key(900.0, "An established TCP connection.")
    tcpfin: DayAtMost = key(120.0, "A TCP connection that has ended.")
    udp: DayAtMost = key(300.0, "A flow of datagrams.")
    syn: DayAtMost = key(60.0, "A TCP connection that is not yet established.")


class ServiceSpec(Frozen):
    """A virtual service: listeners, one scheduler, one check, backends by name.

    `on_empty`: no backend takes new connections. `on_down`: a running TCP connection's backend is down, removed
    or in maintenance. `on_unknown` (`wlc` only): a TCP packet that opens nothing and belongs to no connection.
    `reject` answers TCP with RST (RFC 9293), `schedule` treats the packet as new, if it is no RST. `hash` (`mh`,
    `sh`): whether a client's port counts; by default it does for `mh` and does not for `sh`. `fallback`: the
    backend that takes new connections only when no other does. `one_packet`: each datagram is scheduled anew and
    nothing is remembered.
    `slow_start`: how long a backend that returns takes to get its whole weight back.
    `limit`: how many new connections it takes. `passive`: backends are watched by their clients' packets. `quic`:
    clients of its UDP listeners keep their backend by the connection IDs that it has issued to them.
    """

    listeners: Annotated[tuple[ListenerField, ...], Field(min_length=1, max_length=256)] = Field(
        description="Address, protocol and ports that clients send to: one port, a range like `8000-8099`, or `*`."
    )
    scheduler: Scheduler = key(Scheduler.WLC, "Who gets a new connection; ipvsadm's names and meanings.")
    ring_slots: Annotated[int, Field(ge=251, le=131071), NUMBER] = key(
        16381,
        "Size of the ring of `mh` and `sh`: a prime number, some hundred times that of the backends.",
        "slots",
    )
    hash: Literal["address", "flow"] | None = key(
        None,
        "What `mh` and `sh` hash: the client's address, or its port, too; by default `flow` for `mh`, `address` "
        "for `sh`.",
    )
    fallback: Name | None = key(None, "The backend that takes new connections only when no other does.")
    on_empty: Literal["reject", "drop"] = key(
        "reject", "What a new connection gets when no backend takes any: an answer (RST, ICMP), or silence."
    )
    on_down: Literal["reject", "drop", "schedule"] = key(
        "reject",
        "What a running TCP connection gets whose backend is down, removed or in maintenance: RST, silence, or "
        "another backend.",
    )
    on_unknown: Literal["reject", "drop", "schedule"] = key(
        "reject",
        "What a TCP packet gets that opens nothing and belongs to no connection. Not with `mh` and `sh`.",
    )
    timeouts: Timeouts = key(Timeouts(), "For how long idle connections are remembered.")
    persistence: Persistence | None = key(
        None, "Clients keep their backend over connections; by default they do not."
    )
    one_packet: Flag = key(False, "Each datagram is scheduled by itself, and nothing is remembered.")
    forward: Forward = key(
        "direct",
        "How packets reach the backends: by MAC address (`direct`), or in a tunnel to their own addresses, which "
        "may be in other networks: IP in IP (`ipip`), or IP in UDP (`gue`).",
    )
    tunnel: TunnelSpec = key(TunnelSpec(), "What the tunnels of `ipip` and `gue` have in common.")
    quic: QuicSpec | None = key(
        None,
        "How QUIC connection IDs name backends, so that clients whose address changes stay; by default they do "
        "not.",
    )
    limit: ServiceLimit | None = key(None, "How many new connections it takes; by default as many as come.")
    check: CheckSpec | None = key(
        None, "How its backends are asked whether they are well; by default they are not asked."
    )
    passive: PassiveSpec | None = key(
        None,
        "What is counted of its clients' TCP packets tells which backends do not answer; by default nothing is "
        "counted.",
    )
    slow_start: Timeout | None = key(
        None, "How long a backend that returns takes to get its whole weight; by default it has it at once."
    )
    labels: Labels = Field(
        default_factory=dict, description="What selectors choose it by, such as `team: mail`."
    )
    backends: Annotated[dict[Name, BackendSpec], Field(max_length=MOST_BACKENDS), ByName()] = Field(
        default_factory=dict, description="The real servers, by name."
    )

    @model_validator(mode="after")
    def _listeners_differ(self) -> Self:
        seen: set[Listener] = set()
        for listener in self.listeners:
            if listener in seen:
                raise ValueError(f"listener {listener} stands twice: remove one")
            seen.add(listener)
        return self

    @model_validator(mode="after")
    def _has_not_too_many_backends(self) -> Self:
        if len(self.backends) > self.scheduler.most_backends:
            raise ValueError(
                f"{len(self.backends)} backends, and scheduler {self.scheduler.value} takes "
                f"{self.scheduler.most_backends} at most: take another one, such as wlc"
            )
        return self

    @model_validator(mode="after")
    def _backends_differ(self) -> Self:
        owners: dict[Address, str] = {}
        for name, backend in self.backends.items():
            other = owners.setdefault(backend.address, name)
            if other != name:
                raise ValueError(f"backends '{other}' and '{name}' both have the address {backend.address}")
        for listener in self.listeners:
            if listener.address in owners:
                raise ValueError(
                    f"backend '{owners[listener.address]}' has the service's own VIP {listener.address}: "
                    "a backend needs an address of its own beside the VIP on its loopback"
                )
        return self

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        if self.fallback is not None and self.fallback not in self.backends:
            raise ValueError(f"fallback '{self.fallback}' is none of the service's backends: add it there")
        if self.check is not None and self.check.has_port and self.check_port is None:
            raise ValueError("the check needs a port: no listener of the service has just one")
        if self.one_packet and self.persistence:
            raise ValueError("one_packet remembers nothing, and persistence does: use one of them")
        if self.limit and not self._shows_new:
            raise ValueError(
                f"limit counts new connections, and {self.scheduler} cannot tell which datagram opens one: use "
                "another scheduler, persistence or one_packet, or leave the limit out"
            )
        if self.scheduler.is_ring:
            limited = [name for name, backend in self.backends.items() if backend.max_connections]
            if limited:
                raise ValueError(
                    f"backend '{limited[0]}' has max_connections, but {self.scheduler} counts no connections: "
                    "use another scheduler, or leave it out"
                )
        elif self.hash is not None:
            raise ValueError(f"hash is for mh and sh, and this service's scheduler is {self.scheduler}")
        return self

    @model_validator(mode="after")
    def _passive_fits(self) -> Self:
        if self.passive and not any(listener.protocol == "tcp" for listener in self.listeners):
            raise ValueError("passive is for TCP: add a listener with /tcp, or leave it out")
        return self

    @model_validator(mode="after")
    def _quic_fits(self) -> Self:
        if self.quic is None:
            named = next((name for name, backend in self.backends.items() if backend.quic_id), None)
            if named is not None:
                raise ValueError(f"backend '{named}' has a quic_id, but the service has no quic: add that")
            return self
        if not any(listener.protocol == "udp" for listener in self.listeners):
            raise ValueError("quic is for datagrams: add a listener with /udp, or leave it out")
        if self.one_packet:
            raise ValueError("one_packet keeps no connections, and quic does: use one of them")
        self.quic.require_distinct(
            {name: (backend.address, backend.quic_id) for name, backend in self.backends.items()}
        )
        return self

    def forward_to(self, backend: BackendSpec) -> Forward:
        """How packets reach one of its backends."""
        return backend.forward or self.forward

    def encapsulation(self, backend: BackendSpec) -> Encapsulation | None:
        """The same; None for direct routing."""
        return encapsulation(self.forward_to(backend), self.tunnel)

    @property
    def _shows_new(self) -> bool:
        """Whether some packet of some listener tells that it opens a connection."""
        shows = any(listener.shows_connections for listener in self.listeners)
        return shows or not self.scheduler.is_ring or bool(self.persistence) or self.one_packet

    @property
    def vips(self) -> tuple[Address, ...]:
        """In the listeners' order, each once."""
        if len(self.listeners) == 1:  # of most services, and an address' hash takes long
            return (self.listeners[0].address,)
        return tuple(dict.fromkeys(listener.address for listener in self.listeners))

    @property
    def check_port(self) -> int | None:
        """Where the check asks: its own port, or one that a listener has alone: the usual one of its type, or the
        lowest. The order of the listeners is none of it."""
        if self.check and self.check.port:
            return self.check.port
        exact = self.exact_ports
        usual = usual_port(self.check) if self.check else None
        return usual if usual in exact else min(exact, default=None)

    @property
    def exact_ports(self) -> list[int]:
        """Those of listeners with just one, in their order."""
        return [listener.ports.first for listener in self.listeners if listener.is_exact]

    @property
    def hashes_port(self) -> bool:
        return (self.hash or ("flow" if self.scheduler is Scheduler.MH else "address")) == "flow"

    @model_validator(mode="after")
    def _ring_is_prime(self) -> Self:
        if not _is_prime(self.ring_slots):
            raise ValueError(
                f"ring_slots {self.ring_slots} is not prime: use 4093, 16381, 65537 or another prime number"
            )
        return self


@lru_cache(maxsize=64)
def _is_prime(number: int) -> bool:
    return all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def merged(spec: Frozen, patch: dict[str, Any]) -> dict[str, Any]:
    """`spec` as a document with `patch` laid over it (RFC 7396: null removes, objects merge); not validated."""

    def lay(base: object, over: object) -> object:
        if not isinstance(over, dict):
            return over
        result = dict(base) if isinstance(base, dict) else {}
        for name, value in over.items():
            if value is None:
                result.pop(name, None)
            else:
                result[name] = lay(result.get(name), value)
        return result

    document = lay(spec.model_dump(mode="json"), patch)
    assert isinstance(document, dict)
    return document
