# SPDX-License-Identifier: Apache-2.0
"""Certificates for tests, made by openssl(1): a self-signed one for 127.0.0.1, which is its own authority."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple


class Certificate(NamedTuple):
    certificate: Path
    key: Path


def made(directory: Path, name: str, *, key_pass: str | None = None) -> Certificate:
    """For the common name `name`, valid for a day."""
    directory.mkdir(exist_ok=True)
    files = Certificate(directory / f"{name}.pem", directory / f"{name}.key")
    secret = ["-passout", f"pass:{key_pass}"] if key_pass else ["-nodes"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *secret,
         "-days", "1", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", files.key, "-out", files.certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return files
