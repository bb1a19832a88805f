# SPDX-License-Identifier: Apache-2.0
"""The parts of vagrant/ and of `./lab vagrant` that need no machine: table, scripts, box, what is judged."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from xdpdirector.errors import DirectorError
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.vagrant import den, story
from xdpdirector.lab.vagrant.account import Account
from xdpdirector.lab.vagrant.box import NAME, Box
from xdpdirector.lab.vagrant.command import Options, depended, variables
from xdpdirector.lab.vagrant.ingredients import FILES, MASKED, PACKAGES, STOPPED, ingredients, names
from xdpdirector.lab.vagrant.machines import Machines
from xdpdirector.lab.vagrant.service import SOCKET, Service
from xdpdirector.lab.vagrant.visitor import NOBODY, Answer, Visitor, asking, counts, gap

VAGRANT = Path(__file__).parents[2] / "vagrant"
VAGRANTFILE = (VAGRANT / "Vagrantfile").read_text()
README = (VAGRANT / "README.md").read_text()
SCRIPTS = sorted((VAGRANT / "provision").glob("*.sh"))
ROW = re.compile(
    r'\{ name: "(\w+)", +number: (\d+), +role: "(\w+)", +memory: (\d+), +cpus: (\d+), wanted: (.+) \}'
)
MACHINES = {name: int(number) for name, number, *_ in ROW.findall(VAGRANTFILE)}
ROLES = {role for _, _, role, *_ in ROW.findall(VAGRANTFILE)}
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


class TestTable:
    def test_its_addresses_are_those_of_the_readme(self) -> None:
        drawing = README.split("```")[1]

        drawn = {int(number) for number in re.findall(r" \.(\d+)", drawing)} | {3}

        assert drawn == set(MACHINES.values())

    def test_its_names_and_addresses_are_those_that_are_tried(self) -> None:
        tried = {**story.BACKENDS, story.DIRECTOR: "192.0.2.2", story.SECOND: "192.0.2.3"}

        assert {name: f"192.0.2.{MACHINES[name]}" for name in tried} == tried
        assert set(MACHINES) - set(tried) == {story.CLIENT}

    def test_the_vips_are_those_that_are_tried(self) -> None:
        vips = dict(re.findall(r'^(VIP\d) = "(.+)"$', VAGRANTFILE, re.MULTILINE))

        assert vips == {"VIP4": story.VIP4, "VIP6": story.VIP6.strip("[]")}

    def test_each_role_has_its_scripts(self) -> None:
        wanted = {f"{role}-{step}.sh" for role in ROLES for step in ("setup", "check")}

        assert {path.name for path in SCRIPTS} == wanted | {"common.sh"}

    def test_each_variable_is_explained_in_both_places(self, tmp_path: Path) -> None:
        used = set(re.findall(r'ENV\["(\w+)"\]', VAGRANTFILE))
        head = VAGRANTFILE.split("\n\n")[0]

        assert set(re.findall(r"^#   (LAB_\w+)", head, re.MULTILINE)) == used
        assert set(re.findall(r"^\| `(LAB_\w+)` \|", README, re.MULTILINE)) == used
        (tmp_path / ".lab" / "vagrant").mkdir(parents=True)
        assert set(variables(Options(tmp_path))) == used

    @pytest.mark.parametrize("path", [*SCRIPTS, VAGRANT / "Vagrantfile"], ids=lambda path: str(path.name))
    def test_files_name_their_licence(self, path: Path) -> None:
        head = [line for line in path.read_text().splitlines() if not line.startswith("#!")]

        assert head[0] == "# SPDX-License-Identifier: Apache-2.0"

    @pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.name))
    def test_scripts_can_be_read_by_bash(self, path: Path) -> None:
        done = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)

        assert (done.returncode, done.stderr) == (0, "")


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
        self, shelf: Shelf, mode: str = "native", vip: str = "192.0.2.10/32", ready: int = 0
    ) -> None:
        shelf.put("systemctl", "echo active")
        shelf.put("readlink", "echo ../../bus/virtio/drivers/virtio_net")
        shelf.put(
            "curl",
            f"case ${{*: -1}} in *readyz) exit {ready} ;; "
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
        [({"vip": ""}, "the VIP 192.0.2.10 is here?"), ({"ready": 22}, "it is ready")],
        ids=["no VIP", "not ready"],
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


class TestIngredients:
    def test_the_box_has_what_the_packages_depend_on(self) -> None:
        made = ingredients(["python3-bpfcc", "iproute2"])

        assert made.packages == (*PACKAGES, "python3-bpfcc")

    def test_another_dependency_makes_another_box(self) -> None:
        assert ingredients(["python3-rich"]).digest != ingredients([]).digest

    def test_servers_can_be_started_in_it(self) -> None:
        assert not set(STOPPED) & set(MASKED)

    def test_its_machines_are_not_all_the_same(self) -> None:
        assert FILES["etc/machine-id"] == ""

    @pytest.mark.parametrize(
        ("depends", "wanted"),
        [
            ("", []),
            ("libc6 (>= 2.34)", ["libc6"]),
            ("python3 (>= 3.11), python3 (<< 3.12), libbpf1", ["python3", "python3", "libbpf1"]),
            ("systemd | systemd-standalone-sysusers", ["systemd"]),
            ("python3:any,\n procps", ["python3", "procps"]),
        ],
        ids=["nothing", "version", "twice", "alternatives", "architecture"],
    )
    def test_names_of_a_depends_field(self, depends: str, wanted: list[str]) -> None:
        assert names(depends) == wanted

    def test_the_project_s_packages_need_each_other_and_the_box_has_the_rest(self, tmp_path: Path) -> None:
        one = a_package(tmp_path, "xdpdirector", "python3-bpfcc (>= 0.26), libbpf1")
        other = a_package(tmp_path, "xdpdirector-backend", "iproute2, xdpdirector")

        assert depended([one, other]) == {"python3-bpfcc", "libbpf1", "iproute2"}


def a_package(place: Path, name: str, depends: str) -> Path:
    """Without content."""
    control = place / name / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    fields = {"Package": name, "Version": "1", "Architecture": "all", "Maintainer": "A <a@b.example>"}
    fields |= {"Depends": depends, "Description": "a package"}
    control.write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
    made = place / f"{name}_1_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", control.parents[1], made], check=True)
    return made


class TestBox:
    def test_it_is_kept_while_its_ingredients_are_the_same(self, tmp_path: Path) -> None:
        box = Box(tmp_path)
        box.file.touch()
        (tmp_path / "box.stamp").write_text(ingredients(["curl"]).digest)

        assert box.is_made_by(ingredients(["curl"]))
        assert not box.is_made_by(ingredients(["curl", "python3-rich"]))

    def test_half_a_box_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "box.stamp").write_text(ingredients([]).digest)

        assert not Box(tmp_path).is_made_by(ingredients([]))


class TestDen:
    def test_all_of_it_ends_with_who_made_it(self) -> None:
        line = den.enter(["python3", "-m", "something"])

        assert line[:3] == ["setpriv", "--pdeathsig", "KILL"]
        assert {"--pid", "--net", "--mount", "--kill-child"} <= set(line)
        assert line[-3:] == ["python3", "-m", "something"]

    def test_it_leaves_the_host_as_it_was(self, tmp_path: Path) -> None:
        there, missing = tmp_path / "there", tmp_path / "missing"
        there.mkdir()

        with den.mount_points([there, missing]):
            assert missing.is_dir()

        assert list(tmp_path.iterdir()) == [there]


class FakeMachines:
    """Answers as it is told, and keeps what was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.asked = list(answers), list[tuple[str, str]]()

    def run(self, name: str, script: str, timeout: float = 0) -> str:
        self.asked.append((name, script))
        return self.answers.pop(0)


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
            story.wait_until(lambda: len(visitor.since(0)) == 2, "two lines", 30)

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
