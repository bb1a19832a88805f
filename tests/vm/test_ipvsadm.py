# SPDX-License-Identifier: Apache-2.0
"""The same command lines for the real ipvsadm, over Debian's kernel, and for ours, over a director without packets:
equal status, output and errors. Each list shows what the commands before it meant.
"""

from __future__ import annotations

import io
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from tests.support.ipvsadm_grammar import MARKS, MISTAKES, Grammar
from xdpdirector.client import Client
from xdpdirector.lab.host import run
from xdpdirector.lvs import ipvsadm
from xdpdirector.lvs.names import SystemNames
from xdpdirector.model.lvs import LvsSpec

NAMESPACE = "ipvsadm-test"
SEEDS = (101, 102, 103)
COMMANDS = 60
REWORDED = ("-A -6 -f 1",)
"""What Debian 13's ipvsadm refuses in other words than Debian 12's."""
SIZE = re.compile(r"\(size=\d+\)")


class NoHosts(SystemNames):
    def address(self, host: str) -> str | None:
        return None

    def host(self, address: str) -> str | None:
        return None


class Said(NamedTuple):
    status: int
    output: str
    errors: str


@pytest.fixture
def kernel() -> Iterator[None]:
    """An empty table of IPVS, in a namespace of its own."""
    run("modprobe", "ip_vs")
    run("ip", "netns", "add", NAMESPACE)
    run("ip", "-n", NAMESPACE, "link", "set", "lo", "up")
    yield
    run("ip", "netns", "delete", NAMESPACE)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    director = FakeDirector()
    director.lvs = LvsSpec(fwmarks=MARKS)
    with ApiServer(director, tmp_path / "api.sock") as server:
        yield server.client


def real(words: Sequence[str]) -> Said:
    line = ["ip", "netns", "exec", NAMESPACE, "ipvsadm", *words]
    done = subprocess.run(line, input="", capture_output=True, text=True, timeout=120, check=False)
    return Said(done.returncode, SIZE.sub("()", done.stdout), done.stderr)


def ours(words: Sequence[str], client: Client, memory: Path) -> Said:
    output, errors = io.StringIO(), io.StringIO()
    status = ipvsadm.main(
        words, client, memory, names=NoHosts(), output=output, errors=errors, source=io.StringIO()
    )
    # What a list that went well says on standard error is what its form cannot say.
    return Said(status, SIZE.sub("()", output.getvalue()), errors.getvalue() if status else "")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.usefixtures("kernel")
def test_what_the_grammar_makes(seed: int, client: Client, tmp_path: Path) -> None:
    for words in Grammar(seed, ipv6=True).commands(COMMANDS):
        plain = [word for word in words if word not in ("--stats", "--exact")]  # a fake counts

        assert ours(plain, client, tmp_path / "memory") == real(plain), (seed, words)


@pytest.mark.usefixtures("kernel")
def test_mistakes(client: Client, tmp_path: Path) -> None:
    for line in ("-A -t 192.0.2.11:80", *MISTAKES):
        words = line.split()
        if line in REWORDED:
            continue

        assert ours(words, client, tmp_path / "memory") == real(words), line
