# SPDX-License-Identifier: Apache-2.0
"""A client of the daemon's API over its unix socket: JSON in, JSON out, errors as exceptions.

Standard library only: documents stay plain dicts, so that a command starts at once. A problem document
(RFC 9457) comes back as the error of `xdpdirector.errors` whose slug it names.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode

from xdpdirector.errors import DirectorError, InvalidRequestError, NotAllowedError, UnreachableError
from xdpdirector.paths import DEFAULT_INSTANCE
from xdpdirector.sse import Message, messages

Query = Mapping[str, object]
Headers = Mapping[str, str]
NO_HEADERS: Headers = MappingProxyType({})
PATIENCE = 30.0
LARGEST_PAGE = 1000
SILENCE = 60.0  # seconds: a stream that is alive says something more often


class Client:
    """Requests to the daemon behind `path`; every request is a connection of its own.

    `timeout` of a method is in seconds; None waits as long as the daemon takes. Methods raise UnreachableError when
    there is no answer, NotAllowedError when the socket may not be opened, else what the daemon reports.
    """

    def __init__(self, path: Path, *, instance: str = DEFAULT_INSTANCE) -> None:
        self._path, self._instance = path, instance

    def get(self, path: str, query: Query | None = None, *, timeout: float | None = PATIENCE) -> Any:
        return self._request("GET", path, query=query, timeout=timeout)

    def text(self, path: str, accept: str, *, timeout: float | None = PATIENCE) -> tuple[str, str]:
        """What is there in another form than JSON, and its ETag."""
        with self._translated(timeout), closing(UnixConnection(self._path, timeout)) as connection:
            connection.request("GET", path, headers={"accept": accept})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status >= 400:
                _decode(answer, content)
            return content.decode(), answer.headers.get("etag", "")

    def post(
        self,
        path: str,
        body: object = None,
        query: Query | None = None,
        *,
        headers: Headers = NO_HEADERS,
        timeout: float | None = PATIENCE,
    ) -> Any:
        return self._request("POST", path, query=query, body=body, headers=headers, timeout=timeout)

    def pages(
        self,
        path: str,
        query: Query | None = None,
        *,
        most: int | None = None,
        timeout: float | None = PATIENCE,
    ) -> dict[str, Any]:
        """A list, page after page, until there are `most` items or no more: `items`, and `next` where there are.
        `last_event_id`, of lists that have it, is that of the first page: no event since then is missed."""
        items: list[Any] = []
        first: dict[str, Any] | None = None
        following: str | None = None
        while True:
            left = LARGEST_PAGE if most is None else min(LARGEST_PAGE, most - len(items))
            page = self.get(path, {**(query or {}), "limit": left, "cursor": following}, timeout=timeout)
            first = page if first is None else first
            items += page["items"]
            following = page["next"]
            if following is None or (most is not None and len(items) >= most):
                return {**first, "items": items, "next": following}

    def put(
        self,
        path: str,
        body: object,
        query: Query | None = None,
        *,
        headers: Headers = NO_HEADERS,
        timeout: float | None = PATIENCE,
    ) -> Any:
        return self._request("PUT", path, query=query, body=body, headers=headers, timeout=timeout)

    def patch(self, path: str, body: object, *, timeout: float | None = PATIENCE) -> Any:
        return self._request("PATCH", path, body=body, timeout=timeout)

    def delete(self, path: str, query: Query | None = None, *, timeout: float | None = PATIENCE) -> Any:
        return self._request("DELETE", path, query=query, timeout=timeout)

    def stream(self, path: str, query: Query | None = None, *, after: str | None = None) -> Iterator[Message]:
        """Server-sent events as they come, until the daemon ends the stream. `after`: the id to go on behind."""
        headers = {"accept": "text/event-stream"} | ({"last-event-id": after} if after is not None else {})
        with self._translated(SILENCE), closing(UnixConnection(self._path, SILENCE)) as connection:
            connection.request("GET", _target(path, query), headers=headers)
            answer = connection.getresponse()
            if answer.headers.get_content_type() != "text/event-stream":
                _decode(answer, answer.read())
                return
            yield from messages(answer)

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: object = None,
        headers: Headers = NO_HEADERS,
        timeout: float | None = PATIENCE,
    ) -> Any:
        content = None if body is None else _as_json(body)
        fields = {"accept": "application/json", **headers}
        fields |= {"content-type": "application/json"} if content else {}
        with self._translated(timeout), closing(UnixConnection(self._path, timeout)) as connection:
            connection.request(method, _target(path, query), body=content, headers=fields)
            answer = connection.getresponse()
            return _decode(answer, answer.read())

    @contextmanager
    def _translated(self, timeout: float | None) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise NotAllowedError(
                f"The socket {self._path} of instance '{self._instance}' may not be opened by this user: "
                "run the command as root (sudo), or as a member of the socket's group."
            ) from error
        except (OSError, HTTPException) as error:
            raise UnreachableError(self._unreachable(error, timeout)) from error

    def _unreachable(self, error: Exception, timeout: float | None) -> str:
        if isinstance(error, TimeoutError):
            return (
                f"The daemon of instance '{self._instance}' did not answer on {self._path} within "
                f"{timeout:g} seconds: look into its log."
            )
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return (
            f"No daemon of instance '{self._instance}' answers on {self._path} ({why}). Is it running? "
            f"Start it with `xdpdirector -i {self._instance} run`, or name another instance with -i."
        )


class UnixConnection(HTTPConnection):
    """HTTP/1.1 over the socket at `path`."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def service_path(service: str) -> str:
    """The path of a service; any text may be asked for, the daemon says whether it exists."""
    return f"/v1/services/{_quoted(service)}"


