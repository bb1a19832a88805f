# SPDX-License-Identifier: Apache-2.0
"""Which capabilities this process has, which ones the daemon needs, and how it becomes a user with just those.

Found by trying on Linux 6.1 and 6.18; docs/privileges.md has the tables. Knows no files of ours.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xdpdirector.errors import ConfigurationError, NotAllowedError

_BITS = {  # linux/capability.h
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_SYS_ADMIN": 21,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
DAEMON = ("CAP_NET_ADMIN", "CAP_NET_RAW")
"""Attaching, VIPs, neighbours and marks; frames of its own: announcements, questions to the network."""
_LOADING = {"CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"}  # the program computes with pointers: CAP_PERFMON
_ADOPTING = {"CAP_NET_ADMIN", "CAP_SYS_ADMIN"}  # BCC opens pinned maps by their ids


@dataclass(frozen=True)
class Account:
    """Whom the daemon's files belong to."""

    name: str
    uid: int
    gid: int

    @classmethod
    def of(cls, name: str | None) -> Account:
        """ConfigurationError when there is no such user; None: the user of this process."""
        if name is None:
            return cls("", os.geteuid(), os.getegid())
        try:
            entry = pwd.getpwnam(name)
        except KeyError as error:
            raise ConfigurationError(
                f"user: there is no user '{name}' on this host: make one with `useradd --system --user-group "
                f"--no-create-home --shell /usr/sbin/nologin {name}`"
            ) from error
        return cls(name, entry.pw_uid, entry.pw_gid)

    @property
    def is_this(self) -> bool:
        return self.uid == os.geteuid()


@contextmanager
def acting_as_owner(directory: Path) -> Iterator[None]:
    """Root has the rights of the directory's owner in the block; others, their own. For files in a directory where
    its owner could have put links to anybody's."""
    if os.geteuid() != 0 or not directory.is_dir():
        yield
        return
    owner, groups = directory.stat(), os.getgroups()
    os.setgroups([owner.st_gid])  # or what root's groups may write could be reached by a link
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(os.getgid())
        os.setgroups(groups)


def held() -> set[str]:
    """Those of the capabilities that matter here which this process can use."""
    return named(Path("/proc/self/status").read_text())


def named(status: str) -> set[str]:
    """The same of a process whose /proc/PID/status this is."""
    effective = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), 16)
    return {name for name, bit in _BITS.items() if effective >> bit & 1}


def user_of(status: str) -> int:
    """The effective uid of a process whose /proc/PID/status this is."""
    return int(next(line.split()[2] for line in status.splitlines() if line.startswith("Uid:")))


def may_load(*, adopting: bool = False) -> bool:
    """Whether this process may load a program and attach it; `adopting`: onto maps that are pinned already."""
    present = held()
    return present >= _ADOPTING or (present >= _LOADING and not adopting)


def may_mount() -> bool:
    return "CAP_SYS_ADMIN" in held()


def require_daemon() -> None:
    """NotAllowedError unless this process may do what the daemon does all day."""
    missing = [name for name in DAEMON if name not in held()]
    if missing:
        raise NotAllowedError(
            f"the daemon lacks privileges, {' and '.join(missing)}: run as root, which becomes the configuration's "
            f"`user`, or with AmbientCapabilities={' '.join(DAEMON)} in its systemd unit"
        )


def as_user(account: Account, capabilities: Collection[str], groups: Collection[str] = ()) -> list[str]:
    """The front of a command line: as that user, with these capabilities and no way to others. It is setpriv(1) of
    util-linux that does it."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise NotAllowedError(
            "the command setpriv is missing, which makes the daemon another user: `apt install util-linux`"
        )
    names = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in capabilities)])
    return [
        setpriv,
        f"--reuid={account.uid}",
        f"--regid={account.gid}",
        f"--groups={','.join(map(str, _group_ids(account, groups)))}",
        f"--inh-caps={names}",
        f"--ambient-caps={names}",
        f"--bounding-set={names}",
        "--no-new-privs",
        "--",
    ]


def _group_ids(account: Account, names: Collection[str]) -> list[int]:
    ids = set(os.getgrouplist(account.name, account.gid))
    for name in names:
        try:
            ids.add(grp.getgrnam(name).gr_gid)
        except KeyError as error:
            raise ConfigurationError(f"api.group: there is no group '{name}' on this host") from error
    return sorted(ids)
