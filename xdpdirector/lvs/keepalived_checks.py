# SPDX-License-Identifier: Apache-2.0
"""keepalived's checkers as one check of a service, which all its backends have."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from xdpdirector.lvs.imported import Imported, Origin, duration
from xdpdirector.lvs.keepalived_text import Statement, by_keyword

CHECKERS = (
    "HTTP_GET",
    "SSL_GET",
    "TCP_CHECK",
    "SMTP_CHECK",
    "DNS_CHECK",
    "PING_CHECK",
    "UDP_CHECK",
    "MISC_CHECK",
    "BFD_CHECK",
    "FILE_CHECK",
)
NO_SUCH_OPTION = ("a check of this kind has no such option here", "Leave it out")
WHY = {
    "delay_before_retry": ("a check is repeated after its interval here", "Choose interval and fall"),
    "bindto": ("a check has the director's address on the way to the backend", "Nothing needs to be done"),
    "connect_ip": ("a check asks the backend's own address here", "Nothing needs to be done"),
}
USED = ("delay_loop", "retry", "connect_timeout")
"""Of virtual and real servers, and of checkers, where they go before."""
TYPES = {
    "HTTP_GET": "http",
    "SSL_GET": "https",
    "TCP_CHECK": "tcp",
    "SMTP_CHECK": "smtp",
    "DNS_CHECK": "dns",
    "PING_CHECK": "icmp",
    "UDP_CHECK": "udp",
    "MISC_CHECK": "exec",
}
INTERVAL, TIMEOUT = 60.0, 5.0
"""keepalived's own."""
GOOD = [200, 201, 202, 203, 204, 205, 206]
"""What keepalived takes without status_code, of what there is from 200 to 299."""
MOST_STATUS = 64


