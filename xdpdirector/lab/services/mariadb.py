# SPDX-License-Identifier: Apache-2.0
"""MariaDB and mysql. A name is the server's setting `report_host`."""

from __future__ import annotations

import re
from pathlib import Path

from xdpdirector.lab.host import Host, run
from xdpdirector.lab.servers import Server
from xdpdirector.lab.services.fixtures import Stock
from xdpdirector.lab.services.process import Program
from xdpdirector.lab.services.service_def import BACKEND, Client, Kind, Script
from xdpdirector.model import Address

PORT = 3306
USER = "lab"
_SMALL = ("--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M")
_SMALLER = ("--key-buffer-size=1M", "--aria-pagecache-buffer-size=8M", "--performance-schema=OFF")
_HASTY = ("--innodb-flush-log-at-trx-commit=0", "--skip-name-resolve", "--max-connections=40")


def kind(stock: Stock) -> Kind:
    def server(host: Host) -> Server:
        template = stock.once("mariadb", _make_data)
        directory = host.directory("mariadb")
        run("cp", "--archive", str(template), str(directory / "data"))
        (directory / "users.sql").write_text(f"CREATE USER '{USER}'@'%';\n")
        own = {
            "datadir": directory / "data",
            "socket": directory / "socket",
            "pid-file": directory / "pid",
            "init-file": directory / "users.sql",
            "report-host": host.name,
            "bind-address": "*",
            "port": PORT,
        }
        settings = (*(f"--{key}={value}" for key, value in own.items()), *_SMALL, *_SMALLER, *_HASTY)
        command = ["mariadbd", "--no-defaults", "--user=root", *settings]
        return Program(host, "mariadb", command, tcp=(PORT,), package="mariadb-server-core")

    def session(vip: Address) -> Script:
        return Script(
            (
                *("mysql", "--no-defaults", f"--host={vip}", f"--port={PORT}", f"--user={USER}"),
                *(
                    "--batch",
                    "--skip-column-names",
                    "--unbuffered",
                    "--skip-reconnect",
                    "--connect-timeout=10",
                ),
            ),
            re.compile(rf"^{BACKEND}\n", re.MULTILINE),
            question="select @@report_host;\n",
            farewell="\\q\n",
        )

    return Kind(
        name="mariadb",
        ports=(f"{PORT}/tcp",),
        check={"type": "mysql", "port": PORT, "user": USER},
        server=server,
        clients=(Client("MariaDB", "mysql", session, session),),
    )


def _make_data(path: Path) -> None:
    """Once, for that takes a second."""
    options = ("--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
    undo = "--innodb-undo-tablespaces=0"
    run("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={path}", *options, undo, *_SMALL)
