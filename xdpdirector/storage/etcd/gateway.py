# SPDX-License-Identifier: Apache-2.0
"""etcd's JSON gateway: ranges, transactions, leases and watches, at whichever member answers.

Blocks: it is called in threads. Knows etcd's API (https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/); nothing
of what is stored.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xdpdirector.errors import StoreError, UncertainError
from xdpdirector.model.access import Endpoint
from xdpdirector.model.store import StoreSpec
from xdpdirector.system import files

PATIENCE = 2.0
"""Seconds for an answer, whichever members are asked."""
_LEAST = 0.1
"""Seconds that must be left for asking another member."""
_DIAGNOSIS = 0.5
_LARGEST = 64 << 20
_UNAVAILABLE, _UNAUTHENTICATED = 14, 16  # codes of gRPC
_DEADLINE, _UNKNOWN = 4, 2

Document = dict[str, Any]


class _RefusedError(Exception):
    """etcd's own error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(frozen=True)
class Item:
    """A key with its value. `changed`: the revision of etcd in which it was written last."""

    key: str
    value: bytes
    changed: int


def text(value: str | bytes) -> str:
    """As the gateway has keys and values."""
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


def after_all(prefix: str) -> str:
    """The end of the range of keys that begin with `prefix`."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def items(answer: Mapping[str, Any]) -> list[Item]:
    """Of a range's answer."""
    return [
        Item(
            base64.b64decode(each["key"]).decode(),
            base64.b64decode(each.get("value", "")),
            int(each["mod_revision"]),
        )
        for each in answer.get("kvs", ())
    ]


def put(key: str, value: bytes, lease: int = 0) -> Document:
    """An operation of a transaction."""
    return {"request_put": {"key": text(key), "value": text(value), "lease": str(lease)}}


def delete(key: str, end: str = "") -> Document:
    """An operation of a transaction; with `end` all from `key` until before it."""
    return {"request_delete_range": {"key": text(key)} | ({"range_end": text(end)} if end else {})}


def get(key: str, end: str = "") -> Document:
    """An operation of a transaction; with `end` all from `key` until before it."""
    return {"request_range": {"key": text(key)} | ({"range_end": text(end)} if end else {})}


def unchanged(key: str, changed: int) -> Document:
    """A condition of a transaction: the key was written last in that revision of etcd; 0: it does not exist."""
    return {"target": "MOD", "result": "EQUAL", "key": text(key), "mod_revision": str(changed)}


