# SPDX-License-Identifier: Apache-2.0
"""The doctor in a lab: with a daemon and without one, with all rights and with none."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.lab_director import CHECK, command, directing
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4
from xdpdirector.lab.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.backends(2)]

VICTIM = "backend2"
WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--")
MISSING = f"does not have the VIP {VIP4}"


@pytest.fixture(scope="module")
def director(lab: Lab) -> Iterator[LabDirector]:
    configuration = web_configuration(lab.topology.backend_nodes, check=CHECK)
    configuration["lan"] = {"interval": "300ms"}
    with directing(lab, configuration) as director:
        yield director


@pytest.fixture
def silent(director: LabDirector) -> Iterator[LabDirector]:
    """The daemon does not run for a while."""
    director.stop()
    yield director
    director.start()


@pytest.fixture
def without_vip(lab: Lab) -> Iterator[None]:
    """One backend has lost it."""
    host = lab.host(VICTIM)
    host.run("ip", "address", "del", f"{VIP4}/32", "dev", "lo")
    yield
    host.run("ip", "address", "add", f"{VIP4}/32", "dev", "lo")


def findings(director: LabDirector, prefix: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    done = command(
        director,
        "doctor",
        "--config",
        str(director.configuration),
        "-o",
        "json",
        check=False,
        prefix=prefix,
    )
    assert done.returncode in (0, 1), done.stderr
    items: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    bad = {each["level"] for each in items} & {"warning", "error"}
    assert done.returncode == (1 if bad else 0)
    return items


def of(items: list[dict[str, Any]], topic: str, *levels: str) -> list[str]:
    return [each["text"] for each in items if each["topic"] == topic and each["level"] in levels]


def test_a_running_director_is_found_well_where_it_is(director: LabDirector) -> None:
    wait_until(lambda: director.client.get("/v1/lan")["presence"], "the network was looked at")
    items = findings(director)

    for topic in ("configuration", "daemon", "network", "program", "rights"):
        assert of(items, topic, "warning", "error") == [], topic
    assert any("in native mode" in text for text in of(items, "interfaces", "ok"))
    assert any("veth" in text for text in of(items, "interfaces", "ok"))


def test_what_the_daemon_found_on_the_network_is_told(director: LabDirector, without_vip: None) -> None:
    wait_until(lambda: director.client.get("/v1/lan")["findings"], "the daemon found it")

    [text] = of(findings(director), "network", "error")

    assert MISSING in text


def test_without_a_daemon_the_doctor_looks_for_himself(silent: LabDirector, without_vip: None) -> None:
    items = findings(silent)

    assert [MISSING in text for text in of(items, "network", "error")] == [True]
    assert any("no daemon of instance" in text for text in of(items, "daemon", "warning"))
    assert any("carries program" in text for text in of(items, "interfaces", "ok"))


def test_without_rights_it_says_what_it_could_not_see(silent: LabDirector) -> None:
    items = findings(silent, WITHOUT_RIGHTS)

    assert any("sees only what any user may" in text for text in of(items, "rights", "note"))
    assert of(items, "network", "error") == []
    assert any("cannot probe its network" in text for text in of(items, "network", "warning"))
