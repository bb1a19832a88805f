# SPDX-License-Identifier: Apache-2.0
"""What schemathesis has to know of this API; test_fuzz.py runs it, and fuzz.toml names this file.

Streams and long polls get bounds, since a case that waits teaches nothing. Conditions hold most of the time, or
nothing behind them would be reached. Formats of our own are spelled as people spell them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any
from zlib import crc32

import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis.checks import CheckContext
from schemathesis.openapi.checks import RejectedPositiveData

from xdpdirector.api.http import pagination
from xdpdirector.control.configuration import FIXED
from xdpdirector.model import Configuration
from xdpdirector.model.durations import parse_duration

Document = dict[str, Any]
URL, HEADERS = os.environ["XDPDIRECTOR_URL"], {"authorization": f"Bearer {os.environ['XDPDIRECTOR_TOKEN']}"}
RESOURCES: Document = json.loads(os.environ["XDPDIRECTOR_RESOURCES"])
SHORT = "50ms"
VIPS = ("192.0.2.10", "192.0.2.11", "192.0.2.12", "[2001:db8::10]")
HOSTS = ("192.0.2.21", "192.0.2.22", "192.0.2.23", "192.0.2.24")

NO_SCHEMA_SAYS = re.compile(
    "|".join(
        (
            "is not a unicast address on a network|is link-local, scoped or IPv4-mapped|is scoped or IPv4-mapped",
            "is not a prefix|has bits behind its prefix|is no address to listen on|port .* does not exist",
            "must be at least 1ms|must be from 1s to 3660d|lets nobody in|is out of range|runs backwards",
            "is '.*', and the path's is|the same name|needs its name|a backend has no '",
            "is no selector|there is no field",
            "is not an IPv4 or IPv6 address|has no ports: write",
            "are of different IP versions|is neither an address nor a prefix",
            "this is no cursor of this list|came with another request before|exclude each other|is no reason",
            "stands twice|both have the address|has the service's own VIP|is none of the service's backends",
            "is not prime|is longer than interval|needs a port|one_packet remembers|limit counts new connections",
            "has max_connections, but|hash is for mh and sh|must not be above max_connections",
            "verify needs server_name|ca is of no use|may not be run by a check|is not a regular expression",
            "RE2 would take literally|too large a regular expression|lone surrogate",
            "is no multicast address|is no loopback address|stands in the firewall marks",
            "is for `type: etcd`|needs endpoints|in endpoints",
            "belong together",
            "burst needs a rate|there is no limit in it|takes longer than a day|others can reach",
            "passive is for TCP|is no IPv[46] prefix: write it as source",
            "is for cids: |too long for quic-lb|octets of the longest connection ID|but the length of quic is",
            "both have the QUIC ID|has no quic: add that|quic is for datagrams|one_packet keeps no connections",
            "belongs to service|is behind the gateway|no route leads to|raise sizes.denied|is this director itself",
        )
    )
)
"""What a document that follows the schema can still be refused for: it contradicts itself, or what is there."""
OF_WHAT_IS_THERE = re.compile(r"the key '\w+' is missing|unknown key")
"""The same for a patch."""
_made_applicable: set[str | None] = set()
"""Operations that had a case made applicable: the first case is, and half of the others."""


def short_of(values: tuple[str, ...]) -> st.SearchStrategy[str]:
    return st.sampled_from(values)


PORTS = st.integers(1, 65535)
schemathesis.openapi.format(
    "listener",
    st.one_of(
        st.builds("{}:{}/{}".format, short_of(VIPS), PORTS, short_of(("tcp", "udp"))),
        st.builds("{}:*/{}".format, short_of(VIPS), short_of(("gre", "esp", "tcp"))),
    ),
)
schemathesis.openapi.format(
    "prefix",
    st.one_of(
        st.ip_addresses(v=4).map(str),
        st.integers(0, 255).map(lambda number: f"203.0.{number}.0/24"),
        st.integers(0, 0xFFFF).map(lambda number: f"2001:db8:{number:x}::/48"),
    ),
)
schemathesis.openapi.format("selector", short_of(("rack=b3", "rack", "!gone", "rack!=b4", "rack in (b3,b4)")))
schemathesis.openapi.format("endpoint", PORTS.map(lambda port: f"127.0.0.1:{port}"))
schemathesis.openapi.format("path", short_of(("/run/a", "/run/b")))
schemathesis.openapi.format("ipv4", st.one_of(short_of(HOSTS), st.ip_addresses(v=4).map(str)))
schemathesis.openapi.format(
    "cursor",
    st.builds(pagination.encode, short_of(("connections", "denied", "revisions")), st.integers(0, 5)),
)


@schemathesis.hook
def before_load_schema(_context: schemathesis.HookContext, raw_schema: Document) -> None:
    """Over TCP a token is a must; the document allows for the unix socket, too."""
    for path in raw_schema["paths"].values():
        for operation in path.values():
            operation["security"] = [each for each in operation.get("security", []) if each]


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case, _kwargs: Document) -> None:
    operation = case.operation.definition.raw.get("operationId")
    bounds = _bounds(operation, case.query or {})
    if bounds:
        case.query = {**(case.query or {}), **bounds}
    mark = crc32(repr((operation, case.path_parameters, case.query, case.body)).encode())
    case.headers.update(_held(case.headers, mark))
    if (
        case.meta
        and case.meta.generation.mode.is_positive
        and (mark % 2 or operation not in _made_applicable)
    ):
        _made_applicable.add(operation)
        if operation == "replace_configuration":
            case.body = _applicable(case.body)
        elif operation == "put_backend" and isinstance(case.body, dict):
            case.path_parameters = {"service": "web", "backend": "web1"}
            case.body = {**_unnamed(case.body), "address": HOSTS[0]}
        elif operation == "create_backend" and isinstance(case.body, dict):
            case.path_parameters = {"service": "web"}
            address = f"198.51.{mark >> 8 & 255}.{mark & 255}"
            case.body = {**_unnamed(case.body), "name": f"b{mark}", "address": address}


@schemathesis.hook
def after_call(
    _context: schemathesis.HookContext, case: schemathesis.Case, response: schemathesis.Response
) -> None:
    """What may have gone stands again, or soon nothing would be left to ask about."""
    if case.method.upper() == "GET" or response.status_code >= 300:
        return
    for path, document in RESOURCES.items():
        requests.put(URL + path, json=document, headers=HEADERS, timeout=20)


def _bounds(operation: str | None, query: Mapping[str, Any]) -> Document:
    """For what waits, and for what is asked for afterwards; values that are wrong stay."""
    if operation and operation.startswith(("create_", "delete_")) and query.get("dry_run") in (True, "true"):
        return {"dry_run": "false"}
    if operation in ("follow_events", "follow_present") and query.get("follow") in (None, True, "true"):
        return {"follow": "false"}
    if operation == "follow_decisions" and _is_number(query.get("seconds", 1)):
        return {"seconds": "0.05"}
    if operation == "get_backend" and _is_long(query.get("timeout", "60s")):
        return {"timeout": SHORT}
    if operation == "delete_backend" and _is_long(query.get("drain")):
        return {"drain": SHORT}
    return {}


def _is_number(value: object) -> bool:
    try:
        return 0.05 < float(str(value)) <= 86400
    except ValueError:
        return False


def _is_long(value: object) -> bool:
    try:
        return 0.05 < parse_duration(value) <= 600
    except ValueError:
        return False


def _held(headers: Mapping[str, Any], mark: int) -> dict[str, str]:
    """Seven of eight conditions hold, and so many keys are of one request only."""
    held = {}
    for name, value in headers.items():
        if mark % 8 and name.lower() == "if-match":
            held[name] = "*"
        elif mark % 8 and name.lower() == "if-none-match":
            held[name] = '"another"'
        elif mark % 8 and name.lower() == "idempotency-key" and 1 <= len(str(value)) <= 240:
            held[name] = f"{value}{mark}"
    return held


def _unnamed(body: Document) -> Document:
    """Of the path's name, and free of what only some services allow."""
    bounds = ("max_connections", "resume_connections", "quic_id")
    return {key: value for key, value in body.items() if key not in ("service", "name", *bounds)}


