# SPDX-License-Identifier: Apache-2.0
"""A backup: one file with an instance's configuration, the files that it names, and its databases.

A tar archive (POSIX.1-2001, gzip) that a program or a person can open: `backup.json` says what it holds, with a
SHA-256 of each member. Databases are copied by SQLite while the daemon writes them. What is read back is checked
before anything is replaced: sizes, digests, the databases' format and integrity, paths. Sessions and connections
are not in it. Knows files; neither the daemon nor the packet program.
"""

from __future__ import annotations

import errno
import grp
import gzip
import io
import json
import os
import pwd
import sqlite3
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from xdpdirector import __version__
from xdpdirector.config import config_file, yaml_document
from xdpdirector.errors import ConflictError, InvalidRequestError, NotAllowedError, StoreError
from xdpdirector.paths import ETC, InstancePaths
from xdpdirector.storage import access_db, store
from xdpdirector.storage.database import PARTS, Database, Format
from xdpdirector.system import files, untrusted_directory
from xdpdirector.system.privileges import Account, acting_as_owner

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LOG = b"\1\1"
"""Versions in the header of a database without a write-ahead log (SQLite, "Database File Format", 1.3.3)."""
FORMAT = 1
LARGEST = 1 << 30  # octets of all members together
PATIENCE = 10.0  # seconds for a database that is locked
CONFIGURATION, CONTENTS = "configuration.yaml", "backup.json"
_DATABASES = {"state.db": store.FORMAT, "access.db": access_db.FORMAT}
_STATE = (*_DATABASES, "events")
_FILE_KEYS = frozenset({"certificate", "key", "client_ca", "ca", "password_file"})


