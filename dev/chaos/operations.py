# SPDX-License-Identifier: Apache-2.0
"""What an operator does over the API. Each operation says what shall be, whatever was before."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dev.chaos.setting import CHECK, PERSISTENCE
from xdpdirector.client import Client, backend_path, service_path
from xdpdirector.errors import ConflictError, NotFoundError, TimedOutError
from xdpdirector.lab.topology import Topology

DRAINING = 2.0  # seconds
Arguments = dict[str, Any]
Operation = Callable[[Client, Topology, Arguments], None]


def perform(kind: str, client: Client, topology: Topology, arguments: Arguments) -> None:
    """The API's answer, when it is an error, is raised."""
    OPERATIONS[kind](client, topology, arguments)


def _backend(arguments: Arguments) -> str:
    return backend_path(arguments["service"], arguments["backend"])


def _weight(client: Client, _topology: Topology, arguments: Arguments) -> None:
    client.patch(_backend(arguments), {"weight": arguments["weight"]})


def _drain(client: Client, _topology: Topology, arguments: Arguments) -> None:
    body = {"reason": "chaos"}
    if arguments["deadline"]:
        body |= {"deadline": arguments["deadline"], "on_deadline": "cut"}
    client.post(f"{_backend(arguments)}/drain", body)


def _enable(client: Client, _topology: Topology, arguments: Arguments) -> None:
    client.post(f"{_backend(arguments)}/enable")


def _listeners(client: Client, _topology: Topology, arguments: Arguments) -> None:
    client.patch(service_path(arguments["service"]), {"listeners": arguments["listeners"]})


def _scheduler(client: Client, _topology: Topology, arguments: Arguments) -> None:
    client.patch(service_path(arguments["service"]), {"scheduler": arguments["scheduler"]})


def _persistence(client: Client, _topology: Topology, arguments: Arguments) -> None:
    wanted = PERSISTENCE if arguments["persistent"] else None
    client.patch(service_path(arguments["service"]), {"persistence": wanted})


def _health(client: Client, _topology: Topology, arguments: Arguments) -> None:
    changed = {name: arguments[name] for name in ("interval", "rise", "fall")}
    client.patch(service_path(arguments["service"]), {"check": CHECK | changed})


def _add(client: Client, topology: Topology, arguments: Arguments) -> None:
    """One that is just leaving stays."""
    name = arguments["backend"]
    body = {"name": name, "address": str(topology.node(name).ipv4), "weight": 1}
    try:
        client.post(f"{service_path(arguments['service'])}/backends", body)
    except ConflictError:
        client.post(f"{_backend(arguments)}/enable")


def _remove(client: Client, _topology: Topology, arguments: Arguments) -> None:
    """If its last connection ends soon; else it stays, and takes no new ones."""
    with suppress(NotFoundError, TimedOutError):
        client.delete(_backend(arguments), {"drain": f"{DRAINING:g}s"}, timeout=DRAINING + 10)


OPERATIONS: dict[str, Operation] = {
    "weight": _weight,
    "drain": _drain,
    "enable": _enable,
    "listeners": _listeners,
    "scheduler": _scheduler,
    "persistence": _persistence,
    "health": _health,
    "add": _add,
    "remove": _remove,
}
