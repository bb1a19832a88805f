# SPDX-License-Identifier: Apache-2.0
"""Writers at once, each a client of its own on the unix socket. Whoever loses to another tries again."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any, NamedTuple

from xdpdirector.client import UnixConnection

PATIENCE = 60.0  # seconds for one answer
KEY = "made-once"


class Answer(NamedTuple):
    status: int
    document: Any
    etag: str
    replayed: bool


class Writer:
    """`number` tells them apart; `lost` counts how often another one was quicker."""

    def __init__(self, socket: Path, number: int) -> None:
        self.number, self.lost = number, 0
        self._socket = socket

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        fields["content-type"] = "application/json"
        with contextlib.closing(UnixConnection(self._socket, PATIENCE)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), fields)
            answer = connection.getresponse()
            content = answer.read()
        document = json.loads(content) if content else None
        return Answer(
            answer.status, document, answer.headers.get("etag", ""), "idempotent-replayed" in answer.headers
        )

    def change(self, method: str, path: str, edit: Callable[[Any], object]) -> None:
        """Read, edit what was read, write it if nobody has written meanwhile; else all of it again."""
        while True:
            seen = self.ask("GET", path)
            done = self.ask(method, path, edit(seen.document), if_match=seen.etag)
            if done.status != 412:
                break
            self.lost += 1
        assert done.status == 200, done.document


def race(socket: Path, writers: int, act: Callable[[Writer], Any]) -> tuple[list[Any], int]:
    """What each writer's act gave, when all had begun at once; and how often one lost to another."""
    start = Barrier(writers)
    racers = [Writer(socket, number) for number in range(writers)]

    def run(writer: Writer) -> Any:
        start.wait(PATIENCE)
        return act(writer)

    with ThreadPoolExecutor(writers) as threads:
        results = list(threads.map(run, racers))
    return results, sum(writer.lost for writer in racers)


def weigh_more(document: Any) -> dict[str, int]:
    """A patch of a backend."""
    return {"weight": document["weight"] + 1}


def weigh_more_in(service: str, backend: str) -> Callable[[Any], Any]:
    """An edit of the whole configuration."""

    def edit(document: Any) -> Any:
        document["services"][service]["backends"][backend]["weight"] += 1
        return document

    return edit


def make_once(path: str, body: object) -> Callable[[Writer], Answer]:
    """The same request with the same key, until it is answered and not just under way elsewhere."""

    def act(writer: Writer) -> Answer:
        while True:
            answer = writer.ask("POST", path, body, idempotency_key=KEY)
            if answer.status != 409:
                return answer

    return act


def statuses(answers: list[Answer]) -> dict[tuple[int, bool], int]:
    """How many there are of each, by status and whether it was said again."""
    return dict(Counter((each.status, each.replayed) for each in answers))
