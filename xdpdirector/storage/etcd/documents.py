# SPDX-License-Identifier: Apache-2.0
"""What stands in etcd: the newest revision's number, the revisions, the drains; as JSON, long ones compressed.

    PREFIX/head                 {"revision": 7, "history": "...", "at": "...", "write": "..."}
    PREFIX/revisions/0000000007 {"at": ..., "author": ..., "reason": ..., "services": {...}, "director": ...}
    PREFIX/drains               [{"service": ..., "backend": ..., "left": 580.0, ...}]
    PREFIX/head/NAME            of a table: `denied`, `tokens`, `maintenance`; see `shared_table`
    PREFIX/directors/NAME       what a director says of itself, as long as it lives

Clocks of directors may differ: a drain has its deadline by the wall clock and as what was left when it was written.
Knows the model; nothing of etcd's API.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from xdpdirector.errors import ForeignStoreError
from xdpdirector.model import Key, ServiceSpec
from xdpdirector.model.checks import STORED
from xdpdirector.state.drains import Drain
from xdpdirector.state.revisions import Revision
from xdpdirector.system.boot_time import Moment, Now, Stored

_COMPRESSED_FROM = 16 << 10  # octets; etcd takes 1.5 MB in one request
_SERVICES = TypeAdapter(dict[str, ServiceSpec])


@dataclass(frozen=True)
class Head:
    """`revision`: the newest. `history`: a name that etcd's content got when it began. `at`: when the revision was
    made. `write`: names the transaction that made it. `changed`: the revision of etcd that wrote this."""

    revision: int
    history: str
    at: str
    write: str
    changed: int = 0


def encoded(document: object) -> bytes:
    """As a value in etcd."""
    said = json.dumps(document).encode()
    return zlib.compress(said) if len(said) >= _COMPRESSED_FROM else said


def decoded(value: bytes) -> Any:
    """ValueError for what is no such value."""
    try:
        return json.loads(value if value[:1] in (b"{", b"[") else zlib.decompress(value))
    except zlib.error as error:
        raise ValueError(str(error)) from error


def head(value: bytes, changed: int) -> Head:
    """ForeignStoreError."""
    try:
        said = decoded(value)
        return Head(int(said["revision"]), said["history"], said["at"], said["write"], changed)
    except (ValueError, TypeError, KeyError) as error:
        raise foreign("what stands there") from error


def head_value(made: Head) -> bytes:
    return encoded({name: value for name, value in vars(made).items() if name != "changed"})


def revision_value(made: Revision, director: str) -> bytes:
    services = _SERVICES.dump_python(made.services, mode="json")
    said = {"at": made.at.isoformat(), "author": made.author, "reason": made.reason}
    return encoded({**said, "director": director, "services": services})


def revision(number: int, value: bytes) -> Revision:
    """ForeignStoreError."""
    try:
        said = decoded(value)
        services = _SERVICES.validate_python(said["services"], context=STORED)
        at = datetime.fromisoformat(said["at"])
        return Revision(number, at, said["author"], said["reason"], services, None, frozenset())
    except (ValueError, TypeError, KeyError) as error:
        raise foreign(f"revision {number}") from error


def drains_value(drains: Mapping[Key, Drain], now: Now) -> bytes:
    return encoded([_drain_document(key, drain, now) for key, drain in drains.items()])


def _drain_document(key: Key, drain: Drain, now: Now) -> dict[str, Any]:
    deadline = drain.deadline
    return {
        "service": key[0],
        "backend": key[1],
        "since": drain.since.told(now).isoformat(),
        "age": round(now.at - drain.since.at, 3),
        "reason": drain.reason,
        "deadline": deadline.told(now).isoformat() if deadline else None,
        "left": round(deadline.at - now.at, 3) if deadline else None,
        "within": drain.within,
        "on_deadline": drain.on_deadline,
        "at_start": drain.at_start,
        "leaves": drain.leaves,
    }


def drains(value: bytes, now: Now, *, is_fresh: bool) -> dict[Key, Drain]:
    """`is_fresh`: they were written just now, so that this machine's clock alone is needed. Else the wall clocks of
    both machines count, and a drain gets no more time than it was given. ForeignStoreError."""
    try:
        return {
            (said["service"], said["backend"]): Drain(
                since=_moment(said["since"], -said["age"], now, is_fresh, longest=0.0),
                reason=said["reason"],
                deadline=None
                if said["deadline"] is None
                else _moment(said["deadline"], said["left"], now, is_fresh, longest=said["within"]),
                on_deadline=said["on_deadline"],
                at_start=said["at_start"],
                leaves=said["leaves"],
                within=said["within"],
            )
            for said in decoded(value)
        }
    except (ValueError, TypeError, KeyError) as error:
        raise foreign("the drains") from error


def _moment(wall: str, ahead: float, now: Now, is_fresh: bool, *, longest: float | None) -> Moment:
    if is_fresh:
        return Moment(*now).later(ahead)
    return Stored(datetime.fromisoformat(wall)).restored(now, longest=longest)


def foreign(thing: str) -> ForeignStoreError:
    """What to raise for what is no document of this release."""
    return ForeignStoreError(
        f"{thing} in etcd cannot be read by this release: run the same release on all directors, or use another "
        "prefix"
    )
