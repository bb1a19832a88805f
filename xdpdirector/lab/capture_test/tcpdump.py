# SPDX-License-Identifier: Apache-2.0
"""What a backend of the lab receives from the director, by tcpdump."""

from __future__ import annotations

import re
import signal
from contextlib import suppress
from types import TracebackType
from typing import Self

from xdpdirector.errors import CaptureError
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.host import Host
from xdpdirector.lab.waiting import wait_until
from xdpdirector.replay.capture import Capture
from xdpdirector.replay.describe import headers_of

_ROLE = "tcpdump"
_LOST = re.compile(r"^(\d+) packets? dropped by kernel", re.MULTILINE)


class Tcpdump:
    """Listens inside the block. `director`: the MAC that its frames come from, and the addresses of its own."""

    def __init__(self, host: Host, interface: str, director: bytes, own: frozenset[bytes]) -> None:
        self._host, self._interface, self._director, self._own = host, interface, director, own
        self._file = host.directory("received") / "received.pcap"
        self._file.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        pace = ["--immediate-mode", "-U", "-B", "16384", "-s", "0"]
        only = ["ether", "src", self._director.hex(":")]
        self._child = self._host.popen(
            "tcpdump", "-n", *pace, "-i", self._interface, "-w", str(self._file), *only, role=_ROLE
        )
        wait_until(self._listens, f"tcpdump listens on {self._host.name}", 20.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.send_signal(signal.SIGINT)
        self._child.wait(timeout=20)

    def _listens(self) -> bool:
        if self._child.poll() is not None:
            raise LabError(f"tcpdump ended on {self._host.name}: {self._said()}")
        return "listening on" in self._said()

    def _said(self) -> str:
        return self._host.log(_ROLE).read_text(errors="replace")

    def received(self) -> list[bytes]:
        """The clients' frames that came so far, in their order."""
        frames: list[bytes] = []
        with suppress(CaptureError), Capture(self._file) as capture:  # it may end in the middle of a packet
            for batch in capture.batches(256):
                frames += [batch.frame(place) for place in range(len(batch))]
        return [frame for frame in frames if self._is_a_clients(frame)]

    def _is_a_clients(self, frame: bytes) -> bool:
        headers = headers_of(frame)
        return headers is not None and headers.source not in self._own and not frame[0] & 1

    def lost(self) -> int:
        """Frames that tcpdump could not take; it knows at its end."""
        return sum(int(count) for count in _LOST.findall(self._said()))
