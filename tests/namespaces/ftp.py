# SPDX-License-Identifier: Apache-2.0
"""FTP on a lab's hosts: vsftpd on backends, and clients. Knows nothing of directors."""

import ftplib
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO

from conversation import PATIENCE
from pyroute2 import netns

from xdpdirector.lab.errors import LabError
from xdpdirector.lab.host import Host
from xdpdirector.lab.servers import Server
from xdpdirector.model import Address

PASSIVE_PORTS = (40000, 40099)
DATA_PORT = 20
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
"""


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
        return bool(self.host.run("ss", "-Hltn", "sport = :21").stdout)

    def publish(self, name: str, content: bytes) -> None:
        (self.root / name).write_bytes(content)

    def received(self, name: str) -> bytes | None:
        """What a client stored."""
        path = self.root / "incoming" / name
        return path.read_bytes() if path.is_file() else None


class Session(ftplib.FTP):
    """A client's control connection from an address of its own; a data connection for each file.

    To be made on a thread in the client's network namespace. `told`: where the server said in passive mode that it
    waits, of which the client believes the address too. `backend`: who greeted.
    """

    trust_server_pasv_ipv4_address = True

    def __init__(self, vip: Address, source: str, *, active: bool) -> None:
        super().__init__(timeout=PATIENCE, source_address=(source, 0))
        self.told: set[str] = set()
        self.backend = self.connect(str(vip)).removeprefix("220 ")
        self.set_pasv(not active)
        self.login()

    def makepasv(self) -> tuple[str, int]:
        host, port = super().makepasv()
        self.told.add(host)
        return host, port

    def fetch(self, name: str) -> bytes:
        parts: list[bytes] = []
        self.retrbinary(f"RETR {name}", parts.append)
        return b"".join(parts)

    def store(self, name: str, content: bytes) -> None:
        self.storbinary(f"STOR incoming/{name}", BytesIO(content))


@contextmanager
def clients_of(host: Host, number: int = 1) -> Iterator[ThreadPoolExecutor]:
    """Threads in the network namespace of a host."""
    with ThreadPoolExecutor(
        number, initializer=lambda: netns.setns(str(host.node.namespace_path), flags=os.O_RDONLY)
    ) as pool:
        yield pool
