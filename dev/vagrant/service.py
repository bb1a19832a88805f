# SPDX-License-Identifier: Apache-2.0
"""The director's service as its API on the director shows and changes it, by curl, as README.md does it by hand."""

from __future__ import annotations

import json
import shlex
from typing import Any, Protocol

from xdpdirector.lab.errors import LabError
from xdpdirector.lab.waiting import wait_until

SERVICE = "web"
SOCKET = "/run/xdpdirector/default/api.sock"
ANSWERING = 30  # seconds that curl waits, besides what the request itself may wait for


class Runs(Protocol):
    """What `Machines` does."""

    def run(self, name: str, script: str, timeout: float = 0) -> str: ...


class Service:
    """`director`: the machine to ask."""

    def __init__(self, machines: Runs, director: str) -> None:
        self._machines, self._director = machines, director

    def backends(self) -> dict[str, dict[str, Any]]:
        """By name, as the API shows them."""
        return {each["name"]: each for each in self.request("GET", f"/v1/services/{SERVICE}")["backends"]}

    def drain(self, name: str, deadline: int) -> None:
        """No new connections; `deadline` is in seconds."""
        self.request("POST", self._backend(name, "/drain"), {"reason": "shown", "deadline": f"{deadline}s"})

    def wait_drained(self, name: str, wait: int) -> None:
        """Until no connection is left, `wait` seconds at most."""
        self.request("GET", self._backend(name, f"?wait=drained&timeout={wait}s"), wait=wait)

    def delete(self, name: str) -> None:
        self.request("DELETE", self._backend(name))

    def add(self, name: str, address: str, weight: int) -> None:
        body = {"name": name, "address": address, "weight": weight}
        self.request("POST", f"/v1/services/{SERVICE}/backends", body)

    def maintenance(self, name: str) -> None:
        self.request("POST", self._backend(name, "/maintenance"), {"reason": "shown"})

    def enable(self, name: str) -> None:
        self.request("POST", self._backend(name, "/enable"), {"reason": "shown"})

    def wait_for(self, name: str, state: str, timeout: float) -> dict[str, Any]:
        """The backend once its operational state is that one."""

        def reached() -> dict[str, Any] | None:
            found = self.backends()[name]
            return found if found["operational"] == state else None

        return wait_until(reached, f"{name} is {state}", timeout, interval=1) or {}

    def request(self, method: str, path: str, body: dict[str, Any] | None = None, *, wait: int = 0) -> Any:
        """What was answered; LabError with the problem when it was refused."""
        limit = ANSWERING + wait
        words = ["curl", "-sS", "--fail-with-body", "--max-time", str(limit), "--unix-socket", SOCKET]
        words += ["-X", method, f"http://director{path}"]
        words += ["--json", json.dumps(body)] if body is not None else []
        text = self._machines.run(self._director, shlex.join(words), timeout=limit + ANSWERING)
        try:
            return json.loads(text) if text.strip() else None
        except ValueError as error:
            raise LabError(f"{method} {path} answered what is no JSON: {text[:200]!r}") from error

    def _backend(self, name: str, rest: str = "") -> str:
        return f"/v1/services/{SERVICE}/backends/{name}{rest}"
