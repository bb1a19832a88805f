# SPDX-License-Identifier: Apache-2.0
"""Network namespaces: an unnamed one of this process, which ends with the process in any case; and calls in
others.

A namespace is a property of a thread. One thread stays in the new namespace from its start and runs the work
given to it; sockets that it makes belong to the namespace, whichever thread uses them. Needs CAP_SYS_ADMIN,
at the start only.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

CLONE_NEWNET = 0x40000000
NAMED = Path("/run/netns")  # ip-netns(8)

T = TypeVar("T")


class Namespace:
    """A namespace with its thread. OSError when it cannot be made. `call` is not thread-safe."""

    def __init__(self, name: str, settings: Mapping[str, str] | None = None) -> None:
        """`name`: of the thread. `settings`: below /proc/sys/net."""
        self._work: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._thread.start()
        try:
            self.fd: int = self.call(_enter_new)
            self.call(lambda: _configure(settings or {}))
        except OSError:
            self._end()
            raise

    def call(self, work: Callable[[], T]) -> T:
        """Run `work` in the namespace; returns or raises what it does."""
        self._work.put(work)
        result, error = self._done.get()
        if error:
            raise error
        done: T = result
        return done

    def make(self, family: int, kind: int, protocol: int = 0, /) -> socket.socket:
        """`socket.socket`, in the namespace."""
        return self.call(lambda: socket.socket(family, kind, protocol))

    def close(self) -> None:
        """End the thread. The namespace ends once the sockets in it are closed."""
        self._end()
        os.close(self.fd)

    def _end(self) -> None:
        self._work.put(None)
        self._thread.join()

    def _live(self) -> None:
        while work := self._work.get():
            try:
                self._done.put((work(), None))
            except BaseException as error:
                self._done.put((None, error))
            del work


def everywhere() -> Iterator[Path]:
    """A path for each network namespace that has a process or a name, this one's first."""
    seen = set()
    for path in (Path("/proc/self/ns/net"), *NAMED.glob("*"), *Path("/proc").glob("[0-9]*/ns/net")):
        try:
            found = path.stat()
        except OSError:  # the process has ended
            continue
        if (found.st_dev, found.st_ino) not in seen:
            seen.add((found.st_dev, found.st_ino))
            yield path


def visit(path: Path, work: Callable[[], T]) -> T:
    """Run `work` in the namespace of that path; returns or raises what it does. OSError when it cannot be
    entered."""
    done: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def go() -> None:
        try:
            _enter(path)
            done.put((work(), None))
        except BaseException as error:
            done.put((None, error))

    thread = threading.Thread(target=go, name="visit")
    thread.start()
    thread.join()
    result, error = done.get()
    if error:
        raise error
    found: T = result
    return found


def _enter(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def _configure(settings: Mapping[str, str]) -> None:
    """Write settings. /proc/sys/net shows the namespace of the thread that opens it."""
    for name, value in settings.items():
        Path("/proc/sys/net", name).write_text(value)


def _enter_new() -> int:
    """Enter a new namespace; returns its file descriptor."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
