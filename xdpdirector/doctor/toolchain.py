# SPDX-License-Identifier: Apache-2.0
"""What the packet program is made with: BCC, the right one, and the headers that it compiles against."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from xdpdirector.doctor.finding import Finding, error, ok
from xdpdirector.doctor.subject import Subject

ADVICE = "apt install python3-bpfcc"
HEADERS = Path("/usr/include/linux/bpf.h")


def look(subject: Subject) -> Iterator[Finding]:
    yield _bcc(subject)
    if subject.machine.exists(HEADERS):
        yield ok("the headers to compile against are there", f"{HEADERS} exists")
    else:
        yield error(
            "the packet program cannot be compiled: the kernel's user-space headers are missing",
            f"{HEADERS} does not exist",
            "apt install linux-libc-dev",
        )


def _bcc(subject: Subject) -> Finding:
    places = subject.machine.package("bcc")
    if places is None:
        return error(
            "BCC is missing",
            f"{sys.executable} finds no package `bcc`",
            f"{ADVICE}; a virtual environment must be made with `/usr/bin/python3 -m venv --system-site-packages`",
        )
    where = ", ".join(map(str, places))
    genuine = [place for place in places if subject.machine.exists(place / "libbcc.py")]
    if not genuine:
        return error(
            "the package `bcc` is an unrelated one from PyPI, not the BPF Compiler Collection",
            f"{where or 'it'} has no libbcc.py",
            f"{sys.executable} -m pip uninstall bcc; {ADVICE}",
        )
    try:
        version = subject.machine.text(genuine[0] / "version.py").partition("=")[2].strip(" '\"\n")
    except OSError:
        version = ""
    return ok(f"BCC {version or 'of unknown version'} is there", f"{genuine[0]}")
