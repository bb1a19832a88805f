# SPDX-License-Identifier: Apache-2.0
"""Stored responses to requests with an Idempotency-Key, for all directors of a fleet: a request that is sent again
to another director gets the same response.

    PREFIX/answers/KEY     {"request": ..., "status": ..., "headers": {...}, "body": ...}, under a lease of a day

Each director keeps its own answers in its file, too, and looks there first; large ones are there alone. Knows
nothing of HTTP but that answers have a status, headers and a body.
"""

from __future__ import annotations

import base64
import logging
from contextlib import suppress

from xdpdirector.errors import StoreError
from xdpdirector.storage.etcd import documents
from xdpdirector.storage.etcd.gateway import Gateway, after_all, delete, get, items, put
from xdpdirector.storage.idempotency_store import KEPT_FOR, MOST, Answer, Answers

LARGEST = 16 << 10
"""Octets of a body that goes to etcd: with the most answers it is 32 MB there."""
_AT_ONCE = 100  # that are deleted in one transaction

log = logging.getLogger(__name__)


class FleetAnswers:
    """An `Answers`; it waits for etcd. `own`: this director's."""

    def __init__(self, gateway: Gateway, prefix: str, own: Answers, *, most: int = MOST) -> None:
        self._gateway, self._directory, self._own, self._most = gateway, f"{prefix}/answers/", own, most

    def find(self, key: str) -> Answer | None:
        known = self._own.find(key)
        if known:
            return known
        try:
            found = items(self._gateway.read(get(self._directory + key))[0])
        except StoreError as error:  # what it asks for will be refused for the same reason
            log.debug("answers of other directors are not known: %s", error.detail)
            return None
        return _answer(found[0].value) if found else None

    def keep(self, key: str, answer: Answer) -> None:
        self._own.keep(key, answer)
        if len(answer.body) > LARGEST:
            return
        said = {
            "request": answer.request,
            "status": answer.status,
            "headers": dict(answer.headers),
            "body": base64.b64encode(answer.body).decode(),
        }
        lease = self._gateway.grant(int(KEPT_FOR))
        self._gateway.transaction([], [put(self._directory + key, documents.encoded(said), lease)])
        with suppress(StoreError):  # the next one tries again
            self._forget()

    def _forget(self) -> None:
        """The oldest of too many."""
        count, oldest = self._gateway.oldest(self._directory, after_all(self._directory), _AT_ONCE)
        too_many = oldest[: max(0, count - self._most)]
        if too_many:
            self._gateway.transaction([], [delete(each) for each in too_many])


def _answer(value: bytes) -> Answer | None:
    """None when another release wrote what this one cannot read."""
    try:
        said = documents.decoded(value)
        return Answer(
            str(said["request"]), int(said["status"]), dict(said["headers"]), base64.b64decode(said["body"])
        )
    except (ValueError, TypeError, KeyError):
        return None
