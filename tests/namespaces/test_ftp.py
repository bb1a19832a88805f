# SPDX-License-Identifier: Apache-2.0
"""A real FTP server on each backend and real clients: control and data connections of a client stay together."""

from collections.abc import Callable, Iterator
from random import Random

import pytest

from tests.support.ftp_client import Session, clients_of
from tests.support.lab_director import CHECK, directing
from tests.support.many_clients import sources
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.services.ftp import DATA_PORT, PASSIVE_PORTS, Vsftpd
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.model import Address

pytestmark = pytest.mark.root

VIPS = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
MODES = pytest.mark.parametrize("active", [False, True], ids=["passive", "active"])
CLIENTS, AT_ONCE, VISITS = 9, 3, 2
CONTENTS = {f"file{number}": Random(number).randbytes(1 + number * 150_000) for number in range(4)}
ANY_PORT = ("*",)
ITS_PORTS = ("21", str(DATA_PORT), "{}-{}".format(*PASSIVE_PORTS))


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    return lab_factory()


@pytest.fixture(scope="module")
def servers(lab: Lab) -> dict[str, Vsftpd]:
    """Every file begins with the name of its backend."""
    servers = {host.name: Vsftpd(host) for host in lab.backends}
    for name, server in servers.items():
        server.start()
        for file, content in CONTENTS.items():
            server.publish(file, name.encode() + content)
    return servers


@pytest.fixture(
    scope="module",
    params=[("native", "wlc", ANY_PORT), ("generic", "mh", ITS_PORTS)],
    ids=["native-wlc-any-port", "generic-mh-its-ports"],
)
def director(lab: Lab, servers: dict[str, Vsftpd], request: pytest.FixtureRequest) -> Iterator[LabDirector]:
    mode, scheduler, ports = request.param
    configuration = web_configuration(lab.topology.backend_nodes, scheduler=scheduler, check=CHECK)
    service = configuration["services"][SERVICE]
    service["listeners"] = [f"{vip}:{port}/tcp" for vip in (VIP4, f"[{VIP6}]") for port in ports]
    service["check"] = {**CHECK.document(), "type": "ftp", "port": 21}
    del service["check"]["path"]
    service["persistence"] = {"timeout": "60s"}
    with directing(lab, {**configuration, "mode": mode}) as director:
        yield director


@VIPS
@MODES
def test_clients_fetch_files_from_one_backend_each(
    lab: Lab, director: LabDirector, vip: Address, active: bool
) -> None:
    def visit(source: str) -> set[str]:
        homes = set()
        for _ in range(VISITS):
            with Session(vip, source, active=active) as session:
                for name, content in CONTENTS.items():
                    assert session.fetch(name) == session.backend.encode() + content
                assert session.told == (set() if active else {str(vip)})
                homes.add(session.backend)
        return homes

    with clients_of(lab.client, AT_ONCE) as pool:
        homes = list(pool.map(visit, sources(lab, vip, CLIENTS)))

    assert {len(home) for home in homes} == {1}
    assert len(set.union(*homes)) > 1


@VIPS
@MODES
def test_a_client_stores_a_file(
    lab: Lab, servers: dict[str, Vsftpd], director: LabDirector, vip: Address, active: bool
) -> None:
    name, content = f"stored-{director.pid}-{vip.version}-{active}", CONTENTS["file3"]

    def visit(source: str) -> str:
        with Session(vip, source, active=active) as session:
            session.store(name, content)
            return session.backend

    with clients_of(lab.client) as pool:
        (home,) = pool.map(visit, sources(lab, vip, 1))

    assert [each for each, server in servers.items() if server.received(name) == content] == [home]
