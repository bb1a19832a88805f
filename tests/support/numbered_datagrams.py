# SPDX-License-Identifier: Apache-2.0
"""Numbered datagrams of many flows to a service, and which backend received which: lost, repeated, moved.

As a program: NUMBERED send RATE FLOWS ADDRESS... PORT, or NUMBERED receive ADDRESS... PORT; both go on until their
input ends and then say what they did. Knows hosts and addresses; nothing of directors.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Self

from xdpdirector.lab.host import Host

FORMAT = struct.Struct("!II")  # flow, number
SO_RCVBUFFORCE = 33  # asm-generic/socket.h; the socket module does not know it
BUFFER = 1 << 24
BURST = 20  # datagrams: after a pause of the machine the rest follows by and by
PACE = 0.001  # seconds
LATE = 0.5  # seconds for the last ones


@dataclass(frozen=True)
class Tally:
    """`lost`: when each of these was sent, seconds since the epoch. `moved`: flows that two backends received."""

    sent: int
    seconds: float
    lost: list[float]
    repeated: int
    moved: list[int]
    used: set[str]

    @property
    def rate(self) -> float:
        return self.sent / self.seconds


class Numbered:
    """`flows` on each address from one host, received at others; a context manager."""

    def __init__(
        self,
        sender: Host,
        receivers: Sequence[Host],
        addresses: Sequence[str],
        port: int,
        rate: int,
        flows: int,
    ) -> None:
        self._stack = ExitStack()
        self._sinks = {
            host.name: self._begin(host, f"sink-{port}", "receive", *addresses, str(port))
            for host in receivers
        }
        self._sender = self._begin(
            sender, f"numbered-{port}", "send", str(rate), str(flows), *addresses, str(port)
        )

    def _begin(self, host: Host, role: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, __file__, *arguments]
        child = host.popen(*command, role=role, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._stack.callback(_end, child)
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        return child

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def finish(self) -> Tally:
        """Stop sending, wait for the last ones, and compare."""
        began, *times = _said(self._sender)
        received = {name: _said(sink) for name, sink in self._sinks.items()}
        return _compare(times, time.time() - LATE - began, received)


def _end(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        child.communicate(timeout=30)


def _said(child: subprocess.Popen[str]) -> list[float]:
    output, _ = child.communicate(timeout=30)
    said: list[float] = json.loads(output)
    return said


def _compare(times: list[float], seconds: float, received: Mapping[str, list[float]]) -> Tally:
    """`received`: by backend, flow and number of each datagram by turns."""
    places: dict[int, set[str]] = {}
    count: Counter[int] = Counter()
    for name, said in received.items():
        count.update(int(number) for number in said[1::2])
        for flow in {int(flow) for flow in said[::2]}:
            places.setdefault(flow, set()).add(name)
    return Tally(
        sent=len(times),
        seconds=seconds,
        lost=[sent for number, sent in enumerate(times) if number not in count],
        repeated=sum(count.values()) - len(count),
        moved=sorted(flow for flow, names in places.items() if len(names) > 1),
        used=set().union(*places.values()),
    )


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class _Input:
    """Ended or not."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        print("ready", flush=True)
        selector.register(sys.stdin, selectors.EVENT_READ)
        self._selector = selector

    def select(self, timeout: float | None) -> list[socket.socket] | None:
        """What can be read; None when the input has ended."""
        found = [key.fileobj for key, _ in self._selector.select(timeout)]
        if sys.stdin in found:
            return None
        return [each for each in found if isinstance(each, socket.socket)]


def send(rate: int, flows: int, addresses: Sequence[str], port: int) -> None:
    """Prints when it began and when each was sent. The n-th datagram is due at n / `rate` seconds."""
    opened = []
    for address in addresses * flows:
        opened.append(socket.socket(_family(address), socket.SOCK_DGRAM))
        opened[-1].connect((address, port))
    control = _Input(selectors.DefaultSelector())
    times: list[float] = []
    began, start = time.time(), time.monotonic()
    while control.select(PACE) is not None:
        due = int((time.monotonic() - start) * rate) - len(times)
        for _ in range(min(due, BURST)):
            flow = len(times) % len(opened)
            _send(opened[flow], FORMAT.pack(flow, len(times)))
            times.append(time.time())
    time.sleep(LATE)
    print(json.dumps([began, *times]))


def _send(opened: socket.socket, data: bytes) -> None:
    """An ICMP error about an earlier one does not keep this one back."""
    opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    with suppress(ConnectionRefusedError):
        opened.send(data)


def receive(addresses: Sequence[str], port: int) -> None:
    """Prints flow and number of each."""
    selector = selectors.DefaultSelector()
    for address in addresses:
        opened = socket.socket(_family(address), socket.SOCK_DGRAM)
        opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        opened.bind((address, port))
        opened.setblocking(False)
        selector.register(opened, selectors.EVENT_READ)
    control, received = _Input(selector), []
    while (ready := control.select(None)) is not None:
        for opened in ready:
            with suppress(BlockingIOError):
                while True:
                    received += FORMAT.unpack(opened.recv(FORMAT.size))
    print(json.dumps(received))


def main(what: str, *arguments: str) -> None:
    *rest, port = arguments
    if what == "send":
        rate, flows, *addresses = rest
        send(int(rate), int(flows), addresses, int(port))
    else:
        receive(rest, int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
