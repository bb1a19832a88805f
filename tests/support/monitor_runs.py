# SPDX-License-Identifier: Apache-2.0
"""A monitor of health checks for the length of a test: its targets, its log of changes, and waiting for them."""

import asyncio
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Any

from xdpdirector.health.checks import (
    Dial,
    Probe,
    Target,
)
from xdpdirector.health.monitor import Monitor
from xdpdirector.health.rise_fall import HealthReport
from xdpdirector.model import Address, Key
from xdpdirector.model.checks import CheckSpec, TcpCheck
from xdpdirector.model.status import Operational

UNKNOWN, UP, DOWN = Operational.UNKNOWN, Operational.UP, Operational.DOWN
WEB1, WEB2 = ("web", "web1"), ("web", "web2")
ADDRESS1, ADDRESS2, VIP = (ip_address(f"192.0.2.{number}") for number in (21, 22, 10))
HERE = ip_address("127.0.0.1")
DEADLINE = 20.0
QUICK = TcpCheck(type="tcp", interval=0.001, timeout=0.001, rise=2, fall=3)
QUICK_TOO = TcpCheck(type="tcp", interval=0.001, timeout=0.001, rise=2, fall=4)
RARE = TcpCheck(type="tcp", interval=3600.0, timeout=20.0)


def at(address: Address, port: int = 80) -> list[Target]:
    return [Target(address, port, address)]


class Diary:
    """An `on_change` that remembers."""

    def __init__(self) -> None:
        self.entries: list[tuple[Key, Operational, str]] = []

    def __call__(self, key: Key, operational: Operational, reason: str) -> None:
        self.entries.append((key, operational, reason))

    def verdicts(self) -> list[Operational]:
        return [operational for _, operational, _ in self.entries]


def verdict(monitor: Monitor, key: Key) -> HealthReport:
    """On the only address that is asked."""
    (report,) = monitor.reports(key).values()
    return report


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.001)


def run(story: Coroutine[Any, Any, None]) -> None:
    """Runs the story, and sees that it leaves no task behind."""

    async def main() -> None:
        await story
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def raising(error: Exception) -> Probe:
    async def probe(_spec: CheckSpec, _target: Target, _dial: Dial) -> None:
        raise error

    return probe
