# SPDX-License-Identifier: Apache-2.0
"""What the command ipvsadm remembers from one run to the next, of one user and until the next boot: where counters
stood when they were zeroed, and the time-outs of `--set`. The director's own counters only rise.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xdpdirector.errors import DirectorError
from xdpdirector.lvs.virtual import NOTHING, Counters

TIMEOUTS = {"tcp": "900s", "tcpfin": "120s", "udp": "300s"}
DIRECTORY = "xdpdirector-ipvsadm"


def usual_place(instance: str, environment: Mapping[str, str]) -> Path:
    """Root's is below /run; others have theirs where their session keeps such things."""
    if os.geteuid() == 0:
        base = Path("/run")
    else:
        base = Path(environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}")
    return base / DIRECTORY / f"{instance}.json"


@dataclass
class Memory:
    """`zeroed`: by service and backend (empty: the service itself). `timeouts`: empty until they are set. `is_old`:
    the file says what is forgotten here."""

    path: Path
    zeroed: dict[tuple[str, str], Counters] = field(default_factory=dict)
    timeouts: dict[str, str] = field(default_factory=dict)
    is_old: bool = False

    @classmethod
    def at(cls, path: Path) -> Memory:
        """What the file says; nothing when there is none."""
        try:
            said: Any = json.loads(path.read_text())
        except FileNotFoundError:
            return cls(path)
        except (OSError, ValueError) as error:
            raise DirectorError(f"{path} cannot be read: {error}. Remove it") from error
        zeroed = {
            (service, backend): Counters(*counters)
            for service, backends in said["zeroed"].items()
            for backend, counters in backends.items()
        }
        return cls(path, zeroed, said["timeouts"])

    @classmethod
    def unsaved(cls) -> Memory:
        """One that has no file."""
        return cls(Path())

    def base(self, service: str, backend: str) -> Counters:
        return self.zeroed.get((service, backend), NOTHING)

    def forget(self, service: str, backend: str | None = None) -> None:
        """What is made anew counts from zero by itself."""
        for key in [key for key in self.zeroed if key[0] == service and backend in (None, key[1])]:
            del self.zeroed[key]
            self.is_old = True

    def forget_all(self) -> None:
        self.is_old = bool(self.zeroed) or self.is_old
        self.zeroed.clear()

    def save(self) -> None:
        """Whole or not at all. DirectorError when it cannot be written."""
        zeroed: dict[str, dict[str, Counters]] = {}
        for (service, backend), counters in self.zeroed.items():
            zeroed.setdefault(service, {})[backend] = counters
        text = json.dumps({"zeroed": zeroed, "timeouts": self.timeouts})
        written = self.path.with_suffix(f".{os.getpid()}")
        try:
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            written.write_text(text)
            written.replace(self.path)
        except OSError as error:
            raise DirectorError(f"{self.path} cannot be written: {error.strerror}") from error
