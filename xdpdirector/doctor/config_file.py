# SPDX-License-Identifier: Apache-2.0
"""The configuration file: whether it can be read, and whether the daemon would take it."""

from __future__ import annotations

from collections.abc import Iterator

from xdpdirector.doctor.finding import Finding, error, ok, warning
from xdpdirector.doctor.subject import Subject


def look(subject: Subject) -> Iterator[Finding]:
    configuration = subject.configuration
    if configuration is None:
        made = warning if subject.documents else error
        yield made(
            "the configuration cannot be used"
            + (": the next start of the daemon fails" if subject.documents else ""),
            subject.configuration_error,
            "correct it as it says, or name another file with --config",
        )
        return
    services = len(configuration.services)
    backends = sum(len(spec.backends) for spec in configuration.services.values())
    yield ok(f"the configuration is valid: {services} services, {backends} backends", f"{subject.source}")
    for name, spec in configuration.services.items():
        if spec.check is None and spec.backends:
            yield warning(
                f"service '{name}' has no check: a backend that dies goes on being sent clients",
                f"{subject.source}: services.{name}",
                "give it one, such as `check: {type: tcp}`",
            )
