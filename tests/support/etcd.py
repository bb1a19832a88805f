# SPDX-License-Identifier: Apache-2.0
"""Real etcd processes on loopback, one or several, that tests end, hold and start again."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from xdpdirector.model.store import StoreSpec

DEADLINE = 60.0
needed = pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is missing (Debian: etcd-server)")


class Member:
    """One process; its data outlives it."""

    def __init__(self, directory: Path, name: str, client: int, peer: int, options: Sequence[str]) -> None:
        self.directory, self.name, self.port, self._peer = directory, name, client, peer
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, cluster: str, scheme: str = "http") -> None:
        client, peer = f"{scheme}://{self.endpoint}", f"http://127.0.0.1:{self._peer}"
        command = [
            *("etcd", "--name", self.name, "--data-dir", str(self.directory / self.name)),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", cluster, "--heartbeat-interval", "100", "--election-timeout", "1000"),
            *("--log-level", "error", *self._options),
        ]
        with (self.directory / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        if self._process:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def hold(self) -> None:
        """It answers nothing, and its connections stay."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def ask(self, path: str, body: object) -> dict[str, object]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request("POST", path, json.dumps(body))
            said: dict[str, object] = json.loads(connection.getresponse().read())
        return said


class Etcd:
    """A cluster of so many members, of its own directory; a context manager."""

    def __init__(
        self, directory: Path, members: int = 1, options: Sequence[str] = (), scheme: str = "http"
    ) -> None:
        directory.mkdir(exist_ok=True)
        self.directory, self._scheme = directory, scheme
        ports = free_ports(2 * members)
        self.members = [
            Member(directory, f"m{number}", ports[2 * number], ports[2 * number + 1], options)
            for number in range(members)
        ]
        self._cluster = ",".join(f"{each.name}=http://127.0.0.1:{each._peer}" for each in self.members)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """All of it, as far as it does not run; it can be written when this returns."""
        for each in self.members:
            if each._process is None:
                each.start(self._cluster, self._scheme)
        if self._scheme == "http":
            self.await_writable()

    def start_member(self, member: Member) -> None:
        member.start(self._cluster, self._scheme)

    def kill(self) -> None:
        for each in self.members:
            each.kill()

    def back_up(self, name: str) -> None:
        """Stopped meanwhile."""
        self.kill()
        for each in self.members:
            shutil.copytree(self.directory / each.name, self.directory / f"{name}-{each.name}")
        self.start()

    def restore(self, name: str) -> None:
        """Stopped meanwhile."""
        self.kill()
        self._delete()
        for each in self.members:
            shutil.copytree(self.directory / f"{name}-{each.name}", self.directory / each.name)
        self.start()

    def wipe(self) -> None:
        """Started again with nothing of what it stored."""
        self.kill()
        self._delete()
        self.start()

    def _delete(self) -> None:
        for each in self.members:
            shutil.rmtree(self.directory / each.name, ignore_errors=True)

    def await_writable(self) -> None:
        until = time.monotonic() + DEADLINE
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                live = next(each for each in self.members if each._process)
                if "header" in live.ask("/v3/kv/put", {"key": "cmVhZHk="}):
                    return
            if time.monotonic() > until:
                raise TimeoutError((self.directory / "m0.log").read_text()[-2000:])
            time.sleep(0.05)

    def spec(self, **fields: object) -> StoreSpec:
        endpoints = [each.endpoint for each in self.members]
        return StoreSpec.model_validate({"type": "etcd", "endpoints": endpoints, **fields})


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