def _applicable(body: Any) -> Any:
    """With what cannot change while the daemon runs as it is."""
    if not isinstance(body, dict):
        return body
    fixed = {"guard", "interfaces", *FIXED} & Configuration.model_fields.keys()
    return {key: value for key, value in body.items() if key not in fixed} | {"interfaces": ["eth0"]}


@schemathesis.hook
def filter_failure(
    _context: schemathesis.HookContext,
    failure: Any,
    case: schemathesis.Case,
    response: schemathesis.Response,
) -> bool:
    """False: it is none."""
    if not isinstance(failure, RejectedPositiveData) or response.status_code != 422:
        return True
    problem = json.loads(response.content)
    sentences = [fault["detail"] for fault in problem.get("errors", [])] or [problem["detail"]]
    return not all(_is_beyond_schemas(sentence, case.method) for sentence in sentences)


def _is_beyond_schemas(sentence: str, method: str) -> bool:
    patch = method.upper() == "PATCH" and OF_WHAT_IS_THERE.search(sentence)
    return bool(patch or NO_SCHEMA_SAYS.search(sentence))


@schemathesis.check
def good_answers_are_promised(
    _context: CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """By their own status: `default` is for problems."""
    promised = case.operation.definition.raw["responses"]
    good = response.status_code < 400
    assert not good or str(response.status_code) in promised, f"{response.status_code} is not in the document"


@schemathesis.check
def errors_are_problems(
    _context: CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """RFC 9457, of this status, and with a sentence."""
    if response.status_code < 400:
        return
    assert response.headers["content-type"] == ["application/problem+json"]
    problem = json.loads(response.content)
    assert problem["status"] == response.status_code
    assert problem["type"].startswith("urn:xdpdirector:problem:")
    assert len(problem["detail"]) > 10
    assert all(fault["detail"] for fault in problem.get("errors", ()))
