# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector ipvsadm` beside what ipvsadm 1.31 wrote for the same command lines, in ipvsadm.jsonl.

Those were made by the grammar of ipvsadm_grammar.py and given to Debian's ipvsadm, over a table in user space that
refused what the kernel's refuses, and counted nothing. tests/vm/test_ipvsadm.py has Debian's kernel for it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from tests.support.ipvsadm_grammar import MARKS, MISTAKES, Grammar
from xdpdirector.lvs import ipvsadm
from xdpdirector.lvs.names import SystemNames
from xdpdirector.model.lvs import LvsSpec

RECORDED = [json.loads(line) for line in Path(__file__).with_name("ipvsadm.jsonl").read_text().splitlines()]
RUNS = {number: list(rows) for number, rows in groupby(RECORDED, lambda row: row["run"])}
SIZE = ("size=262144", "size=4096")


class NoHosts(SystemNames):
    """Ports have names here as everywhere; hosts have none."""

    def address(self, host: str) -> str | None:
        return None

    def host(self, address: str) -> str | None:
        return None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    director = FakeDirector()
    director.lvs = LvsSpec(fwmarks=MARKS)
    with ApiServer(director, tmp_path / "api.sock") as server:
        yield server


@pytest.mark.parametrize("number", RUNS)
def test_status_output_and_errors_are_those_of_ipvsadm(
    number: int, server: ApiServer, tmp_path: Path
) -> None:
    for row in RUNS[number]:
        output, errors = io.StringIO(), io.StringIO()

        status = ipvsadm.main(
            row["argv"],
            server.client,
            tmp_path / "memory.json",
            names=NoHosts(),
            output=output,
            errors=errors,
            source=io.StringIO(),
        )

        said = output.getvalue().replace(*SIZE), without_remarks(errors.getvalue(), status)
        assert (status, *said) == (row["status"], row["out"], row["err"]), row["argv"]


def without_remarks(errors: str, status: int) -> str:
    """What a list that went well says besides on standard error, of what its form cannot say."""
    return "" if status == 0 else errors


def test_the_recording_has_what_the_grammar_makes() -> None:
    made: list[Any] = [command for seed in (1, 2) for command in Grammar(seed, ipv6=False).commands(60)]
    recorded = [row["argv"] for row in RECORDED if row["run"] > 0]

    assert [[word for word in words if word not in ("--stats", "--exact")] for words in made] == recorded
    assert [words.split() for words in MISTAKES] == [row["argv"] for row in RUNS[-1]][1:]
