# SPDX-License-Identifier: Apache-2.0
"""The configuration file as a whole: where the director runs, how large its maps are, its services, and the rules
between services.

Frozen pydantic models. Knows nothing of files, HTTP, maps or live state.
"""

from __future__ import annotations

from socket import gethostname
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from xdpdirector.model.access import ACCOUNT, ApiSpec
from xdpdirector.model.checks import Checks
from xdpdirector.model.fields import NUMBER, ByName, Frozen, InterfaceName, Name, key
from xdpdirector.model.guard import MOST_DENIED, GuardSpec
from xdpdirector.model.lan import LanSpec
from xdpdirector.model.listener import Listener
from xdpdirector.model.lvs import LvsSpec
from xdpdirector.model.service import MOST_BACKENDS, ServiceSpec
from xdpdirector.model.store import StoreSpec
from xdpdirector.model.sync import SyncSpec


class Sizes(Frozen):
    """Entries of the maps; a change makes new maps."""

    services: Annotated[int, Field(ge=1, le=4096), NUMBER] = key(256, "Room for services.", "entries")
    backends: Annotated[int, Field(ge=1, le=65535), NUMBER] = key(
        4096, "Room for backends of all services together.", "entries"
    )
    members: Annotated[int, Field(ge=256, le=MOST_BACKENDS), NUMBER] = key(
        256, "Room for backends of each service.", "entries"
    )
    listeners: Annotated[int, Field(ge=1, le=65536), NUMBER] = key(
        4096, "Room for listeners of all services together.", "entries"
    )
    connections: Annotated[int, Field(ge=1024, le=1 << 24), NUMBER] = key(
        1 << 18,
        "Room for connections over IPv4, those included that have ended and are still remembered.",
        "entries",
    )
    connections6: Annotated[int, Field(ge=1024, le=1 << 24), NUMBER] = key(
        1 << 16, "The same over IPv6.", "entries"
    )
    ring_slots: Annotated[int, Field(ge=251, le=1 << 26), NUMBER] = key(
        1 << 21, "Room for the rings of all services with `mh` and `sh` together.", "slots"
    )
    clients: Annotated[int, Field(ge=1024, le=1 << 24), NUMBER] = key(
        1 << 16, "Room for clients that keep their backend (`persistence`).", "entries"
    )
    fragments: Annotated[int, Field(ge=1024, le=1 << 20), NUMBER] = key(
        1 << 13, "Room for fragmented packets on their way.", "entries"
    )
    denied: Annotated[int, Field(ge=16, le=MOST_DENIED), NUMBER] = key(
        1 << 14, "Room for denied prefixes.", "entries"
    )
    sources: Annotated[int, Field(ge=1024, le=1 << 24), NUMBER] = key(
        1 << 16, "Room for sources that `limit: {per_source: ...}` counts.", "entries"
    )


class VipsOnDummy(Frozen):
    """VIPs on an interface of their own while the director is ready, from which a routing daemon such as BIRD
    announces them. Fifteen seconds after the daemon has ended without another one they go by themselves."""

    on: Literal["dummy"] = Field(description="The kind of interface that is made when there is none.")
    interface: InterfaceName = key(
        "vips", "Its name. One that is there already may be of any kind that carries nothing else."
    )


def _way(value: object) -> str:
    return "mapping" if isinstance(value, (dict, VipsOnDummy)) else "word"


VipsSpec = Annotated[
    Annotated[Literal["manage", "external"], Tag("word")] | Annotated[VipsOnDummy, Tag("mapping")],
    Discriminator(_way),
]


class Configuration(Frozen):
    """The configuration file. `user`: who the daemon becomes when root starts it; without it, it stays root."""

    interfaces: Annotated[tuple[InterfaceName, ...], Field(min_length=1, max_length=16)] = Field(
        description="The network interfaces that carry the packet program: where clients' packets come in, and "
        "where backends are."
    )
    mode: Literal["auto", "native", "generic"] = key(
        "auto",
        "XDP in the driver (`native`), in the kernel's stack (`generic`), or the first of them that works: on a "
        "veth, native if its peer is ready for it.",
    )
    vips: VipsSpec = key(
        "manage",
        "Whether the daemon puts the VIPs on the interfaces (`manage`), something else does, such as keepalived "
        "(`external`), or they stand on an interface of their own as long as this director is ready "
        "(`{on: dummy}`).",
    )
    api: ApiSpec = key(ApiSpec(), "Where the REST API listens, and for whom.")
    user: Annotated[str, Field(pattern=ACCOUNT)] | None = key(
        None, "Whom the daemon becomes when root starts it; by default it stays root."
    )
    sizes: Sizes = key(Sizes(), "How much the maps have room for.")
    guard: GuardSpec = key(GuardSpec(), "Whose packets are dropped.")
    lan: LanSpec = key(LanSpec(), "How the director looks after its network.")
    checks: Checks = key(Checks(), "What holds for all health checks.")
    lvs: LvsSpec = key(LvsSpec(), "What the commands of Linux Virtual Server need to know here.")
    sync: SyncSpec | None = key(None, "Other directors that have this one's connections, and whose it has.")
    store: StoreSpec = key(
        StoreSpec(), "Where services and drains are kept: here, or in an etcd for a fleet."
    )
    health: Literal["local", "majority"] = key(
        "local",
        "Whose checks count: this director's, or those of most directors of its fleet (needs `store.type: etcd`).",
    )
    services: Annotated[dict[Name, ServiceSpec], ByName()] = Field(
        default_factory=dict, description="The virtual services, by name."
    )

    @property
    def has_peers(self) -> bool:
        """Whether there are other directors for the same VIPs."""
        return self.sync is not None or self.store.is_shared

    @property
    def director_name(self) -> str:
        """What other directors call this one."""
        return self.store.name or (self.sync and self.sync.name) or gethostname()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.interfaces)) != len(self.interfaces):
            raise ValueError("an interface stands twice in interfaces")
        if self.health == "majority" and not self.store.is_shared:
            raise ValueError(
                "health: majority needs other directors: say `store` with `type: etcd`, or `local`"
            )
        if isinstance(self.vips, VipsOnDummy) and self.vips.interface in self.interfaces:
            raise ValueError(
                f"vips.interface '{self.vips.interface}' carries the packet program (interfaces): VIPs get an "
                "interface of their own"
            )
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
    before: list[tuple[Listener, str]] = []
    for listener, name in sorted(ranges, key=lambda each: _by_place(each[0])):
        # Only those that reach as far as this one begins, at the same place, can have anything to do with it.
        before = [each for each in before if _reaches(each[0], listener)]
        for other_listener, other in before:
            if other != name and listener.overlaps(other_listener):
                raise ValueError(
                    f"listener {other_listener} of service '{other}' and listener {listener} of service '{name}' "
                    "overlap: let one be inside the other, or divide the ports"
                )
        before.append((listener, name))


def _by_place(listener: Listener) -> tuple[int, int, str, int, int]:
    address = listener.address
    return address.version, int(address), listener.protocol, listener.ports.first, -listener.ports.last


def _reaches(one: Listener, other: Listener) -> bool:
    same = one.protocol == other.protocol and one.address == other.address
    return same and one.ports.last >= other.ports.first
