# SPDX-License-Identifier: Apache-2.0
"""Tokens without a daemon: in its file, by one who may write it. What is done here is in the audit, too.

Answers are the API's documents. Knows nothing of HTTP.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import ValidationError

from xdpdirector.access import AccessFile
from xdpdirector.accessspec import Role
from xdpdirector.audit import Audit, Entry, Outcome
from xdpdirector.errors import InvalidRequestError, NotAllowedError
from xdpdirector.paths import InstancePaths
from xdpdirector.sentences import problems
from xdpdirector.tokens import Tokens, TokenSpec

Result = TypeVar("Result")


class Offline:
    """A context manager. NotAllowedError when this user may not use the file."""

    def __init__(self, instance: str) -> None:
        self.path = InstancePaths(instance).access
        there = next(path for path in (self.path, *self.path.parents) if path.exists())
        if not os.access(there, os.R_OK | os.W_OK):
            raise NotAllowedError(
                f"no daemon of instance '{instance}' runs, and this user may not write {self.path}: "
                "run the command as root (sudo), or start the daemon"
            )
        file = AccessFile(self.path, patience=5.0)
        self._file, self._tokens, self._audit = file, Tokens(file), Audit(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, document: dict[str, Any]) -> dict[str, Any]:
        """Of a document as the API takes it."""
        try:
            spec = TokenSpec.model_validate(document)
        except ValidationError as error:
            said = [str(problem) for problem in problems(error, document, TokenSpec)]
            raise InvalidRequestError("; ".join(said)) from error
        token, text = self._recorded("create_token", spec.name, lambda: self._tokens.add(spec))
        return token.model_dump(mode="json") | {"token": text}

    def list(self) -> dict[str, Any]:
        return {"items": [token.model_dump(mode="json") for token in self._tokens.list()]}

    def remove(self, name: str) -> None:
        self._recorded("delete_token", name, lambda: self._tokens.remove(name))

    def _recorded(self, operation: str, name: str, change: Callable[[], Result]) -> Result:
        user, source = pwd.getpwuid(os.getuid()).pw_name, f"uid {os.getuid()}, pid {os.getpid()}, no daemon"
        attempt = self._audit.begin(Entry(user, str(Role.ADMIN), source, operation, f"token {name}"))
        result = change()
        self._audit.finish(attempt, Outcome())
        return result
