# SPDX-License-Identifier: Apache-2.0
"""From layout.json to numpy types, and from addresses and ports to the numbers of the program."""

from __future__ import annotations

import sys
from ipaddress import ip_address
from typing import Any, cast

import numpy as np
import pytest

from xdpdirector.dataplane import maps
from xdpdirector.dataplane.jiffies import frequencies
from xdpdirector.dataplane.maps import Tables, address_of, address_words, dtype_of, network16

INNER = {
    "name": "inner",
    "size": 4,
    "fields": [
        {"name": "port", "offset": 0, "size": 2, "type": "u16"},
        {"name": "protocol", "offset": 2, "size": 1, "type": "u8"},
    ],
}
OUTER = {
    "name": "outer",
    "size": 48,
    "fields": [
        {"name": "mac", "offset": 0, "size": 6, "type": "bytes"},
        {"name": "when", "offset": 8, "size": 8, "type": "u64"},
        {"name": "delta", "offset": 16, "size": 4, "type": "s32"},
        {"name": "words", "offset": 20, "size": 16, "type": "u32", "count": 4},
        {"name": "inner", "offset": 36, "size": 4, "type": INNER},
        {"name": "pair", "offset": 40, "size": 8, "type": INNER, "count": 2},
    ],
}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("u8", "u1"), ("u16", "u2"), ("u32", "u4"), ("u64", "u8"), ("s8", "i1"), ("s16", "i2"), ("s32", "i4"),
     ("s64", "i8")],
)  # fmt: skip
def test_a_number(kind: str, expected: str) -> None:
    assert dtype_of({"size": int(expected[1]), "type": kind}) == np.dtype(expected)


def test_a_struct_has_its_fields_where_c_has_them() -> None:
    memory = bytearray(48)
    memory[0:6] = bytes.fromhex("020000000021")
    memory[8:16] = (1 << 40).to_bytes(8, sys.byteorder)
    memory[16:20] = (-5).to_bytes(4, sys.byteorder, signed=True)
    memory[20:36] = b"".join(number.to_bytes(4, sys.byteorder) for number in (1, 2, 3, 4))
    memory[36:39] = (80).to_bytes(2, sys.byteorder) + b"\x06"
    memory[44:47] = (53).to_bytes(2, sys.byteorder) + b"\x11"

    [record] = np.frombuffer(memory, dtype_of(OUTER))

    assert (record["mac"], record["when"], record["delta"]) == (bytes.fromhex("020000000021"), 1 << 40, -5)
    assert record["words"].tolist() == [1, 2, 3, 4]
    assert record["inner"].tolist() == (80, 6)
    assert record["pair"].tolist() == [(0, 0), (53, 17)]


@pytest.mark.parametrize(
    ("shape", "stride", "itemsize"),
    [
        pytest.param(OUTER, None, 48, id="a struct alone"),
        pytest.param(INNER, 8, 8, id="a struct in an array of wider places"),
        pytest.param({"size": 8, "type": "u64"}, 8, 8, id="a number that fills its place"),
        pytest.param({"size": 4, "type": "u32"}, None, 4, id="a number alone"),
        pytest.param({"size": 4, "type": "u32"}, 8, 8, id="a number in a wider place"),
    ],
)
def test_places_of_an_array_are_as_far_apart_as_the_kernel_has_them(
    shape: dict[str, Any], stride: int | None, itemsize: int
) -> None:
    assert dtype_of(shape, stride=stride).itemsize == itemsize


def test_a_number_in_a_wider_place_is_its_first_bytes() -> None:
    memory = bytes.fromhex("01000000999999990200000099999999")

    places = np.frombuffer(memory, dtype_of({"size": 4, "type": "u32"}, stride=8))

    assert places["value"].astype("<u4").tobytes() == bytes.fromhex("0100000002000000")


def test_each_word_of_an_entry_is_stored_behind_a_barrier(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first word, which makes an entry valid, is seen last."""
    entries = np.zeros(2, [("state", "u8"), ("addresses", "u8", (2,))])
    seen: list[list[int]] = []
    monkeypatch.setattr(maps, "barrier", lambda: seen.append(entries.view(np.uint64).tolist()))

    written = Tables.store(cast("Tables", None), entries, 1, {"state": 1, "addresses": (2, 3)})

    assert written == 3
    assert seen == [[0] * 6, [0, 0, 0, 0, 0, 3], [0, 0, 0, 0, 2, 3]]
    assert entries[1].tolist()[0] == 1


def test_what_is_no_type_of_the_layout_is_an_error() -> None:
    with pytest.raises(KeyError):
        dtype_of({"size": 4, "type": "float"})


@pytest.mark.parametrize(
    ("text", "count"),
    [("192.0.2.10", 1), ("255.255.255.254", 1), ("2001:db8::10", 4), ("2001:db8:1:2:3:4:5:6", 4)],
)
def test_an_address_is_the_words_that_a_packet_has(text: str, count: int) -> None:
    words = address_words(ip_address(text))

    assert len(words) == count
    assert np.array(words, np.uint32).tobytes() == ip_address(text).packed
    assert address_of(np.array(words, np.uint32)) == ip_address(text)


@pytest.mark.parametrize(("port", "packed"), [(80, "0050"), (1, "0001"), (65535, "ffff"), (8080, "1f90")])
def test_a_port_is_the_number_that_a_packet_has(port: int, packed: str) -> None:
    assert np.uint16(network16(port)).tobytes() == bytes.fromhex(packed)


@pytest.mark.parametrize(
    ("ticks", "shortest", "longest", "possible"),
    [
        pytest.param(5, 0.050, 0.0501, [100], id="100"),
        pytest.param(12, 0.050, 0.0501, [250], id="250, rounded down"),
        pytest.param(13, 0.050, 0.0501, [250], id="250, rounded up"),
        pytest.param(15, 0.050, 0.0501, [300], id="300"),
        pytest.param(50, 0.050, 0.0501, [1000], id="1000"),
        pytest.param(25, 0.050, 0.1001, [250, 300], id="the second reading came late: in doubt"),
        pytest.param(0, 0.0001, 0.0002, [100, 250, 300, 1000], id="too short to tell"),
        pytest.param(500, 0.050, 0.0501, [], id="of no kernel"),
    ],
)
def test_ticks_in_a_time_tell_their_rate(
    ticks: int, shortest: float, longest: float, possible: list[int]
) -> None:
    assert frequencies(ticks, shortest, longest) == possible
