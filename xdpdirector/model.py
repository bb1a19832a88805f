# SPDX-License-Identifier: Apache-2.0
"""What an operator may ask for: the one model behind the configuration file, REST and the core.

Frozen pydantic models; an option is written here once. Knows nothing of files, HTTP, maps or live state.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from xdpdirector.accessspec import ACCOUNT, ApiSpec
from xdpdirector.checkspec import Checks
from xdpdirector.checkspec import CheckSpec as CheckSpec
from xdpdirector.fields import NUMBER, ByName, Flag
from xdpdirector.fields import DayAtMost as DayAtMost
from xdpdirector.fields import Frozen as Frozen
from xdpdirector.fields import HostAddress as HostAddress
from xdpdirector.fields import ListenerField as ListenerField
from xdpdirector.fields import Name as Name
from xdpdirector.fields import Timeout as Timeout
from xdpdirector.guardspec import MOST_DENIED, GuardSpec, ServiceLimit
from xdpdirector.lanspec import LanSpec
from xdpdirector.listener import Address as Address
from xdpdirector.listener import Listener as Listener


class AdminState(StrEnum):
    """What the operator wants of a backend."""

    ENABLED = "enabled"
    DRAIN = "drain"
    MAINTENANCE = "maintenance"


class Scheduler(StrEnum):
    """ipvsadm's names and meanings; `wrr` interleaves smoothly, `sh` is consistent as `mh` is."""

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

    @property
    def is_ring(self) -> bool:
        """Whether it hashes clients onto a ring, and needs no connection table at rest."""
        return self in (Scheduler.MH, Scheduler.SH)


class BackendSpec(Frozen):
    """A real server. It has no port: in direct routing the destination port cannot change.

    At `max_connections`, running and ended ones in the table together, it takes no new ones, until it has fewer
    than `resume_connections` (three quarters of the maximum by default).
    """

    address: HostAddress
    weight: Annotated[int, Field(ge=0, le=65535), NUMBER] = 1
    max_connections: Annotated[int, Field(ge=1, le=(1 << 31) - 1), NUMBER] | None = None
    resume_connections: Annotated[int, Field(ge=1, le=(1 << 31) - 1), NUMBER] | None = None
    admin: AdminState = AdminState.ENABLED

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

    timeout: Timeout = 300.0
    prefix: Annotated[int, Field(ge=1, le=32), NUMBER] = 32
    prefix6: Annotated[int, Field(ge=1, le=128), NUMBER] = 128
    on_drain: Literal["keep", "leave"] = "leave"


class Timeouts(Frozen):
    """How long an idle connection is remembered; defaults are those of IPVS (`ipvsadm --set 900 120 300`)."""

    tcp: DayAtMost = 900.0
    tcpfin: DayAtMost = 120.0
    udp: DayAtMost = 300.0
    syn: DayAtMost = 60.0


