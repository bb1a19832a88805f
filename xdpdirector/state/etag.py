# SPDX-License-Identifier: Apache-2.0
"""ETags of the desired state: equal states have equal tags, also after a restart; different states have different
ones.

Health, counters and neighbours change no tag. Knows the model, nothing of HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256

from xdpdirector.model import BackendSpec, Frozen, ServiceSpec


def tag(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()[:32]


def of_backend(spec: BackendSpec) -> str:
    return tag(_text(spec))


class Tags:
    """Caches the tags of services, as specs are immutable: a large configuration is not serialized each time."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[ServiceSpec, str]] = {}

    def of_service(self, name: str, spec: ServiceSpec) -> str:
        known = self._known.get(name)
        if known is None or known[0] is not spec:
            known = self._known[name] = (spec, tag(_text(spec)))
        return known[1]

    def of_all(self, services: Mapping[str, ServiceSpec]) -> str:
        """The order of services says nothing."""
        self._known = {name: known for name, known in self._known.items() if name in services}
        return tag(*(f"{name} {self.of_service(name, spec)}" for name, spec in sorted(services.items())))


def _text(spec: Frozen) -> str:
    return json.dumps(spec.model_dump(mode="json"), sort_keys=True)