@dataclass(frozen=True)
class File:
    """`user` and `group`: names of its owners; `mode`: permission bits."""

    content: bytes
    mode: int = 0o600
    user: str = ""
    group: str = ""

    @classmethod
    def of(cls, path: Path) -> File:
        """OSError, with a sentence, for what is no regular file."""
        content, _ = files.read(path)
        status = path.stat()
        return cls(
            content,
            stat.S_IMODE(status.st_mode),
            _name(pwd.getpwuid, status.st_uid),
            _name(grp.getgrgid, status.st_gid),
        )

    def entry(self, name: str, created: datetime) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.mtime = len(self.content), self.mode, int(created.timestamp())
        entry.uname, entry.gname = self.user, self.group
        return entry

    def write(self, path: Path) -> None:
        """In one step. Owners that this machine does not have stay those of this process."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.new")
        unfinished.unlink(missing_ok=True)
        with os.fdopen(os.open(unfinished, _NEW, 0o600), "wb") as file:
            file.write(self.content)
            file.flush()
            with suppress(KeyError):
                os.fchown(file.fileno(), pwd.getpwnam(self.user).pw_uid, grp.getgrnam(self.group).gr_gid)
            os.fchmod(file.fileno(), self.mode & 0o777)
            os.fsync(file.fileno())
        unfinished.replace(path)


@dataclass(frozen=True)
class Backup:
    """`files`: configuration files beside the main one, by path. `state`: what was in the state directory, by name.
    `missing`: files that the configuration names and that are not in it, with the reason."""

    instance: str
    version: str
    host: str
    created: datetime
    configuration: File
    files: Mapping[Path, File]
    state: Mapping[str, bytes]
    missing: Mapping[str, str]

    def write(self, file: IO[bytes]) -> None:
        members = {CONFIGURATION: self.configuration}
        members |= {f"files{path}": kept for path, kept in self.files.items()}
        members |= {f"state/{name}": File(content) for name, content in self.state.items()}
        contents = {
            "format": FORMAT,
            "instance": self.instance,
            "version": self.version,
            "host": self.host,
            "created": self.created.isoformat(),
            "members": {name: _digest(kept.content) for name, kept in members.items()},
            "missing": dict(self.missing),
        }
        text = json.dumps(contents, indent=2).encode() + b"\n"
        with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
            for name, kept in {CONTENTS: File(text), **members}.items():
                archive.addfile(kept.entry(name, self.created), io.BytesIO(kept.content))


def take(paths: InstancePaths, configuration: Path) -> Backup:
    """A backup of what there is now; the daemon may run. ConfigurationError, NotAllowedError, StoreError."""
    document = config_file.load(configuration)
    kept: dict[Path, File] = {}
    missing: dict[str, str] = {}
    for name in _named_files(document.model_dump(mode="json")):
        if not _is_below(Path(name), ETC):
            missing[name] = f"it is not below {ETC}"
            continue
        try:
            kept[Path(name)] = File.of(Path(name))
        except OSError as error:
            missing[name] = error.strerror or str(error)
    return Backup(
        instance=paths.name,
        version=__version__,
        host=os.uname().nodename,
        created=datetime.now(UTC),
        configuration=File.of(configuration),
        files=kept,
        state=_state(paths.state.parent),
        missing=missing,
    )


def read(file: IO[bytes], source: str) -> Backup:
    """What such a file holds; InvalidRequestError, which names the member, if anything in it is not as it was."""
    try:
        members = _members(file, source)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidRequestError(f"{source} is no backup, or is cut off: {error}") from error
    try:
        contents = json.loads(members.pop(CONTENTS).content)
        listed, form = dict(contents["members"]), contents["format"]
    except (KeyError, ValueError, TypeError) as error:
        raise InvalidRequestError(f"{source} is no backup: {CONTENTS} is missing or damaged") from error
    if form != FORMAT:
        raise InvalidRequestError(f"{source} has format {form}, and this release knows {FORMAT}")
    for name in sorted({*listed, *members}):
        if name not in members or listed.get(name) != _digest(members[name].content):
            raise InvalidRequestError(f"{source}: {name} is missing or damaged: use another backup")
    return _understood(contents, members, source)


def _understood(contents: dict[str, Any], members: dict[str, File], source: str) -> Backup:
    kept = _within("files", members)
    state = {name[1:]: file.content for name, file in _within("state", members).items()}
    known = {CONFIGURATION, *(f"files{path}" for path in kept), *(f"state/{name}" for name in _STATE)}
    if unknown := sorted({*members} - known):
        raise InvalidRequestError(f"{source}: unknown member {unknown[0]}")
    for path in kept:
        if not _is_below(Path(path), ETC):
            raise InvalidRequestError(f"{source}: {path} is not below {ETC}, where alone files are restored")
    try:
        configuration = members[CONFIGURATION]
        instance, version, host = (str(contents[key]) for key in ("instance", "version", "host"))
        created = datetime.fromisoformat(contents["created"])
        missing = {str(name): str(reason) for name, reason in contents["missing"].items()}
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise InvalidRequestError(f"{source} is no backup: {CONTENTS} is not complete") from error
    config_file.understood(
        yaml_document.parse(configuration.content.decode(errors="replace"), f"{CONFIGURATION} in {source}")
    )
    return Backup(
        instance=instance,
        version=version,
        host=host,
        created=created,
        configuration=configuration,
        files={Path(path): text for path, text in kept.items()},
        state={
            name: _checked(name, text, source) if name in _DATABASES else text for name, text in state.items()
        },
        missing=missing,
    )


def restore(backup: Backup, paths: InstancePaths, configuration: Path, *, replace: bool) -> list[Path]:
    """Write all of it; returns where files that were replaced are now.

    To be called by root, with the instance's lock held: no daemon runs. ConflictError when files that are there
    differ, unless `replace`: then they get another name.
    """
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    wanted = {configuration: backup.configuration, **backup.files}
    differing = [path for path, kept in wanted.items() if path.exists() and path.read_bytes() != kept.content]
    present = [name for name in backup.state if (paths.state.parent / name).exists()]
    if (differing or present) and not replace:
        there = [str(path) for path in differing] + [str(paths.state.parent / name) for name in present]
        raise ConflictError(f"these exist: {', '.join(there)}: say --replace to give them other names")
    aside = []
    for path, kept in wanted.items():
        if path in differing:
            aside.append(path.rename(path.with_name(f"{path.name}.replaced-{stamp}")))
        kept.write(path)
    user = config_file.load(configuration).user
    with untrusted_directory.directory(paths.state.parent, make=True) as place:
        for name, content in backup.state.items():
            for part in PARTS if name in _DATABASES else ("",):
                with suppress(FileNotFoundError):
                    os.rename(
                        name + part, f"{name}.replaced-{stamp}{part}", src_dir_fd=place, dst_dir_fd=place
                    )
                    if not part:
                        aside.append(paths.state.parent / f"{name}.replaced-{stamp}")
            untrusted_directory.write(place, name, content)
    account = Account.of(user)
    untrusted_directory.give(paths.state.parent, account.uid, account.gid, 0o700)
    return aside


def _within(directory: str, members: Mapping[str, File]) -> dict[str, File]:
    """Members of that directory, by the rest of their names, which begins with `/`."""
    start = f"{directory}/"
    return {name[len(directory) :]: file for name, file in members.items() if name.startswith(start)}


def _members(file: IO[bytes], source: str) -> dict[str, File]:
    members: dict[str, File] = {}
    room = LARGEST
    with tarfile.open(fileobj=file, mode="r:gz") as archive:
        for entry in archive:
            room -= entry.size
            if not entry.isreg() or entry.name in members:
                raise InvalidRequestError(f"{source}: {entry.name} is no plain file, or is there twice")
            if room < 0:
                raise InvalidRequestError(f"{source} holds more than {LARGEST >> 20} MiB")
            content = archive.extractfile(entry)
            members[entry.name] = File(
                content.read() if content else b"", entry.mode, entry.uname, entry.gname
            )
    return members


def _state(directory: Path) -> dict[str, bytes]:
    """Copies of databases and files, read as the directory's owner, who could have put anything there."""
    found = {}
    with acting_as_owner(directory), _explained(directory):
        for name in _STATE:
            path = directory / name
            if path.exists():
                found[name] = _copied(path) if name in _DATABASES else untrusted_directory.read(path)
    return found


