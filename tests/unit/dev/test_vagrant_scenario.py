# SPDX-License-Identifier: Apache-2.0
"""What ./lab vagrant does with the machines and sees of them, without machines."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest

from dev.vagrant.account import Account
from dev.vagrant.box import NAME
from dev.vagrant.machines import Machines
from dev.vagrant.poller import (
    NOBODY,
    Answer,
    Visitor,
    asking,
    counts,
    gap,
)
from dev.vagrant.service import SOCKET, Service
from dev.vagrant.stage import Stage
from xdpdirector.errors import DirectorError
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.waiting import wait_until


class FakeMachines:
    """Answers as it is told, and keeps what was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.asked = list(answers), list[tuple[str, str]]()

    def run(self, name: str, script: str, timeout: float = 0) -> str:
        self.asked.append((name, script))
        return self.answers.pop(0)


class SomeSilent(Machines):
    """All but one say what they have logged."""

    def __init__(self, silent: str) -> None:
        self._silent = silent

    def run(self, name: str, script: str, timeout: float = 0) -> str:
        if name == self._silent:
            raise LabError("it has no power")
        return f"{name} has booted\n"


def test_the_journals_of_all_that_answer_are_kept(tmp_path: Path) -> None:
    said: list[str] = []
    stage = Stage(SomeSilent("backend1"), Account(said.append), tmp_path, backends=2)

    stage.keep_journals(tmp_path / "journals")

    kept = {path.stem: path.read_text() for path in (tmp_path / "journals").iterdir()}
    assert kept == {name: f"{name} has booted\n" for name in ("backend2", "director", "client")}
    assert "the journal of backend1 could not be read: it has no power" in said[0]


class TestService:
    def test_it_asks_as_one_would_by_hand(self) -> None:
        machines = FakeMachines('{"name": "backend3"}')

        Service(machines, "director").add("backend3", "192.0.2.23", 2)

        ((name, script),) = machines.asked
        words = shlex.split(script)
        assert name == "director"
        assert words[words.index("--unix-socket") + 1] == SOCKET
        assert words[words.index("POST") + 1] == "http://director/v1/services/web/backends"
        assert words[-1] == '{"name": "backend3", "address": "192.0.2.23", "weight": 2}'

    def test_it_waits_for_a_state(self) -> None:
        states = [
            f'{{"backends": [{{"name": "backend1", "operational": "{one}"}}]}}' for one in ("up", "down")
        ]

        found = Service(FakeMachines(*states), "director").wait_for("backend1", "down", timeout=30)

        assert found["operational"] == "down"

    def test_an_answer_that_is_none_is_an_error(self) -> None:
        with pytest.raises(LabError, match="what is no JSON: '<html>'"):
            Service(FakeMachines("<html>"), "director").backends()


def answers(text: str) -> list[Answer]:
    """One a second: a letter for who answered, `-` for nobody."""
    return [Answer(float(second), letter) for second, letter in enumerate(text)]


class TestAccount:
    def test_it_says_what_took_how_long_and_what_was_seen(self) -> None:
        said: list[str] = []
        account = Account.of({"build": 60.0}, said.append)
        account.clock = iter([100.0, 107.0]).__next__

        with account.step("ask"):
            account.see("everybody answers")

        assert said == ["ask ...", "  everybody answers"]
        assert str(account).splitlines() == [
            "    60 s  build",
            "     7 s  ask",
            "          - everybody answers",
            "    67 s  in all",
        ]

    def test_a_step_that_failed_is_called_so(self) -> None:
        account = Account(lambda text: None)

        with pytest.raises(LabError), account.step("ask"):
            raise LabError("nobody answers")

        assert str(account).splitlines()[0] == "  FAILED  ask"


class TestVisitor:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("aabb", 0.0), ("", 0.0), ("aa-b", 4.0), ("a--a-b", 7.0), ("a---", 5.0)],
        ids=["all answered", "nothing heard", "one", "now and then", "it never came back"],
    )
    def test_how_long_requests_failed(self, text: str, seconds: float) -> None:
        """A failure is heard of when curl gave up, so three seconds late."""
        assert gap(answers(text)) == seconds

    def test_it_hears_what_is_printed_inside_the_block(self) -> None:
        with Visitor(["sh", "-c", "echo backend1; echo -; exec sleep 60"]) as visitor:
            wait_until(lambda: len(visitor.since(0)) == 2, "two lines", 30)

        assert [answer.by for answer in visitor.since(0)] == ["backend1", NOBODY]

    def test_counts_are_sorted(self) -> None:
        assert counts(["b", "a", "b"]) == "a 1, b 2"
        assert counts([]) == "nothing"

    def test_each_request_is_a_connection_of_its_own(self) -> None:
        assert "while :; do curl" in asking("192.0.2.10")


def machines_with(tmp_path: Path, vagrant: str, said: list[str], **variables: str) -> Machines:
    """Where `vagrant` is a script of ours."""
    path = tmp_path / "bin" / "vagrant"
    path.parent.mkdir()
    path.write_text(f"#!/bin/bash\n{vagrant}\n")
    path.chmod(0o755)
    environment: Mapping[str, str] = {**variables, "PATH": f"{path.parent}:/usr/bin:/bin"}
    return Machines(tmp_path, tmp_path, environment, said.append)


class TestMachines:
    def test_what_checks_say_is_passed_on_and_the_rest_kept(self, tmp_path: Path) -> None:
        said: list[str] = []
        machines = machines_with(
            tmp_path, 'echo "    client: client: ok: it runs"; echo "$LAB_BOX"', said, LAB_BOX=NAME
        )

        machines.vagrant("up", "client")

        assert said == ["  client: ok: it runs"]
        assert machines.log.read_text().splitlines() == [
            "$ vagrant up client",
            "    client: client: ok: it runs",
            NAME,
        ]

    def test_a_failure_has_the_last_words(self, tmp_path: Path) -> None:
        machines = machines_with(tmp_path, "echo the box is empty; exit 3", [])

        with pytest.raises(DirectorError, match=r"'vagrant up' ended with 3: the box is empty"):
            machines.vagrant("up")
