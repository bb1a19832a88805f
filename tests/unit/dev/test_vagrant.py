# SPDX-License-Identifier: Apache-2.0
"""The table of Vagrant's machines beside its README, and its scripts as bash reads them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from dev.vagrant import pair, stage
from dev.vagrant.command import Options, variables

VAGRANT = Path(__file__).parents[3] / "vagrant"
VAGRANTFILE = (VAGRANT / "Vagrantfile").read_text()
README = (VAGRANT / "README.md").read_text()
SCRIPTS = sorted((VAGRANT / "provision").glob("*.sh"))
ROW = re.compile(
    r'\{ name: "(\w+)", +number: (\d+), +role: "(\w+)", +memory: (\d+), +cpus: (\d+), wanted: (.+) \}'
)
MACHINES = {name: int(number) for name, number, *_ in ROW.findall(VAGRANTFILE)}
ROLES = {role for _, _, role, *_ in ROW.findall(VAGRANTFILE)}


class TestTable:
    def test_its_addresses_are_those_of_the_readme(self) -> None:
        drawing = README.split("```")[1]

        drawn = {int(number) for number in re.findall(r" \.(\d+)", drawing)} | {3}

        assert drawn == set(MACHINES.values())

    def test_its_names_and_addresses_are_those_that_are_tried(self) -> None:
        tried = {**stage.BACKENDS, stage.DIRECTOR: "192.0.2.2", stage.SECOND: "192.0.2.3"}

        assert {name: f"192.0.2.{MACHINES[name]}" for name in tried} == tried
        assert set(MACHINES) - set(tried) == {stage.CLIENT}

    def test_the_vips_are_those_that_are_tried(self) -> None:
        vips = dict(re.findall(r'^(VIP\d) = "(.+)"$', VAGRANTFILE, re.MULTILINE))

        assert vips == {"VIP4": stage.VIP4, "VIP6": stage.VIP6.strip("[]")}

    def test_advertisements_are_as_often_as_the_judge_of_the_pair_believes(self) -> None:
        (advert,) = re.findall(r'"ADVERT" => EMULATED \? (\d+) :', VAGRANTFILE)

        assert int(advert) == pair.ADVERT

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
