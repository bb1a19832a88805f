# SPDX-License-Identifier: Apache-2.0
"""Notifies systemd of the daemon's state, as sd_notify(3) describes: ready, reloading, stopping, watchdog.

The protocol is one datagram of NAME=VALUE lines to a unix socket. It is stable, and simpler than libsystemd, which
would cost more memory. Knows nothing of what the daemon does. Without systemd, nothing is sent.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, MutableMapping

BEAT = 10.0  # seconds between two messages without a watchdog
BEATS_IN_TIME = 3  # messages in each interval of the watchdog

log = logging.getLogger(__name__)


class Supervisor:
    """`address`: of the socket; empty: no systemd. `beat`: seconds between two watchdog messages."""

    def __init__(self, address: str = "", beat: float = BEAT) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.beat = beat

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> Supervisor:
        """Whoever the variables name, which are taken away: children are not to speak for us."""
        address = environment.pop("NOTIFY_SOCKET", "")
        interval = int(environment.pop("WATCHDOG_USEC", "0")) / 1e6
        environment.pop("WATCHDOG_PID", None)
        return cls(address, interval / BEATS_IN_TIME if interval else BEAT)

    @property
    def is_there(self) -> bool:
        """Whether systemd listens."""
        return bool(self._address)

    def ready(self) -> None:
        """At the start, and after `reloading`."""
        self._tell(READY="1")

    def reloading(self) -> None:
        self._tell(RELOADING="1", MONOTONIC_USEC=str(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000))

    def stopping(self) -> None:
        self._tell(STOPPING="1")

    async def live(self, status: Callable[[], str], is_sound: Callable[[], bool] = lambda: True) -> None:
        """Give signs of life until cancelled. They come from the loop that does all the work: when it hangs, they
        cease; so they do while the work is not `is_sound`. `status`: one line for people; that it cannot be told is
        no reason to be killed."""
        while self.is_there:
            try:
                line = status()
            except Exception as error:
                log.exception("the status cannot be told")
                line = f"the status cannot be told: {error}"
            self._tell(STATUS=line, **({"WATCHDOG": "1"} if is_sound() else {}))
            await asyncio.sleep(self.beat)

    def _tell(self, **fields: str) -> None:
        if not self._address:
            return
        message = "\n".join(f"{name}={value}" for name, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaking:
                speaking.setblocking(False)
                speaking.sendto(message.encode(), self._address)
        except OSError as error:
            log.warning("systemd could not be told '%s': %s", message.splitlines()[0], error.strerror)
