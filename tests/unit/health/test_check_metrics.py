# SPDX-License-Identifier: Apache-2.0
"""What is counted of the checks, and who is told of a failure."""

import asyncio
from ipaddress import ip_address

import pytest

from tests.support.fake_probe import FakeProbe
from xdpdirector.health.checks import (
    CheckFailed,
    CheckImpossible,
    Dial,
    Target,
    direct,
)
from xdpdirector.health.checks.metrics import Measured
from xdpdirector.model import Address
from xdpdirector.model.checks import CheckSpec, TcpCheck

WEB1, VIP = ip_address("192.0.2.21"), ip_address("192.0.2.10")
TARGET = Target(VIP, 80, WEB1)
SPEC = TcpCheck(type="tcp", interval="1h", timeout="1s")
HASTY = TcpCheck(type="tcp", interval="1ms", timeout="1ms")


async def impossible(spec: CheckSpec, target: Target, dial: Dial) -> float | None:
    raise CheckImpossible("no file descriptor is left")


def test_tries_and_failures_are_counted_and_failures_told() -> None:
    told: list[Address] = []
    probe = FakeProbe()
    measured = Measured(probe, told.append)

    asyncio.run(measured(SPEC, TARGET, direct))
    probe.failures[VIP] = "no answer"
    with pytest.raises(CheckFailed):
        asyncio.run(measured(SPEC, TARGET, direct))

    [tally] = measured.tallies()
    assert (tally.type, tally.target, tally.tries, tally.failures) == ("tcp", TARGET, 2, 1)
    assert told == [WEB1]


def test_what_a_server_asks_for_is_handed_on() -> None:
    probe = FakeProbe()
    probe.shares[VIP] = 0.5

    assert asyncio.run(Measured(probe, lambda _: None)(SPEC, TARGET, direct)) == 0.5


def test_a_try_that_could_not_be_made_is_no_failure_of_the_backend() -> None:
    told: list[Address] = []
    measured = Measured(impossible, told.append)

    with pytest.raises(CheckImpossible):
        asyncio.run(measured(SPEC, TARGET, direct))

    [tally] = measured.tallies()
    assert (tally.tries, tally.failures, tally.impossible, told) == (1, 0, 1, [])


def test_what_is_not_checked_any_more_is_forgotten() -> None:
    async def story() -> None:
        measured = Measured(FakeProbe(), lambda _: None)
        await measured(HASTY, TARGET, direct)
        async with asyncio.timeout(5):
            while measured.tallies():
                await asyncio.sleep(0.001)

    asyncio.run(story())
