# SPDX-License-Identifier: Apache-2.0
"""A daemon that is disturbed from inside: which of its tasks are made to fail, and that these say so."""

from __future__ import annotations

import asyncio
from functools import partial

from dev.chaos.daemon_under_test import fail
from tests.support.stage import story, until
from xdpdirector.lan.timing import ProbeQueue
from xdpdirector.system.background_tasks import BackgroundTasks


async def forever() -> None:
    await asyncio.Event().wait()


@story
async def test_each_of_the_programs_own_tasks_is_made_to_fail_and_is_named() -> None:
    loop, tasks = asyncio.get_running_loop(), BackgroundTasks()
    names = ["tcp check of port 82", "the sweep", "the upkeep"]
    running = [tasks.start(name, forever) for name in (*names, "tcp check of port 81")]
    await asyncio.sleep(0)

    failed = []
    for number in range(len(names)):
        failed.append(fail(loop, number))
        await until(partial(_is_told, tasks, len(failed)))

    assert failed == names
    assert [text.split(" failed")[0] for text in tasks.problems()] == failed
    for each in running:
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def _is_told(tasks: BackgroundTasks, count: int) -> bool:
    return len(tasks.problems()) == count


@story
async def test_a_task_that_waits_for_its_restart_is_restarted_when_that_fails() -> None:
    loop, tasks = asyncio.get_running_loop(), BackgroundTasks()
    running = tasks.start("the sweep", forever)
    await asyncio.sleep(0)
    fail(loop, 0)
    await until(partial(_is_told, tasks, 1))

    fail(loop, 0)
    await asyncio.sleep(0)

    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@story
async def test_tasks_that_nobody_supervises_are_found_and_those_of_others_are_not() -> None:
    loop = asyncio.get_running_loop()
    other = loop.create_task(forever(), name="of a library")
    await asyncio.sleep(0)
    nothing = fail(loop, 0)

    own = loop.create_task(ProbeQueue(1).take(), name="of the program")
    await asyncio.sleep(0)
    failed = fail(loop, 0)

    assert (nothing, failed) == ("", "of the program")
    for each in (own, other):
        each.cancel()
    await asyncio.gather(own, other, return_exceptions=True)