class Checks:
    """Of one service. `virtual`: what its virtual server says."""

    def __init__(self, imported: Imported, name: str, virtual: Mapping[str, Statement]) -> None:
        self._imported, self._name, self._virtual = imported, name, virtual
        self._found: list[tuple[Statement, dict[str, Any], list[Origin]]] = []
        self._without: list[Origin] = []

    def add(self, backend: str, server: Statement) -> None:
        """What a real server says."""
        checkers = [each for each in server.block or [] if each.keyword in CHECKERS]
        if not checkers:
            self._without.append(server.origin)
        for each in checkers[1:]:
            self._imported.leave(
                each.origin, "a service has one check here", "Choose the one that tells most"
            )
        for each in checkers[:1]:
            try:
                check, origins = self._check(each, by_keyword(server.block or []))
            except (ValueError, IndexError):
                self._imported.leave(each.origin, "a value in it cannot be read", "Write it by hand")
                continue
            if check:
                self._found.append((server, check, origins))

    def settle(self, service: dict[str, Any]) -> None:
        """The first holds for all."""
        if not self._found:
            return
        _, check, origins = self._found[0]
        service["check"] = check
        self._imported.came_from((self._name, "check"), *origins)
        for server, other, where in self._found[1:]:
            if other == check:
                self._imported.came_from((self._name, "check"), *where)
            else:
                self._imported.leave(server.origin, "its check is another than that of the first server", ONE)
        for origin in self._without:
            self._imported.leave(origin, "it has no check, and here all servers of a service have one", ONE)

    def _check(
        self, checker: Statement, server: Mapping[str, Statement]
    ) -> tuple[dict[str, Any], list[Origin]]:
        kind = TYPES.get(checker.keyword)
        if kind is None:
            self._imported.leave(
                checker.origin, "there is no such check here", "Choose one that asks the server"
            )
            return {}, []
        block = checker.block or []
        said = {**self._virtual, **server, **by_keyword(block)}
        interval = _number(said, "delay_loop", INTERVAL)
        timeout = _number(said, "connect_timeout", TIMEOUT)
        fall = 1 + int(_number(said, "nb_get_retry" if "nb_get_retry" in said else "retry", 1))
        check: dict[str, Any] = {
            "type": kind,
            "interval": duration(interval),
            "timeout": duration(min(timeout, interval)),
            "rise": 1,
            "fall": min(fall, 100),
            "via": "address",
        }
        self._origins = [checker.origin, *(said[word].origin for word in USED if word in said)]
        special = {
            "http": self._http,
            "https": self._http,
            "smtp": self._smtp,
            "dns": self._dns,
            "udp": self._udp,
            "exec": self._exec,
        }.get(kind)
        rest = list(block)
        if special:
            rest = special(check, block, said)
        for each in rest:
            self._common(check, each)
        told = (
            "enable_sni",
            "fast_recovery",
            "nb_get_retry",
            "host",
            "delay_loop",
            "retry",
            "connect_timeout",
        )
        self._origins += [each.origin for each in block if each.keyword in told]
        return (check if check else {}), self._origins

    def _common(self, check: dict[str, Any], each: Statement) -> None:
        if each.keyword == "connect_port" and check.get("type") not in ("icmp", "exec"):
            check["port"] = int(each.arguments[0])
            self._origins.append(each.origin)
        elif each.keyword not in (*USED, "nb_get_retry"):
            self._imported.leave(each.origin, *WHY.get(each.keyword, NO_SUCH_OPTION))

    def _http(
        self, check: dict[str, Any], block: Sequence[Statement], said: Mapping[str, Statement]
    ) -> list[Statement]:
        urls = [each for each in block if each.keyword == "url"]
        for each in urls[1:]:
            self._imported.leave(
                each.origin, "a check asks for one page here", "Choose the one that tells most"
            )
        check["status"] = GOOD
        host = said.get("virtualhost")
        for each in self._page(urls[0].block or [] if urls else []):
            value = each.arguments[0] if each.arguments else ""
            match each.keyword:
                case "path":
                    check["path"] = value
                case "status_code":
                    check["status"] = _status(each.arguments)
                case "virtualhost":
                    host = each
                case "regex":
                    check["body"] = value
                case "digest":
                    self._imported.leave(each.origin, "a page is not compared by its digest here", "Use body")
                    continue
                case _:
                    self._imported.leave(
                        each.origin, "a page has no such option here", "Use body, in RE2's form"
                    )
                    continue
            self._origins.append(each.origin)
        if host is not None and host.arguments:
            check["host"] = host.arguments[0]
            self._origins.append(host.origin)
        if urls:
            self._origins.append(urls[0].origin)
        return [
            each
            for each in block
            if each.keyword not in ("url", "virtualhost", "enable_sni", "fast_recovery")
        ]

    def _page(self, block: Sequence[Statement]) -> list[Statement]:
        """What `url` says, without a pattern that must not be found: taken as it is it would mean the contrary."""
        inverse = ("regex", "regex_no_match") if "regex_no_match" in by_keyword(block) else ()
        for each in block:
            if each.keyword in inverse:
                self._imported.leave(
                    each.origin, "a page cannot be required to lack something here", "Use an exec check"
                )
        return [each for each in block if each.keyword not in inverse]

    def _smtp(
        self, check: dict[str, Any], block: Sequence[Statement], _: Mapping[str, Statement]
    ) -> list[Statement]:
        rest = []
        for each in block:
            if each.keyword == "helo_name":
                check["hello"] = each.arguments[0]
                self._origins.append(each.origin)
            elif each.keyword == "host" and each.block:
                rest += each.block
            else:
                rest.append(each)
        return rest

    def _dns(
        self, check: dict[str, Any], block: Sequence[Statement], _: Mapping[str, Statement]
    ) -> list[Statement]:
        said = by_keyword(block)
        check["name"] = said["name"].arguments[0] if "name" in said else "."
        check["query"] = said["type"].arguments[0].upper() if "type" in said else "SOA"
        self._origins += [said[word].origin for word in ("name", "type") if word in said]
        return [each for each in block if each.keyword not in ("name", "type")]

    def _udp(
        self, check: dict[str, Any], block: Sequence[Statement], _: Mapping[str, Statement]
    ) -> list[Statement]:
        rest = []
        for each in block:
            if each.keyword == "payload":
                check["send_hex"] = "".join(each.arguments)
            elif each.keyword == "require_reply":
                check["expect"] = "(?s)."
                if each.arguments:
                    self._imported.leave(
                        each.origin,
                        "an answer is looked for by a regular expression here",
                        "Write it into expect",
                    )
            else:
                rest.append(each)
                continue
            self._origins.append(each.origin)
        return rest

    def _exec(
        self, check: dict[str, Any], block: Sequence[Statement], _: Mapping[str, Statement]
    ) -> list[Statement]:
        rest = []
        command: list[str] = []
        for each in block:
            if each.keyword == "misc_path":
                command = shlex.split(" ".join(each.arguments))
                self._origins.append(each.origin)
            elif each.keyword == "misc_timeout":
                check["timeout"] = duration(float(each.arguments[0]))
                self._origins.append(each.origin)
            elif each.keyword == "misc_dynamic":
                self._imported.leave(
                    each.origin, "a program's status is no weight here", "Use a check of type agent"
                )
            else:
                rest.append(each)
        if not command or not command[0].startswith("/"):
            self._imported.leave(self._origins[0], "a program is named by its whole path here", "Write it")
            check.clear()
            return []
        check["command"] = command
        if command[0] not in self._imported.programs:
            self._imported.programs.append(command[0])
        return rest


ONE = "Make a service of its own of it, or give all the same check"


def _number(said: Mapping[str, Statement], keyword: str, otherwise: float) -> float:
    statement = said.get(keyword)
    return float(statement.arguments[0]) if statement and statement.arguments else otherwise


def _status(words: Sequence[str]) -> list[int]:
    found: list[int] = []
    for word in words:
        first, _, last = word.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found[:MOST_STATUS]