class Gateway:
    """Threads may share it. StoreError says which members were asked, and what was wrong with each."""

    def __init__(self, spec: StoreSpec) -> None:
        self._spec = spec
        self._tls = _context(spec) if spec.tls else None
        self._chosen = 0
        self._token = ""
        self._turn = threading.Lock()
        self._open: set[http.client.HTTPConnection] = set()
        self._closed = False

    def close(self) -> None:
        """Who waits for an answer gets an error at once."""
        self._closed = True
        with self._turn:
            waiting = list(self._open)
        for each in waiting:
            hang_up(each)

    @property
    def endpoint(self) -> Endpoint:
        """The member that is asked first."""
        return self._spec.endpoints[self._chosen]

    def transaction(
        self, conditions: list[Document], operations: list[Document], otherwise: list[Document] | None = None
    ) -> tuple[bool, list[Document]]:
        """Whether the conditions held, and the answers. UncertainError when it is not known whether it was made."""
        body = {"compare": conditions, "success": operations, "failure": otherwise or []}
        answer = self._ask(
            "/v3/kv/txn", body, changes=any("request_range" not in each for each in operations)
        )
        responses: list[Document] = [next(iter(each.values()), {}) for each in answer.get("responses", ())]
        return bool(answer.get("succeeded")), responses

    def read(self, *operations: Document) -> list[Document]:
        """What these ranges give, all at one moment."""
        return self.transaction([], list(operations))[1]

    def range(self, key: str, end: str, limit: int = 0) -> list[Item]:
        """By key."""
        body = {"key": text(key), "range_end": text(end), "limit": str(limit)}
        return items(self._ask("/v3/kv/range", body))

    def oldest(self, key: str, end: str, limit: int) -> tuple[int, list[str]]:
        """How many keys there are in that range, and at most so many of them, the one that was made first first."""
        body = {
            "key": text(key),
            "range_end": text(end),
            "limit": str(limit),
            "keys_only": True,
            "sort_order": "ASCEND",
            "sort_target": "CREATE",
        }
        answer = self._ask("/v3/kv/range", body)
        return int(answer.get("count", 0)), [each.key for each in items(answer)]

    def grant(self, seconds: int) -> int:
        """A lease."""
        return int(self._ask("/v3/lease/grant", {"TTL": str(seconds)})["ID"])

    def keep_alive(self, lease: int) -> bool:
        """Whether it lives."""
        answer = self._ask("/v3/lease/keepalive", {"ID": str(lease)})
        return int(answer.get("result", {}).get("TTL", 0)) > 0

    def revoke(self, lease: int) -> None:
        """All keys of the lease go."""
        self._ask("/v3/lease/revoke", {"ID": str(lease)})

    def _ask(self, path: str, body: Document, *, changes: bool = False) -> Document:
        """The first answer of a member; of one that `changes` something the members after a doubtful one are not
        asked."""
        failures: list[str] = []
        until = time.monotonic() + PATIENCE
        for _ in self._spec.endpoints:
            left = until - time.monotonic()
            if failures and left < _LEAST:
                break
            number = self._chosen
            endpoint = self._spec.endpoints[number]
            try:
                return self._ask_one(endpoint, path, body, max(left, _LEAST))
            except _RefusedError as error:
                if error.code not in (_UNAVAILABLE, _UNAUTHENTICATED, _DEADLINE, _UNKNOWN):
                    raise StoreError(f"etcd refuses that: {error.message}") from error
                failures.append(f"{endpoint}: {error.message}")
                doubtful = error.code != _UNAUTHENTICATED and "no leader" not in error.message
            except (OSError, http.client.HTTPException, ValueError) as error:
                doubtful = not isinstance(error, _NotSentError)
                failures.append(f"{endpoint}: {self._why(endpoint, error)}")
            self._pass_over(number)
            if changes and doubtful:
                raise UncertainError(
                    f"etcd did not say whether it made the change ({failures[-1]}): read it before you try again"
                )
        raise StoreError(f"etcd cannot be asked: {'; '.join(failures)}")

    def _ask_one(self, endpoint: Endpoint, path: str, body: Document, patience: float) -> Document:
        token = self._token
        if self._spec.user and not token:
            token = self._authenticated(endpoint)
        try:
            return self._request(endpoint, path, body, token, patience)
        except _RefusedError as error:
            expired = error.code == _UNAUTHENTICATED or "invalid auth token" in error.message
            if not (self._spec.user and expired):
                raise
        return self._request(endpoint, path, body, self._authenticated(endpoint), patience)

    def _authenticated(self, endpoint: Endpoint) -> str:
        assert self._spec.password_file
        try:
            password = files.read(self._spec.password_file)[0].decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"store.password_file {self._spec.password_file}: {error}") from error
        body = {"name": self._spec.user, "password": password}
        self._token = str(self._request(endpoint, "/v3/auth/authenticate", body, "").get("token", ""))
        return self._token

    def _request(
        self, endpoint: Endpoint, path: str, body: Document, token: str, patience: float = PATIENCE
    ) -> Document:
        with self.connection(endpoint, patience) as connection:
            response = self.sent(connection, path, body, token)
            said = response.read(_LARGEST)
        try:
            answer = json.loads(said)
        except ValueError:
            answer = {"error": said[:200].decode(errors="replace") or f"status {response.status}"}
        return _sound(answer, is_refusal=response.status >= http.HTTPStatus.BAD_REQUEST)

    @contextlib.contextmanager
    def connection(self, endpoint: Endpoint, patience: float | None) -> Iterator[http.client.HTTPConnection]:
        """To a member; OSError when it cannot be reached. `patience`: for each answer; None: for ever."""
        host = str(endpoint.address)
        made = (
            http.client.HTTPSConnection(host, endpoint.port, timeout=patience or PATIENCE, context=self._tls)
            if self._tls
            else http.client.HTTPConnection(host, endpoint.port, timeout=patience or PATIENCE)
        )
        with self._turn:
            self._open.add(made)
        try:
            try:
                if self._closed:
                    raise ConnectionAbortedError("this director stops")
                made.connect()
            except OSError as error:
                raise _NotSentError(error) from error
            made.sock.settimeout(patience)
            yield made
        finally:
            with self._turn:
                self._open.discard(made)
            made.close()

    def sent(
        self, connection: http.client.HTTPConnection, path: str, body: Document, token: str
    ) -> http.client.HTTPResponse:
        """The answer, of which nothing is read yet."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": token} if token else {})
        connection.request("POST", path, json.dumps(body), headers)
        return connection.getresponse()

    @property
    def token(self) -> str:
        """Of the user, if there is one."""
        return self._token

    def _pass_over(self, number: int) -> None:
        with self._turn:
            if self._chosen == number:
                self._chosen = (number + 1) % len(self._spec.endpoints)

    def _why(self, endpoint: Endpoint, error: Exception) -> str:
        cause = error.cause if isinstance(error, _NotSentError) else error
        if isinstance(cause, TimeoutError) and not isinstance(error, _NotSentError):
            try:
                status = self._request(endpoint, "/v3/maintenance/status", {}, self._token, _DIAGNOSIS)
            except (OSError, http.client.HTTPException, ValueError, _RefusedError):
                return f"no answer within {PATIENCE:g} s"
            if status.get("leader", "0") == "0":
                return "it has no leader: too few of its members are there"
            return f"no answer within {PATIENCE:g} s, though it lives"
        if isinstance(cause, TimeoutError):
            return f"no connection within {PATIENCE:g} s"
        return getattr(cause, "reason", None) or getattr(cause, "strerror", None) or str(cause) or repr(cause)


class Watch:
    """Tells of each change of a key, or with `end` of all keys from it until before that, and of each time that
    changes may have been missed. Runs in a thread of its own until it is closed."""

    def __init__(self, gateway: Gateway, key: str, on_change: Callable[[], None], end: str = "") -> None:
        self._gateway, self._key, self._on_change = gateway, key, on_change
        self._end = end
        self._closed = threading.Event()
        self._connection: http.client.HTTPConnection | None = None
        self.endpoint: Endpoint | None = None
        """The member that it is open at."""
        self._thread = threading.Thread(target=self._run, name="watch of etcd", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def move(self) -> None:
        """Begin anew at the member that is asked first now."""
        connection = self._connection
        if connection:
            hang_up(connection)

    def close(self) -> None:
        """It has ended when this returns."""
        self._closed.set()
        self.move()
        self._thread.join(2 * PATIENCE + 1)

    def _run(self) -> None:
        while not self._closed.is_set():
            # Whoever polls sees what is wrong, and says so.
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError, _RefusedError):
                self._follow()
            self.endpoint = None
            self._closed.wait(0.2)

    def _follow(self) -> None:
        endpoint = self._gateway.endpoint
        keys = {"key": text(self._key)} | ({"range_end": text(self._end)} if self._end else {})
        body = {"create_request": keys}
        with self._gateway.connection(endpoint, None) as connection:
            self._connection = connection
            try:
                if self._closed.is_set():
                    return
                response = self._gateway.sent(connection, "/v3/watch", body, self._gateway.token)
                while line := response.readline():
                    if _sound(json.loads(line)).get("result", {}).get("canceled"):
                        return
                    self.endpoint = endpoint
                    self._on_change()
            finally:
                self._connection = None


def hang_up(connection: http.client.HTTPConnection) -> None:
    """Whoever reads from it gets an error, or the end."""
    sock = connection.sock
    if sock:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


class _NotSentError(OSError):
    """There was no connection."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _sound(answer: object, *, is_refusal: bool = False) -> Document:
    """`is_refusal`: by its status, as etcd 3.6 says an error without a field of that name."""
    if not isinstance(answer, dict):
        raise _RefusedError(_UNKNOWN, "it is no etcd")
    error = answer.get("error")
    if error is not None or is_refusal:
        code = answer.get("code", _UNKNOWN)
        if isinstance(error, dict):  # of a stream
            code = error.get("grpc_code", error.get("code", code))
            error = error.get("message", error)
        raise _RefusedError(int(code), str(answer.get("message") or error))
    return answer


def _context(spec: StoreSpec) -> ssl.SSLContext:
    assert spec.tls
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        made.load_verify_locations(cadata=files.read(spec.tls.ca)[0].decode())
        if spec.tls.certificate and spec.tls.key:
            for path in (spec.tls.certificate, spec.tls.key):
                files.require_regular(path)
            made.load_cert_chain(spec.tls.certificate, spec.tls.key, password=lambda: b"")
    except (OSError, ssl.SSLError, ValueError) as error:
        why = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
        raise StoreError(f"store.tls: {why}") from error
    return made
