# SPDX-License-Identifier: Apache-2.0
"""A real FTP server on each backend and real clients: control and data connections of a client stay together."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from clientele import sources
from directing import CHECK, directing
from ftp import DATA_PORT, PASSIVE_PORTS, Client, Session, Vsftpd

from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.model import Address

pytestmark = pytest.mark.root

VIPS = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
MODES = pytest.mark.parametrize("active", [False, True], ids=["passive", "active"])
CLIENTS = 9
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
    service["check"] = {**CHECK.document(), "type": "tcp", "port": 21}
    del service["check"]["path"]
    service["persistence"] = {"timeout": "60s"}
    with directing(lab, {**configuration, "mode": mode}) as director:
        yield director


@VIPS
@MODES
def test_clients_fetch_files_from_one_backend_each(
    lab: Lab, director: LabDirector, tmp_path: Path, vip: Address, active: bool
) -> None:
    def visit(source: str) -> list[Session]:
        client = Client(lab.client, vip, source, active=active)
        return [client.fetch(list(CONTENTS), tmp_path / source / visit) for visit in ("first", "second")]

    with ThreadPoolExecutor(3) as pool:
        visits = dict(zip(clients := sources(lab, vip, CLIENTS), pool.map(visit, clients), strict=True))

    homes = {source: {session.greeting for session in sessions} for source, sessions in visits.items()}
    assert all(len(home) == 1 for home in homes.values()), homes
    assert len(set.union(*homes.values())) > 1
    for source, (home,) in homes.items():
        for place in (tmp_path / source).iterdir():
            arrived = {path.name: path.read_bytes() for path in place.iterdir()}
            assert arrived == {file: home.encode() + content for file, content in CONTENTS.items()}
    told = frozenset() if active or vip.version == 6 else frozenset([str(VIP4)])
    assert {session.passive for sessions in visits.values() for session in sessions} == {told}


@VIPS
@MODES
def test_a_client_stores_a_file(
    lab: Lab,
    servers: dict[str, Vsftpd],
    director: LabDirector,
    tmp_path: Path,
    vip: Address,
    active: bool,
) -> None:
    source = sources(lab, vip, 1)[0]
    path = tmp_path / f"stored-{director.pid}-{vip.version}-{active}"
    path.write_bytes(CONTENTS["file3"])

    session = Client(lab.client, vip, source, active=active).store(path)

    found = {name for name, server in servers.items() if server.received(path.name) == CONTENTS["file3"]}
    assert found == {session.greeting}
