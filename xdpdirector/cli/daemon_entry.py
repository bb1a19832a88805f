# SPDX-License-Identifier: Apache-2.0
"""How a command becomes the daemon. The usual order to do so is understood without the command line's library, as
that would stay in the daemon's memory, and takes a tenth of a second of its start.

Imports nothing but when it is carried out. Knows two options of `run`; all else is left to the command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from xdpdirector.errors import InvalidRequestError
from xdpdirector.paths import DEFAULT_INSTANCE, InstancePaths

INSTANCE = "XDPDIRECTOR_INSTANCE"
PARTS: dict[str, dict[str, str]] = {
    "pyroute2": {},
    "pyroute2.ethtool": {},
    "uvicorn": {"Config": "uvicorn.config"},
    "prometheus_client": {},
}
"""What the daemon needs not all of, and what comes from where of its `__init__`."""
UNUSED = ("pydantic.v1",)
"""What others import if it is there. FastAPI asks of each type whether it is one of pydantic's first version, which
takes 1.5 MB and says no."""

DESCRIPTION = "fastapi.openapi.models"
"""Whose validators take 1.5 MB, and serve who asks for the API's description alone."""


class Order(NamedTuple):
    instance: str
    configuration: Path


def plain_order(arguments: Sequence[str], environment: Mapping[str, str]) -> Order | None:
    """`[-i NAME] run [-c FILE]`, as units say it; None for everything else, and for all that is wrong with it."""
    before, ran, after = _split(arguments, "run")
    instance, configuration = _value(before, "--instance", "-i"), _value(after, "--config", "-c")
    if not ran or instance is None or configuration is None:
        return None
    named = instance or environment.get(INSTANCE) or DEFAULT_INSTANCE
    try:
        return Order(named, Path(configuration) if configuration else InstancePaths(named).configuration)
    except InvalidRequestError:
        return None


def serve(instance: str, configuration: Path) -> int:
    """Until a signal ends it; the exit status.

    SIGHUP is kept from here on: before the daemon can answer it, its default action would end the process.
    """
    import signal

    from xdpdirector.daemon import malloc
    from xdpdirector.daemon.lazy_packages import only_parts_of, with_models_when_used, without

    malloc.give_back()
    for package, homes in PARTS.items():
        only_parts_of(package, **homes)
    for package in UNUSED:
        without(package)
    from xdpdirector.daemon import startup

    hang_ups: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, frame: hang_ups.append(number))
    wanted = startup.prepare(instance, configuration)
    with_models_when_used(DESCRIPTION)
    from xdpdirector.daemon import lifecycle  # when it is the daemon's user, and not before: it is large

    return lifecycle.run(
        instance,
        configuration,
        wanted,
        has_hung_up=lambda: bool(hang_ups),
        examine=lambda: _examined(instance, configuration),
    )


def _examined(instance: str, configuration: Path) -> list[dict[str, str]]:
    """What the doctor finds; it is imported by the first who asks."""
    from xdpdirector.client import Client
    from xdpdirector.doctor.machine import ThisMachine
    from xdpdirector.doctor.run import examine
    from xdpdirector.doctor.subject import admit

    paths = InstancePaths(instance)
    client = Client(paths.socket, instance=instance)
    return [each.document() for each in examine(admit(paths, configuration, ThisMachine(), client))]


def _split(arguments: Sequence[str], word: str) -> tuple[Sequence[str], bool, Sequence[str]]:
    place = arguments.index(word) if word in arguments else len(arguments)
    return arguments[:place], place < len(arguments), arguments[place + 1 :]


def _value(arguments: Sequence[str], long: str, short: str) -> str | None:
    """What an option is given, alone there; empty when nothing is there, None when something else is."""
    match list(arguments):
        case []:
            return ""
        case [name, value] if name in (long, short) and value and not value.startswith("-"):
            return value
        case [both] if both.startswith(f"{long}=") and both != f"{long}=":
            return both.partition("=")[2]
        case _:
            return None
