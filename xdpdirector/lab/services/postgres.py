# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL and psql. A name is the server's setting `cluster_name`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from xdpdirector.lab.errors import LabError
from xdpdirector.lab.host import Host, run
from xdpdirector.lab.servers import Server
from xdpdirector.lab.services.fixtures import Stock
from xdpdirector.lab.services.process import Program
from xdpdirector.lab.services.service_def import BACKEND, Client, Kind, Script
from xdpdirector.model import Address

PORT = 5432
USER = "lab"
# Debian installs each release of PostgreSQL in a directory of its own.
_RELEASES = Path("/usr/lib/postgresql")
_OWNER = "postgres"
_SETTINGS = {
    "listen_addresses": "*",
    "unix_socket_directories": "",
    "fsync": "off",
    "shared_buffers": "8MB",
    "max_connections": "40",
    "min_wal_size": "2MB",
    "max_wal_size": "8MB",
    "dynamic_shared_memory_type": "mmap",
}


def kind(stock: Stock) -> Kind:
    def server(host: Host) -> Server:
        """As its own user: it refuses to be root's."""
        template = stock.once("postgres", _make_cluster)
        data = host.directory("postgres") / "data"
        run("cp", "--archive", str(template), str(data))
        settings = {**_SETTINGS, "cluster_name": host.name}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        command = [*_as_owner(), _program("postgres"), "-D", str(data), *options]
        return Program(host, "postgres", command, tcp=(PORT,), package="postgresql")

    def session(vip: Address) -> Script:
        where = f"host={vip} port={PORT} user={USER} dbname=postgres connect_timeout=10"
        return Script(
            ("psql", "--no-psqlrc", "--no-align", "--tuples-only", where),
            re.compile(rf"^{BACKEND}\n", re.MULTILINE),
            question="show cluster_name;\n",
            farewell="\\q\n",
        )

    return Kind(
        name="postgres",
        ports=(f"{PORT}/tcp",),
        check={"type": "postgres", "port": PORT, "user": USER, "database": "postgres"},
        server=server,
        clients=(Client("PostgreSQL", "psql", session, session),),
    )


def _program(name: str) -> str:
    """Of the newest release that is installed. LabError if there is none."""
    programs = sorted(_RELEASES.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    if not programs:
        raise LabError(f"the program '{name}' is missing in {_RELEASES}/*/bin: apt-get install postgresql")
    return str(programs[-1])


def _as_owner() -> list[str]:
    return ["setpriv", f"--reuid={_OWNER}", f"--regid={_OWNER}", "--clear-groups"]


def _make_cluster(path: Path) -> None:
    """Once, for that takes a second."""
    path.mkdir(mode=0o700)
    shutil.chown(path, _OWNER, _OWNER)
    options = ("--username", USER, "--auth", "trust", "--no-sync", "--wal-segsize", "1", "--no-locale")
    run(*_as_owner(), _program("initdb"), "--pgdata", str(path), *options)
    with (path / "pg_hba.conf").open("a") as file:
        file.write("host all all all trust\n")
