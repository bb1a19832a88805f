# SPDX-License-Identifier: Apache-2.0
"""The time of one try: what is late, and whose fault that is."""

from __future__ import annotations

import asyncio
import time

import pytest

from xdpdirector.health.checks import CheckFailed, CheckImpossible
from xdpdirector.health.checks.budget import AT_LEAST, budget

SHORT = 0.05


def late() -> CheckFailed:
    return CheckFailed("no answer")


def test_in_time() -> None:
    async def main() -> None:
        async with budget(20.0, late):
            await asyncio.sleep(0)

    asyncio.run(main())


def test_a_backend_that_does_not_answer_has_failed() -> None:
    async def main() -> None:
        async with budget(SHORT, late):
            await asyncio.Event().wait()

    with pytest.raises((CheckFailed, CheckImpossible)):  # the latter on a machine that stood still just then
        asyncio.run(main())


def test_work_that_gives_the_timer_no_turn_is_late_all_the_same() -> None:
    async def main() -> None:
        async with budget(SHORT, late):
            until = time.monotonic() + SHORT + AT_LEAST / 10
            while time.monotonic() < until:
                pass

    with pytest.raises((CheckFailed, CheckImpossible)):
        asyncio.run(main())


@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "at work"])
def test_a_loop_that_stood_still_says_nothing_about_the_backend(waits: bool) -> None:
    async def main() -> None:
        if waits:
            asyncio.get_running_loop().call_soon(time.sleep, SHORT + 2 * AT_LEAST)
        async with budget(SHORT, late):
            if waits:
                await asyncio.Event().wait()
            time.sleep(SHORT + 2 * AT_LEAST)

    with pytest.raises(CheckImpossible, match="this director was too busy to listen to its checks"):
        asyncio.run(main())


def test_being_cancelled_is_not_being_late() -> None:
    async def main() -> None:
        async def work() -> None:
            async with budget(20.0, late):
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
