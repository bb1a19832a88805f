# SPDX-License-Identifier: Apache-2.0
"""Sessions with client programs of the services matrix, and what is made of them; the programs are small shells."""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO

import pytest

from xdpdirector.errors import InvalidRequestError, TimedOutError
from xdpdirector.lab.services.expect import Dialogue, SessionEndedError
from xdpdirector.lab.services.registry import KINDS, chosen
from xdpdirector.lab.services.result import Cell, Course, Result, Row, merged
from xdpdirector.lab.services.service_def import BACKEND, Script

ANSWER = re.compile(rf"^{BACKEND}\n", re.MULTILINE)
SOON = 0.2
# Answers each line with its backend's name; "bye" ends it well, "die" with an error.
TALKER = """
import sys
for line in sys.stdin:
    if line == "bye\\n":
        print("so long")
        sys.exit(0)
    if line == "die\\n":
        print("connection\\n  reset   by peer", file=sys.stderr)
        sys.exit(1)
    if line == "hello\\n":
        print("greetings", flush=True)
    if line == "who\\n":
        print("backend2", flush=True)
"""


class Here:
    """As a host of a lab: runs programs on this machine."""

    def popen(
        self,
        *command: str,
        role: str,
        stdin: int | IO[str],
        stdout: int | IO[str] | None,
        stderr: int | IO[str] | None,
        environment: Mapping[str, str] | None,
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, text=True)


@contextmanager
def talking(**changes: object) -> Iterator[Dialogue]:
    fields = {"question": "who\n", "farewell": "bye\n", **changes}
    script = Script((sys.executable, "-uc", TALKER), ANSWER, **fields)  # type: ignore[arg-type]
    with Dialogue(Here(), script) as session:
        yield session


def test_a_session_goes_on_while_it_is_asked() -> None:
    with talking(opening="hello\n", parting=re.compile("so long")) as session:
        names = [session.ask() for _ in range(3)]
        session.finish()

    assert names == ["backend2"] * 3


def test_a_session_that_breaks_says_its_last_words() -> None:
    with talking(question="die\n") as session, pytest.raises(SessionEndedError) as caught:
        session.ask()

    assert str(caught.value) == "reset by peer"


def test_a_silent_client_is_not_waited_for_for_ever() -> None:
    with talking(question="hm\n") as session, pytest.raises(TimedOutError):
        session.ask(timeout=SOON)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"farewell": "die\n"}, "status 1: reset by peer"),
        ({"parting": ANSWER}, "it ended too early: so long"),
    ],
    ids=["status", "parting"],
)
def test_a_bad_end_is_told(changes: dict[str, object], words: str) -> None:
    with talking(**changes) as session, pytest.raises(SessionEndedError) as caught:
        session.finish()

    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("courses", "cell"),
    [
        (
            [Course("IPv4", "ends well", True, "backend3"), Course("IPv6", "ends well", True, "backend1")],
            Cell("ends well\nnext: backend1, backend3", True),
        ),
        (
            [Course("IPv4", "reset", True, "backend3", 3.0), Course("IPv6", "reset", True, "backend3", 3.26)],
            Cell("reset (after 3.3 s)\nnext: backend3", True),
        ),
        (
            [Course("IPv4", "reset", True, "backend3"), Course("IPv6", "hangs", False)],
            Cell("IPv4: reset\nIPv6: hangs\nnext: backend3", False),
        ),
    ],
    ids=["same", "slower", "different"],
)
def test_both_families_share_a_cell(courses: list[Course], cell: Cell) -> None:
    assert merged(courses) == cell


def test_one_bad_cell_fails_the_matrix() -> None:
    rows = [Row("dns", "DNS", "dig", {"IPv4": Cell("backend1", True), "drain": Cell("hangs", False)})]
    result = Result("wlc", rows, 1.5)

    document = result.document()

    assert not result.passed
    assert result.missed == ["DNS, drain: hangs"]
    assert document["verdict"] == "fail"
    assert document["rows"][0]["cells"]["IPv4"] == {"seen": "backend1", "met": True}


def test_services_are_chosen_by_name() -> None:
    assert chosen([]) == list(KINDS.values())
    assert chosen(["dns", "web", "dns"]) == [KINDS["dns"], KINDS["web"]]
    with pytest.raises(InvalidRequestError, match="no service 'gopher': there are web, smtp"):
        chosen(["gopher"])
