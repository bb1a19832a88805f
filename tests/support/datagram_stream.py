# SPDX-License-Identifier: Apache-2.0
"""A steady stream of datagrams to services that echo them, old flows and new ones, and what of it was lost.

As a program: DATAGRAMS RATE ADDRESS:PORT...; sends that many datagrams a second, to each target in turn, until its
input ends; then it says how many were answered, and when those that were not had been sent.
"""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from xdpdirector.lab.host import Host

LATE = 2.0  # seconds for the last answers
FLOWS = 32  # per target, that go on
EVERY = 10  # datagrams: then one of the flows ends and a new one begins
BUFFER = 1 << 20


@dataclass
class Account:
    """`unanswered`: seconds since the epoch and the target of each datagram that was lost."""

    sent: int
    answered: int
    flows: int
    unanswered: list[tuple[float, str]]


class Stream:
    """On a host of a lab; a context manager."""

    def __init__(self, host: Host, rate: int, *targets: str) -> None:
        command = [sys.executable, __file__, str(rate), *targets]
        self._child = host.popen(*command, role="datagrams", stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child.poll() is None:
            self.finish()

    def finish(self) -> Account:
        """Stop sending and wait for the last answers."""
        output, _ = self._child.communicate(timeout=30)
        document = json.loads(output)
        return Account(**document)


class Sender:
    def __init__(self, targets: list[str]) -> None:
        self._targets = [(host, int(port)) for host, _, port in (each.rpartition(":") for each in targets)]
        self._selector = selectors.DefaultSelector()
        self._flows = {target: deque([self._flow(target) for _ in range(FLOWS)]) for target in self._targets}
        self._waiting: dict[int, tuple[float, str]] = {}
        self._ended: deque[tuple[float, socket.socket]] = deque()
        self.sent = self.answered = 0
        self.flows = FLOWS * len(targets)

    def _flow(self, target: tuple[str, int]) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        made.setblocking(False)
        made.connect(target)
        self._selector.register(made, selectors.EVENT_READ)
        return made

    def send(self) -> None:
        target = self._targets[self.sent % len(self._targets)]
        flows = self._flows[target]
        if self.sent // len(self._targets) % EVERY == 0:
            self._ended.append((time.monotonic(), flows.pop()))
            flows.append(self._flow(target))
            self.flows += 1
        flows.rotate()  # the one that has rested longest is the first
        self.sent += 1
        self._waiting[self.sent] = (time.time(), f"{target[0]}:{target[1]}")
        with suppress(ConnectionRefusedError):  # the answer to an earlier one: that one stays unanswered
            flows[0].send(str(self.sent).encode())

    def end_flows(self) -> None:
        """Those whose last answer has come by now, or never will."""
        while self._ended and self._ended[0][0] < time.monotonic() - LATE:
            flow = self._ended.popleft()[1]
            self._selector.unregister(flow)
            flow.close()

    def receive(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            self._receive(key.fileobj)  # type: ignore[arg-type]

    def _receive(self, flow: socket.socket) -> None:
        while True:
            try:
                answer = flow.recv(100)
            except (BlockingIOError, ConnectionRefusedError):
                return
            if self._waiting.pop(int(answer.split()[1]), None):
                self.answered += 1

    @property
    def account(self) -> Account:
        return Account(self.sent, self.answered, self.flows, list(self._waiting.values()))


def main(rate: int, targets: list[str]) -> None:
    sender, began = Sender(targets), time.monotonic()
    control = selectors.DefaultSelector()
    control.register(sys.stdin, selectors.EVENT_READ)
    while not control.select(0):
        due = (time.monotonic() - began) * rate - sender.sent
        for _ in range(min(int(due), 50)):
            sender.send()
        if due > 1000:  # the machine was busy elsewhere: no burst makes up for it
            began += (due - 50) / rate
        sender.receive(1 / rate)
        sender.end_flows()
    until = time.monotonic() + LATE
    while sender.account.unanswered and time.monotonic() < until:
        sender.receive(0.05)
    print(json.dumps(vars(sender.account)))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
