# SPDX-License-Identifier: Apache-2.0
"""A director of a lab with all its backends up, what it says of them, and its end without a trace."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from xdpdirector.client import backend_path
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, HealthCheck
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.waiting import wait_until

CHECK = HealthCheck(interval=0.3, timeout=0.2, rise=2, fall=2)
MARGIN = 1.0  # seconds, on a busy machine, on top of what is promised


def require_open_checkout() -> None:
    """Another user cannot run a checkout in a directory that is closed to all but its owner."""
    parents = [*Path(sys.executable).parents, *Path(__file__).parents]
    if not all(parent.stat().st_mode & 0o005 == 0o005 for parent in parents):
        pytest.skip(f"{sys.executable} or this checkout stand in a directory that is not open to everybody")


@contextmanager
def directing(lab: Lab, configuration: Mapping[str, Any]) -> Iterator[LabDirector]:
    """Every backend is up. Afterwards nothing is loaded or stored, so that the next director begins anew."""
    director = lab.director(configuration)
    try:
        for service, spec in configuration["services"].items():
            for backend in spec["backends"]:
                becomes(director, backend, "up", service=service)
        yield director
    finally:
        director.stop()
        command(director, "unload")
        shutil.rmtree(director.paths.state.parent, ignore_errors=True)


def command(
    director: LabDirector,
    *arguments: str,
    check: bool = True,
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """The command line on the director's host, for its instance."""
    line = [*prefix, sys.executable, "-m", "xdpdirector", "--instance", director.paths.name, *arguments]
    return director.host.run(*line, check=check, environment=environment)


def view(director: LabDirector, backend: str, *, service: str = SERVICE) -> Any:
    return director.client.get(backend_path(service, backend))


def becomes(
    director: LabDirector, backend: str, state: str, timeout: float = 10.0, *, service: str = SERVICE
) -> None:
    """Wait until a backend is up, down or drained."""
    wait_until(
        lambda: view(director, backend, service=service)["operational"] == state,
        f"{service}/{backend} is {state}",
        timeout,
    )


def verdict(director: LabDirector, reason: str) -> int:
    """How many packets had it so far, by its name in bpf/types.h in lower case."""
    return int(director.client.get("/v1/stats")["verdicts"][reason])
