# SPDX-License-Identifier: Apache-2.0
"""Certificates for tests, made by the openssl command that Debian's ca-certificates depends on."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certified:
    """A self-signed certificate, its key, and TLS with it."""

    certificate: Path
    key: Path

    @property
    def server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def certify(directory: Path, name: str = "www.example.org", *, days: int = 30) -> Certified:
    made = Certified(directory / f"{name}.{days}.pem", directory / f"{name}.{days}.key")
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-days", str(days)]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", str(made.key), "-out", str(made.certificate)]
    command = ["openssl", "req", "-x509", *curve, *subject, *files]
    subprocess.run(command, check=True, capture_output=True)
    return made


def sign(authority: Certified, directory: Path, name: str) -> Certified:
    """A certificate that `authority` has signed."""
    made = Certified(directory / f"{name}.pem", directory / f"{name}.key")
    request = directory / f"{name}.csr"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    asking = [
        "openssl",
        "req",
        *curve,
        "-subj",
        f"/CN={name}",
        "-keyout",
        str(made.key),
        "-out",
        str(request),
    ]
    by = ["-CA", str(authority.certificate), "-CAkey", str(authority.key)]
    signing = ["openssl", "x509", "-req", "-in", str(request), *by, "-days", "30"]
    for command in (asking, [*signing, "-out", str(made.certificate)]):
        subprocess.run(command, check=True, capture_output=True)
    return made
