# SPDX-License-Identifier: Apache-2.0
"""Probes that could not be made: no verdict changes, and the trouble is reported once."""

import pytest

from tests.support.monitor_runs import (
    ADDRESS1,
    ADDRESS2,
    QUICK,
    RARE,
    UP,
    WEB1,
    WEB2,
    Diary,
    at,
    run,
    until,
    verdict,
)
from xdpdirector.health.checks import (
    CheckImpossible,
    Dial,
    NoWay,
    Target,
)
from xdpdirector.health.monitor import Monitor
from xdpdirector.model import Address
from xdpdirector.model.checks import CheckSpec


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(CheckImpossible("no file descriptor left"), "no file descriptor left", id="impossible"),
        pytest.param(
            KeyError("x"),
            "the tcp check itself is at fault, please report it (KeyError: 'x')",
            id="defect",
        ),
    ],
)
def test_a_try_that_could_not_be_made_changes_no_verdict(
    error: Exception, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    diary, tries = Diary(), []

    async def probe(_spec: CheckSpec, _target: Target, _dial: Dial) -> None:
        tries.append(1)
        if len(tries) > 1:
            raise error

    async def story() -> None:
        monitor = Monitor(diary, probe=probe)
        monitor.set(WEB1, QUICK, at(ADDRESS1))
        await until(lambda: len(tries) >= 10)
        assert verdict(monitor, WEB1).operational is UP
        assert verdict(monitor, WEB1).reason == reason
        await monitor.close()

    run(story())

    assert diary.verdicts() == [UP]
    assert caplog.text.count(reason) == 1


def test_a_trouble_that_comes_and_goes_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """A director that is too busy for its checks is not to be busy with its log as well."""
    asked = 0

    async def probe(_spec: CheckSpec, _target: Target, _dial: Dial) -> None:
        nonlocal asked
        asked += 1
        if asked % 2:
            raise CheckImpossible("too busy")

    async def story() -> None:
        monitor = Monitor(Diary(), probe=probe)
        monitor.set(WEB1, QUICK, at(ADDRESS1))
        await until(lambda: asked > 10)
        await monitor.close()

    run(story())

    assert caplog.text.count("too busy; its verdict stays") == 1


def test_a_reason_passes_with_its_trouble() -> None:
    problems: list[Exception] = [CheckImpossible("no port left")]

    async def probe(_spec: CheckSpec, _target: Target, _dial: Dial) -> None:
        if problems:
            raise problems[0]

    async def story() -> None:
        monitor = Monitor(Diary(), probe=probe)
        monitor.set(WEB1, QUICK, at(ADDRESS1))
        await until(lambda: verdict(monitor, WEB1).reason == "no port left")
        problems.clear()
        await until(lambda: verdict(monitor, WEB1).operational is UP)
        assert verdict(monitor, WEB1).reason == ""
        await monitor.close()

    run(story())


def test_what_keeps_checks_from_asking_is_a_note_and_a_problem_when_nothing_is_seen_for_a_while() -> None:
    blind = CheckImpossible("this director has no file descriptor left (raise LimitNOFILE)")
    sees: set[Address] = {ADDRESS1, ADDRESS2}

    async def probe(_spec: CheckSpec, target: Target, _dial: Dial) -> None:
        if target.address not in sees:
            raise blind

    async def story() -> None:
        monitor = Monitor(Diary(), probe=probe, blind_after=0.0)
        monitor.set(WEB1, QUICK, at(ADDRESS1))
        monitor.set(WEB2, QUICK, at(ADDRESS2))
        await until(lambda: verdict(monitor, WEB1).operational is verdict(monitor, WEB2).operational is UP)
        assert (monitor.notes(), monitor.blind()) == ([], "")
        sees.remove(ADDRESS1)
        await until(monitor.notes)
        assert monitor.notes() == [f"checks cannot be made, and verdicts stay as they were: {blind}"]
        assert monitor.blind() == ""
        sees.remove(ADDRESS2)
        await until(monitor.blind)
        assert monitor.blind() == f"this director sees none of its backends: {blind}"
        assert verdict(monitor, WEB1).operational is verdict(monitor, WEB2).operational is UP
        sees.update((ADDRESS1, ADDRESS2))
        await until(lambda: not monitor.notes() and not monitor.blind())
        await monitor.close()

    run(story())


def test_a_backend_to_which_nothing_leads_is_no_trouble_of_the_director() -> None:
    tries: list[int] = []

    async def probe(_spec: CheckSpec, _target: Target, _dial: Dial) -> None:
        tries.append(1)
        raise NoWay("192.0.2.21 does not answer ARP on eth0")

    async def story() -> None:
        monitor = Monitor(Diary(), probe=probe, blind_after=0.0)
        monitor.set(WEB1, QUICK, at(ADDRESS1))
        await until(lambda: len(tries) > 3)
        assert (monitor.notes(), monitor.blind()) == ([], "")
        assert verdict(monitor, WEB1).reason == ""
        await monitor.close()

    run(story())


def test_a_first_try_that_could_not_be_made_is_soon_made_again() -> None:
    tries: list[int] = []

    async def probe(_spec: CheckSpec, _target: Target, _dial: Dial) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise CheckImpossible("its MAC is not known yet")

    async def story() -> None:
        monitor = Monitor(Diary(), probe=probe)
        monitor.set(WEB1, RARE, at(ADDRESS1))
        await until(lambda: verdict(monitor, WEB1).operational is UP)
        await monitor.close()

    run(story())