class ServiceSpec(Frozen):
    """A virtual service: listeners, one scheduler, one check, backends by name.

    `on_empty`: no backend takes new connections. `on_down`: a running TCP connection's backend is down, removed
    or in maintenance. `on_unknown` (`wlc` only): a TCP packet that opens nothing and belongs to no connection.
    `reject` answers TCP with RST (RFC 9293), `schedule` treats the packet as new, if it is no RST. `hash` (`mh`,
    `sh`): whether a client's port counts; by default it does for `mh` and does not for `sh`. `fallback`: the
    backend that takes new connections only when no other does. `one_packet`: each datagram is scheduled anew and
    nothing is remembered.
    `slow_start`: how long a backend that returns takes to get its whole weight back.
    `limit`: how many new connections it takes.
    """

    listeners: Annotated[tuple[ListenerField, ...], Field(min_length=1, max_length=256)]
    scheduler: Scheduler = Scheduler.WLC
    ring_slots: Annotated[int, Field(ge=251, le=131071), NUMBER] = 16381
    hash: Literal["address", "flow"] | None = None
    fallback: Name | None = None
    on_empty: Literal["reject", "drop"] = "reject"
    on_down: Literal["reject", "drop", "schedule"] = "reject"
    on_unknown: Literal["reject", "drop", "schedule"] = "reject"
    timeouts: Timeouts = Timeouts()
    persistence: Persistence | None = None
    one_packet: Flag = False
    limit: ServiceLimit | None = None
    check: CheckSpec | None = None
    slow_start: Timeout | None = None
    backends: Annotated[dict[Name, BackendSpec], Field(max_length=256), ByName()] = Field(
        default_factory=dict
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

    @property
    def _shows_new(self) -> bool:
        """Whether some packet of some listener tells that it opens a connection."""
        tcp = any(listener.protocol == "tcp" for listener in self.listeners)
        return tcp or not self.scheduler.is_ring or bool(self.persistence) or self.one_packet

    @property
    def check_port(self) -> int | None:
        """Where the check asks: its own port, or the first listener's that has just one."""
        exact = [listener.ports.first for listener in self.listeners if listener.is_exact]
        return (self.check.port if self.check else None) or next(iter(exact), None)

    @property
    def hashes_port(self) -> bool:
        return (self.hash or ("flow" if self.scheduler is Scheduler.MH else "address")) == "flow"

    @model_validator(mode="after")
    def _ring_is_prime(self) -> Self:
        n = self.ring_slots
        if any(n % d == 0 for d in range(2, int(n**0.5) + 1)):
            raise ValueError(f"ring_slots {n} is not prime: use 4093, 16381, 65537 or another prime number")
        return self


class Sizes(Frozen):
    """Entries of the maps; a change makes new maps."""

    services: Annotated[int, Field(ge=1, le=4096), NUMBER] = 256
    backends: Annotated[int, Field(ge=1, le=65000), NUMBER] = 4096
    listeners: Annotated[int, Field(ge=1, le=65536), NUMBER] = 4096
    connections: Annotated[int, Field(ge=1024, le=1 << 24), NUMBER] = 1 << 18
    connections6: Annotated[int, Field(ge=1024, le=1 << 24), NUMBER] = 1 << 16
    ring_slots: Annotated[int, Field(ge=251, le=1 << 26), NUMBER] = 1 << 21
    clients: Annotated[int, Field(ge=1024, le=1 << 24), NUMBER] = 1 << 16
    fragments: Annotated[int, Field(ge=1024, le=1 << 20), NUMBER] = 1 << 13
    denied: Annotated[int, Field(ge=16, le=MOST_DENIED), NUMBER] = 1 << 14
    sources: Annotated[int, Field(ge=1024, le=1 << 24), NUMBER] = 1 << 16


InterfaceName = Annotated[str, Field(pattern=r"^[^\s/]{1,15}$")]


class Configuration(Frozen):
    """The configuration file. `user`: who the daemon becomes when root starts it; without it, it stays root."""

    interfaces: Annotated[tuple[InterfaceName, ...], Field(min_length=1, max_length=16)]
    mode: Literal["auto", "native", "generic"] = "auto"
    vips: Literal["manage", "external"] = "manage"
    api: ApiSpec = ApiSpec()
    user: Annotated[str, Field(pattern=ACCOUNT)] | None = None
    sizes: Sizes = Sizes()
    guard: GuardSpec = GuardSpec()
    lan: LanSpec = LanSpec()
    checks: Checks = Checks()
    services: Annotated[dict[Name, ServiceSpec], ByName()] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.interfaces)) != len(self.interfaces):
            raise ValueError("an interface stands twice in interfaces")
        if len(self.guard.deny) > self.sizes.denied:
            raise ValueError(
                f"guard denies {len(self.guard.deny)} prefixes: raise sizes.denied ({self.sizes.denied})"
            )
        check_programs(self.services, self.checks)
        check_listeners(self.services)
        return self


def check_programs(services: dict[str, ServiceSpec], checks: Checks) -> None:
    """ValueError for a check that runs what may not be run."""
    for name, service in services.items():
        if service.check and (why := service.check.refusal(checks)):
            raise ValueError(f"check of service '{name}': {why}")


def check_listeners(services: dict[str, ServiceSpec]) -> None:
    """ValueError when two services have the same listener, or ranges of which neither is inside the other."""
    owners: dict[Listener, str] = {}
    ranges: list[tuple[Listener, str]] = []
    for name, service in services.items():
        for listener in service.listeners:
            other = owners.setdefault(listener, name)
            if other != name:
                raise ValueError(f"listener {listener} belongs to service '{other}' and to service '{name}'")
            if not listener.is_exact:
                ranges.append((listener, name))
    for number, (listener, name) in enumerate(ranges):
        for other_listener, other in ranges[:number]:
            if other != name and listener.overlaps(other_listener):
                raise ValueError(
                    f"listener {other_listener} of service '{other}' and listener {listener} of service '{name}' "
                    "overlap: let one be inside the other, or divide the ports"
                )


def merged(spec: Frozen, patch: dict[str, Any]) -> dict[str, Any]:
    """`spec` as a document with `patch` laid over it (RFC 7396: null removes, objects merge); not validated."""

    def lay(base: object, over: object) -> object:
        if not isinstance(over, dict):
            return over
        result = dict(base) if isinstance(base, dict) else {}
        for key, value in over.items():
            if value is None:
                result.pop(key, None)
            else:
                result[key] = lay(result.get(key), value)
        return result

    document = lay(spec.model_dump(mode="json"), patch)
    assert isinstance(document, dict)
    return document
