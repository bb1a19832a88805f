# SPDX-License-Identifier: Apache-2.0
"""FTP on a lab's hosts: vsftpd as a server on backends, curl as a client. Knows nothing of directors."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

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
_GREETING = re.compile(r"^< 220 (\S+)", re.MULTILINE)
_PASSIVE = re.compile(r"^< 227 .*\((\d+),(\d+),(\d+),(\d+),\d+,\d+\)", re.MULTILINE)


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


@dataclass(frozen=True)
class Session:
    """One control connection that has ended. `passive`: the addresses that the server told (RFC 959; a server
    tells none in answer to EPSV, RFC 2428)."""

    greeting: str
    passive: frozenset[str]


class Client:
    """curl with an address of its own. Passive or active, and one control connection for all files of a call."""

    def __init__(self, host: Host, vip: Address, source: str, *, active: bool) -> None:
        self._host, self._source = host, source
        self._url = f"ftp://[{vip}]" if vip.version == 6 else f"ftp://{vip}"
        self._mode = ["--ftp-port", source] if active else ["--no-ftp-skip-pasv-ip"]
        if vip.version == 4:
            self._mode += ["--disable-eprt"] if active else ["--disable-epsv"]

    def fetch(self, names: list[str], into: Path) -> Session:
        into.mkdir(parents=True, exist_ok=True)
        urls = [f"{self._url}/{name}" for name in names]
        return self._curl("--remote-name-all", "--output-dir", str(into), *urls)

    def store(self, path: Path) -> Session:
        return self._curl("--upload-file", str(path), f"{self._url}/incoming/")

    def _curl(self, *arguments: str) -> Session:
        options = ["--silent", "--show-error", "--verbose", "--max-time", "20", "--interface", self._source]
        said = self._host.run("curl", *options, *self._mode, *arguments).stderr
        greetings = _GREETING.findall(said)
        assert len(greetings) == 1, said
        return Session(greetings[0], frozenset(".".join(match) for match in _PASSIVE.findall(said)))
