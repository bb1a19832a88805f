# SPDX-License-Identifier: Apache-2.0
"""Background tasks: restarted when they end, and named as a problem until they are sound again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from xdpdirector.system.background_tasks import FIRST_BACKOFF, LONGEST_BACKOFF, SOUND_AFTER, BackgroundTasks

NAME = "the sweep"
FAILURES = 9


class Clock:
    """Seconds pass only while somebody sleeps; `slept` has each wait."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def run(scenario: Callable[[BackgroundTasks, Clock], Awaitable[None]]) -> None:
    async def within_a_deadline() -> None:
        clock = Clock()
        async with asyncio.timeout(10):
            await scenario(BackgroundTasks(clock, clock.sleep), clock)

    asyncio.run(within_a_deadline())


MISTAKE = ValueError("a mistake")


@pytest.mark.parametrize(
    "raises",
    [MISTAKE, ExceptionGroup("of parts", [MISTAKE]), None],
    ids=["raises", "a part raises", "returns"],
)
def test_a_task_that_ends_is_restarted_and_said(
    raises: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(tasks: BackgroundTasks, clock: Clock) -> None:
        running = asyncio.Event()
        begun = 0

        async def work() -> None:
            nonlocal begun
            begun += 1
            if begun <= FAILURES:
                if raises:
                    raise raises
                return
            running.set()
            await asyncio.Event().wait()

        task = tasks.start(NAME, work)
        await running.wait()

        [problem] = tasks.problems()
        assert NAME in problem
        assert ("ValueError: a mistake" if raises else "it ended") in problem
        doubled = [min(FIRST_BACKOFF * 2**turn, LONGEST_BACKOFF) for turn in range(FAILURES)]
        assert clock.slept == doubled

        clock.now += SOUND_AFTER
        assert tasks.problems() == []
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(scenario)
    assert ("Traceback" in caplog.text) is bool(raises)


def test_the_back_off_begins_anew_after_a_long_run() -> None:
    async def scenario(tasks: BackgroundTasks, clock: Clock) -> None:
        done = asyncio.Event()

        async def work() -> None:
            if len(clock.slept) == 3:
                clock.now += SOUND_AFTER
            if len(clock.slept) == 4:
                done.set()
                await asyncio.Event().wait()
            raise ValueError

        task = tasks.start(NAME, work)
        await done.wait()
        task.cancel()

        assert clock.slept[2:] == [4 * FIRST_BACKOFF, FIRST_BACKOFF]

    run(scenario)


def test_a_callback_that_raises_is_said_too(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(tasks: BackgroundTasks, clock: Clock) -> None:
        def callback() -> None:
            raise ValueError("in a callback")

        tasks.watch_callbacks()
        asyncio.get_running_loop().call_soon(callback)
        while not tasks.problems():
            await asyncio.sleep(0)

        [problem] = tasks.problems()
        assert "in a callback" in problem

    run(scenario)
    assert "in a callback" in caplog.text


def test_work_that_is_done_once_is_said_when_it_fails(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(tasks: BackgroundTasks, clock: Clock) -> None:
        async def work() -> None:
            raise ValueError("a mistake")

        await tasks.once(NAME, work)

        assert tasks.problems() == [f"{NAME} failed: ValueError: a mistake"]
        assert clock.slept == []
        clock.now += SOUND_AFTER
        assert tasks.problems() == []

    run(scenario)
    assert "a mistake" in caplog.text
