# SPDX-License-Identifier: Apache-2.0
"""The matrix: what is done to every client of every service, in order, and what of it counts as good.

`play` has the steps in order. All sessions of a step run at the same time, so a step lasts as long as its slowest
client.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from threading import Event

from xdpdirector.errors import DirectorError
from xdpdirector.lab.services.environment import Stage
from xdpdirector.lab.services.expect import Dialogue, SessionEndedError
from xdpdirector.lab.services.result import Cell, Course, Result, Row, merged
from xdpdirector.lab.services.service_def import Client, Script
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.model import Address

VICTIM = "backend2"
SOURCES = 6
TIMES = 3  # that a session is asked on while its backend drains
FAMILIES = {4: "IPv4", 6: "IPv6"}
Say = Callable[[str], None]


@dataclass
class _Talk:
    """A running session; `began`: the backend that answered first, or the failure."""

    row: Row
    client: Client
    vip: Address
    script: Script
    session: Dialogue
    began: str = ""

    def course(self, words: str, met: bool, new: str = "", seconds: float | None = None) -> Course:
        return Course(FAMILIES[self.vip.version], words, met, new, seconds)


class Matrix:
    """One playing on a stage where everything runs."""

    def __init__(self, stage: Stage, scheduler: str, say: Say) -> None:
        self._stage, self._say = stage, say
        self._host = stage.lab.client
        self._clients = [
            (Row(kind.name, client.name, client.tool), client)
            for kind in stage.kinds
            for client in kind.clients
        ]
        self._lasting = [(row, client, client.stay) for row, client in self._clients if client.stay]
        self.result = Result(scheduler, [row for row, _ in self._clients])

    def play(self) -> None:
        self._say("a session of each client through the VIP, IPv4 and IPv6")
        self._visits()
        self._say(f"{SOURCES} clients at all ports of each service that has several")
        self._persistence()
        self._say(f"{VICTIM} is drained in the middle of sessions")
        self._drain()
        self._say(f"{VICTIM} is lost in the middle of sessions: its cable is pulled")
        self._loss()

    def _visit(self, client: Client, vip: Address) -> tuple[str, bool]:
        """Who answered, or what went wrong; whether all was well."""
        try:
            with Dialogue(self._host, client.visit(vip), "visit") as session:
                name = session.ask()
                session.finish()
        except DirectorError as error:
            return str(error), False
        return name, True

    def _visits(self) -> None:
        for row, client in self._clients:
            for vip in (VIP4, VIP6):
                row.cells[FAMILIES[vip.version]] = Cell(*self._visit(client, vip))

    def _persistence(self) -> None:
        """IPv4 and IPv6 by turns: to the director a client is an address."""
        homes: dict[str, list[tuple[str, bool]]] = {row.client: [] for row, _ in self._clients}
        for number in range(SOURCES):
            with self._stage.another_client():
                for row, client in self._clients:
                    if self._several(row):
                        homes[row.client].append(self._visit(client, (VIP4, VIP6)[number % 2]))
        for row, _ in self._clients:
            if self._several(row):
                first = next(
                    homes[other.client] for other, _ in self._clients if other.service == row.service
                )
                row.cells["persistence"] = _together(homes[row.client], first)

    def _several(self, row: Row) -> bool:
        return next(kind.persistent for kind in self._stage.kinds if kind.name == row.service)

    @contextmanager
    def _sessions(self) -> Iterator[list[_Talk]]:
        """A session of each client and family with the victim, in their middle."""
        with self._stage.another_client(), ExitStack() as stack:
            talks = []
            with self._stage.only(VICTIM):
                for row, client, stay in self._lasting:
                    for vip in (VIP4, VIP6):
                        script = stay(vip)
                        session = stack.enter_context(Dialogue(self._host, script))
                        talks.append(_Talk(row, client, vip, script, session))
                for talk in talks:
                    talk.began = _first_answer(talk.session)
            yield talks

    def _drain(self) -> None:
        """A new session is another client's: a client that must keep its backend does so."""
        with self._sessions() as talks, self._stage.drained(VICTIM):
            on = [self._goes_on(talk) for talk in talks]
            with self._stage.another_client():
                new = [self._visit(talk.client, talk.vip) for talk in talks]
            ends = [
                self._ends(talk) if course.met else course for talk, course in zip(talks, on, strict=True)
            ]
        _enter("drain", talks, _followed(ends, new))

    def _goes_on(self, talk: _Talk) -> Course:
        if talk.began != VICTIM:
            return talk.course(f"no session: {talk.began}", False)
        try:
            names = {talk.session.ask() for _ in range(TIMES)}
        except DirectorError as error:
            return talk.course(f"does not go on: {error}", False)
        return talk.course(f"goes on with {', '.join(sorted(names))}", names == {VICTIM})

    def _ends(self, talk: _Talk) -> Course:
        course = self._goes_on(talk)
        try:
            talk.session.finish()
        except DirectorError as error:
            return talk.course(f"{course.words}, but ends: {error}", False)
        return talk.course(f"{course.words}, ends well", course.met)

    def _loss(self) -> None:
        with self._sessions() as talks, self._stage.unplugged(VICTIM):
            ends = self._all_until_lost(talks)
            new = [self._visit(talk.client, talk.vip) for talk in talks]
        _enter("loss", talks, _followed(ends, new))

    def _all_until_lost(self, talks: Sequence[_Talk]) -> list[Course]:
        known, pulled = Event(), time.monotonic()
        with ThreadPoolExecutor(len(talks)) as pool:
            ends = [pool.submit(self._until_lost, talk, known, pulled) for talk in talks]
            try:
                self._stage.wait_down(VICTIM)
            finally:
                known.set()
            return [end.result() for end in ends]

    def _until_lost(self, talk: _Talk, known: Event, pulled: float) -> Course:
        """What the client says when it is asked on. One that only reads would hear nothing, and the director hear
        nothing from it: it reads on once the director knows, and says so to its server."""
        if talk.began != VICTIM:
            return talk.course(f"no session: {talk.began}", False)
        talk.session.say(talk.script.question)
        if not talk.script.question:
            known.wait()
        try:
            while (name := talk.session.hear()) == VICTIM:
                talk.session.say(talk.script.question)
        except SessionEndedError as error:
            return talk.course(str(error), True, seconds=time.monotonic() - pulled)
        except DirectorError as error:
            return talk.course(str(error), False)
        return talk.course(f"goes on with {name} by itself", True, seconds=time.monotonic() - pulled)


def _followed(courses: Sequence[Course], new: Sequence[tuple[str, bool]]) -> list[Course]:
    """And who took each next session, which must not be the victim."""
    return [
        replace(course, new=name, met=course.met and well and name != VICTIM)
        for course, (name, well) in zip(courses, new, strict=True)
    ]


def _first_answer(session: Dialogue) -> str:
    try:
        return session.ask()
    except DirectorError as error:
        return str(error)


def _together(homes: list[tuple[str, bool]], first: list[tuple[str, bool]]) -> Cell:
    """`first`: where the same clients were at the service's first port."""
    same = sum(home == other and home[1] for home, other in zip(homes, first, strict=True))
    names = {name for name, _ in homes}
    words = f"{same} of {len(homes)} clients meet theirs, {len(names)} backends in all"
    return Cell(words, same == len(homes) and len(names) > 1)


def _enter(column: str, talks: Sequence[_Talk], courses: Sequence[Course]) -> None:
    """Into the rows; a row's sessions stand side by side."""
    for index in range(0, len(talks), 2):
        talks[index].row.cells[column] = merged(courses[index : index + 2])
