# SPDX-License-Identifier: Apache-2.0
"""ETags of the desired state: equal states have equal tags, also after a restart; different states have different
ones.

Health, counters and neighbours change no tag. Knows the model, nothing of HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from types import MappingProxyType

from xdpdirector.model import BackendSpec, Frozen, ServiceSpec
from xdpdirector.state.edits import touched


def tag(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()[:32]


def of_backend(spec: BackendSpec) -> str:
    return tag(_text(spec))


class Tags:
    """The tags of services, as far as they are known: specs are immutable, and it takes long to write thousands."""

    def __init__(self, known: Mapping[str, tuple[ServiceSpec, str]] = MappingProxyType({})) -> None:
        self._known = dict(known)
        self._sum: tuple[Mapping[str, ServiceSpec], int] = {}, 0
        """Services and the sum of their numbers, which the tag of all is made of: a change of one adds and
        subtracts."""

    def following(self, services: Mapping[str, ServiceSpec]) -> Tags:
        """All tags of these services. It takes long when many are new: call it beside the loop."""
        tags = Tags(self._known)
        tags._sum = self._sum
        tags.of_all(services)
        if len(tags._known) > len(services):
            tags._known = {name: tags._known[name] for name in services}
        return tags

    def of_service(self, name: str, spec: ServiceSpec) -> str:
        known = self._known.get(name)
        if known is None or known[0] is not spec:
            known = self._known[name] = (spec, tag(_text(spec)))
        return known[1]

    def of_all(self, services: Mapping[str, ServiceSpec]) -> str:
        """The order of services says nothing."""
        before, total = self._sum
        if before is not services:
            for name in touched(before, services):
                if name in before:
                    total -= self._number(name, before[name])
                if name in services:
                    total += self._number(name, services[name])
            self._sum = services, total
        return tag(str(total % (1 << 256)))

    def _number(self, name: str, spec: ServiceSpec) -> int:
        return int(sha256(f"{name} {self.of_service(name, spec)}".encode()).hexdigest(), 16)


def _text(spec: Frozen) -> str:
    return json.dumps(spec.model_dump(mode="json"), sort_keys=True)
