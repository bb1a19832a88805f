# SPDX-License-Identifier: Apache-2.0
"""The deny list: denied prefixes with time, author and reason, and how the list changes. Pure.

It is stored beside the revisions and not in them: programs change it by the hour, and a service that is rolled back
must not let an attacker in again. Knows prefixes; nothing of maps, services or HTTP.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import ip_network
from typing import Protocol, TypeAlias

from xdpdirector.errors import ConflictError, InvalidRequestError, NotFoundError
from xdpdirector.model.guard import DenyEntry, Prefix
from xdpdirector.model.listener import Address


@dataclass(frozen=True)
class Denial:
    """`from_file`: it is in the configuration file that was merged last."""

    reason: str
    author: str
    since: datetime
    from_file: bool = False


Denials: TypeAlias = Mapping[Prefix, Denial]


@dataclass(frozen=True)
class StoredDenyList:
    """The list, and the digest of the configuration file's part that was merged last. `has_joined`: it is a fleet's
    list, and no configuration file of this director was merged into it yet."""

    denials: Denials
    file_digest: str | None = None
    has_joined: bool = field(default=False, compare=False)


class DenyListStore(Protocol):
    """The store of the list; a DirectorError when it cannot be used."""

    def load(self) -> StoredDenyList: ...

    def keep(self, before: Denials, kept: StoredDenyList) -> None:
        """Store what differs from `before`; it is on the disk when this returns."""

    def keep_some(self, before: Denials, kept: StoredDenyList, touched: Collection[Prefix]) -> None:
        """The same for these prefixes only."""


class SharedDenyListStore(DenyListStore, Protocol):
    """A store that several directors write. `keep` and `keep_some` raise a SupersededError when `before` is not
    what `load` gave last, or the list is another one by now."""

    @property
    def version(self) -> int:
        """How many changes there were up to what was loaded last."""

    @property
    def has_news(self) -> bool:
        """Whether there is something that was not loaded yet."""

    def refresh(self) -> None:
        """Ask what the list is now; it waits for the network. StoreError."""


def find(denials: Denials, prefix: Prefix) -> Denial:
    """NotFoundError, which names the wider prefix that is denied, if there is one."""
    if prefix in denials:
        return denials[prefix]
    wider = covering(denials, prefix)
    hint = f", but {wider[-1]} is, and it is part of that" if wider else ""
    raise NotFoundError(f"{prefix} is not denied{hint}")


def covering(denials: Denials, prefix: Prefix) -> list[Prefix]:
    """All denied prefixes that contain it, the widest first."""
    wider = (prefix.supernet(new_prefix=bits) for bits in range(prefix.prefixlen + 1))
    return [each for each in wider if each in denials]


def of_host(address: Address) -> Prefix:
    """The prefix that is this address alone."""
    return ip_network(address)


def added(denials: Denials, entry: DenyEntry, author: str, now: datetime) -> Denials:
    """ConflictError when just this prefix is denied already."""
    if entry.prefix in denials:
        raise ConflictError(f"{entry.prefix} is denied already", pointer="/prefix")
    return {**denials, entry.prefix: Denial(entry.reason, author, now)}


def put(denials: Denials, entry: DenyEntry, author: str, now: datetime) -> Denials:
    """Denied, whether it was before or not."""
    return {**denials, **_taken_over(denials, [entry], author, now)}


def removed(denials: Denials, prefix: Prefix) -> Denials:
    """NotFoundError when it is not denied."""
    find(denials, prefix)
    left = dict(denials)
    del left[prefix]
    return left


def replaced(denials: Denials, entries: Collection[DenyEntry], author: str, now: datetime) -> Denials:
    """Exactly these; what stays as it was keeps its age. InvalidRequestError when one stands twice."""
    wanted = _taken_over(denials, entries, author, now)
    if len(wanted) != len(entries):
        seen: set[Prefix] = set()
        for number, entry in enumerate(entries):
            if entry.prefix in seen:
                raise InvalidRequestError(
                    f"prefix {entry.prefix} stands twice: remove one", pointer=f"/items/{number}/prefix"
                )
            seen.add(entry.prefix)
    return wanted


def merged_with_file(
    kept: StoredDenyList, entries: Collection[DenyEntry], digest: str, now: datetime
) -> Denials:
    """The list after a merge of the configuration file. An unchanged file changes nothing. A changed file adds its
    prefixes and removes those of the former file that it lacks; prefixes denied at run time stay."""
    if kept.file_digest == digest:
        return kept.denials
    if kept.has_joined:  # of the file only what changes from now on
        named = {entry.prefix for entry in entries}
        return {prefix: replace(each, from_file=prefix in named) for prefix, each in kept.denials.items()}
    stays = {prefix: denial for prefix, denial in kept.denials.items() if not denial.from_file}
    of_file = _taken_over(kept.denials, entries, "file", now)
    return stays | {prefix: replace(denial, from_file=True) for prefix, denial in of_file.items()}


def _taken_over(
    denials: Denials, entries: Iterable[DenyEntry], author: str, now: datetime
) -> dict[Prefix, Denial]:
    """What is denied for the same reason already stays as it is."""
    return {
        entry.prefix: denials[entry.prefix]
        if entry.prefix in denials and denials[entry.prefix].reason == entry.reason
        else Denial(entry.reason, author, now)
        for entry in entries
    }
