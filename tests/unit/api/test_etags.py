# SPDX-License-Identifier: Apache-2.0
"""ETags in conditions: what is one, and that a long header costs no more than it has letters."""

from __future__ import annotations

import pytest

from xdpdirector.api.http.etags import expected


@pytest.mark.parametrize(
    ("field", "tags"),
    [
        ('"a"', {"a"}),
        ('"a", "b"', {"a", "b"}),
        ('"a","b"', {"a", "b"}),
        (' "a" ,\t"b" ', {"a", "b"}),
        ('W/"a", "b"', {"b"}),
        ('"a,b"', {"a,b"}),
        ('""', {""}),
        (', ,"a",,', {"a"}),
        ("a", set()),
        ('"a" x, "b"', {"b"}),
        ('x "a", "b"', {"b"}),
        ('"a', set()),
        ('"a" "b"', set()),
        ("", set()),
    ],
)
def test_the_tags_of_a_field(field: str, tags: set[str]) -> None:
    assert expected(field) == tags


@pytest.mark.parametrize("piece", [" ", '"', ",", '"a" ', 'W/"', "x", '"a" x,', "\t", 'W/"a" W/'], ids=repr)
def test_a_long_field_is_read_to_its_end(piece: str) -> None:
    """What looks at all that follows for each letter of this does not come to an end."""
    found = expected('"a",' + piece * 1_000_000 + ', "b"')

    assert found is not None
    assert found <= {"a", "b", ", "}
