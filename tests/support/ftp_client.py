# SPDX-License-Identifier: Apache-2.0
"""FTP clients on a lab's hosts. Knows nothing of directors."""

import ftplib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO

from pyroute2 import netns

from tests.support.lab_client import PATIENCE
from xdpdirector.lab.host import Host
from xdpdirector.model import Address


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