def _copied(path: Path) -> bytes:
    """The database as it is at one moment, also while another process writes. OSError, sqlite3.Error: who may write
    it could lock it for ever, or make it larger than the memory."""
    with (
        closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=PATIENCE)) as source,
        closing(sqlite3.connect(":memory:")) as copy,
    ):
        source.execute("BEGIN")
        [pages] = source.execute("PRAGMA page_count").fetchone()
        [octets] = source.execute("PRAGMA page_size").fetchone()
        if pages * octets > LARGEST:
            raise OSError(errno.EFBIG, f"it has more than {LARGEST >> 20} MiB", str(path))
        source.backup(copy)  # in this transaction it waits for nobody; else it would without end
        content = bytearray(copy.serialize())
    content[18:20] = _NO_LOG
    return bytes(content)


def _checked(name: str, content: bytes, source: str) -> bytes:
    """The database in the format of this release. InvalidRequestError if it is damaged, or of a newer one."""
    with tempfile.TemporaryDirectory(prefix="xdpdirector-restore-") as directory:
        path = Path(directory) / name
        path.write_bytes(content)
        form: Format = _DATABASES[name]
        try:
            with Database(path, form) as database:
                [verdict] = database.row("PRAGMA integrity_check(1)") or ("",)
        except StoreError as error:
            raise InvalidRequestError(f"{source}: {name}: {error.detail}") from error
        if verdict != "ok":
            raise InvalidRequestError(f"{source}: {name} is damaged: {verdict}")
        return _copied(path)


@contextmanager
def _explained(directory: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise NotAllowedError(f"{directory} cannot be read by this user: run the command as root") from error
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{directory} cannot be copied: {error}") from error


def _named_files(document: object) -> list[str]:
    """Paths of files that a configuration names, each once."""
    if isinstance(document, dict):
        own = [value for key, value in document.items() if key in _FILE_KEYS and isinstance(value, str)]
        inner = [path for value in document.values() for path in _named_files(value)]
        return list(dict.fromkeys([*(path for path in own if path.startswith("/")), *inner]))
    if isinstance(document, list):
        return list(dict.fromkeys(path for value in document for path in _named_files(value)))
    return []


def _is_below(path: Path, directory: Path) -> bool:
    return path.is_absolute() and ".." not in path.parts and directory in path.parents


def _name(look_up: Callable[[int], tuple[Any, ...]], number: int) -> str:
    """Of a user or group; empty if there is none of that number."""
    try:
        return str(look_up(number)[0])
    except KeyError:
        return ""


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()
