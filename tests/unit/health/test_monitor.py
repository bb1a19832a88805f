# SPDX-License-Identifier: Apache-2.0
"""The monitor with fake probes, and once with real servers on loopback."""

import asyncio
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Any

import pytest

from dev.chaos.daemon_under_test import fail
from tests.support.fake_probe import FakeProbe
from xdpdirector.health.checks import (
    CheckFailed,
    CheckImpossible,
    Dial,
    NoWay,
    Probe,
    Target,
)
from xdpdirector.health.checks.dialer import PlainWays
from xdpdirector.health.monitor import Monitor
from xdpdirector.health.rise_fall import HealthReport
from xdpdirector.model import Address, Key
from xdpdirector.model.checks import CheckSpec, TcpCheck
from xdpdirector.model.status import Operational
from xdpdirector.system.background_tasks import BackgroundTasks

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


class Forgetful(PlainWays):
    """Remembers what it was told to forget."""

    def __init__(self) -> None:
        self.forgotten: list[Target] = []

    def forget(self, target: Target) -> None:
        self.forgotten.append(target)


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
