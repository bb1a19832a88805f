# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector status --ready`: is this director ready to take traffic? For keepalived and the like, which ask
once a second: nothing is imported for it but a socket and JSON.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Mapping, Sequence

from xdpdirector.errors import UnreachableError
from xdpdirector.paths import DEFAULT_INSTANCE, InstancePaths

PATIENCE = 2.0  # seconds
_WORDS = ["status", "--ready"]


def asked(argv: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """The instance that is asked about, when the command line is this question and nothing else."""
    if list(argv[-2:]) != _WORDS:
        return None
    import argparse

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-i", "--instance", default=environment.get("XDPDIRECTOR_INSTANCE", DEFAULT_INSTANCE))
    try:
        found, rest = parser.parse_known_args(list(argv[:-2]))
    except (argparse.ArgumentError, SystemExit):
        return None
    return None if rest else str(found.instance)


def answer(instance: str) -> int:
    """0 when it is ready; else 1, and why on standard output. UnreachableError without an answer in time."""
    path = InstancePaths(instance).socket
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(path))
            connection.sendall(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            with connection.makefile("rb") as reply:
                _, _, body = reply.read().partition(b"\r\n\r\n")
        document = json.loads(body)
        ready, problems = document["ready"], document["problems"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreachableError(
            f"the daemon of instance '{instance}' does not answer at {path}: {error}"
        ) from error
    sys.stdout.writelines(f"{problem}\n" for problem in problems)
    return 0 if ready else 1
