# SPDX-License-Identifier: Apache-2.0
"""Commands as another user than root, and what the kernel says of a daemon's privileges."""

from pathlib import Path

from xdpdirector.lab.director import LabDirector
from xdpdirector.system.privileges import DAEMON, Account

USER = "games"
"""On every Debian, and otherwise idle."""

NOT_ALLOWED = 6

CAPABILITIES = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in DAEMON)])


def as_user(user: str, *arguments: str, groups: str = "", capabilities: str = "-all") -> list[str]:
    """The front of a command line that makes it another user's."""
    account = Account.of(user)
    return [
        "setpriv",
        f"--reuid={account.uid}",
        f"--regid={account.gid}",
        f"--groups={groups}" if groups else "--clear-groups",
        f"--inh-caps={capabilities}",
        f"--ambient-caps={capabilities}",
        f"--bounding-set={capabilities}",
        "--no-new-privs",
        "--",
        *arguments,
    ]


def status_of(director: LabDirector) -> dict[str, str]:
    lines = Path(f"/proc/{director.pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
