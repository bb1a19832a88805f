# SPDX-License-Identifier: Apache-2.0
"""Targets of checks: equal checks are shared, and each target of a backend has a verdict of its own."""

from tests.support.fake_probe import FakeProbe
from tests.support.monitor_runs import (
    ADDRESS1,
    ADDRESS2,
    DOWN,
    QUICK,
    RARE,
    UNKNOWN,
    UP,
    WEB1,
    Diary,
    at,
    run,
    until,
    verdict,
)
from xdpdirector.health.monitor import Monitor
from xdpdirector.health.rise_fall import HealthReport


def test_who_asks_the_same_shares_one_check() -> None:
    fake, diary, mail = FakeProbe(), Diary(), ("mail", "mail1")

    async def story() -> None:
        monitor = Monitor(diary, probe=fake)
        monitor.set(WEB1, RARE, at(ADDRESS1))
        await until(lambda: diary.entries)
        monitor.set(mail, RARE, at(ADDRESS1))
        assert verdict(monitor, mail).operational is UP
        monitor.remove(WEB1)
        assert verdict(monitor, mail).operational is UP
        await monitor.close()

    run(story())

    assert fake.asked == {(ADDRESS1, 80): 1}
    assert diary.entries == [(WEB1, UP, "")]


def test_a_shared_verdict_is_announced_to_all() -> None:
    fake, diary, mail = FakeProbe(), Diary(), ("mail", "mail1")
    fake.failures[ADDRESS1] = "is tired"

    async def story() -> None:
        monitor = Monitor(diary, probe=fake)
        for key in (WEB1, mail):
            monitor.set(key, RARE, at(ADDRESS1))
        await until(lambda: len(diary.entries) == 2)
        await monitor.close()

    run(story())

    assert sorted(diary.entries) == [(mail, DOWN, "is tired"), (WEB1, DOWN, "is tired")]


def test_each_target_of_a_backend_has_a_verdict_of_its_own() -> None:
    fake, diary = FakeProbe(), Diary()
    fake.failures[ADDRESS2] = "is tired"

    async def story() -> None:
        monitor = Monitor(diary, probe=fake)
        monitor.set(WEB1, QUICK, [*at(ADDRESS1), *at(ADDRESS2)])
        await until(lambda: len(diary.entries) == 2)
        assert monitor.reports(WEB1)[ADDRESS1].operational is UP
        assert monitor.reports(WEB1)[ADDRESS2].reason == "is tired"
        fake.failures.clear()
        await until(lambda: monitor.reports(WEB1)[ADDRESS2].operational is UP)
        await monitor.close()

    run(story())

    assert sorted(diary.entries[:2]) == [(WEB1, DOWN, "is tired"), (WEB1, UP, "")]
    assert diary.entries[2:] == [(WEB1, UP, "")]


def test_a_target_that_is_new_changes_nothing_of_the_others() -> None:
    diary, fake = Diary(), FakeProbe()

    async def story() -> None:
        monitor = Monitor(diary, probe=fake)
        monitor.set(WEB1, RARE, at(ADDRESS1))
        await until(lambda: diary.entries)
        fake.failures[ADDRESS2] = "is not there"
        monitor.set(WEB1, RARE, [*at(ADDRESS2), *at(ADDRESS1)])
        assert monitor.reports(WEB1)[ADDRESS1].operational is UP
        assert monitor.reports(WEB1)[ADDRESS2].operational is UNKNOWN
        await until(lambda: len(diary.entries) == 2)
        assert monitor.reports(WEB1)[ADDRESS1].operational is UP
        await monitor.close()

    run(story())

    assert fake.asked[ADDRESS1, 80] == 1
    assert diary.verdicts() == [UP, DOWN]


def test_what_was_known_of_an_address_stands_until_it_is_asked() -> None:
    diary, fake = Diary(), FakeProbe()
    earlier = {ADDRESS1: HealthReport(UP, "", 0.0)}

    async def story() -> None:
        monitor = Monitor(diary, probe=fake)
        monitor.set(WEB1, RARE, [*at(ADDRESS1, 81), *at(ADDRESS2)], earlier)
        assert [report.operational for report in monitor.reports(WEB1).values()] == [UP, UNKNOWN]
        await until(lambda: fake.asked[ADDRESS1, 81])
        await monitor.close()

    run(story())

    assert diary.verdicts() in ([], [UP])
