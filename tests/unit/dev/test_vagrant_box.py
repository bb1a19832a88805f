# SPDX-License-Identifier: Apache-2.0
"""What goes into the project's own box, when it is made anew, and where its machines live."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dev.vagrant import libvirt_sandbox
from dev.vagrant.box import Box
from dev.vagrant.box_packages import (
    FILES,
    MASKED,
    PACKAGES,
    STOPPED,
    ingredients,
    names,
)
from dev.vagrant.command import depended


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
        line = libvirt_sandbox.enter(["python3", "-m", "something"])

        assert line[:3] == ["setpriv", "--pdeathsig", "KILL"]
        assert {"--pid", "--net", "--mount", "--kill-child"} <= set(line)
        assert line[-3:] == ["python3", "-m", "something"]

    def test_it_leaves_the_host_as_it_was(self, tmp_path: Path) -> None:
        there, missing = tmp_path / "there", tmp_path / "missing"
        there.mkdir()

        with libvirt_sandbox.mount_points([there, missing]):
            assert missing.is_dir()

        assert list(tmp_path.iterdir()) == [there]
