# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest, alone, with Debian's Python: a backend's servers, and a client whose packets are all counted.

    guest_agent.py serve NAME    HTTP on port 80 and an echo on port 7 that say NAME, and a sink on port 9
    guest_agent.py send SECONDS  datagrams and two conversations until a SIGTERM, at the most for SECONDS; then
                                 one line of JSON: what was sent, how long it took, which conversations broke

At SIGTERM the sink prints which datagrams of which flow it got. Several of a flow that come together it takes as
one (UDP_GRO, udp(7)), to save an emulated processor's time. Knows nothing of the director.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import struct
import sys
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VIP = "192.0.2.10"
HTTP, ECHO, SINK = 80, 7, 9
FLOWS, RATE = 10, 1000
TALK = 0.5  # seconds between two lines of a conversation
PATIENCE = 180.0
SO_RCVBUFFORCE, UDP_GRO = 33, 104
LARGEST = 1 << 27
NUMBER = struct.Struct("!II")  # flow, number


def serve(name: str) -> None:
    sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, LARGEST)
    sink.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    sink.bind(("", SINK))
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    threading.Thread(target=_echo, args=(name,), daemon=True).start()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"{name}\n".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Not on standard output, which is the sink's."""

    web = ThreadingHTTPServer(("", HTTP), Answer)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    flows = _collected(sink, done)
    print(json.dumps({"name": name, "flows": flows}))


def _collected(sink: socket.socket, done: threading.Event) -> dict[str, list[list[int]]]:
    """By flow, what came until the end, as ranges of numbers: first and last."""
    got: dict[int, list[int]] = defaultdict(list)
    sink.settimeout(1.0)
    while True:
        try:
            data = sink.recv(1 << 16)
        except TimeoutError:
            if done.is_set():
                return {str(flow): _ranges(sorted(numbers)) for flow, numbers in got.items()}
            continue
        for flow, number in NUMBER.iter_unpack(data):
            got[flow].append(number)


def _ranges(numbers: list[int]) -> list[list[int]]:
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ranges


def _echo(name: str) -> None:
    """Each line comes back with the name before it."""
    listening = socket.create_server(("", ECHO))
    chooser = selectors.DefaultSelector()
    chooser.register(listening, selectors.EVENT_READ)
    while True:
        for key, _ in chooser.select():
            if key.fileobj is listening:
                chooser.register(listening.accept()[0], selectors.EVENT_READ)
                continue
            talking = key.fileobj
            assert isinstance(talking, socket.socket)
            line = talking.recv(4096)
            if line:
                talking.sendall(name.encode() + b" " + line)
            else:
                chooser.unregister(talking)
                talking.close()


def send(seconds: float) -> None:
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    talks: list[dict[str, Any]] = [{} for _ in range(2)]
    threads = [threading.Thread(target=_talk, args=(done, talk)) for talk in talks]
    for thread in threads:
        thread.start()
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(FLOWS)]
    for opened in sockets:
        opened.connect((VIP, SINK))
    os.nice(-5)
    began = time.monotonic()
    turn = worst = 0.0
    number = refused = 0
    while not done.is_set() and turn < seconds:
        for flow, opened in enumerate(sockets):
            try:
                opened.send(NUMBER.pack(flow, number))
            except ConnectionRefusedError:  # the answer to an earlier one; this one was not sent
                refused += 1
                opened.send(NUMBER.pack(flow, number))
        number += 1
        due = began + number * FLOWS / RATE
        worst = max(worst, time.monotonic() - due)
        time.sleep(max(0.0, due - time.monotonic()))
        turn = time.monotonic() - began
    done.set()
    for thread in threads:
        thread.join()
    sent = {"flows": FLOWS, "each": number, "seconds": turn, "late": worst, "refused": refused}
    print(json.dumps({**sent, "talks": talks}))


def _talk(done: threading.Event, told: dict[str, Any]) -> None:
    """One connection all the time: who answered, how often, and what ended it before its time."""
    told |= {"by": [], "lines": 0, "error": ""}
    try:
        with socket.create_connection((VIP, ECHO), timeout=PATIENCE) as talking:
            while not done.wait(TALK):
                talking.sendall(b"hello\n")
                who = talking.recv(4096).decode().split()[0]
                told["lines"] += 1
                if who not in told["by"]:
                    told["by"].append(who)
    except (OSError, IndexError) as error:
        told["error"] = f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        send(float(sys.argv[2]))