def backend_path(service: str, backend: str) -> str:
    """The path of a backend."""
    return f"{service_path(service)}/backends/{_quoted(backend)}"


def director_path(name: str) -> str:
    """The path of a director of the fleet."""
    return f"/v1/fleet/{_quoted(name)}"


def _quoted(name: str) -> str:
    _require_text(name)
    return quote(name, safe="")


def _as_json(body: object) -> bytes:
    """JSON keeps what is no text as `\\udcXX`, which no daemon takes: refused here, where the user is."""
    text = json.dumps(body, ensure_ascii=False)
    _require_text(text)
    return text.encode()


def _require_text(text: str) -> None:
    """InvalidRequestError for bytes that were no UTF-8 where the shell handed them over (PEP 383)."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        place = text[max(0, error.start - 20) : error.end + 20]
        shown = place.encode(errors="surrogateescape").decode(errors="backslashreplace")
        raise InvalidRequestError(f"this is no UTF-8 text: {shown}") from error


def _target(path: str, query: Query | None) -> str:
    for value in (query or {}).values():
        _require_text(str(value))
    parameters = urlencode(
        {name: value for name, value in (query or {}).items() if value is not None}, doseq=True
    )
    return f"{path}?{parameters}" if parameters else path


def _decode(answer: HTTPResponse, content: bytes) -> Any:
    kind = answer.headers.get_content_type()
    if kind == "application/problem+json":
        raise _error(json.loads(content))
    if kind == "application/json" and content:
        return json.loads(content)
    if answer.status >= 400:
        raise DirectorError(f"The daemon answered {answer.status} {answer.reason} without saying why.")
    return content.decode() if content else None


def _error(problem: dict[str, Any]) -> DirectorError:
    """The error that the daemon raised; of the base class when this release does not know its slug."""
    slug = str(problem.get("type", "")).rpartition(":")[2]
    kind = next((known for known in _tree(DirectorError) if known.slug == slug), DirectorError)
    pointers = [fault.get("pointer") for fault in problem.get("errors", [])]
    return kind(str(problem.get("detail") or problem.get("title")), pointer=next(iter(pointers), None))


def _tree(kind: type[DirectorError]) -> Iterator[type[DirectorError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)
