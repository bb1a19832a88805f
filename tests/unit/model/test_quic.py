# SPDX-License-Identifier: Apache-2.0
"""QUIC connection IDs that name backends: what may be asked for, and which ID a backend has."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from pydantic import ValidationError

from xdpdirector.model import ServiceSpec
from xdpdirector.model.quic import QuicSpec

VIP = "192.0.2.10"
WEB1, WEB2 = {"address": "192.0.2.21"}, {"address": "198.51.100.21"}
LB, OFFSET = {"cids": "quic-lb"}, {"cids": "offset"}


def service(quic: dict[str, Any] | None, *backends: dict[str, Any], **options: Any) -> ServiceSpec:
    named = {f"web{number}": backend for number, backend in enumerate(backends or (WEB1, WEB2), 1)}
    listeners = [f"{VIP}:443/tcp", f"{VIP}:443/udp"]
    return ServiceSpec.model_validate({"listeners": listeners, "quic": quic, "backends": named} | options)


@pytest.mark.parametrize(
    ("quic", "begin", "length"),
    [
        pytest.param(LB, 1, 4, id="QUIC-LB"),
        pytest.param(
            {**LB, "length": 15, "config_id": 6, "encodes_length": True}, 1, 15, id="QUIC-LB, longest"
        ),
        pytest.param(OFFSET, 0, 4, id="offset"),
        pytest.param({**OFFSET, "offset": 2, "length": 18}, 2, 18, id="offset, longest"),
        pytest.param({**OFFSET, "offset": 19, "length": 1}, 19, 1, id="offset, last octet"),
    ],
)
def test_what_connection_ids_may_look_like(quic: dict[str, Any], begin: int, length: int) -> None:
    spec = QuicSpec.model_validate(quic)

    assert (spec.begin, spec.length) == (begin, length)


@pytest.mark.parametrize(
    ("quic", "field", "why"),
    [
        pytest.param({}, "cids", "required", id="no scheme"),
        pytest.param({"cids": "maglev"}, "cids", "'quic-lb' or 'offset'", id="another scheme"),
        pytest.param({**LB, "length": 0}, "length", "greater than or equal to 1", id="no ID"),
        pytest.param({**OFFSET, "length": 19}, "length", "less than or equal to 18", id="too long"),
        pytest.param({**LB, "length": 16}, "", "length 16 is too long for quic-lb: use at most 15", id="QUIC-LB"),
        pytest.param({**LB, "config_id": 7}, "config_id", "less than or equal to 6", id="no configuration"),
        pytest.param({**LB, "offset": 1}, "", "offset is for cids: offset", id="QUIC-LB with offset"),
        pytest.param({**OFFSET, "config_id": 0}, "", "config_id is for cids: quic-lb", id="config_id"),
        pytest.param({**OFFSET, "encodes_length": True}, "", "encodes_length is for cids: quic-lb", id="length"),
        pytest.param({**OFFSET, "offset": 17}, "", "offset 17 and length 4 end behind the 20 octets", id="behind"),
        pytest.param({**LB, "nonce": 4}, "nonce", "not permitted", id="unknown key"),
    ],
)  # fmt: skip
def test_what_connection_ids_cannot_look_like(quic: dict[str, Any], field: str, why: str) -> None:
    with pytest.raises(ValidationError) as raised:
        service(quic)

    (error,) = raised.value.errors()
    assert ".".join(map(str, error["loc"])) == ".".join(filter(None, ("quic", field)))
    assert why.lower() in error["msg"].lower()


@pytest.mark.parametrize(
    ("address", "length", "quic_id", "raw"),
    [
        pytest.param("192.0.2.21", 4, None, "c0000215", id="an IPv4 address"),
        pytest.param("192.0.2.21", 2, None, "0215", id="the end of one"),
        pytest.param("192.0.2.21", 6, None, "0000c0000215", id="behind zeros"),
        pytest.param("2001:db8::1:15", 4, None, "00010015", id="the end of an IPv6 address"),
        pytest.param("2001:db8::15", 18, None, "0000" "20010db8" + "00" * 11 + "15", id="IPv6 behind zeros"),
        pytest.param("192.0.2.21", 2, "beef", "beef", id="its own"),
    ],
)  # fmt: skip
def test_an_id_is_the_backends_own_or_the_end_of_its_address(
    address: str, length: int, quic_id: str | None, raw: str
) -> None:
    quic = QuicSpec(cids="offset", length=length)

    assert quic.id_of(ip_address(address), quic_id).hex() == raw


SAME = {"a": {**WEB1, "quic_id": "00000001"}, "b": {**WEB2, "quic_id": "00000001"}}


@pytest.mark.parametrize(
    ("quic", "options", "why"),
    [
        pytest.param({**LB, "length": 1}, {}, "backends 'web1' and 'web2' both have the QUIC ID 15: give one of "
                     "them another quic_id, or raise the length of quic", id="the same end of two addresses"),
        pytest.param(LB, {"backends": SAME}, "backends 'a' and 'b' both have the QUIC ID 00000001", id="twice"),
        pytest.param(LB, {"backends": {"a": {**WEB1, "quic_id": "c6336415"}, "b": WEB2}},
                     "backends 'a' and 'b' both have the QUIC ID c6336415", id="the end of the other's address"),
        pytest.param(LB, {"backends": {"a": {**WEB1, "quic_id": "01"}}}, "backend 'a' has the quic_id 01 of 1 "
                     "octets, but the length of quic is 4", id="another length"),
        pytest.param(None, {"backends": {"a": {**WEB1, "quic_id": "01"}}}, "backend 'a' has a quic_id, but the "
                     "service has no quic: add that", id="an ID without quic"),
        pytest.param(LB, {"listeners": [f"{VIP}:443/tcp"]}, "quic is for datagrams: add a listener with /udp",
                     id="no datagrams"),
        pytest.param(LB, {"one_packet": True}, "one_packet keeps no connections", id="one_packet"),
    ],
)  # fmt: skip
def test_services_in_which_ids_do_not_fit(
    quic: dict[str, Any] | None, options: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValidationError, match=why):
        service(quic, **options)


@pytest.mark.parametrize("quic_id", ["", "0", "0g", "AB", "0x01", "01 ", "00" * 19, 215, True])
def test_what_is_no_id(quic_id: object) -> None:
    with pytest.raises(ValidationError) as raised:
        service({**OFFSET, "length": 1}, {**WEB1, "quic_id": quic_id})

    assert raised.value.errors()[0]["loc"] == ("backends", "web1", "quic_id")
