# SPDX-License-Identifier: Apache-2.0
"""Gives an instance's files to the daemon's user: their owners and modes are the border to everybody else.

| path                               | owner       | mode                                                  |
|------------------------------------|-------------|-------------------------------------------------------|
| bpffs, `xdpdirector` in it         | as it is    | may be passed through, not listed                     |
| `<instance>`, `maps-*` in it       | root:GROUP  | 0750: nobody else adds, renames or removes a pin      |
| maps and programs                  | USER:GROUP  | 0600                                                  |
| `/run/xdpdirector/.layouts`        | root        | 0755: what root believes of the maps                  |
| `/run/xdpdirector/<instance>`      | USER:GROUP  | 0755, the socket in it 0660                           |
| `/var/lib/xdpdirector/<instance>`  | USER:GROUP  | 0700                                                  |

To be done by root, after loading. The user's own directories are not trusted (`untrusted_directory`). Knows paths
and modes, nothing of what the files say.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xdpdirector.loader import bpffs
from xdpdirector.paths import BPFFS, InstancePaths
from xdpdirector.system import untrusted_directory
from xdpdirector.system.privileges import Account

_PASS = 0o011
_PINS, _PIN, _RUN, _STATE = 0o750, 0o600, 0o755, 0o700


def hand_over(paths: InstancePaths, account: Account) -> None:
    """All that there is of the instance; NotAllowedError when this process may not."""
    with bpffs.translated(f"giving the files of instance '{paths.name}' to its user"):
        _give_pins(paths.pins, account)
        untrusted_directory.give(paths.run, account.uid, account.gid, _RUN)
        if paths.state.parent.is_dir() or not account.is_this:
            with _unless_read_only():
                untrusted_directory.give(paths.state.parent, account.uid, account.gid, _STATE)


@contextmanager
def _unless_read_only() -> Iterator[None]:
    """On a disk that has become read-only, files keep the owners they have: the director can still serve."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EROFS:
            raise


def _give_pins(pins: Path, account: Account) -> None:
    if account.uid:
        for directory in (BPFFS, pins.parent):
            directory.chmod(stat.S_IMODE(directory.stat().st_mode) | _PASS)
    for path in [pins, *pins.rglob("*")]:
        is_directory = path.is_dir()
        os.chown(path, os.geteuid() if is_directory else account.uid, account.gid)
        path.chmod(_PINS if is_directory else _PIN)
