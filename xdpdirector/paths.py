# SPDX-License-Identifier: Apache-2.0
"""Where an instance keeps its things. Knows names only: nothing here opens or makes a file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from xdpdirector.errors import InvalidRequestError

BPFFS = Path("/sys/fs/bpf")
COMPILED = Path("/var/cache/xdpdirector")
DEFAULT_INSTANCE = "default"
ETC = Path("/etc/xdpdirector")
DEFAULT_CONFIGURATION = ETC / "director.yaml"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


@dataclass(frozen=True)
class InstancePaths:
    """The paths of one instance; `name` is lower-case letters, digits, `-` and `_`, 32 at most."""

    name: str = DEFAULT_INSTANCE

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidRequestError(
                f"'{self.name}' cannot be an instance's name: use 1 to 32 lower-case letters, digits, '-' and '_'"
            )

    @property
    def configuration(self) -> Path:
        """The file where no other is named; InvalidRequestError for the one name whose file is another's."""
        if self.name == DEFAULT_INSTANCE:
            return DEFAULT_CONFIGURATION
        found = ETC / f"{self.name}.yaml"
        if found == DEFAULT_CONFIGURATION:
            raise InvalidRequestError(
                f"name a configuration file for instance '{self.name}' with --config: {found} is that of the "
                f"instance '{DEFAULT_INSTANCE}'"
            )
        return found

    @property
    def pins(self) -> Path:
        """Directory on bpffs: `program`, and the maps in `maps-<layout>/`."""
        return BPFFS / "xdpdirector" / self.name

    @property
    def run(self) -> Path:
        return Path("/run/xdpdirector") / self.name

    @property
    def layouts(self) -> Path:
        """Root's, unlike `run`, which the daemon's user owns."""
        return self.run.parent / ".layouts" / self.run.name

    @property
    def layout(self) -> Path:
        return self.layouts / "layout.json"

    @property
    def former_layout(self) -> Path:
        """Where earlier releases had it, in a directory that root must not trust."""
        return self.run / "layout.json"

    @property
    def socket(self) -> Path:
        return self.run / "api.sock"

    @property
    def lock(self) -> Path:
        """Held (flock) by the daemon of this instance."""
        return self.run / "daemon.lock"

    @property
    def loader_lock(self) -> Path:
        """Held (flock) while maps and program are made or replaced."""
        return self.run / "loader.lock"

    @property
    def arp(self) -> Path:
        """How other interfaces answered ARP before VIPs came."""
        return self.run / "arp.json"

    @property
    def state(self) -> Path:
        return Path("/var/lib/xdpdirector") / self.name / "state.db"

    @property
    def fleet_state(self) -> Path:
        """What this director saw last of the desired state that it shares with others."""
        return self.state.with_name("fleet.db")

    @property
    def events(self) -> Path:
        """How far the ids of events have come."""
        return self.state.with_name("events")

    @property
    def access(self) -> Path:
        """Tokens and audit."""
        return self.state.with_name("access.db")
