# SPDX-License-Identifier: Apache-2.0
"""What the doctor examines: an instance on a machine, its configuration, and its daemon if one answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from xdpdirector.client import Client
from xdpdirector.config import config_file
from xdpdirector.doctor.machine import Machine
from xdpdirector.doctor.nic import Card
from xdpdirector.errors import ConfigurationError, DirectorError, UnreachableError
from xdpdirector.loader import layout
from xdpdirector.model import Configuration
from xdpdirector.paths import InstancePaths

DOCUMENTS = {"ready": "/readyz", "statistics": "/v1/stats", "lan": "/v1/lan", "fleet": "/v1/fleet"}


@dataclass(frozen=True)
class Subject:
    """`configuration` is None when `configuration_error` says why. `documents`: what the daemon answered, by the
    names of DOCUMENTS; empty when `daemon_error` says why."""

    paths: InstancePaths
    source: Path
    machine: Machine
    configuration: Configuration | None = None
    configuration_error: str = ""
    documents: Mapping[str, Any] = field(default_factory=dict)
    daemon_error: str = ""

    @property
    def interfaces(self) -> tuple[str, ...]:
        """Those that carry the program, or shall."""
        if self.configuration:
            return self.configuration.interfaces
        attachments = self.documents["statistics"]["attachments"] if self.documents else []
        return tuple(each["interface"] for each in attachments)

    @cached_property
    def program_ids(self) -> set[int]:
        """Of our programs, as far as somebody says."""
        loaded = layout.read(self.paths)
        attached = self.documents["statistics"]["attachments"] if self.documents else []
        return {each["program_id"] for each in attached} | ({loaded.program_id} if loaded else set())

    @cached_property
    def cards(self) -> dict[str, Card]:
        return self.machine.cards()

    @property
    def backends(self) -> int:
        """How many addresses of backends are wanted."""
        if self.documents:
            return len(self.documents["lan"]["neighbours"])
        services = self.configuration.services.values() if self.configuration else ()
        return len({each.address for spec in services for each in spec.backends.values()})


def admit(paths: InstancePaths, source: Path, machine: Machine, client: Client) -> Subject:
    """Read the configuration, and ask the daemon; neither need be there."""
    configuration, configuration_error = None, ""
    try:
        configuration = config_file.load(source)
    except ConfigurationError as error:
        configuration_error = error.detail
    documents, daemon_error = {}, ""
    try:
        documents = {name: client.get(path, timeout=5.0) for name, path in DOCUMENTS.items()}
    except UnreachableError as error:
        daemon_error = error.detail
    except DirectorError as error:
        daemon_error = f"the daemon's answer cannot be used: {error.detail}"
    return Subject(paths, source, machine, configuration, configuration_error, documents, daemon_error)
