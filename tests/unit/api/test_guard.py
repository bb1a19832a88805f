# SPDX-License-Identifier: Apache-2.0
"""/v1/guard, limits as a part of services, and both on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.cli import main
from xdpdirector.client import Client
from xdpdirector.errors import ConflictError, DirectorError, InvalidRequestError, NotFoundError
from xdpdirector.model.status import Refused

DENY, NET, NET6 = "/v1/guard/deny", "203.0.113.0/24", "2001:db8:7::/48"
WEB = {"name": "web", "listeners": ["192.0.2.10:80/tcp"]}
SERVICE = "/v1/services/web"
LIMIT = {
    "rate": "1000/s",
    "burst": 50,
    "per_source": {"rate": "10/m", "burst": None, "prefix": 24, "prefix6": 64},
}
Run = Callable[..., int]


@pytest.fixture
def director() -> FakeDirector:
    return FakeDirector()


@pytest.fixture
def socket(director: FakeDirector, tmp_path: Path) -> Iterator[Path]:
    with ApiServer(director, tmp_path / "api.sock") as server:
        server.client.post("/v1/services", WEB)
        yield server.path


@pytest.fixture
def api(socket: Path) -> Client:
    return Client(socket)


@pytest.fixture
def run(socket: Path) -> Run:
    return lambda *arguments: main(["--socket", str(socket), *arguments])


def prefixes(api: Client, **query: str) -> list[str]:
    return [each["prefix"] for each in api.get(DENY, query)["items"]]


# The API


def test_a_prefix_is_denied_shown_and_allowed(api: Client, director: FakeDirector) -> None:
    made = api.post(DENY, {"prefix": NET, "reason": "floods"})
    director.plane.dropped[ip_network(NET)] = 7

    assert (made["prefix"], made["reason"], made["from_file"]) == (NET, "floods", False)
    assert api.get(f"{DENY}/{NET}")["packets"] == 7
    assert api.get(f"{DENY}/203.0.113.0%2F24")["packets"] == 7
    assert api.get("/v1/guard")["denied"] == 1

    api.delete(f"{DENY}/{NET}")
    assert prefixes(api) == []


def test_a_prefix_is_put_again_and_again(api: Client) -> None:
    for reason in ("floods", "scans"):
        assert api.put(f"{DENY}/{NET6}", {"reason": reason})["reason"] == reason

    assert prefixes(api) == [NET6]


def test_the_list_is_replaced_whole(api: Client) -> None:
    api.post(DENY, {"prefix": NET})

    view = api.put(DENY, {"items": [{"prefix": NET6}, {"prefix": "198.51.100.7"}]})

    assert view["denied"] == 2
    assert prefixes(api) == [NET6, "198.51.100.7/32"]


def test_the_list_has_pages_and_answers_who_denies_a_client(api: Client) -> None:
    api.put(DENY, {"items": [{"prefix": f"10.0.{n}.0/24"} for n in range(5)] + [{"prefix": "10.0.0.0/8"}]})

    first = api.get(DENY, {"limit": 4})
    second = api.get(DENY, {"limit": 4, "cursor": first["next"]})

    assert [len(page["items"]) for page in (first, second)] == [4, 2]
    assert second["next"] is None
    assert prefixes(api, client="10.0.3.9") == ["10.0.0.0/8", "10.0.3.0/24"]
    assert prefixes(api, client="192.0.2.1") == []


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (lambda api: api.post(DENY, {"prefix": "203.0.113.5/24"}), InvalidRequestError, "bits behind its prefix"),
        (lambda api: api.post(DENY, {"prefix": "nonsense"}), InvalidRequestError, "is not a prefix"),
        (lambda api: api.post(DENY, {"prefix": NET, "reason": "x" * 201}), InvalidRequestError, "200"),
        (lambda api: api.post(DENY, {"prefix": "203.0.113.0/25"}), ConflictError, "denied already"),
        (lambda api: api.get(f"{DENY}/{NET}"), NotFoundError, "is not denied"),
        (lambda api: api.delete(f"{DENY}/203.0.113.9"), NotFoundError, "203.0.113.0/25 is"),
        (lambda api: api.get(f"{DENY}/nonsense"), InvalidRequestError, "is not a prefix"),
        (lambda api: api.put(DENY, {"items": [], "last_event_id": False}), InvalidRequestError, "last_event_id"),
        (lambda api: api.put(DENY, {"items": [{"prefix": NET}] * 2}), InvalidRequestError, "stands twice"),
        (lambda api: api.patch(SERVICE, {"limit": {}}), InvalidRequestError, "there is no limit in it"),
        (lambda api: api.patch(SERVICE, {"limit": {"rate": "0/s"}}), InvalidRequestError, "lets nobody in"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(
    api: Client, ask: Callable[[Client], Any], error: type[DirectorError], words: str
) -> None:
    api.post(DENY, {"prefix": "203.0.113.0/25"})

    with pytest.raises(error, match=words.replace(".", r"\.")):
        ask(api)


def test_a_limit_is_part_of_its_service(api: Client, director: FakeDirector) -> None:
    view = api.patch(SERVICE, {"limit": LIMIT})
    assert view["limit"] == LIMIT

    director.plane.refusals["web"] = Refused(by_source=5)
    assert api.get("/v1/guard")["limits"]["web"] == {
        "limit": LIMIT, "refused": {"by_service": 0, "by_source": 5},
    }  # fmt: skip

    assert api.patch(SERVICE, {"limit": {"per_source": None}})["limit"]["per_source"] is None
    assert api.patch(SERVICE, {"limit": None})["limit"] is None


# The command line


def test_deny_and_allow(run: Run, api: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("guard", "deny", NET, NET6, "--reason", "floods") == 0
    assert prefixes(api) == [NET, NET6]
    assert "floods" in capsys.readouterr().out

    assert run("guard", "allow", NET) == 0
    assert prefixes(api) == [NET6]
    assert run("guard", "allow", NET) == 2
    assert f"{NET} is not denied" in capsys.readouterr().err


def test_the_list_and_the_overview(
    run: Run, api: Client, director: FakeDirector, capsys: pytest.CaptureFixture[str]
) -> None:
    run("guard", "deny", "0.0.0.0/0")
    assert "it is every IPv4 client" in capsys.readouterr().out
    api.patch(SERVICE, {"limit": LIMIT})
    director.plane.refusals["web"] = Refused(by_service=1234, by_source=5)

    assert run("guard", "show") == 0
    shown = capsys.readouterr().out
    assert all(words in shown for words in ("1 prefix denied", "1000/s burst 50", "10/m (/24, /64)", "1,234"))

    assert run("guard", "list", "--client", "10.0.0.1", "-o", "json") == 0
    assert [each["prefix"] for each in json.loads(capsys.readouterr().out)["items"]] == ["0.0.0.0/0"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--limit", "1000/s"], {"rate": "1000/s", "burst": 9, "per_source": {"rate": "1/s"}}),
        (["--limit", "5/m", "--burst", "3"], {"rate": "5/m", "burst": 3, "per_source": {"rate": "1/s"}}),
        (["--source-limit", "7/s"], {"rate": "100/s", "burst": 9, "per_source": {"rate": "7/s"}}),
        (["--source-prefix", "24"], {"rate": "100/s", "burst": 9, "per_source": {"rate": "1/s", "prefix": 24}}),
        (["--source-limit", "none"], {"rate": "100/s", "burst": 9, "per_source": None}),
        (["--limit", "none"], None),
    ],
)  # fmt: skip
def test_a_limit_is_set(run: Run, api: Client, options: list[str], expected: dict[str, Any] | None) -> None:
    api.patch(SERVICE, {"limit": {"rate": "100/s", "burst": 9, "per_source": {"rate": "1/s"}}})

    assert run("service", "set", "web", *options) == 0

    limit = api.get(SERVICE)["limit"]
    if expected and expected["per_source"]:
        plain = {"burst": None, "prefix": 32, "prefix6": 64}
        expected = {**expected, "per_source": plain | expected["per_source"]}
    assert limit == expected


def test_no_limit_is_left_without_the_one_of_sources(run: Run, api: Client) -> None:
    api.patch(SERVICE, {"limit": {"per_source": {"rate": "1/s"}}})

    assert run("service", "set", "web", "--source-limit", "none") == 0
    assert api.get(SERVICE)["limit"] is None
    assert run("service", "set", "web", "--source-limit", "none") == 0


def test_a_service_is_added_with_a_limit(run: Run, api: Client) -> None:
    made = [
        "service",
        "add",
        "shop",
        "--listen",
        "192.0.2.11:80/tcp",
        "--limit",
        "100/s",
        "--source-limit",
        "5/s",
    ]

    assert run(*made) == 0

    limit = api.get("/v1/services/shop")["limit"]
    assert (limit["rate"], limit["per_source"]["rate"]) == ("100/s", "5/s")


@pytest.mark.parametrize(
    "options", [["--limit", "none", "--burst", "3"], ["--source-limit", "none", "--source-burst", "3"]]
)
def test_none_has_no_burst(run: Run, options: list[str]) -> None:
    assert run("service", "set", "web", *options) == 2
