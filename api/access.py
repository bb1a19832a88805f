# SPDX-License-Identifier: Apache-2.0
"""What the API knows of those who come in: tokens, the audit, and what the operator wants of its doors."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from xdpdirector.access import AccessFile
from xdpdirector.accessspec import ApiSpec
from xdpdirector.audit import Audit
from xdpdirector.tokens import Tokens

NOWHERE = Path(os.devnull) / "access.db"


@dataclass(frozen=True)
class Access:
    file: AccessFile
    tokens: Tokens
    audit: Audit
    spec: ApiSpec

    @classmethod
    def at(cls, path: Path, spec: ApiSpec | None = None) -> Access:
        """Kept in the file at `path`, which is opened when it is needed, and begun anew when it is damaged."""
        file = AccessFile(path, keeps_damaged=False)
        return cls(file, Tokens(file), Audit(file), spec or ApiSpec())

    @classmethod
    def nowhere(cls) -> Access:
        """Without a file: there are no tokens, and nothing can be changed, as it could not be written down."""
        return cls.at(NOWHERE)

    def close(self) -> None:
        self.file.close()
