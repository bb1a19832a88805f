# SPDX-License-Identifier: Apache-2.0
"""Who talks to whom: what a director says of itself first, and why another one may not take that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xdpdirector.sync.messages import PROTOCOL, ProtocolError


@dataclass(frozen=True)
class Hello:
    """`listen`: where it takes its peers' connections, as configured; `states`: enum connection_state; `layout`: of
    its maps, 0 for a release that does not say."""

    name: str
    fleet: str
    instance: str
    version: str
    listen: str
    states: dict[str, int]
    protocol: int = PROTOCOL
    layout: int = 0

    def document(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def parse(cls, said: dict[str, Any]) -> Hello:
        """ProtocolError when something is missing or of another type. What a later version adds is left alone."""
        texts = {key: said.get(key) for key in ("name", "fleet", "instance", "version", "listen")}
        states, protocol = said.get("states"), said.get("protocol")
        if not all(isinstance(text, str) and 0 < len(text) <= 255 for text in texts.values()):
            raise ProtocolError("a hello without name, fleet, instance, version and listen")
        if not isinstance(states, dict) or not all(isinstance(number, int) for number in states.values()):
            raise ProtocolError("a hello without states")
        if not isinstance(protocol, int):
            raise ProtocolError("a hello without protocol")
        layout = said.get("layout", 0)
        if not isinstance(layout, int):
            raise ProtocolError("a hello with a layout that is no number")
        return cls(**texts, states=states, protocol=protocol, layout=layout)  # type: ignore[arg-type]

    def why_not(self, other: Hello) -> str:
        """Why these two may not exchange connections; empty when they may."""
        if other.protocol != self.protocol:
            return (
                f"it speaks version {other.protocol} of the sync protocol (release {other.version}), and this "
                f"director version {self.protocol} (release {self.version}): upgrade the older one"
            )
        if other.fleet != self.fleet:
            return f"its fleet is '{other.fleet}', and this director's is '{self.fleet}'"
        if other.name == self.name:
            return f"both directors are called '{self.name}': give each a name of its own (sync.name)"
        return ""
