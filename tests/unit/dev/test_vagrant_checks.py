# SPDX-License-Identifier: Apache-2.0
"""What each of Vagrant's machines says of itself at the end of `vagrant up`; commands stand for a machine's."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

VAGRANT = Path(__file__).parents[3] / "vagrant"
DIRECTORS = "director=192.0.2.2"
KNOWLEDGE = {
    "NAME": "backend1",
    "ADDRESS4": "192.0.2.21",
    "ADDRESS6": "2001:db8::21",
    "VIP4": "192.0.2.10",
    "VIP6": "2001:db8::10",
    "DIRECTORS": DIRECTORS,
    "BACKENDS": "backend1=192.0.2.21 backend2=192.0.2.22",
    "PATIENCE": "0",
}


@dataclass
class Shelf:
    """Commands that stand for those of a machine."""

    place: Path
    lines: list[str] = field(default_factory=list)

    def put(self, name: str, script: str) -> None:
        path = self.place / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def run(self, script: str, **knowledge: str) -> subprocess.CompletedProcess[str]:
        text = "\n".join((VAGRANT / "provision" / f"{name}.sh").read_text() for name in ("common", script))
        return subprocess.run(
            ["bash", "-s"],
            input=text,
            env={**KNOWLEDGE, **knowledge, "PATH": f"{self.place}:/usr/sbin:/usr/bin:/sbin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    made = Shelf(tmp_path)
    made.put("ping", "exit 0")
    made.put("sleep", "exit 0")
    return made


class TestSelfChecks:
    """What each machine says at the end of `vagrant up`."""

    def a_backend(self, shelf: Shelf, who: str = "backend1", status: int = 0) -> None:
        shelf.put("curl", f"echo {who}")
        shelf.put("xdpdirector-backend", f"echo something is missing; exit {status}")

    def test_a_backend_that_is_one(self, shelf: Shelf) -> None:
        self.a_backend(shelf)

        done = shelf.run("backend-check")

        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "backend1: all is well"

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"who": "backend7"}, "says: it is backend7"),
            ({"who": "'<html>'"}, "says: it is <html>"),
            ({"status": 1}, "says: something is missing"),
        ],
        ids=["another one answers", "another page", "no VIPs"],
    )
    def test_a_backend_that_is_none(self, shelf: Shelf, wrong: dict[str, Any], words: str) -> None:
        self.a_backend(shelf, **wrong)

        done = shelf.run("backend-check")

        assert done.returncode == 1
        assert "backend1: FAILED: " in done.stderr
        assert words in done.stderr
        assert "all is well" not in done.stdout

    def a_lan(self, shelf: Shelf, answers: Sequence[str], mac: str = "52:54:00:00:00:02") -> None:
        """The next answer each time, for ever; the VIP has that MAC, the director has ...:02."""
        (shelf.place / "turn").write_text("0")
        listed = shlex.join(answers)
        shelf.put(
            "curl",
            f"all=({listed}); n=$(<{shelf.place}/turn); echo $((n + 1)) >{shelf.place}/turn; "
            f'who=${{all[n % {len(answers)}]}}; [ "$who" = - ] && exit 28; echo "$who"',
        )
        shelf.put(
            "ip",
            f'case ${{*: -1}} in 192.0.2.10) echo "192.0.2.10 dev eth1 lladdr {mac} REACHABLE" ;; '
            '*) echo "192.0.2.2 dev eth1 lladdr 52:54:00:00:00:02 STALE" ;; esac',
        )

    def test_a_client_that_everybody_answers(self, shelf: Shelf) -> None:
        self.a_lan(shelf, ["backend1", "backend2"])

        done = shelf.run("client-check", NAME="client")

        assert done.returncode == 0, done.stderr
        assert "client: ok: every backend answers at 2001:db8::10" in done.stdout.splitlines()

    @pytest.mark.parametrize(
        ("lan", "words"),
        [
            ({"answers": ["backend1"]}, "answers came from: backend1"),
            ({"answers": ["-"]}, "somebody answers at 192.0.2.10?"),
            ({"answers": ["backend1", "backend2", "-"]}, "every backend answers at 192.0.2.10?"),
            (
                {"answers": ["backend1", "backend2"], "mac": "52:54:00:00:00:21"},
                "192.0.2.10 has 52:54:00:00:00:21, and the directors have 52:54:00:00:00:02",
            ),
        ],
        ids=["one backend is missing", "nobody", "one request fails", "a backend answers ARP"],
    )
    def test_a_client_that_is_disappointed(self, shelf: Shelf, lan: dict[str, Any], words: str) -> None:
        self.a_lan(shelf, **lan)

        done = shelf.run("client-check", NAME="client")

        assert done.returncode == 1
        assert words in done.stderr

    def a_director(
        self,
        shelf: Shelf,
        mode: str = "native",
        vip: str = "192.0.2.10/32",
        ready: int = 0,
        asked: int = 0,
        warnings: str = "",
    ) -> None:
        shelf.put("systemctl", "echo active")
        shelf.put("xdpdirector", f'[ "$*" = "status --ready" ] && sleep 0.1 && exit {asked}')
        shelf.put("readlink", "echo ../../bus/virtio/drivers/virtio_net")
        shelf.put(
            "curl",
            f"case ${{*: -1}} in *readyz) echo '{warnings}'; exit {ready} ;; "
            f'*) echo \'{{"carriers":[{{"interface":"eth1","mode":"{mode}","program_id":7}}]}}\' ;; esac',
        )
        shelf.put(
            "ip",
            f'case ${{*: -1}} in 192.0.2.10|2001:*) echo "{vip}" ;; *) echo "3: eth1 inet 192.0.2.2/24" ;; esac',
        )

    def test_a_director_that_is_one(self, shelf: Shelf) -> None:
        self.a_director(shelf)

        done = shelf.run("director-check", NAME="director")

        assert done.returncode == 0, done.stderr
        assert "director: ok: native mode, on the driver virtio_net" in done.stdout.splitlines()

    def test_generic_mode_is_said_and_is_no_failure(self, shelf: Shelf) -> None:
        self.a_director(shelf, mode="generic")

        done = shelf.run("director-check", NAME="director")

        assert done.returncode == 0, done.stderr
        assert "ok, but slower: generic mode" in done.stdout

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"vip": ""}, "the VIP 192.0.2.10 is here?"),
            ({"ready": 22}, "it is ready"),
            (
                {"warnings": "and do not see whether a server has its VIP"},
                "checks ask for the VIPs on the backends?",
            ),
        ],
        ids=["no VIP", "not ready", "checks that do not ask for the VIPs"],
    )
    def test_a_director_that_is_none(self, shelf: Shelf, wrong: dict[str, Any], words: str) -> None:
        self.a_director(shelf, **wrong)

        done = shelf.run("director-check", NAME="director")

        assert done.returncode == 1
        assert words in done.stderr

    def test_of_a_pair_the_one_without_the_vips_is_well_too(self, shelf: Shelf) -> None:
        self.a_director(shelf, vip="")

        done = shelf.run("director-check", NAME="director2", DIRECTORS=f"{DIRECTORS} director2=192.0.2.3")

        assert done.returncode == 0, done.stderr
        assert "director2: keepalived: this director does not have the VIPs" in done.stdout.splitlines()

    def test_of_a_pair_keepalived_must_hear_that_it_is_ready(self, shelf: Shelf) -> None:
        self.a_director(shelf, asked=1)

        done = shelf.run("director-check", NAME="director2", DIRECTORS=f"{DIRECTORS} director2=192.0.2.3")

        assert done.returncode == 1
        assert "hears in time that the director is ready?" in done.stderr
