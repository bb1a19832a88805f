# SPDX-License-Identifier: Apache-2.0
"""Explains what the packet program would do with a packet: runs it, and has the finding put into sentences.

The decision is the packet program's; the sentences are made by `explain_text`.
"""

from __future__ import annotations

from collections.abc import Callable

from xdpdirector.control.explain_text import Explanation, explain
from xdpdirector.dataplane.explain_types import Question
from xdpdirector.dataplane.interface import Plane
from xdpdirector.errors import NotFoundError
from xdpdirector.model.status import ServiceView


class Explain:
    """`service` shows one of that name as it is now."""

    def __init__(self, plane: Plane, service: Callable[[str], ServiceView]) -> None:
        self._plane, self._service = plane, service

    async def explain(self, question: Question) -> Explanation:
        """DataplaneError when the program cannot be asked; the first time takes a second or two."""
        found = await self._plane.explain(question)
        try:
            service = self._service(found.service) if found.service else None
        except NotFoundError:  # removed meanwhile
            service = None
        return explain(question, found, service)
