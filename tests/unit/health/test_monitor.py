# SPDX-License-Identifier: Apache-2.0
"""The monitor with fake probes, and once with real servers on loopback."""

import asyncio
from ipaddress import ip_address

import pytest

from dev.chaos.daemon_under_test import fail
from tests.support.fake_probe import FakeProbe
from tests.support.monitor_runs import (
    ADDRESS1,
    ADDRESS2,
    DOWN,
    HERE,
    QUICK,
    QUICK_TOO,
    RARE,
    UNKNOWN,
    UP,
    WEB1,
    WEB2,
    Diary,
    at,
    raising,
    run,
    until,
    verdict,
)
from xdpdirector.health.checks import (
    CheckFailed,
    Dial,
    Target,
)
from xdpdirector.health.checks.dialer import PlainWays
from xdpdirector.health.monitor import Monitor
from xdpdirector.model import Address, Key
from xdpdirector.model.checks import CheckSpec, TcpCheck
from xdpdirector.model.status import Operational
from xdpdirector.system.background_tasks import BackgroundTasks


class Forgetful(PlainWays):
    """Remembers what it was told to forget."""

    def __init__(self) -> None:
        self.forgotten: list[Target] = []

    def forget(self, target: Target) -> None:
        self.forgotten.append(target)


def test_a_first_failure_is_confirmed_sooner_than_the_interval() -> None:
    fake, diary = FakeProbe(), Diary()
    fake.failures[ADDRESS1] = "is tired"

    async def story() -> None:
        monitor = Monitor(diary, probe=fake)
        monitor.set(WEB1, RARE.model_copy(update={"fall": 2}), at(ADDRESS1), confirm=True)
        await until(lambda: verdict(monitor, WEB1).failures == 1)
        assert diary.entries == []
        await until(lambda: diary.entries)
        await monitor.close()

    run(story())

    assert diary.entries == [(WEB1, DOWN, "is tired")]
    assert fake.asked == {(ADDRESS1, 80): 2}


def test_transitions_are_announced_and_nothing_else() -> None:
    fake, diary = FakeProbe(), Diary()

    async def story() -> None:
        monitor = Monitor(diary, probe=fake)
        monitor.set(WEB1, QUICK, at(ADDRESS1))
        await until(lambda: verdict(monitor, WEB1).successes >= 3)
        fake.failures[ADDRESS1] = "is tired"
        await until(lambda: verdict(monitor, WEB1).failures >= 6)
        fake.failures.clear()
        await until(lambda: verdict(monitor, WEB1).successes >= 4)
        await monitor.close()

    run(story())

    assert diary.entries == [(WEB1, UP, ""), (WEB1, DOWN, "is tired"), (WEB1, UP, "")]
    assert set(fake.asked) == {(ADDRESS1, 80)}


def test_each_backend_has_its_own_verdict() -> None:
    fake, diary = FakeProbe(), Diary()
    fake.failures[ADDRESS2] = "is tired"

    async def story() -> None:
        monitor = Monitor(diary, probe=fake)
        monitor.set(WEB1, RARE, at(ADDRESS1))
        monitor.set(WEB2, RARE, at(ADDRESS2))
        await until(lambda: len(diary.entries) == 2)
        assert verdict(monitor, WEB1).operational is UP
        assert verdict(monitor, WEB2).operational is DOWN
        assert verdict(monitor, WEB2).reason == "is tired"
        await monitor.close()

    run(story())

    assert sorted(diary.entries) == [(WEB1, UP, ""), (WEB2, DOWN, "is tired")]


def test_a_check_whose_task_fails_goes_on_and_it_is_said() -> None:
    """An error in the code around the check itself: the backend would never be asked again."""
    fake, diary, tasks = FakeProbe(), Diary(), BackgroundTasks(sleep=lambda _backoff: asyncio.sleep(0))

    async def story() -> None:
        monitor = Monitor(diary, probe=fake, tasks=tasks)
        monitor.set(WEB1, QUICK, at(ADDRESS1))
        await until(lambda: verdict(monitor, WEB1).successes >= 2)

        await until(lambda: fail(asyncio.get_running_loop(), 0))
        await until(tasks.problems)
        asked = fake.asked.total()
        await until(lambda: fake.asked.total() > asked + 2)
        fake.failures[ADDRESS1] = "is tired"
        await until(lambda: verdict(monitor, WEB1).operational is DOWN)
        await monitor.close()

    run(story())

    assert [
        problem for problem in tasks.problems() if "tcp check of" in problem and "is restarted" in problem
    ]


