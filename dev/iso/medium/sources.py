# SPDX-License-Identifier: Apache-2.0
"""Where the answer file is: named on the kernel's command line, on a second medium, on this one, or named by DHCP.

    xdpdirector.answers=/rack1.yaml         that file on this medium
    xdpdirector.answers=LABEL=NAME          site.yaml on the medium with that label
    xdpdirector.answers=http://...          from a web server; the network's DHCP gives an address

The network's DHCP server names it by option 224, of those for private use (RFC 3942), as http://...

What is named and not there ends the installation: nobody wants another one instead. Knows no answers.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from dev.iso.medium.machine import MEDIUM, InstallError, disk_of, run

OPTION = "xdpdirector.answers="
DHCP_OPTION = 224
LABEL = "XDPD-SITE"
FILE = "site.yaml"
LARGEST = 4 << 20  # octets
_PLACE = Path("/run/xdpdirector-site")
_LEASES = Path("/run/systemd/netif/leases")
_PATIENCE = 60.0  # seconds
_UNASKED = 30.0  # seconds for a network that nobody said would be there


@dataclass(frozen=True)
class Source:
    """`text` of the file, by its name; `disk`: of the second medium, which is not written."""

    text: str
    name: str
    disk: str = ""

    @property
    def digest(self) -> str:
        return sha256(self.text.encode()).hexdigest()


def named(command_line: str) -> str | None:
    """What the kernel's command line names; the last one counts. InstallError when it cannot be meant."""
    values = [word[len(OPTION) :] for word in command_line.split() if word.startswith(OPTION)]
    if not values:
        return None
    value = values[-1]
    if not value.startswith(("/", "LABEL=", "http://", "https://")):
        raise InstallError(
            f"{OPTION}{value}: write a path on this medium (/site.yaml), LABEL=NAME of another one, or http://..."
        )
    return value


def find(command_line: str) -> Source | None:
    """The answer file, or None when there is none and none is named."""
    value = named(command_line)
    if value is None:
        return _on_medium(LABEL) or _file(MEDIUM / FILE, FILE) or _by_dhcp()
    if value.startswith("/"):
        found = _file(MEDIUM / value[1:], value)
    elif label := value.removeprefix("LABEL=") if value.startswith("LABEL=") else "":
        found = _on_medium(label)
    else:
        _connect(_PATIENCE)
        found = _fetched(value)
    if found is None:
        raise InstallError(f"{OPTION}{value}: there is no such file")
    return found


def _file(path: Path, name: str) -> Source | None:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        return None
    return Source(_text(content, name), name)


def _text(content: bytes, name: str) -> str:
    if len(content) > LARGEST:
        raise InstallError(f"{name} is larger than {LARGEST >> 20} MiB: it is no answer file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InstallError(f"{name} is not UTF-8 at octet {error.start}") from error


def _on_medium(label: str) -> Source | None:
    device = Path("/dev/disk/by-label") / label
    if not device.exists():
        return None
    _PLACE.mkdir(exist_ok=True)
    run("mount", "-o", "ro", str(device), str(_PLACE))
    try:
        found = _file(_PLACE / FILE, f"{label}:{FILE}")
    finally:
        run("umount", str(_PLACE))
    if found is None:
        raise InstallError(f"the medium '{label}' has no file {FILE}")
    return Source(found.text, found.name, disk_of(str(device.resolve())))


def _by_dhcp() -> Source | None:
    _connect(_UNASKED, fine=(0, 1))  # 1: there is no network
    for lease in sorted(_LEASES.glob("*")):
        if address := offered(lease.read_text()):
            return _fetched(address)
    return None


def offered(lease: str) -> str | None:
    """The address of the answer file in a lease of systemd-networkd, whose private options are hexadecimal.
    InstallError when it is none."""
    values = [
        line.partition("=")[2] for line in lease.splitlines() if line.startswith(f"OPTION_{DHCP_OPTION}=")
    ]
    if not values:
        return None
    try:
        address = bytes.fromhex(values[-1]).rstrip(b"\0").decode("ascii")
    except ValueError:
        address = values[-1]
    if not address.startswith(("http://", "https://")):
        raise InstallError(
            f"DHCP's option {DHCP_OPTION} is no address of an answer file (http://...): {address!r}"
        )
    return address


def _connect(seconds: float, fine: Collection[int] = (0,)) -> None:
    """An address by DHCP."""
    run("systemctl", "start", "systemd-networkd", "systemd-resolved")
    run("/lib/systemd/systemd-networkd-wait-online", "--any", f"--timeout={seconds:.0f}", fine=fine)


def _fetched(address: str) -> Source:
    try:
        with urllib.request.urlopen(address, timeout=_PATIENCE) as answer:
            return Source(_text(answer.read(LARGEST + 1), address), address)
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise InstallError(f"{address} cannot be had: {error}") from error
