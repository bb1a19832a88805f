# SPDX-License-Identifier: Apache-2.0
"""`./lab iso`: builds the install CD; with `--try` emulated machines live through what it promises."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from dev.iso.build import build
from dev.vm.build_dir import check_tools, workshop
from xdpdirector.lab.errors import LabError

Say = Callable[[str], None]
OUTPUT = Path("dist/xdpdirector.iso")
_TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "ssh": "openssh-client",
    "curl": "curl",
    "ip": "iproute2",
    "dnsmasq": "dnsmasq-base",
}


def iso(checkout: Path, say: Say, *, output: Path | None, site: Path | None, trial: bool) -> None:
    """LabError when a step fails; ConfigurationError for an answer file that is wrong."""
    if trial:
        check_tools(_TOOLS)
    image = build(checkout, (output or checkout / OUTPUT).absolute(), None if trial else site, say)
    say(f"{image}: {image.stat().st_size / 1e6:.0f} MB; SHA256SUMS and {image.stem}.spdx.json beside it")
    if trial:
        try_out(checkout, image)


def try_out(checkout: Path, image: Path) -> None:
    """In network, mount and process namespaces of its own, which end with it."""
    with workshop(checkout / ".lab" / "iso" / "trial") as work:
        command = [
            str(checkout / "tools/isolated"),
            sys.executable,
            "-m",
            "dev.iso.trial",
            str(image),
            str(work),
        ]
        if status := subprocess.run(command, check=False).returncode:
            raise LabError(f"the trial failed (status {status}); what it said stands above")
