# SPDX-License-Identifier: Apache-2.0
"""The director's own program, loaded by the real loader and filled through `Dataplane`: one service for each
variant, told apart by port.

Variants that remember connections have an instance each: then a table holds as many flows as the baselines' own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from types import TracebackType
from typing import Any, Self

from dev.bench.baselines import BACKENDS
from dev.bench.driver import LOOPBACK
from dev.bench.frames import FAR_MAC, NEAR_MAC
from dev.bench.loaded import Programs
from xdpdirector.control import planner
from xdpdirector.control.planner import BackendStatus
from xdpdirector.dataplane.jiffies import Clock
from xdpdirector.dataplane.maps import Tables
from xdpdirector.dataplane.service_plan import ServicePlan
from xdpdirector.dataplane.writer import Dataplane
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.loader.layout import Loaded
from xdpdirector.model import ServiceSpec, Sizes
from xdpdirector.model.status import Operational
from xdpdirector.net import own_macs
from xdpdirector.net.next_hop import Route
from xdpdirector.paths import InstancePaths

MH, WLC, PERSISTENT, WATCHED = "mh", "wlc", "wlc persistent", "wlc passive"
_FIRST_PORT = 80
_VARIANTS: dict[str, dict[str, Any]] = {
    MH: {"scheduler": "mh", "ring_slots": 65537},
    WLC: {"scheduler": "wlc"},
    PERSISTENT: {"scheduler": "wlc", "persistence": {"timeout": "300s"}},
    WATCHED: {"scheduler": "wlc", "passive": {}},
}
# A variant is measured as soon as the model knows its fields.
VARIANTS = {
    name: fields for name, fields in _VARIANTS.items() if fields.keys() <= ServiceSpec.model_fields.keys()
}
TUNNELS: dict[str, dict[str, Any]] = {
    f"{MH} {forward}": {**_VARIANTS[MH], "forward": forward} for forward in ("ipip", "gue")
}
"""To backends in another network. Their frames grow, so that they are measured by themselves."""
# Who shares an instance: mh stores no connection.
_SHARES = [
    share
    for each in ((MH, WLC, *TUNNELS), (PERSISTENT,), (WATCHED,))
    if (share := [name for name in each if name in VARIANTS or name in TUNNELS])
]
PORTS = {name: _FIRST_PORT + index for index, name in enumerate((*_VARIANTS, *TUNNELS))}
FIRST_BACKEND = IPv4Address("192.0.2.21")
_OWN, MTU = IPv4Address("192.0.2.2"), 1500


def plan(variant: str, ifindex: int) -> ServicePlan:
    """TCP over both families and UDP, to backends that are all up, behind one MAC on that interface."""
    port = PORTS[variant]
    spec = ServiceSpec.model_validate(
        {
            "listeners": [f"{VIP4}:{port}/tcp", f"[{VIP6}]:{port}/tcp", f"{VIP4}:{port}/udp"],
            "on_unknown": "drop",  # a RST would turn the frame that the next runs of a burst begin with
            "backends": {f"backend{n}": {"address": str(FIRST_BACKEND + n)} for n in range(BACKENDS)},
            **(VARIANTS | TUNNELS)[variant],
        }
    )
    standing = BackendStatus(
        Operational.UP, "", Route("neighbour", FAR_MAC, NEAR_MAC, ifindex, source=_OWN, mtu=MTU)
    )
    return planner.plan(variant.replace(" ", "-"), spec, dict.fromkeys(spec.backends, standing))


@contextmanager
def dataplane(paths: InstancePaths, layout: Loaded) -> Iterator[Dataplane]:
    clock = Clock(paths.pins / "clock")
    try:
        with Tables(layout) as tables:
            yield Dataplane(tables, clock)
    finally:
        clock.close()


def serve(plane: Dataplane, variants: Iterable[str], ifindex: int) -> None:
    """These variants, with backends on that interface of this network namespace.

    The frame of a repeated run is sent to a backend's MAC from the second run on: that, too, is this machine's.
    """
    own_macs.write(plane.tables.stations, [FAR_MAC, NEAR_MAC])
    for variant in variants:
        plane.apply(plan(variant, ifindex), 0.0)


class Ours(Programs):
    """Ready to forward; packets that come in on loopback are answered by XDP_TX."""

    def __init__(self, instance: str, sizes: Sizes, variants: Iterable[str]) -> None:
        super().__init__(instance, sizes)
        self.variants = tuple(variants)
        self._open_plane = dataplane(self.paths, self.layout)

    def __enter__(self) -> Self:
        try:
            self.plane = self._open_plane.__enter__()
            serve(self.plane, self.variants, LOOPBACK)
        except BaseException:
            super().__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open_plane.__exit__(kind, error, trace)
        super().__exit__(kind, error, trace)

    def counted(self) -> dict[str, int]:
        """Packets by reason so far."""
        return self.plane.counters.verdicts()

    def counted_since(self, before: Mapping[str, int]) -> Counter[str]:
        """Packets by reason since `counted` said that; reasons that had none are left out."""
        return Counter({name: n - before[name] for name, n in self.counted().items() if n > before[name]})


class Fleet:
    """All instances of ours, their tables empty. A context manager; `fleet[variant]` serves that variant."""

    def __init__(self, prefix: str, sizes: Sizes) -> None:
        self._prefix, self._sizes = prefix, sizes
        self._stack = ExitStack()
        self.instances: list[Ours] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for number, variants in enumerate(_SHARES):
                ours = Ours(f"{self._prefix}{number}", self._sizes, variants)
                self.instances.append(stack.enter_context(ours))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def __getitem__(self, variant: str) -> Ours:
        return next(ours for ours in self.instances if variant in ours.variants)