def test_the_same_again_goes_on_undisturbed() -> None:
    diary = Diary()

    async def story() -> None:
        monitor = Monitor(diary, probe=FakeProbe())
        monitor.set(WEB1, QUICK, at(ADDRESS1))
        await until(lambda: verdict(monitor, WEB1).successes >= 3)
        monitor.set(WEB1, QUICK.model_copy(), at(ip_address(str(ADDRESS1))))
        assert verdict(monitor, WEB1).successes >= 3
        await monitor.close()

    run(story())

    assert diary.verdicts() == [UP]


def test_other_options_keep_the_verdict() -> None:
    diary, fake = Diary(), FakeProbe()

    async def story() -> None:
        monitor = Monitor(diary, probe=fake)
        monitor.set(WEB1, QUICK, at(ADDRESS1))
        await until(lambda: verdict(monitor, WEB1).operational is UP)
        fake.failures[ADDRESS1] = "is tired"
        monitor.set(WEB1, QUICK_TOO, at(ADDRESS1))
        assert verdict(monitor, WEB1).operational is UP
        await until(lambda: verdict(monitor, WEB1).operational is DOWN)
        assert verdict(monitor, WEB1).failures >= QUICK_TOO.fall
        await monitor.close()

    run(story())

    assert diary.verdicts() == [UP, DOWN]


@pytest.mark.parametrize(("address", "port"), [(ADDRESS2, 80), (ADDRESS1, 81)], ids=["address", "port"])
def test_another_place_begins_anew(address: Address, port: int) -> None:
    diary, fake = Diary(), FakeProbe()

    async def story() -> None:
        monitor = Monitor(diary, probe=fake)
        monitor.set(WEB1, RARE, at(ADDRESS1))
        await until(lambda: diary.entries)
        monitor.set(WEB1, RARE, at(address, port))
        assert verdict(monitor, WEB1).operational is UNKNOWN
        await until(lambda: fake.asked[address, port])
        await monitor.close()

    run(story())

    assert diary.verdicts() == [UP, UP]


def test_what_is_removed_is_not_heard_of_again() -> None:
    diary, gate = Diary(), asyncio.Event()

    async def waiting(_spec: CheckSpec, _target: Target, _dial: Dial) -> None:
        await gate.wait()

    async def story() -> None:
        monitor = Monitor(diary, probe=waiting)
        monitor.set(WEB1, RARE, at(ADDRESS1))
        monitor.set(WEB2, RARE, at(ADDRESS2))
        monitor.remove(WEB1)
        monitor.remove(WEB1)
        assert monitor.reports(WEB1) == {}
        gate.set()
        await until(lambda: diary.entries)
        await monitor.close()
        await monitor.close()

    run(story())

    assert diary.entries == [(WEB2, UP, "")]


def test_a_listener_may_remove_what_it_hears_of() -> None:
    heard = []

    async def story() -> None:
        def remove(key: Key, operational: Operational, _reason: str) -> None:
            heard.append((key, operational))
            monitor.remove(key)

        monitor = Monitor(remove, probe=FakeProbe())
        monitor.set(WEB1, QUICK, at(ADDRESS1))
        await until(lambda: heard)
        await monitor.close()

    run(story())

    assert heard == [(WEB1, UP)]


def test_a_listener_that_fails_stops_no_check(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_key: Key, _operational: Operational, _reason: str) -> None:
        raise RuntimeError("the listener is broken")

    async def story() -> None:
        monitor = Monitor(fail, probe=FakeProbe())
        monitor.set(WEB1, QUICK, at(ADDRESS1))
        await until(lambda: verdict(monitor, WEB1).successes >= 3)
        await monitor.close()

    run(story())

    assert "check web/web1: up could not be announced" in caplog.text


