# SPDX-License-Identifier: Apache-2.0
"""An APT repository in a directory: packages, indices by name and by hash, and a signed Release file.

Any web server, or a file: URL, serves it as it is. Layout and fields: "DebianRepository/Format" in Debian's wiki.
apt-ftparchive makes the indices, and gpg signs. Indices of an earlier publication stay under by-hash: a client that
has its Release file still finds them.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from collections.abc import Sequence
from hashlib import sha256, sha512
from itertools import pairwise
from pathlib import Path

from xdpdirector.lab.errors import LabError

SUITE, COMPONENT = "stable", "main"
KEYRING = "xdpdirector-archive-keyring.asc"
_HASHES = {"SHA256": sha256, "SHA512": sha512}
_FIELDS = {
    "Origin": "XDP Director",
    "Label": "XDP Director",
    "Suite": SUITE,
    "Codename": SUITE,
    "Components": COMPONENT,
    "Acquire-By-Hash": "yes",
    "Description": "Direct routing at the XDP hook",
}


def publish(packages: Sequence[Path], directory: Path, key: str) -> None:
    """Add the packages to the repository, which is made if there is none. `key`: a secret key of gpg's, by its
    fingerprint or address; its public half is written beside. LabError."""
    fingerprint = _fingerprint(key)
    pool = directory / "pool" / COMPONENT
    pool.mkdir(parents=True, exist_ok=True)
    for package in packages:
        shutil.copy(package, pool)
    suite = directory / "dists" / SUITE
    architectures = _architectures(pool)
    for architecture in architectures:
        index = _run("apt-ftparchive", "--arch", architecture, "packages", f"pool/{COMPONENT}", cwd=directory)
        _write_index(suite / COMPONENT / f"binary-{architecture}", index)
    fields = _FIELDS | {"Architectures": " ".join(architectures)}
    options = [f"-o=APT::FTPArchive::Release::{name}={value}" for name, value in fields.items()]
    release = _run("apt-ftparchive", *options, "release", str(suite.relative_to(directory)), cwd=directory)
    sign = ("gpg", "--batch", "--yes", "--local-user", fingerprint, "--armor", "--output", "-")
    signed = _run(*sign, "--clear-sign", text=release)
    detached = _run(*sign, "--detach-sign", text=release)
    _replace(directory / KEYRING, _run("gpg", "--batch", "--armor", "--export", fingerprint))
    _replace(suite / "Release", release)
    _replace(suite / "Release.gpg", detached)
    _replace(suite / "InRelease", signed)  # the last: apt asks for it first, and it names all others


def source(directory: str, keyring: str) -> str:
    """What stands in /etc/apt/sources.list.d/xdpdirector.sources for a repository at that URI."""
    lines = {
        "Types": "deb",
        "URIs": directory,
        "Suites": SUITE,
        "Components": COMPONENT,
        "Signed-By": keyring,
    }
    return "".join(f"{name}: {value}\n" for name, value in lines.items())


def _fingerprint(key: str) -> str:
    """Of the one secret key that is meant."""
    listed = _run("gpg", "--batch", "--with-colons", "--list-secret-keys", "--", key).decode().splitlines()
    found = [
        line.split(":")[9]
        for before, line in pairwise(listed)
        if before.startswith("sec:") and line.startswith("fpr:")
    ]
    if len(found) != 1:
        raise LabError(f"'{key}' names {len(found)} secret keys: give the fingerprint of one")
    return found[0]


def _architectures(pool: Path) -> list[str]:
    """Those of the packages; of packages for all only, this machine's."""
    own = _run("dpkg", "--print-architecture").decode().strip()
    found = {path.stem.rpartition("_")[2] for path in pool.glob("*.deb")} - {"all"}
    return sorted(found or {own})


def _write_index(directory: Path, index: bytes) -> None:
    for name, content in {"Packages": index, "Packages.gz": gzip.compress(index, mtime=0)}.items():
        for kind, digest in _HASHES.items():  # apt asks for the strongest that Release names
            _replace(directory / "by-hash" / kind / digest(content).hexdigest(), content)
        _replace(directory / name, content)


def _replace(path: Path, content: bytes) -> None:
    """In one step, readable for all: a web server serves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.write_bytes(content)
    unfinished.chmod(0o644)
    unfinished.replace(path)


def _run(*command: str, cwd: Path | None = None, text: bytes = b"") -> bytes:
    """What the command prints."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            input=text,
            capture_output=True,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
            timeout=120,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(f"the command '{command[0]}' is missing: apt-get install apt-utils gpg") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise LabError(f"'{command[0]}' ended with status {done.returncode}: {' / '.join(said[-3:])}")
    return done.stdout
