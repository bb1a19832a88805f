# SPDX-License-Identifier: Apache-2.0
"""FTP, passive and active: vsftpd and lftp. A name is the content of a file."""

from __future__ import annotations

import re
import shutil

from xdpdirector.lab.errors import LabError
from xdpdirector.lab.host import Host
from xdpdirector.lab.servers import Server
from xdpdirector.lab.services.fixtures import Stock
from xdpdirector.lab.services.service_def import (
    BACKEND,
    Client,
    Kind,
    Script,
    authority,
)
from xdpdirector.model import Address

PORT, DATA_PORT = 21, 20
PASSIVE_PORTS = (40000, 40099)
_VSFTPD = """\
background=NO
listen_ipv6=YES
anonymous_enable=YES
local_enable=NO
no_anon_password=YES
anon_root={root}
secure_chroot_dir={empty}
vsftpd_log_file={directory}/vsftpd.log
write_enable=YES
anon_upload_enable=YES
anon_umask=022
ftpd_banner={name}
pasv_min_port={first}
pasv_max_port={last}
connect_from_port_20=YES
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
"""
_LFTP = {
    "ftp:ssl-allow": "no",
    "cache:enable": "no",
    "cmd:interactive": "no",
    "net:timeout": "10",
    "net:max-retries": "3",
    "net:reconnect-interval-base": "1",
}


class Vsftpd(Server):
    """Anonymous FTP on port 21 of all the host's addresses. In passive mode it names the address that the client
    came to, the VIP, and in active mode its connections come from that address and port 20."""

    role = "ftp"

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.directory = host.directory(self.role)
        self.root, self._empty = self.directory / "root", self.directory / "empty"

    def command(self) -> list[str]:
        if not shutil.which("vsftpd"):
            raise LabError("the command 'vsftpd' is missing: apt-get install vsftpd")
        for path in (self.root, self._empty):
            path.mkdir(exist_ok=True)
        incoming = self.root / "incoming"
        incoming.mkdir(exist_ok=True)
        shutil.chown(incoming, "ftp")
        self.publish("who", f"{self.host.name}\n".encode())
        configuration = self.directory / "vsftpd.conf"
        first, last = PASSIVE_PORTS
        configuration.write_text(
            _VSFTPD.format(
                root=self.root,
                empty=self._empty,
                directory=self.directory,
                name=self.host.name,
                first=first,
                last=last,
            )
        )
        return ["vsftpd", str(configuration)]

    def ready(self) -> bool:
        return bool(self.host.run("ss", "-Hltn", f"sport = :{PORT}").stdout)

    def publish(self, name: str, content: bytes) -> None:
        (self.root / name).write_bytes(content)

    def received(self, name: str) -> bytes | None:
        """What a client stored."""
        path = self.root / "incoming" / name
        return path.read_bytes() if path.is_file() else None


def kind(_: Stock) -> Kind:
    """A session makes a data connection for each file: its client must keep its backend also while that drains."""

    def client(name: str, passive: bool) -> Client:
        settings = {**_LFTP, "ftp:passive-mode": "yes" if passive else "no"}
        opening = "; ".join(f"set {key} {value}" for key, value in settings.items())

        def session(vip: Address) -> Script:
            return Script(
                ("lftp", "--norc", "-e", opening, "-u", "anonymous,lab", f"ftp://{authority(vip)}"),
                re.compile(rf"^{BACKEND}\n", re.MULTILINE),
                question="cat who\n",
                farewell="bye\n",
            )

        return Client(name, "lftp", session, session)

    return Kind(
        name="ftp",
        ports=(f"{PORT}/tcp", f"{DATA_PORT}/tcp", "{}-{}/tcp".format(*PASSIVE_PORTS)),
        check={"type": "ftp", "port": PORT},
        server=Vsftpd,
        clients=(client("FTP, passive", True), client("FTP, active", False)),
        on_drain="keep",
    )
