# SPDX-License-Identifier: Apache-2.0
"""SSH: OpenSSH. The only command that a client may run answers each line with the backend's name."""

from __future__ import annotations

import re
from pathlib import Path

from xdpdirector.lab.host import Host, run
from xdpdirector.lab.servers import Server
from xdpdirector.lab.services.fixtures import Stock
from xdpdirector.lab.services.process import Program
from xdpdirector.lab.services.service_def import BACKEND, Client, Kind, Script
from xdpdirector.model import Address

PORT = 22
_EMPTY = Path("/run/sshd")  # where sshd confines itself; its package makes it when it starts the server
_SSHD = """\
Port {port}
HostKey {host_key}
AuthorizedKeysFile {client_key}.pub
StrictModes no
UsePAM no
UseDNS no
PidFile none
PrintMotd no
PermitRootLogin yes
PasswordAuthentication no
AllowTcpForwarding no
ForceCommand while read -r line; do echo {name}; done
"""


def kind(stock: Stock) -> Kind:
    """All backends have one host key: to clients they are one server."""

    def server(host: Host) -> Server:
        _EMPTY.mkdir(exist_ok=True)
        configuration = host.directory("ssh") / "sshd_config"
        keys = {
            "host_key": stock.once("ssh-host", _make_key),
            "client_key": stock.once("ssh-client", _make_key),
        }
        configuration.write_text(_SSHD.format(port=PORT, name=host.name, **keys))
        command = ["/usr/sbin/sshd", "-D", "-e", "-f", str(configuration)]  # it runs itself by its whole path
        return Program(host, "ssh", command, tcp=(PORT,), package="openssh-server")

    def session(vip: Address) -> Script:
        known = stock.directory / "ssh-known"
        known.write_text(f"* {stock.once('ssh-host', _make_key).with_suffix('.pub').read_text()}")
        options = {
            "UserKnownHostsFile": known,
            "GlobalKnownHostsFile": "none",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": 10,
        }
        key = stock.once("ssh-client", _make_key)
        settings = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        return Script(
            ("ssh", "-F", "none", "-T", "-i", str(key), *settings, f"root@{vip}"),
            re.compile(rf"^{BACKEND}\r?\n", re.MULTILINE),
            question="who\n",
        )

    return Kind(
        name="ssh",
        ports=(f"{PORT}/tcp",),
        check={"type": "tcp", "port": PORT},
        server=server,
        clients=(Client("SSH", "ssh", session, session),),
    )


def _make_key(path: Path) -> None:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(path))
