# SPDX-License-Identifier: Apache-2.0
"""Joins the wanted services with their observed state into the views of the API and of metrics. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from xdpdirector.control import status_views
from xdpdirector.control.reconciler import Reconciler
from xdpdirector.control.status_views import ServiceSample
from xdpdirector.dataplane.interface import Plane
from xdpdirector.model import BackendSpec, Key, ServiceSpec
from xdpdirector.model.passive import PassiveView
from xdpdirector.model.status import (
    BackendView,
    ConnectionCounts,
    DrainView,
    ServiceTraffic,
    ServiceView,
    Traffic,
    total,
)
from xdpdirector.state import edits
from xdpdirector.state.edits import Services

PIECE = 32  # backends that are read before other tasks may run
TOGETHER = 128  # services whose counters are read at once, in a few system calls: half a millisecond
MOST_TOGETHER = 512  # backends whose traffic is read at once
Counted = tuple[Traffic, ConnectionCounts]
NOTHING_KNOWN: Mapping[Key, Counted] = MappingProxyType({})

Shown = TypeVar("Shown")


class ServiceStatus:
    """`drain_view` returns the view of a backend's drain; None when it is not draining."""

    def __init__(
        self,
        reconciler: Reconciler,
        plane: Plane,
        drain_view: Callable[[Key, ConnectionCounts], DrainView | None],
    ) -> None:
        self._reconciler, self._plane, self._drain_view = reconciler, plane, drain_view

    @property
    def _services(self) -> Services:
        return self._reconciler.services

    def services(self) -> list[ServiceView]:
        traffic = self.traffic(self._services)
        return [self._service(name, spec, traffic[name]) for name, spec in self._services.items()]

    def service(self, name: str) -> ServiceView:
        spec = edits.find_service(self._services, name)
        return self._service(name, spec, self.traffic({name: spec})[name])

    def backend(self, service: str, name: str) -> BackendView:
        key = (service, name)
        spec = edits.find_backend(self._services, *key)
        passive = self._passive([key])
        return self._backend(key, spec, self._plane.traffic([key])[key], passive.get(key))

    def _passive(self, keys: Sequence[Key]) -> Mapping[Key, PassiveView]:
        """Of backends of one service."""
        return self._reconciler.passive.views(self._services[keys[0][0]], keys) if keys else {}

    def traffic(self, services: Services) -> dict[str, dict[str, Traffic]]:
        """Of all their backends."""
        found = self._plane.traffic([(name, key) for name, spec in services.items() for key in spec.backends])
        return {name: {key: found[name, key] for key in spec.backends} for name, spec in services.items()}

    def _service(self, name: str, spec: ServiceSpec, traffic: Mapping[str, Traffic]) -> ServiceView:
        passive = self._passive([(name, key) for key in spec.backends])
        backends = tuple(
            self._backend((name, key), each, traffic[key], passive.get((name, key)))
            for key, each in spec.backends.items()
        )
        return self._view(name, spec, backends)

    def _view(self, name: str, spec: ServiceSpec, backends: tuple[BackendView, ...]) -> ServiceView:
        refused, departed = self._plane.refused([name]), self._plane.departed([name])
        dropped, cids = self._plane.drops([name]), self._plane.cids([name])
        return status_views.service_view(
            name, spec, backends, refused[name], departed[name], dropped[name], cids[name]
        )

    def _backend(
        self, key: Key, spec: BackendSpec, traffic: Traffic, passive: PassiveView | None
    ) -> BackendView:
        return self._seen(key, spec, (traffic, self._plane.counts(key)), status_views.backend_view, passive)

    def _seen(
        self,
        key: Key,
        spec: BackendSpec,
        counted: Counted,
        show: Callable[..., Shown],
        passive: PassiveView | None,
    ) -> Shown:
        """`show`: `status_views.backend_view`, or a function with the same parameters."""
        traffic, counts = counted
        drain = self._drain_view(key, counts)
        return show(
            key,
            spec,
            self._reconciler.backend_status(key),
            counts,
            traffic,
            drain,
            self._reconciler.since(key),
            service=self._services[key[0]],
            settled=drain.settled if drain else self._plane.is_settled(key[0]),
            passive=passive,
        )

    def views(self, names: Sequence[str]) -> Iterator[ServiceView | None]:
        """The views of these services, in pieces: None wherever other tasks may run. A service that is removed
        meanwhile is left out."""
        for name in names:
            for seen in self._in_pieces(name, status_views.backend_view):
                yield seen and self._view(name, *seen)

    def samples(self) -> Iterator[ServiceSample | None]:
        """The samples of all services for metrics; otherwise as `views`."""
        names = list(self._services)
        for begin in range(0, len(names), TOGETHER):
            some = names[begin : begin + TOGETHER]
            keys = [(name, key) for name in some for key in self._backends(name)]
            counted = self._counted(keys[:MOST_TOGETHER])
            refused, departed = self._plane.refused(some), self._plane.departed(some)
            dropped, cids = self._plane.drops(some), self._plane.cids(some)
            for name in some:
                for seen in self._in_pieces(name, status_views.backend_sample, counted):
                    yield seen and status_views.service_sample(
                        name, *seen, refused[name], departed[name], dropped[name], cids[name]
                    )

    def service_traffic(self) -> Iterator[ServiceTraffic]:
        """Of all services, read a few at a time."""
        names = list(self._services)
        for begin in range(0, len(names), PIECE):
            some = {
                name: self._services[name] for name in names[begin : begin + PIECE] if name in self._services
            }
            departed = self._plane.departed(some)
            for name, backends in self.traffic(some).items():
                yield ServiceTraffic(name, total([departed[name], *backends.values()]), backends)

    def _counted(self, keys: Collection[Key]) -> dict[Key, Counted]:
        traffic, counts = self._plane.traffic(keys), self._plane.counts_of(keys)
        return {key: (traffic[key], counts[key]) for key in keys}

    def _backends(self, service: str) -> list[str]:
        """None of one that has gone."""
        spec = self._services.get(service)
        return list(spec.backends) if spec else []

    def _in_pieces(
        self, name: str, show: Callable[..., Shown], known: Mapping[Key, Counted] = NOTHING_KNOWN
    ) -> Iterator[tuple[ServiceSpec, tuple[Shown, ...]] | None]:
        """A service and its backends, as they were wanted at the end; None between two pieces. `known`: of
        some, read before."""
        while (spec := self._services.get(name)) is not None:
            shown: list[Shown] = []
            keys = list(spec.backends)
            for begin in range(0, len(keys), PIECE) or (0,):
                some = [(name, key) for key in keys[begin : begin + PIECE]]
                counted = known if all(key in known for key in some) else self._counted(some)
                passive = self._passive(some)
                shown += [
                    self._seen(key, spec.backends[key[1]], counted[key], show, passive.get(key))
                    for key in some
                ]
                if begin + PIECE < len(keys):
                    yield None
                    if self._services.get(name) is not spec:
                        break
            else:
                yield spec, tuple(shown)
                return
