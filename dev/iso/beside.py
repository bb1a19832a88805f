# SPDX-License-Identifier: Apache-2.0
"""Stories that go on beside each other; when one fails, the others end soon. Knows nothing of machines."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

Story = Callable[[], None]


def beside(*stories: Story, give_up: Callable[[], None]) -> None:
    """Returns when all have ended. When one fails, `give_up` is called, which makes the others fail; the first
    error is raised."""
    with ThreadPoolExecutor(len(stories)) as pool:
        running = [pool.submit(story) for story in stories]
        done, _ = wait(running, return_when=FIRST_EXCEPTION)
        failed = [each for each in done if each.exception()]
        if failed:
            give_up()
    for each in (*failed, *running):
        each.result()
