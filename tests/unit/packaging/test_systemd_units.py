# SPDX-License-Identifier: Apache-2.0
"""The units and the packages say the same as the code: settings, capabilities, paths, dependencies."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from dev.package.lock import DEBIANS
from xdpdirector.daemon import drop_privileges, rlimits
from xdpdirector.health import socket_helper
from xdpdirector.health.check_namespace import SETTINGS
from xdpdirector.paths import DEFAULT_CONFIGURATION
from xdpdirector.system import privileges

CHECKOUT = Path(__file__).parents[3]
UNITS = CHECKOUT / "contrib" / "systemd"
CALLS_OF_252 = {"@system-service", "@privileged", "@resources", "@chown"}
"""Groups of system calls that Debian 12 has, too, as `systemd-analyze syscall-filter` says."""


def unit(name: str) -> dict[str, list[str]]:
    """Values by key, of all sections."""
    found: dict[str, list[str]] = {}
    text = (UNITS / name).read_text().replace("\\\n", " ")
    for key, value in re.findall(r"^([A-Za-z]+)=(.*)$", text, re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def test_the_daemon_has_just_the_capabilities_that_it_asks_for() -> None:
    daemon = unit("xdpdirector.service")

    assert daemon["AmbientCapabilities"] == daemon["CapabilityBoundingSet"] == [" ".join(privileges.DAEMON)]


@pytest.mark.parametrize("name", ["xdpdirector", "xdpdirector-load"])
def test_the_units_of_other_instances_differ_by_the_instance_alone(name: str) -> None:
    ours, others = unit(f"{name}.service"), unit(f"{name}@.service")

    def named(value: str) -> str:
        return value.replace("xdpdirector-load.service", "xdpdirector-load@%i.service").replace(
            "/usr/bin/xdpdirector ", "/usr/bin/xdpdirector --instance %i "
        )

    expected = {key: [named(value) for value in values] for key, values in ours.items()}
    assert {**others, "Description": []} == {**expected, "Description": []}
    assert others["Description"] == [f"{ours['Description'][0]}, instance %i"]


@pytest.mark.parametrize("name", ["xdpdirector", "xdpdirector-load", "xdpdirector-checks@"])
def test_no_unit_takes_all_of_the_machine(name: str) -> None:
    """The loader's memory is that of the maps, by `sizes`."""
    limits = unit(f"{name}.service")
    wanted = {"LimitNOFILE", "TasksMax"} | ({"MemoryMax"} if name != "xdpdirector-load" else set())

    assert wanted <= limits.keys()


def test_the_daemon_has_the_descriptors_that_it_asks_for() -> None:
    assert int(unit("xdpdirector.service")["LimitNOFILE"][0]) == rlimits.ENOUGH


def test_programs_that_check_can_be_confined() -> None:
    allowed = {word for value in unit("xdpdirector.service")["SystemCallFilter"] for word in value.split()}

    assert {
        "seccomp",
        "landlock_create_ruleset",
        "landlock_add_rule",
        "landlock_restrict_self",
        "capset",
    } <= allowed


@pytest.mark.parametrize("name", sorted(path.name for path in UNITS.glob("*.service")))
def test_no_group_of_calls_is_unknown_to_debian_12(name: str) -> None:
    """systemd passes over what it does not know: then the calls are refused. @sandbox came with 254."""
    words = {word.lstrip("~") for value in unit(name).get("SystemCallFilter", []) for word in value.split()}

    assert {word for word in words if word.startswith("@")} <= CALLS_OF_252


def test_the_checks_namespace_is_set_as_the_daemon_wants_it() -> None:
    (line,) = unit("xdpdirector-checks@.service")["ExecStart"]

    words = shlex.split(line)

    assert words[words.index("-m") + 1 :] == [
        socket_helper.__name__,
        "0",
        *(f"{name}={value}" for name, value in SETTINGS.items()),
    ]


def test_the_daemon_asks_where_systemd_listens() -> None:
    assert unit("xdpdirector-checks.socket")["ListenSequentialPacket"] == [str(drop_privileges.GIVER)]


def test_the_configuration_file_is_where_it_is_looked_for() -> None:
    rules = (CHECKOUT / "debian" / "rules").read_text()

    assert f"debian/xdpdirector{DEFAULT_CONFIGURATION}\n" in rules


def test_what_is_left_out_of_the_package_is_asked_of_debian() -> None:
    control = (CHECKOUT / "debian" / "control").read_text()

    assert [name for name in DEBIANS[:2] if f"python3-{name} (" not in control] == []
