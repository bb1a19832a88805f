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


def tag(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()[:32]


def of_backend(spec: BackendSpec) -> str:
    return tag(_text(spec))


class Tags:
    """The tags of services, as far as they are known: specs are immutable, and it takes long to write thousands."""

    def __init__(self, known: Mapping[str, tuple[ServiceSpec, str]] = MappingProxyType({})) -> None:
        self._known = dict(known)
        self._all: tuple[Mapping[str, ServiceSpec], str] | None = None

    def following(self, services: Mapping[str, ServiceSpec]) -> Tags:
        """All tags of these services. It takes long when many are new: call it beside the loop."""
        tags = Tags({name: known for name in services if (known := self._known.get(name))})
        tags.of_all(services)
        return tags

    def of_service(self, name: str, spec: ServiceSpec) -> str:
        known = self._known.get(name)
        if known is None or known[0] is not spec:
            known = self._known[name] = (spec, tag(_text(spec)))
        return known[1]

    def of_all(self, services: Mapping[str, ServiceSpec]) -> str:
        """The order of services says nothing."""
        if self._all is None or self._all[0] is not services:
            parts = (f"{name} {self.of_service(name, spec)}" for name, spec in sorted(services.items()))
            self._all = (services, tag(*parts))
        return self._all[1]


def _text(spec: Frozen) -> str:
    return json.dumps(spec.model_dump(mode="json"), sort_keys=True)
