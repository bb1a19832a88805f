# SPDX-License-Identifier: Apache-2.0
"""What the servers and clients of one lab share: a certificate for the VIPs, files made once. Runs no server."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from xdpdirector.lab.host import run
from xdpdirector.lab.topology import VIP4, VIP6

HOST_NAME = "services.example"


class Stock:
    """In `directory`, which is removed with the lab."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)

    def once(self, name: str, make: Callable[[Path], None]) -> Path:
        """The file or directory of that name, made by the first who asks."""
        path = self.directory / name
        if not path.exists():
            make(path)
        return path

    @cached_property
    def certificate(self) -> Path:
        """PEM: of the VIPs and HOST_NAME, signed by itself, and so the clients' authority too."""
        names = f"subjectAltName=DNS:{HOST_NAME},IP:{VIP4},IP:{VIP6}"
        run(
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "30", "-subj", f"/CN={HOST_NAME}", "-addext", names),
            *("-keyout", str(self.key), "-out", str(self.directory / "certificate.pem")),
        )
        return self.directory / "certificate.pem"

    @property
    def key(self) -> Path:
        return self.directory / "key.pem"
