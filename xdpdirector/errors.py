# SPDX-License-Identifier: Apache-2.0
"""Every error that the director raises on purpose.

One small tree. An error carries what a person needs (`detail`: what is wrong with which thing, and the
remedy) and what a program needs (`slug`, `pointer`, the CLI's `exit_code`). This module knows nothing of
HTTP: the status codes stand in one table in `xdpdirector.api.http.problems`.
"""

from __future__ import annotations

from typing import ClassVar


class DirectorError(Exception):
    """Base of the tree. `detail` is one paragraph; `pointer` a JSON pointer (RFC 6901) to the field at fault."""

    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong"
    exit_code: ClassVar[int] = 1

    def __init__(self, detail: str, *, pointer: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer


class InvalidRequestError(DirectorError):
    """A value that cannot be used, whoever sent it."""

    slug, title, exit_code = "invalid", "The request is not valid", 2


class ConfigurationError(InvalidRequestError):
    """The configuration file is broken or contradicts itself."""

    slug, title = "configuration", "The configuration is not valid"

    def __init__(
        self,
        detail: str,
        *,
        source: str = "",
        line: int | None = None,
        column: int | None = None,
        pointer: str | None = None,
    ) -> None:
        """`line` and `column` count from 1."""
        place = ":".join(str(part) for part in (source, line, column) if part)
        super().__init__(f"{place}: {detail}" if place else detail, pointer=pointer)
        self.source, self.line, self.column = source, line, column


class NotUnicodeError(InvalidRequestError):
    """Text that no encoding of Unicode has, such as half a surrogate pair."""

    slug, title = "not-unicode", "The request has text that is not Unicode"


class RepeatedError(InvalidRequestError):
    """What may stand once stands twice: a key, a parameter, a header. Nobody knows which one is meant."""

    slug, title = "repeated", "The request says something twice"


class CaptureError(InvalidRequestError):
    """A file of captured packets cannot be read, or no further. `number`: of the packet at fault, from 1."""

    slug, title = "capture", "The capture cannot be read"

    def __init__(self, detail: str, *, pointer: str | None = None, number: int | None = None) -> None:
        super().__init__(detail, pointer=pointer)
        self.number = number


class NotFoundError(DirectorError):
    """A service, backend or interface of that name does not exist."""

    slug, title, exit_code = "not-found", "There is no such thing", 2


class ConflictError(DirectorError):
    """The request is sound, but what exists stands against it."""

    slug, title, exit_code = "conflict", "That conflicts with what exists", 4


class StaleError(ConflictError):
    """What is to be changed is no longer what the client saw."""

    slug, title = "stale", "It was changed meanwhile"


class SupersededError(ConflictError):
    """Another director of the fleet changed the desired state meanwhile: the change is to be made on what is there
    now."""

    slug, title = "superseded", "Another director changed it meanwhile"


class ReusedKeyError(InvalidRequestError):
    """An Idempotency-Key comes again with another request."""

    slug, title = "reused-key", "The Idempotency-Key belongs to another request"


class ForeignProgramError(ConflictError):
    """An interface carries an XDP program that is not ours."""

    slug, title = "foreign-program", "The interface carries another XDP program"


class AlreadyRunningError(ConflictError):
    """A daemon for this instance runs already."""

    slug, title = "already-running", "A daemon for this instance runs already"


class UnreachableError(DirectorError):
    """The daemon does not answer on its socket."""

    slug, title, exit_code = "unreachable", "The daemon cannot be reached", 3


class TimedOutError(DirectorError):
    """What was waited for did not happen in time."""

    slug, title, exit_code = "timed-out", "That did not happen in time", 5


class NotAllowedError(DirectorError):
    """Privileges or a role are missing."""

    slug, title, exit_code = "not-allowed", "That is not allowed", 6


class NotAuthenticatedError(NotAllowedError):
    """Nobody knows who asks: no token, or one that is not valid."""

    slug, title = "not-authenticated", "A token is needed"


class OverloadedError(DirectorError):
    """The daemon has too much to do; `retry_after` seconds later it may have less."""

    slug, title, exit_code = "overloaded", "The daemon has too much to do", 3

    def __init__(self, detail: str, *, pointer: str | None = None, retry_after: int = 1) -> None:
        super().__init__(detail, pointer=pointer)
        self.retry_after = retry_after


class TooManyRequestsError(OverloadedError):
    """One who asks has asked too much."""

    slug, title = "too-many-requests", "Too many requests"


class CapacityError(DirectorError):
    """A map of the data plane is full."""

    slug, title, exit_code = "capacity", "The data plane has no room for that", 4


class DataplaneError(DirectorError):
    """The kernel refused something, or what is loaded is not what it should be."""

    slug, title = "dataplane", "The data plane refused that"


class LoaderError(DataplaneError):
    """The packet program could not be compiled, verified, pinned or attached."""

    slug, title = "loader", "The packet program could not be loaded"


class BccMissingError(LoaderError):
    """`bcc` is missing or is the unrelated package of that name."""

    slug, title = "bcc", "BCC is not usable"


class StoreError(DirectorError):
    """The stored desired state cannot be read or written."""

    slug, title = "store", "The stored state cannot be used"


class UncertainError(StoreError):
    """A change was sent to the store of a fleet, and no answer came: it may have been made, or may be yet."""

    slug, title = "uncertain", "It is not known whether that was done"


class ForeignStoreError(StoreError):
    """The file is sound, but another program or a newer release wrote it."""

    slug, title = "foreign-store", "The stored state belongs to somebody else"


class DamagedStoreError(StoreError):
    """What is in the file makes no sense: it is broken, not merely out of reach."""

    slug, title = "damaged-store", "The stored state is damaged"
