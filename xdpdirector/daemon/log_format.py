# SPDX-License-Identifier: Apache-2.0
"""The daemon's log, on standard error. Text from clients cannot forge a line, or send control codes to a
terminal."""

from __future__ import annotations

import logging

from xdpdirector.system import sanitize

FORM = "%(levelname)s %(name)s: %(message)s"
INDENT = "    "
"""Before each line of a traceback, which may hold a client's text: no other line begins so."""


class OneLineFormatter(logging.Formatter):
    """A record is one line, and what follows it, a traceback, is indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        return sanitize.line(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802
        return _indented(super().formatException(ei))  # type: ignore[arg-type]

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        return _indented(super().formatStack(stack_info))


def begin() -> None:
    """From now on there is a log; nothing changes when there is one already."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLineFormatter(FORM))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _indented(text: str) -> str:
    return "\n".join(INDENT + sanitize.line(each) for each in text.split("\n"))
