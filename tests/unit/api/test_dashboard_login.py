# SPDX-License-Identifier: Apache-2.0
"""Logging in at the dashboard and what a session may do; what other sites' pages may not; the dashboard's files."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from tests.support.loopback_certificate import made
from xdpdirector.api.auth.csrf import OWN_HEADER
from xdpdirector.api.routes import dashboard
from xdpdirector.api.server import tls
from xdpdirector.api.server.server import ListeningSocket
from xdpdirector.client import Client, UnixConnection
from xdpdirector.model.access import ApiSpec, Role, TlsSpec
from xdpdirector.relay import Relay
from xdpdirector.storage.tokens import TokenSpec

WEB = {"name": "web", "listeners": ["192.0.2.10:80/tcp"], "backends": {"web1": {"address": "192.0.2.21"}}}
ENABLE = "/v1/services/web/backends/web1/enable"


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    content: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.content)


@dataclass
class Browser:
    """Keeps cookies, and says what a browser says of a page of this origin."""

    port: int
    cookies: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: object = None, **said: str | None) -> Answer:
        headers = {
            "host": f"127.0.0.1:{self.port}",
            "sec-fetch-site": "same-origin",
            OWN_HEADER: "1",
            "cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()) or None,
            "content-type": "application/json",
        } | {name.replace("_", "-"): value for name, value in said.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            content = None if body is None else json.dumps(body)
            sent = {name: value for name, value in headers.items() if value is not None}
            connection.request(method, path, content, sent)
            answer = connection.getresponse()
            found = Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()
        if cookie := found.headers.get("set-cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return found


@pytest.fixture
def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@pytest.fixture
def server(tmp_path: Path, listening: socket.socket) -> Iterator[ApiServer]:
    with ApiServer(
        FakeDirector(), tmp_path / "api.sock", listening_sockets=[ListeningSocket(listening)]
    ) as server:
        server.client.post("/v1/services", WEB)
        yield server


@pytest.fixture
def api(server: ApiServer) -> Client:
    return server.client


@pytest.fixture
def browser(server: ApiServer, listening: socket.socket) -> Browser:
    return Browser(listening.getsockname()[1])


def token(server: ApiServer, role: Role = Role.ADMIN) -> str:
    return server.access.tokens.add(TokenSpec(name=str(role), role=role))[1]


def code(api: Client) -> str:
    path: str = api.post("/v1/sessions/links")["path"]
    return path.rpartition("/")[2]


# Logging in


def test_a_token_logs_in(server: ApiServer, browser: Browser) -> None:
    answer = browser.ask("POST", "/v1/sessions", {"token": token(server, Role.OPERATE)})
    seen = browser.ask("GET", "/v1/sessions/current").document

    assert answer.status == 201
    assert (seen["author"], seen["role"]) == ("token:operate", "operate")
    assert seen == answer.document


def test_what_the_cookie_is(server: ApiServer, browser: Browser) -> None:
    answer = browser.ask("POST", "/v1/sessions", {"token": token(server)})

    name, *attributes = answer.headers["set-cookie"].lower().replace(" ", "").split(";")
    assert name.startswith(f"xdpdirector-{browser.port}=")
    assert {"httponly", "samesite=strict", "path=/"} <= {*attributes}
    assert token(server, Role.READ) not in str(answer.headers)


def test_over_tls_the_cookie_stays_there(tmp_path: Path) -> None:
    """And no plain page of the host can set it: its name says so to browsers."""
    certificate = made(tmp_path, "director")
    listening = socket.create_server(("127.0.0.1", 0))
    sockets = [ListeningSocket(listening, tls.context(TlsSpec(**certificate._asdict())))]
    with ApiServer(FakeDirector(), tmp_path / "api.sock", listening_sockets=sockets) as server:
        trusting = ssl.create_default_context(cafile=certificate.certificate)
        trusting.check_hostname = False
        connection = http.client.HTTPSConnection(*listening.getsockname(), timeout=60, context=trusting)
        body = json.dumps({"token": token(server)})
        connection.request(
            "POST", "/v1/sessions", body, {"content-type": "application/json", OWN_HEADER: "1"}
        )
        answer = connection.getresponse()
        answer.read()
        connection.close()

    assert answer.status == 201
    name, *attributes = answer.headers["set-cookie"].replace(" ", "").split(";")
    assert name.startswith("__Host-xdpdirector-")
    assert {"secure", "httponly", "samesite=strict", "path=/"} <= {each.lower() for each in attributes}


def test_a_link_logs_in_once_as_who_made_it(api: Client, browser: Browser) -> None:
    made = code(api)

    first, again = (browser.ask("POST", "/v1/sessions", {"code": made}) for _ in range(2))

    assert (first.status, first.document["author"], first.document["role"]) == (201, "root", "admin")
    assert again.status == 401


def test_logging_in_is_in_the_audit(server: ApiServer, api: Client, browser: Browser) -> None:
    browser.ask("POST", "/v1/sessions", {"code": code(api)})
    browser.ask("POST", "/v1/sessions", {"token": "nonsense"})
    browser.ask("POST", ENABLE, {"reason": "works"})

    rows = api.get("/v1/audit")["items"]
    told = [(row["operation"], row["outcome"], row["author"]) for row in rows[:4]]
    assert told == [
        ("enable_backend", "done", "root"),
        ("create_session", "refused", "unknown"),
        ("create_session", "done", "root"),
        ("create_login_link", "done", "root"),
    ]
    assert f"session {api.get('/v1/sessions')['items'][0]['id']}" in rows[0]["source"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"token": "a", "code": "b"},
        {"token": 1},
        {"code": "x" * 201},
        {"name": "a"},
    ],
    ids=["neither", "both", "number", "long", "unknown"],
)
def test_what_is_no_login(browser: Browser, body: object) -> None:
    assert browser.ask("POST", "/v1/sessions", body).status == 422


def test_a_stranger_sends_little(browser: Browser) -> None:
    assert browser.ask("POST", "/v1/sessions", {"token": "x" * 5000}).status == 413


def test_guessing_is_slowed_down(
    server: ApiServer, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[float] = []

    async def pause(seconds: float) -> None:
        delays.append(seconds)

    monkeypatch.setattr("xdpdirector.api.auth.auditing.pause", pause)
    answers = [browser.ask("POST", "/v1/sessions", {"token": f"guess{number}"}) for number in range(12)]

    assert {each.status for each in answers} == {401}
    assert len(delays) == 2


def test_a_session_makes_no_link(api: Client, browser: Browser) -> None:
    browser.ask("POST", "/v1/sessions", {"code": code(api)})

    assert browser.ask("POST", "/v1/sessions/links").status == 403


# Its end


def test_logging_out(api: Client, browser: Browser) -> None:
    browser.ask("POST", "/v1/sessions", {"code": code(api)})
    before = {**browser.cookies}

    assert browser.ask("DELETE", "/v1/sessions/current").status == 204

    browser.cookies = before
    assert browser.ask("GET", "/v1/services").status == 401
    assert api.get("/v1/sessions")["items"] == []


def test_an_administrator_ends_it(api: Client, browser: Browser) -> None:
    session = browser.ask("POST", "/v1/sessions", {"code": code(api)}).document["session"]["id"]

    api.delete(f"/v1/sessions/{session}")

    assert browser.ask("GET", "/v1/services").status == 401


def test_it_ends_with_its_token(server: ApiServer, api: Client, browser: Browser) -> None:
    browser.ask("POST", "/v1/sessions", {"token": token(server, Role.READ)})
    assert browser.ask("GET", "/v1/services").status == 200

    api.delete("/v1/tokens/read")
    token(server, Role.READ)  # another one of the same name

    assert browser.ask("GET", "/v1/services").status == 401


def test_it_may_do_what_its_token_may(server: ApiServer, browser: Browser) -> None:
    browser.ask("POST", "/v1/sessions", {"token": token(server, Role.READ)})

    assert browser.ask("POST", ENABLE).status == 403


def test_a_stream_ends_with_the_session(api: Client, browser: Browser) -> None:
    session = browser.ask("POST", "/v1/sessions", {"code": code(api)}).document["session"]["id"]
    connection = http.client.HTTPConnection("127.0.0.1", browser.port, timeout=30)
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    connection.request("GET", "/v1/live", headers={"cookie": cookie})
    stream = connection.getresponse()
    assert stream.readline().startswith(b"event: history")

    api.delete(f"/v1/sessions/{session}")

    assert stream.read() is not None  # to its end
    connection.close()


# Other sites' pages

FOREIGN = [
    pytest.param({"sec_fetch_site": "cross-site"}, id="cross-site"),
    pytest.param({"sec_fetch_site": "same-site"}, id="same-site"),
    pytest.param({"sec_fetch_site": None, "origin": "http://evil.example"}, id="origin"),
    pytest.param({"sec_fetch_site": None, "origin": "null"}, id="no origin"),
    pytest.param({"host": "evil.example:80"}, id="rebound"),
]


@pytest.mark.parametrize("said", FOREIGN)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/services"), ("POST", ENABLE), ("GET", "/v1/live"), ("POST", "/v1/sessions")],
)
def test_no_other_site_uses_a_session(
    api: Client, browser: Browser, method: str, path: str, said: dict[str, str | None]
) -> None:
    browser.ask("POST", "/v1/sessions", {"code": code(api)})
    body = {"code": code(api)} if path == "/v1/sessions" else None

    assert browser.ask(method, path, body, **said).status == 403


def test_a_change_needs_the_header_that_only_own_pages_send(api: Client, browser: Browser) -> None:
    browser.ask("POST", "/v1/sessions", {"code": code(api)})

    assert browser.ask("POST", ENABLE, x_xdpdirector_dashboard=None).status == 403
    assert browser.ask("POST", ENABLE, {"reason": "x"}).status == 200


@pytest.mark.parametrize("said", FOREIGN)
def test_no_other_site_uses_a_forwarded_socket(server: ApiServer, said: dict[str, str | None]) -> None:
    headers = {name.replace("_", "-"): value for name, value in said.items() if value is not None}
    connection = UnixConnection(server.path, 10)
    connection.request("POST", ENABLE, headers=headers)

    assert connection.getresponse().status == 403
    connection.close()


@pytest.mark.parametrize(
    "host", ["localhost", "director", "127.0.0.1:8650", "[::1]:8650", "a.localhost", "LOCALHOST."]
)
def test_own_names(server: ApiServer, host: str) -> None:
    assert server.status("/v1/services", host=host) == 200


def test_a_token_is_nobody_elses(server: ApiServer, browser: Browser) -> None:
    """A page of another site cannot have it."""
    authorization = f"Bearer {token(server)}"

    assert (
        browser.ask("GET", "/v1/services", authorization=authorization, host="api.example.com").status == 200
    )


# The files


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "static"
    place.mkdir()
    (place / "app-0123ABCD.js").write_bytes(b"script" * 100)
    (place / "app-0123ABCD.js.gz").write_bytes(gzip.compress(b"script" * 100))
    (place / "index.html").write_bytes(b"<!doctype html>")
    monkeypatch.setattr(dashboard.Files.__init__, "__defaults__", (place,))
    return place


def test_the_page_and_how_browsers_must_treat_it(built: Path, browser: Browser) -> None:
    answer = browser.ask("GET", "/ui/", sec_fetch_site="cross-site")  # a link from elsewhere

    assert (answer.status, answer.content) == (200, b"<!doctype html>")
    assert answer.headers["cache-control"] == "no-store"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_what_has_a_digest_in_its_name_is_kept(built: Path, browser: Browser) -> None:
    answer = browser.ask("GET", "/ui/app-0123ABCD.js")
    packed = browser.ask("GET", "/ui/app-0123ABCD.js", accept_encoding="gzip, br;q=0")
    again = browser.ask("GET", "/ui/app-0123ABCD.js", if_none_match=answer.headers["etag"])

    assert "immutable" in answer.headers["cache-control"]
    assert answer.content == b"script" * 100
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.content) == answer.content
    assert again.status == 304


@pytest.mark.parametrize("path", ["/ui/../api.sock", "/ui/%2e%2e/api.sock", "/ui/x", "/ui/a/b"])
def test_there_are_no_other_files(built: Path, browser: Browser, path: str) -> None:
    assert browser.ask("GET", path).status == 404


def test_a_rebound_name_gets_no_page(built: Path, browser: Browser) -> None:
    assert browser.ask("GET", "/ui/", host="evil.example").status == 403


def test_a_checkout_without_a_build_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: Browser
) -> None:
    monkeypatch.setattr(dashboard.Files, "find", lambda *_: None)

    answer = browser.ask("GET", "/ui/")

    assert answer.status == 503
    assert b"./lab dashboard" in answer.content


def test_it_can_be_turned_off(tmp_path: Path) -> None:
    with ApiServer(FakeDirector(), tmp_path / "api.sock", ApiSpec(dashboard=False)) as server:
        assert server.status("/ui/") == 404
        connection = UnixConnection(server.path, 10)
        connection.request("POST", "/v1/sessions/links")
        assert connection.getresponse().status == 404
        connection.close()


# The relay


def test_a_relay_lends_nobody_its_rights(server: ApiServer, api: Client) -> None:
    with Relay(server.path, 0) as relay:
        browser = Browser(relay.port)

        assert browser.ask("GET", "/v1/services").status == 401
        assert browser.ask("POST", "/v1/sessions", {"code": code(api)}).status == 201
        assert browser.ask("GET", "/v1/services").status == 200

    [session] = api.get("/v1/sessions")["items"]
    assert session["source"].startswith("127.0.0.1:")
    assert "by uid 0" in session["source"]


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 5 6 7\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 5 6\r\n",
        b"PROXY " + b"x" * 200,
    ],
    ids=["words", "family", "long"],
)
def test_what_is_no_line_of_a_relay_is_no_request(server: ApiServer, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(server.path))
        connection.sendall(line + b"GET /v1/services HTTP/1.1\r\nhost: localhost\r\n\r\n")

        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


def test_a_relays_line_may_come_in_pieces(server: ApiServer) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(server.path))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        for (
            octet
        ) in b"PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\nGET /v1/services HTTP/1.1\r\nhost: localhost\r\n\r\n":
            connection.send(bytes([octet]))

        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")
