# SPDX-License-Identifier: Apache-2.0
"""Names for the shell's completion, from the running daemon, within a short time or not at all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer

from xdpdirector.client import Client
from xdpdirector.errors import DirectorError
from xdpdirector.paths import DEFAULT_INSTANCE, InstancePaths

_PLAIN = re.compile(r"[A-Za-z0-9._:/\[\]-]+")
PATIENCE = 1.0  # seconds: who presses a key waits no longer


def services(context: typer.Context, incomplete: str) -> list[str]:
    """Names of services."""
    return _beginning([one["name"] for one in _ask(context)], incomplete)


def backends(context: typer.Context, incomplete: str) -> list[str]:
    """SERVICE/BACKEND."""
    names = [f"{one['name']}/{each['name']}" for one in _ask(context) for each in one["backends"]]
    return _beginning(names, incomplete)


def listeners(context: typer.Context, incomplete: str) -> list[str]:
    """Those that are one port of one protocol."""
    exact = [
        text for one in _ask(context) for text in one["listeners"] if "*" not in text and "-" not in text
    ]
    return _beginning(exact, incomplete)


def directors(context: typer.Context, incomplete: str) -> list[str]:
    """Names of the fleet's directors, this one with them."""
    try:
        fleet = _client(context).get("/v1/fleet", timeout=PATIENCE)
    except DirectorError:
        return []
    known = {each["name"] for each in (fleet, *fleet["directors"], *fleet["leaving"])}
    return _beginning(sorted(known), incomplete)


def _beginning(names: list[str], incomplete: str) -> list[str]:
    """Those that a shell takes as they are: they go to a command line, and not all daemons are honest."""
    return [name for name in names if name.startswith(incomplete) and _PLAIN.fullmatch(name)]


def _ask(context: typer.Context) -> list[dict[str, Any]]:
    """Empty when the daemon does not answer: a completion cannot show errors."""
    try:
        items: list[dict[str, Any]] = _client(context).pages("/v1/services", timeout=PATIENCE)["items"]
    except DirectorError:
        return []
    return items


def _client(context: typer.Context) -> Client:
    """Of the daemon that the options so far choose."""
    chosen = context.find_root().params
    path = chosen.get("socket") or InstancePaths(chosen.get("instance") or DEFAULT_INSTANCE).socket
    return Client(Path(path))
