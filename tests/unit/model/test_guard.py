# SPDX-License-Identifier: Apache-2.0
"""What may be asked of the guard, what is refused, and in which words."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from xdpdirector.model import Configuration, ServiceSpec
from xdpdirector.model.guard import (
    FASTEST,
    DenyEntry,
    GuardSpec,
    ServiceLimit,
    format_rate,
    parse_prefix,
    parse_rate,
)


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("203.0.113.9", "203.0.113.9/32"),
        ("203.0.113.9/32", "203.0.113.9/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:db8:7::/48", "2001:db8:7::/48"),
        ("2001:DB8:0:0::1", "2001:db8::1/128"),
        ("::/0", "::/0"),
    ],
)
def test_prefixes(text: str, prefix: str) -> None:
    assert parse_prefix(text) == ip_network(prefix)
    assert DenyEntry.model_validate({"prefix": text}).model_dump(mode="json")["prefix"] == prefix


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("203.0.113.5/24", "write 203.0.113.0/24 for all of it, or 203.0.113.5/32"),
        ("2001:db8::1/64", "write 2001:db8::/64 for all of it, or 2001:db8::1/128"),
        ("203.0.113.0/33", "is not a prefix"),
        ("203.0.113", "is not a prefix"),
        ("example.net", "is not a prefix"),
        ("", "is not a prefix"),
        (None, "is not a prefix"),
        (7, "is not a prefix"),
        ("::ffff:192.0.2.1", "IPv4-mapped"),
        ("fe80::1%eth0", "scoped"),
    ],
)
def test_what_is_no_prefix(text: object, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_prefix(text)


@pytest.mark.parametrize(
    ("text", "rate", "written"),
    [
        ("1000/s", 1000.0, "1000/s"),
        ("10/m", 10 / 60, "10/m"),
        ("5/h", 5 / 3600, "5/h"),
        ("60/m", 1.0, "1/s"),
        ("0.5/s", 0.5, "30/m"),
        ("1.5/h", 1.5 / 3600, "1.5/h"),
        ("0.1666666667/s", 0.1666666667, "0.1666666667/s"),
        (100, 100.0, "100/s"),
        ("10000000/s", 1e7, "10000000/s"),
        ("1/h", 1 / 3600, "1/h"),
    ],
)
def test_rates(text: object, rate: float, written: str) -> None:
    assert parse_rate(text) == pytest.approx(rate)
    assert format_rate(parse_rate(text)) == written
    assert parse_rate(written) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0/s", "lets nobody in"),
        (0, "lets nobody in"),
        ("10", "is not a rate"),
        ("10/d", "is not a rate"),
        ("-1/s", "is not a rate"),
        (-1, "out of range"),
        (float("nan"), "out of range"),
        (float("inf"), "out of range"),
        ("0.5/h", "out of range"),
        ("10000001/s", "out of range"),
        (True, "is not a rate"),
        ("ten/s", "is not a rate"),
    ],
)
def test_what_is_no_rate(text: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_rate(text)


@pytest.mark.parametrize(
    ("limit", "in_burst", "of_source"),
    [
        ({"rate": "100/s"}, 100, None),
        ({"rate": "100/s", "burst": 7}, 7, None),
        ({"rate": "90/m"}, 2, None),
        ({"rate": "1/h"}, 1, None),
        ({"per_source": {"rate": "10/s"}}, 0, 10),
        ({"rate": "100/s", "per_source": {"rate": "10/s", "burst": 3}}, 100, 3),
    ],
)
def test_a_burst_is_what_a_second_earns(limit: dict[str, Any], in_burst: int, of_source: int | None) -> None:
    spec = ServiceLimit.model_validate(limit)

    assert spec.in_burst == in_burst
    assert (spec.per_source and spec.per_source.in_burst) == of_source
    assert ServiceLimit.model_validate(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({}, "there is no limit in it"),
        ({"burst": 5}, "burst needs a rate"),
        ({"rate": "10/s", "burst": 0}, "greater than or equal to 1"),
        ({"rate": "1/h", "burst": 25}, "takes longer than a day"),
        ({"per_source": {}}, "Field required"),
        ({"per_source": {"rate": "10/s", "prefix": 33}}, "less than or equal to 32"),
        ({"per_source": {"rate": "10/s", "prefix": 0}}, "greater than or equal to 1"),
        ({"rates": "10/s"}, "Extra inputs"),
    ],
)
def test_limits_that_are_none(limit: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ServiceLimit.model_validate(limit)


def test_a_prefix_that_stands_twice_is_named() -> None:
    with pytest.raises(ValidationError, match=r"prefix 203\.0\.113\.0/24 stands twice"):
        GuardSpec.model_validate({"deny": [{"prefix": "203.0.113.0/24"}, {"prefix": "203.0.113.0/24"}]})


def test_more_prefixes_than_there_is_room_for() -> None:
    deny = [{"prefix": f"203.0.113.{host}"} for host in range(17)]

    with pytest.raises(ValidationError, match=r"raise sizes\.denied"):
        Configuration.model_validate(
            {"interfaces": ["eth0"], "sizes": {"denied": 16}, "guard": {"deny": deny}}
        )


@pytest.mark.parametrize(
    ("service", "is_sound"),
    [
        ({"listeners": ["192.0.2.10:53/udp"], "scheduler": "mh"}, False),
        ({"listeners": ["192.0.2.10:*/gre"], "scheduler": "sh"}, False),
        ({"listeners": ["192.0.2.10:3868/sctp"], "scheduler": "sh"}, True),
        ({"listeners": ["192.0.2.10:53/udp", "192.0.2.10:53/tcp"], "scheduler": "mh"}, True),
        ({"listeners": ["192.0.2.10:53/udp"], "scheduler": "mh", "one_packet": True}, True),
        ({"listeners": ["192.0.2.10:53/udp"], "scheduler": "mh", "persistence": {}}, True),
        ({"listeners": ["192.0.2.10:53/udp"], "scheduler": "wlc"}, True),
    ],
)
def test_a_limit_needs_packets_that_show_what_is_new(service: dict[str, Any], is_sound: bool) -> None:
    document = service | {"limit": {"rate": "10/s"}}

    if is_sound:
        assert ServiceSpec.model_validate(document).limit is not None
    else:
        with pytest.raises(ValidationError, match="cannot tell which datagram opens one"):
            ServiceSpec.model_validate(document)


@given(st.floats(1 / 3600, FASTEST))
def test_a_rate_survives_being_written(rate: float) -> None:
    assert parse_rate(format_rate(rate)) == rate
