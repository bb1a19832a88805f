# SPDX-License-Identifier: Apache-2.0
"""keepalived.conf as services. Rows: what is written, what becomes of it, and keywords that are left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from ruamel.yaml import YAML

from xdpdirector.lvs import keepalived
from xdpdirector.lvs.export import keepalived as exported
from xdpdirector.lvs.imported import Imported
from xdpdirector.lvs.keepalived_text import Statement, parse, words_of
from xdpdirector.model import Configuration

FILE = "keepalived.conf"
VIP = "192.0.2.10"
SERVERS = "real_server 192.0.2.21 80 {\nweight 2\n}\nreal_server 192.0.2.22 80 {\n}\n"
BASE = f"virtual_server {VIP} 80 {{\nlvs_sched wlc\nlvs_method DR\n%s\n{SERVERS}}}\n"
CHECKED = (
    f"virtual_server {VIP} 80 {{\nlvs_method DR\ndelay_loop 5\nreal_server 192.0.2.21 80 {{\n%s\n}}\n}}\n"
)
NAME = "tcp-192.0.2.10-80"
COMMON = {"interval": "5s", "timeout": "5s", "rise": 1, "fall": 2, "via": "address"}


def nothing_included(pattern: str, file: str) -> None:
    return None


def read(text: str, **options: Any) -> Imported:
    return keepalived.read(text, FILE, nothing_included, **options)


def left(imported: Imported) -> list[str]:
    return [each.origin.text.split()[0] for each in imported.left]


VIRTUAL: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("plain", "", {"scheduler": "wlc", "listeners": [f"{VIP}:80/tcp"]}, []),
    ("persistence", "persistence_timeout 600", {"persistence": {"timeout": "600s", "on_drain": "keep"}}, []),
    (
        "granularity",
        "persistence_timeout 60\npersistence_granularity 255.255.255.0",
        {"persistence": {"timeout": "60s", "prefix": 24, "on_drain": "keep"}},
        [],
    ),
    ("sorry", "sorry_server 192.0.2.29 80", {"fallback": "192.0.2.29"}, []),
    ("sorry-of-the-pool", "sorry_server 192.0.2.22 80", {"fallback": "192.0.2.22"}, []),
    ("sorry-here", "sorry_server 127.0.0.1 80", {}, ["sorry_server"]),
    ("scheduler-missing", "lb_algo fastest", {}, ["lb_algo"]),
    ("locality", "lb_algo lblc", {"scheduler": "lblc"}, []),
    ("replicated-locality", "lb_algo lblcr", {"scheduler": "lblcr"}, []),
    ("maglev", "lb_algo mh\nmh-port\nmh-fallback", {"scheduler": "mh", "hash": "flow"}, []),
    ("source-hash", "lb_algo sh", {"scheduler": "sh", "hash": "address"}, []),
    ("flag", "flag-1", {}, ["flag-1"]),
    ("sctp", "protocol SCTP", {"listeners": [f"{VIP}:80/sctp"]}, []),
    ("udp", "protocol UDP\nops", {"listeners": [f"{VIP}:80/udp"], "one_packet": True}, []),
    ("nat", "lb_kind NAT", {}, ["lb_kind"]),
    ("tunnel", "lb_kind TUN", {"forward": "ipip"}, []),
    (
        "gue",
        "lvs_method TUN type gue port 9886 nocsum",
        {"forward": "gue", "tunnel": {"port": 9886}},
        [],
    ),
    ("gre", "lvs_method TUN type gre", {}, ["lvs_method"]),
    ("quorum-1", "quorum 1", {}, []),
    (
        "quorum",
        "quorum 2\nhysteresis 1\nquorum_up /bin/true\nquorum_down /bin/false",
        {},
        [
            "quorum",
            "hysteresis",
            "quorum_up",
            "quorum_down",
        ],
    ),
    ("alpha", "alpha\nomega\nha_suspend", {}, ["alpha", "omega", "ha_suspend"]),
    ("alert", "smtp_alert\nsnmp_name web", {}, ["smtp_alert", "snmp_name"]),
    ("engine", "persistence_engine sip", {}, ["persistence_engine"]),
    ("no-persistence", "persistence_timeout 0", {"persistence": None}, []),
    ("nat-mask", "nat_mask 255.255.255.0", {}, ["nat_mask"]),
    (
        "remark",
        "delay_loop 6 // seconds\npersistence_timeout 50 // too",
        {"persistence": {"timeout": "50s", "on_drain": "keep"}},
        ["delay_loop"],
    ),
    ("unknown", "frobnicate 5", {}, ["frobnicate"]),
    ("number", "persistence_timeout many", {"scheduler": "wlc"}, ["persistence_timeout"]),
    (
        "inhibit",
        "inhibit_on_failure\nsorry_server_inhibit",
        {},
        ["inhibit_on_failure", "sorry_server_inhibit"],
    ),
]


@pytest.mark.parametrize(
    ("text", "fields", "words"), [row[1:] for row in VIRTUAL], ids=[row[0] for row in VIRTUAL]
)
def test_virtual_servers(text: str, fields: dict[str, Any], words: list[str]) -> None:
    imported = read(BASE % text)

    (service,) = imported.services.values()
    assert {key: service.get(key) for key in fields} == fields
    assert left(imported) == words
    assert list(service["backends"])[:2] == ["192.0.2.21", "192.0.2.22"]


CHECKS: list[tuple[str, str, dict[str, Any], list[str]]] = [
    (
        "tcp",
        "TCP_CHECK {\nconnect_timeout 3\nconnect_port 81\n}",
        {"type": "tcp", "timeout": "3s", "port": 81},
        [],
    ),
    (
        "http",
        "HTTP_GET {\nurl {\npath /healthz\nstatus_code 200\n}\nretry 3\n}",
        {"type": "http", "path": "/healthz", "status": [200], "fall": 4},
        [],
    ),
    (
        "ssl",
        "SSL_GET {\nurl {\npath /\nvirtualhost www.example\nregex ok\n}\n}",
        {"type": "https", "host": "www.example", "body": "ok"},
        [],
    ),
    (
        "ranges",
        "HTTP_GET {\nurl {\npath /\nstatus_code 200-202 301\n}\n}",
        {"status": [200, 201, 202, 301]},
        [],
    ),
    (
        "digest",
        "HTTP_GET {\nurl {\npath /\ndigest 640205b7b0fc66c1ea91c463fac6334d\n}\n}",
        {"path": "/"},
        ["digest"],
    ),
    (
        "inverse",
        "HTTP_GET {\nurl {\npath /\nregex down\nregex_no_match\nregex_stack 1 2\n}\n}",
        {"path": "/", "body": None},
        ["regex", "regex_no_match", "regex_stack"],
    ),
    ("two-pages", "HTTP_GET {\nurl {\npath /a\n}\nurl {\npath /b\n}\n}", {"path": "/a"}, ["url"]),
    (
        "smtp",
        "SMTP_CHECK {\nhelo_name me.example\nhost {\nconnect_port 25\n}\n}",
        {"hello": "me.example", "port": 25},
        [],
    ),
    (
        "dns",
        "DNS_CHECK {\ntype ns\nname example.com\n}",
        {"type": "dns", "query": "NS", "name": "example.com"},
        [],
    ),
    ("ping", "PING_CHECK {\n}", {"type": "icmp"}, []),
    ("udp", "UDP_CHECK {\npayload 0a0b\nrequire_reply\n}", {"send_hex": "0a0b", "expect": "(?s)."}, []),
    (
        "misc",
        'MISC_CHECK {\nmisc_path "/usr/bin/check it -x"\nmisc_timeout 4\nmisc_dynamic\n}',
        {"type": "exec", "command": ["/usr/bin/check", "it", "-x"], "timeout": "4s"},
        ["misc_dynamic"],
    ),
    (
        "often",
        "TCP_CHECK {\nconnect_timeout 0.2\nretry 3\ndelay_before_retry 0.5\n}",
        {"timeout": "200ms", "fall": 4},
        ["delay_before_retry"],
    ),
    ("brackets", "HTTP_GET {\nurl{\npath /x\n}\n}", {"path": "/x"}, []),
    ("bind", "TCP_CHECK {\nbindto 192.0.2.1\n}", {"type": "tcp"}, ["bindto"]),
    ("two", "TCP_CHECK {\n}\nPING_CHECK {\n}", {"type": "tcp"}, ["PING_CHECK"]),
    ("warmup", "warmup 3\nTCP_CHECK {\n}", {"type": "tcp"}, ["warmup"]),
]


@pytest.mark.parametrize(
    ("text", "fields", "words"), [row[1:] for row in CHECKS], ids=[row[0] for row in CHECKS]
)
def test_checkers(text: str, fields: dict[str, Any], words: list[str]) -> None:
    imported = read(CHECKED % text)

    check = imported.services[NAME]["check"]
    wanted = {**COMMON, **fields}
    assert {key: check.get(key) for key in wanted} == wanted
    assert left(imported) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("BFD_CHECK {\nname x\n}", ["BFD_CHECK"]),
        ("FILE_CHECK {\ntrack_file x\n}", ["FILE_CHECK"]),
        ("MISC_CHECK {\nmisc_path check.sh\n}", ["MISC_CHECK"]),
        ("TCP_CHECK {\nconnect_timeout soon\n}", ["TCP_CHECK"]),
        ("notify_up /bin/x\nuthreshold many\n", ["notify_up", "uthreshold"]),
    ],
)
def test_what_no_check_is_made_of(text: str, words: list[str]) -> None:
    imported = read(CHECKED % text)

    assert "check" not in imported.services[NAME]
    assert left(imported) == [*words, "delay_loop"]


def test_what_is_global_of_lvs() -> None:
    """Timeouts are those of all services, whether they stand before or behind them."""
    head = "global_defs {\nlvs_sync_daemon eth0 VI_1\nlvs_timeouts tcp 600 udp 60\nlvs_flush\n}\n"
    other = "virtual_server 192.0.2.11 80 {\nlvs_method DR\n}\n"
    imported = read(other + head + "SSL {\nca /etc/ca.pem\n}\n" + BASE % "")

    assert [service["timeouts"] for service in imported.services.values()] == [
        {"tcp": "600s", "udp": "60s"}
    ] * 2
    assert left(imported) == ["global_defs", "SSL", "lvs_sync_daemon", "lvs_flush"]
    assert "lvs: {sync:" in imported.left[2].remedy
    Configuration.model_validate(imported.document("eth0"))


@pytest.mark.parametrize("words", ["", "tcp", "tcp x", "tcp 0", "sctp 5", "tcp -1", "udp 86401"])
def test_timeouts_that_cannot_be_read(words: str) -> None:
    imported = read(f"global_defs {{\nlvs_timeouts {words}\n}}\n" + BASE % "")

    assert left(imported) == ["global_defs", "lvs_timeouts"]
    assert all("timeouts" not in service for service in imported.services.values())


def test_ipv6_has_a_prefix_of_its_own() -> None:
    text = (BASE % "persistence_timeout 60\npersistence_granularity 64").replace(VIP, "2001:db8::10")

    (service,) = read(text).services.values()

    assert service["listeners"] == ["[2001:db8::10]:80/tcp"]
    assert service["persistence"] == {"timeout": "60s", "prefix6": 64, "on_drain": "keep"}


GROUP = (
    "virtual_server_group shop {\n192.0.2.10 80\n192.0.2.11-13 443\n2001:db8::10 80\nfwmark 5\n}\n"
    f"virtual_server group shop {{\nlvs_method DR\n{SERVERS}}}\n"
)


def test_groups_with_ranges_and_marks() -> None:
    imported = read(GROUP, fwmarks={"5": ["192.0.2.15:80/tcp"]})

    assert imported.services["shop"]["listeners"] == [
        "192.0.2.10:80/tcp",
        "192.0.2.11:443/tcp",
        "192.0.2.12:443/tcp",
        "192.0.2.13:443/tcp",
        "[2001:db8::10]:80/tcp",
        "192.0.2.15:80/tcp",
    ]
    assert imported.fwmarks == {"5": ["192.0.2.15:80/tcp"]}


def test_a_mark_that_stands_for_nothing_is_left() -> None:
    imported = read(f"virtual_server fwmark 5 {{\nlvs_method DR\n{SERVERS}}}\n")

    assert imported.services == {}
    assert [each.remedy for each in imported.left] == ["Say it: --fwmark 5=192.0.2.10:80/tcp"]


def test_servers_that_cannot_be_backends_are_left() -> None:
    text = f"virtual_server {VIP} 80 {{\nlvs_method DR\n"
    for server in (
        "web.example 80",
        "127.0.0.1 80",
        f"{VIP} 80",
        "192.0.2.21 80",
        "192.0.2.21 81",
        "192.0.2.23 8080",
    ):
        text += f"real_server {server} {{\n}}\n"

    imported = read(text + "}\n")

    assert imported.services[NAME]["backends"].keys() == {"192.0.2.21", "192.0.2.23"}
    assert left(imported) == ["real_server"] * 5


def test_other_checks_of_other_servers_are_left() -> None:
    text = f"virtual_server {VIP} 80 {{\nlvs_method DR\n"
    for number, check in enumerate(("TCP_CHECK {\n}", "TCP_CHECK {\n}", "PING_CHECK {\n}", "")):
        text += f"real_server 192.0.2.{21 + number} 80 {{\n{check}\n}}\n"

    imported = read(text + "}\n")

    assert imported.services[NAME]["check"]["type"] == "tcp"
    assert [each.origin.text for each in imported.left] == [
        "real_server 192.0.2.23 80 {",
        "real_server 192.0.2.24 80 {",
    ]


def test_vrrp_stays_and_has_the_vips() -> None:
    imported = read("global_defs {\nrouter_id x\n}\nvrrp_instance A {\nstate MASTER\n}\n" + BASE % "")

    assert imported.document("eth0")["vips"] == "external"
    assert left(imported) == ["global_defs", "vrrp_instance"]


WRITTEN: list[tuple[str, str, list[list[str]]]] = [
    ("comments", "a b # c\n! all of it\n#and this\nd!e f", [["a", "b"], ["d!e", "f"]]),
    ("quotes", 'a "b c" "d\\"e"', [["a", "b c", 'd"e']]),
    ("lines-in-quotes", 'a "b\nc"\nd', [["a", "b\nc"], ["d"]]),
    ("backslash", "a b \\\n  c\nd", [["a", "b", "c"], ["d"]]),
    ("definition", "$X=1.2.3\na ${X} $X ${Y}", [["a", "1.2.3", "1.2.3", "${Y}"]]),
    ("nested-definition", "$X=a\n$Y=${X}b\nc $Y", [["c", "ab"]]),
    ("definition-of-lines", "$X=a b\\\nc d\n$X", [["a", "b"], ["c", "d"]]),
    ("sequence", "~SEQ(n, 1, 3) a ${n}", [["a", "1"], ["a", "2"], ["a", "3"]]),
    ("sequence-by-2", "~SEQ(n, 1, 2, 5) a $n", [["a", "1"], ["a", "3"], ["a", "5"]]),
    ("sequence-down", "~SEQ(n, 3, 1) a $n", [["a", "3"], ["a", "2"], ["a", "1"]]),
    (
        "two-sequences",
        "~SEQ(n, 1, 2) ~SEQ(m, 1, 2) a $n$m",
        [["a", "11"], ["a", "12"], ["a", "21"], ["a", "22"]],
    ),
    ("list", "~LST(n, x, y) a $n", [["a", "x"], ["a", "y"]]),
    ("condition", "@one a\n@two b\n@^one c\n@^two d", [["a"], ["d"]]),
]


@pytest.mark.parametrize(("text", "words"), [row[1:] for row in WRITTEN], ids=[row[0] for row in WRITTEN])
def test_how_it_is_written(text: str, words: list[list[str]]) -> None:
    assert [each.words for each in parse(text, FILE, nothing_included, "one").statements] == words


def test_braces_stand_anywhere() -> None:
    for text in ("a b {\nc d\n}\ne", "a b\n{\nc d }\ne", "a b { c d }\ne"):
        first, second = parse(text, FILE, nothing_included, None).statements
        assert [each.words for each in first.block or []] == [["c", "d"]]
        assert (first.words, second.words, second.block) == (["a", "b"], ["e"], None)


def test_conditions_of_somebody_are_told() -> None:
    parsed = parse("@one a\nb", FILE, nothing_included, None)

    assert [each.words for each in parsed.statements] == [["b"]]
    assert [origin.line for origin, _ in parsed.passed] == [1]


def test_files_are_included_once_each() -> None:
    files = {"more": "b\ninclude more", "none": None}

    def include(pattern: str, file: str) -> Sequence[tuple[str, str]] | None:
        text = files[pattern]
        return None if text is None else [(pattern, text)]

    parsed = parse("a\ninclude more\ninclude none\nc", FILE, include, None)

    assert [each.words for each in parsed.statements] == [["a"], ["b"], ["c"]]
    assert [why for _, why in parsed.passed] == ["it includes itself", "there is no file none here"]


def test_words() -> None:
    assert words_of("a{ b}c }") == ["a", "{", "b}c", "}"]


def every(statements: Sequence[Statement]) -> Iterator[Statement]:
    for each in statements:
        yield each
        yield from every(each.block or [])


TEXTS = [BASE % row[1] for row in VIRTUAL] + [CHECKED % row[1] for row in CHECKS] + [GROUP]


@pytest.mark.parametrize("text", TEXTS)
def test_no_line_is_dropped_without_a_word(text: str) -> None:
    imported = read(text)

    told = {each.origin for each in imported.left} | {
        one for each in imported.origins.values() for one in each
    }
    parsed = parse(text, FILE, nothing_included, None).statements
    silent = [
        each.origin.text
        for each in every(parsed)
        if each.origin not in told and not inside_left(each, imported)
    ]
    assert silent == []


def inside_left(statement: Statement, imported: Imported) -> bool:
    """Of a block that is left as a whole."""
    lines = {each.origin.line for each in imported.left}
    return statement.keyword in ("path",) and statement.origin.line - 1 in lines


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_printed_is_a_configuration(text: str) -> None:
    imported = read(text, fwmarks={"5": ["192.0.2.15:80/tcp"]})

    printed = YAML(typ="safe").load(imported.yaml("eth0"))

    assert printed == imported.document("eth0")
    Configuration.model_validate(printed)


@pytest.mark.parametrize(
    "text",
    [
        "lvs_method TUN",
        "lvs_method TUN type gue port 9886 nocsum",
        "lvs_method DR\nreal_server 203.0.113.23 80 {\nlvs_method TUN\n}",
    ],
)
def test_tunnels_there_and_back(text: str) -> None:
    first = read(BASE % text)
    document = first.document("eth0")
    whole = Configuration.model_validate(document).model_dump(mode="json")

    written, _ = exported(whole)
    again = Configuration.model_validate(read(written).document("eth0"))

    for (name, spec), other in zip(
        Configuration.model_validate(document).services.items(), again.services.values(), strict=True
    ):
        forwards = {str(each.address): spec.forward_to(each) for each in spec.backends.values()}
        assert "TUN" not in text or set(forwards.values()) & {"ipip", "gue"}, name
        assert {str(each.address): other.forward_to(each) for each in other.backends.values()} == forwards
        assert other.tunnel.port == spec.tunnel.port


@pytest.mark.parametrize("text", TEXTS)
def test_there_and_back(text: str) -> None:
    first = read(text, fwmarks={"5": ["192.0.2.15:80/tcp"]})
    whole = Configuration.model_validate(first.document("eth0")).model_dump(mode="json")

    written, _ = exported(whole)
    again = read(written, fwmarks={"5": ["192.0.2.15:80/tcp"]})

    assert again.left == []
    if len(first.services) == len(again.services):
        assert comparable(again) == comparable(first)


def comparable(imported: Imported) -> dict[str, Any]:
    """As the model understands it, whatever the names."""
    services: Mapping[str, Any] = Configuration.model_validate(imported.document("eth0")).model_dump()[
        "services"
    ]
    return {
        str(sorted(map(str, each["listeners"]))): {
            **each,
            "listeners": (),
            "backends": sorted(each["backends"]),
        }
        for each in services.values()
    }