def test_only_so_many_probes_run_at_once() -> None:
    running, most, done = 0, 0, 0

    async def probe(_spec: CheckSpec, _target: Target, _dial: Dial) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        done += 1

    async def story() -> None:
        monitor = Monitor(Diary(), probe=probe, at_once=4)
        for number in range(40):
            monitor.set(("web", f"web{number}"), RARE, at(ADDRESS1, 80 + number))
        await until(lambda: done == 40)
        await monitor.close()

    run(story())

    assert most <= 4


def test_closing_ends_probes_in_the_middle() -> None:
    begun = []

    async def probe(_spec: CheckSpec, target: Target, _dial: Dial) -> None:
        begun.append(target)
        await asyncio.Event().wait()

    async def story() -> None:
        monitor = Monitor(Diary(), probe=probe)
        monitor.set(WEB1, RARE, at(ADDRESS1))
        monitor.set(WEB2, RARE, at(ADDRESS2))
        await until(lambda: len(begun) == 2)
        await monitor.close()

    run(story())


def test_a_real_server_goes_and_comes_back() -> None:
    diary = Diary()
    check = TcpCheck(type="tcp", interval=0.02, timeout=0.02, rise=2, fall=2)

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def serve(port: int) -> asyncio.Server:
        return await asyncio.start_server(hang_up, str(HERE), port, reuse_address=True)

    async def story() -> None:
        server = await serve(0)
        port = server.sockets[0].getsockname()[1]
        monitor = Monitor(diary)
        monitor.set(WEB1, check, at(HERE, port))
        await until(lambda: verdict(monitor, WEB1).operational is UP)
        server.close()
        await until(
            lambda: (
                verdict(monitor, WEB1).reason
                == f"nothing listens on port {port} of 127.0.0.1 (connection refused)"
            )
        )
        await until(lambda: verdict(monitor, WEB1).operational is DOWN)
        server = await serve(port)
        await until(lambda: verdict(monitor, WEB1).operational is UP)
        await monitor.close()
        server.close()
        await server.wait_closed()

    run(story())

    assert UP in diary.verdicts()
    assert DOWN in diary.verdicts()


def test_a_failure_that_is_raised_is_the_reason() -> None:
    diary = Diary()

    async def story() -> None:
        monitor = Monitor(diary, probe=raising(CheckFailed("nothing listens on port 80 of 192.0.2.21")))
        monitor.set(WEB1, RARE, at(ADDRESS1))
        await until(lambda: diary.entries)
        await monitor.close()

    run(story())

    assert diary.entries == [(WEB1, DOWN, "nothing listens on port 80 of 192.0.2.21")]


@pytest.mark.parametrize("failure", ["", "is not there"])
def test_one_try_tells_and_leaves_nothing_behind(failure: str) -> None:
    ways = Forgetful()

    async def probe(_spec: CheckSpec, _target: Target, _dial: Dial) -> None:
        await asyncio.sleep(0)
        if failure:
            raise CheckFailed(failure)

    async def story() -> None:
        monitor = Monitor(Diary(), probe=probe, ways=ways)
        (target,) = at(ADDRESS1)
        assert await asyncio.gather(monitor.ask(RARE, target), monitor.ask(RARE, target)) == [failure] * 2
        assert ways.forgotten == [target]
        monitor.set(WEB1, RARE, [target])
        await monitor.ask(RARE, target)
        assert ways.forgotten == [target]
        await monitor.close()

    run(story())


def test_the_part_of_its_weight_that_a_backend_asks_for_is_news() -> None:
    fake, diary = FakeProbe(), Diary()

    async def story() -> None:
        monitor = Monitor(diary, probe=fake)
        monitor.set(WEB1, QUICK, at(ADDRESS1))
        await until(lambda: verdict(monitor, WEB1).operational is UP)
        assert verdict(monitor, WEB1).share == 1.0
        fake.shares[ADDRESS1] = 0.5
        await until(lambda: verdict(monitor, WEB1).share == 0.5)
        await until(lambda: len(diary.entries) == 2)
        fake.shares.clear()
        await until(lambda: verdict(monitor, WEB1).share == 1.0)
        await monitor.close()

    run(story())

    assert diary.verdicts()[:2] == [UP, UP]
