# SPDX-License-Identifier: Apache-2.0
"""What is to be known of a service: its ports, its check, its server and its clients. Values only: runs nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xdpdirector.lab.host import Host
from xdpdirector.lab.servers import Server
from xdpdirector.model import Address

BACKEND = r"(?P<backend>backend\d+)"


@dataclass(frozen=True)
class Script:
    """A client program and what is typed to it.

    `opening` is typed first, then `question` as often as one likes; each is answered by what `answer` matches,
    whose group `backend` says who answered. `farewell` is answered by `parting`, and then the program ends with
    status 0.
    """

    command: tuple[str, ...]
    answer: re.Pattern[str]
    opening: str = ""
    question: str = ""
    farewell: str = ""
    parting: re.Pattern[str] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Client:
    """One way to use a service. `visit` is a whole short session, `stay` one that goes on while it is asked, if the
    client has such.

    `name` is what people call it, `tool` the program.
    """

    name: str
    tool: str
    visit: Callable[[Address], Script]
    stay: Callable[[Address], Script] | None


@dataclass(frozen=True)
class Kind:
    """A service. `ports` are listeners of both VIPs (`80/tcp`, `*/tcp`); `check` is its document's.

    Persistence is asked for when there is more than one client, so that these meet the same backend; `on_drain`
    belongs to it.
    """

    name: str
    ports: tuple[str, ...]
    check: Mapping[str, Any]
    server: Callable[[Host], Server]
    clients: tuple[Client, ...]
    on_drain: str = "leave"

    @property
    def persistent(self) -> bool:
        return len(self.clients) > 1


def authority(vip: Address) -> str:
    """As it stands in a URL."""
    return f"[{vip}]" if vip.version == 6 else str(vip)
