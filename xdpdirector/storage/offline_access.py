# SPDX-License-Identifier: Apache-2.0
"""Manages tokens without a daemon, directly in access.db. Changes are in the audit log, too.

Results are the API's documents. Knows nothing of HTTP.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import ValidationError

from xdpdirector.config.messages import problems
from xdpdirector.errors import DirectorError, InvalidRequestError, NotAllowedError, StoreError
from xdpdirector.model.access import Role
from xdpdirector.storage.access_db import AccessFile
from xdpdirector.storage.audit_log import Audit, Entry, Outcome
from xdpdirector.storage.tokens import Tokens, TokenSpec
from xdpdirector.system import privileges

Result = TypeVar("Result")


class OfflineAccess:
    """A context manager. Root acts as the directory's owner, so that the daemon can use what is made here.

    NotAllowedError when this user may not use the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = AccessFile(path, patience=5.0)
        self._tokens, self._audit = Tokens(self._file), Audit(self._file)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(privileges.acting_as_owner(self.path.parent))
            stack.callback(self._file.close)
            try:
                self._file.open()
            except StoreError as error:
                if not isinstance(error.__cause__, PermissionError):
                    raise
                raise NotAllowedError(
                    f"no daemon answers, and this user may not write {self.path}: run the command as root (sudo), "
                    "or start the daemon"
                ) from error
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def add(self, document: dict[str, Any]) -> dict[str, Any]:
        """Of a document as the API takes it."""
        try:
            spec = TokenSpec.model_validate(document)
        except ValidationError as error:
            said = [problem.sentence for problem in problems(error, document, TokenSpec)]
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
        try:
            result = change()
        except DirectorError as error:
            self._audit.finish(attempt, Outcome(detail=error.detail))
            raise
        self._audit.finish(attempt, Outcome())
        return result
