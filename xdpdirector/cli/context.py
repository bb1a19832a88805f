# SPDX-License-Identifier: Apache-2.0
"""Which daemon a command talks to, and the options and arguments that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from xdpdirector.cli import complete
from xdpdirector.client import Client
from xdpdirector.paths import InstancePaths


@dataclass(frozen=True)
class Target:
    """An instance, and its socket if that is not where it usually is (one forwarded by ssh, for example)."""

    instance: str
    socket: Path | None = None

    def configuration(self, named: Path | None) -> Path:
        """The file that is named, or this instance's own."""
        return named or InstancePaths(self.instance).configuration

    def client(self) -> Client:
        return Client(self.socket or InstancePaths(self.instance).socket, instance=self.instance)


def target(context: typer.Context) -> Target:
    """What the options before the command chose."""
    chosen = context.find_root().obj
    assert isinstance(chosen, Target)
    return chosen


class Format(StrEnum):
    """Tables are for people; JSON and YAML are exactly the API's document."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


ConfigurationFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The configuration file; else /etc/xdpdirector/INSTANCE.yaml, or director.yaml for the default one.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class BackendName:
    """A backend as it is written on the command line: SERVICE/BACKEND."""

    service: str
    backend: str

    @classmethod
    def parse(cls, text: str) -> BackendName:
        service, slash, backend = text.partition("/")
        if not service or not slash or not backend or "/" in backend:
            raise typer.BadParameter(
                f"'{text}' does not name a backend: write SERVICE/BACKEND, like web/web1"
            )
        return cls(service, backend)


Output = Annotated[Format, typer.Option("--output", "-o", help="A table for people, or the API's document.")]
Service = Annotated[
    str,
    typer.Argument(
        metavar="SERVICE",
        help="The service's name.",
        show_default=False,
        autocompletion=complete.services,
    ),
]
Backend = Annotated[
    BackendName,
    typer.Argument(
        parser=BackendName.parse,
        metavar="SERVICE/BACKEND",
        help="For example web/web1.",
        autocompletion=complete.backends,
    ),
]
Watch = Annotated[
    bool, typer.Option("--watch", "-w", help="Again every second, until q or Ctrl-C.", show_default=False)
]
Reason = Annotated[str, typer.Option(help="Why; kept with the change.", show_default=False)]


def example(line: str) -> str:
    """A command's closing help line; the mark keeps it from being wrapped."""
    return f"\b\nExample: {line}"
