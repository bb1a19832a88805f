# SPDX-License-Identifier: Apache-2.0
"""The whole examination: family after family, and one that fails does not keep the others from looking."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from xdpdirector.doctor import (
    capabilities,
    config_file,
    fleet,
    kernel,
    network,
    nics,
    resources,
    running,
    settings,
    systemd,
    toolchain,
    tunnels,
)
from xdpdirector.doctor.finding import Finding, Level, note, warning
from xdpdirector.doctor.subject import Subject
from xdpdirector.errors import DirectorError

Look = Callable[[Subject], Iterator[Finding]]

FAMILIES: Mapping[str, Look] = {
    "configuration": config_file.look,
    "daemon": running.look,
    "fleet": fleet.look,
    "network": network.look,
    "tunnels": tunnels.look,
    "interfaces": nics.look,
    "program": toolchain.look,
    "kernel": kernel.look,
    "settings": settings.look,
    "storage": resources.look,
    "rights": capabilities.look,
    "start-up": systemd.look,
}


def examine(subject: Subject, families: Mapping[str, Look] = FAMILIES) -> list[Finding]:
    """All findings, in the families' order."""
    return [replace(each, topic=topic) for topic, look in families.items() for each in _seen(look, subject)]


def _seen(look: Look, subject: Subject) -> Iterator[Finding]:
    """What a family says, and what kept it from saying more."""
    try:
        yield from look(subject)
    except PermissionError as problem:
        yield note("not all of this could be seen", str(problem), "run the doctor as root")
    except (OSError, DirectorError) as problem:
        yield warning(
            "not all of this could be looked at", f"{type(problem).__name__}: {problem}", "as it says"
        )


def is_well(findings: Iterable[Finding]) -> bool:
    """Whether nothing needs to be done."""
    return not any(each.level in (Level.WARNING, Level.ERROR) for each in findings)
