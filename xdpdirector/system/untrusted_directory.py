# SPDX-License-Identifier: Apache-2.0
"""Directories that another user owns, and what root does in them: it opens, reads, writes, removes and gives away.

Nobody can lead it elsewhere: what is done is done to descriptors, no symbolic link is followed, no FIFO is waited
for. A file that has another name, too, or another owner than the directory, is left alone, for it may be anybody's:
a name can come and go between two looks at it, and the owner cannot. What root makes there belongs to the owner of
the directory at once. Where such a directory stands, and the directories that root itself trusts, must be root's.
Knows no file of ours.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xdpdirector.system import procfs

LARGEST = 1 << 20  # octets of a file that is read
MODE_OF_OWN = 0o755

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


@contextmanager
def directory(path: Path, *, make: bool = False) -> Iterator[int]:
    """A descriptor of that directory, whoever owns it. Made if it is not there, and `make` says so."""
    with _parent(path, make=make) as parent:
        if make:
            with suppress(FileExistsError):
                os.mkdir(path.name, MODE_OF_OWN, dir_fd=parent)
                os.chmod(path.name, MODE_OF_OWN, dir_fd=parent)  # whatever the umask is
        found = os.open(path.name, _DIRECTORY, dir_fd=parent)  # a link in a directory of root's is root's
    try:
        yield found
    finally:
        os.close(found)


@contextmanager
def own_directory(path: Path, *, make: bool = False) -> Iterator[int]:
    """The same of one that root, or who runs this, alone can write: PermissionError when it is another one.

    One that is made can be read by all.
    """
    with directory(path, make=make) as found:
        _require_own(found, path)
        if make and os.fstat(found).st_uid == os.geteuid():
            os.fchmod(found, MODE_OF_OWN)
        yield found


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY, mode: int = 0o600) -> Iterator[int]:
    """A descriptor of a regular file that has this name alone, and the directory's owner; OSError, with a sentence,
    for anything else."""
    with directory(path.parent) as place:
        found = _open(place, path, flags, mode)
        try:
            _require_plain(os.fstat(found), path)
            _require_owner(os.fstat(found), os.fstat(place), path)
            yield found
        finally:
            os.close(found)


def _open(place: int, path: Path, flags: int, mode: int) -> int:
    """A file that is made becomes the directory's owner's: nobody else could have put this one there."""
    try:
        if flags & os.O_CREAT:
            with suppress(FileExistsError):
                made = os.open(path.name, flags | os.O_EXCL | _FILE, mode, dir_fd=place)
                _give_to_owner(made, place)
                return made
        return os.open(path.name, flags & ~os.O_CREAT | _FILE, dir_fd=place)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(errno.ELOOP, "it is a symbolic link, which is not followed", str(path)) from None


def _give_to_owner(made: int, place: int) -> None:
    owner = os.fstat(place)
    if os.geteuid() == 0 and owner.st_uid:
        os.fchown(made, owner.st_uid, owner.st_gid)


def read(path: Path, most: int = LARGEST) -> bytes:
    """What is in such a file. OSError also when it is larger."""
    with opened(path) as found, os.fdopen(os.dup(found), "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} octets", str(path))
    return content


def write(place: int, name: str, content: bytes, mode: int = 0o600) -> None:
    """In one step, in a directory that is open; who reads sees the old content or the new one."""
    unfinished = f"{name}.new"
    remove(place, unfinished)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE
    with os.fdopen(os.open(unfinished, flags, 0o600, dir_fd=place), "wb") as file:
        file.write(content)
        _give_to_owner(file.fileno(), place)
        os.fchmod(file.fileno(), mode)
    os.rename(unfinished, name, src_dir_fd=place, dst_dir_fd=place)


def names(place: int) -> list[str]:
    """What is in a directory that is open."""
    return os.listdir(place)


def remove(place: int, name: str) -> None:
    """The name, whatever it is the name of; nothing when it is not there. OSError for a directory."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=place)


def is_the_one(path: Path, found: int) -> bool:
    """Whether that descriptor's file still has this name."""
    with directory(path.parent) as place, suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(found), os.stat(path.name, dir_fd=place, follow_symlinks=False))
    return False


def give(path: Path, uid: int, gid: int, mode: int) -> None:
    """The directory, made if it is not there, and what is in it and has the same owner, to another user.

    Links, devices and FIFOs stay whose they are; those of others go when the directory becomes root's, who would be
    led by them.
    """
    with directory(path, make=True) as place:
        _give_entries(place, uid, gid)
        os.fchown(place, uid, gid)
        os.fchmod(place, mode)
        if uid == 0:  # from now on nobody else plants another one
            _give_entries(place, uid, gid, clear=True)


def _give_entries(place: int, uid: int, gid: int, *, clear: bool = False) -> None:
    for name in names(place):
        try:
            entry = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
        except FileNotFoundError:
            continue
        try:
            _give_entry(place, name, entry, uid, gid, clear=clear)
        finally:
            os.close(entry)


def _give_entry(place: int, name: str, entry: int, uid: int, gid: int, *, clear: bool) -> None:
    status = os.fstat(entry)
    if status.st_dev != os.fstat(place).st_dev:  # something else is mounted there
        return
    if stat.S_ISDIR(status.st_mode):
        inner = os.open(".", _DIRECTORY, dir_fd=entry)
        try:
            _give_entries(inner, uid, gid, clear=clear)
            os.fchown(inner, uid, gid)
        finally:
            os.close(inner)
    elif _is_plain(status) and status.st_uid == os.fstat(place).st_uid:
        os.chown(procfs.PROC / f"self/fd/{entry}", uid, gid)  # just this inode, whatever has its name by now
    elif clear and status.st_uid and not stat.S_ISREG(status.st_mode):
        remove(place, name)


def _is_plain(status: os.stat_result) -> bool:
    return status.st_nlink <= 1 and (stat.S_ISREG(status.st_mode) or stat.S_ISSOCK(status.st_mode))


def _require_plain(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    if status.st_nlink > 1:
        raise OSError(errno.EMLINK, "it has another name, too, and may be anybody's file", str(path))


def _require_owner(status: os.stat_result, place: os.stat_result, path: Path) -> None:
    """Of root's own directories nobody else could have changed the contents."""
    if os.geteuid() == 0 and place.st_uid not in (0, status.st_uid):
        raise PermissionError(
            errno.EPERM,
            "it belongs to another user than its directory, and may be anybody's: remove it",
            str(path),
        )


@contextmanager
def _parent(path: Path, *, make: bool) -> Iterator[int]:
    """Where a directory stands. Root goes on only where nobody else could exchange it meanwhile."""
    if make and not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(MODE_OF_OWN)  # whatever the umask is: the daemon's user has to pass
    found = os.open(path.parent, _DIRECTORY)
    try:
        if os.geteuid() == 0:
            _require_own(found, path.parent)
        yield found
    finally:
        os.close(found)


def _require_own(found: int, path: Path) -> None:
    status = os.fstat(found)
    if status.st_uid not in (0, os.geteuid()):
        raise PermissionError(errno.EPERM, "it belongs to another user, whom root does not trust", str(path))
    if status.st_mode & (stat.S_IWOTH | (stat.S_IWGRP if status.st_gid else 0)):
        raise PermissionError(errno.EPERM, "others may write there: `chmod go-w` it", str(path))
