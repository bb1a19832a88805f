# SPDX-License-Identifier: Apache-2.0
"""Waiting for a condition with a deadline. Knows nothing of what is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from xdpdirector.errors import TimedOutError

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, timeout: float = 5.0, interval: float = 0.02) -> T:
    """The condition's first true value; TimedOutError saying `what` did not happen within `timeout` seconds.

    The condition is asked at least once, and once more at the deadline.
    """
    deadline = time.monotonic() + timeout
    while True:
        late = time.monotonic() >= deadline
        value = condition()
        if value:
            return value
        if late:
            raise TimedOutError(f"waited {timeout:g} s, and still not: {what} (last seen: {value!r})")
        time.sleep(interval)
