# SPDX-License-Identifier: Apache-2.0
"""The API's access: tokens, sessions, the audit, and their configuration."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from xdpdirector.model.access import ApiSpec
from xdpdirector.storage.access_db import AccessFile
from xdpdirector.storage.audit_log import Audit
from xdpdirector.storage.sessions import Sessions
from xdpdirector.storage.tokens import Tokens

NOWHERE = Path(os.devnull) / "access.db"


@dataclass(frozen=True)
class Access:
    file: AccessFile
    tokens: Tokens
    audit: Audit
    sessions: Sessions
    spec: ApiSpec

    @classmethod
    def at(cls, path: Path, spec: ApiSpec | None = None) -> Access:
        """Stored in the file at `path`, which is opened when it is needed, and replaced if it is damaged."""
        file = AccessFile(path, keeps_damaged=False)
        sessions = Sessions(path.with_name("sessions.db"))
        return cls(file, Tokens(file), Audit(file), sessions, spec or ApiSpec())

    @classmethod
    def nowhere(cls) -> Access:
        """Without a file: there are no tokens, and nothing can be changed, as it could not be written down."""
        return cls.at(NOWHERE)

    def close(self) -> None:
        self.file.close()
        self.sessions.close()
