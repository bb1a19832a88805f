# SPDX-License-Identifier: Apache-2.0
"""The program's text: put together, marked, fingerprinted, and its enums read."""

from pathlib import Path

import pytest

from xdpdirector.errors import LoaderError
from xdpdirector.loader import source
from xdpdirector.model import Sizes


@pytest.fixture
def bpf(tmp_path: Path) -> Path:
    directory = tmp_path / "bpf"
    directory.mkdir()
    return directory


def write(directory: Path, **files: str) -> Path:
    """Files by stem: `types` is types.h, `director` is director.c, whose path comes back."""
    for stem, text in files.items():
        (directory / f"{stem}.{'c' if stem == 'director' else 'h'}").write_text(text)
    return directory / "director.c"


def test_each_header_stands_once_where_it_is_first_named(bpf: Path) -> None:
    program = write(
        bpf,
        director='int a;\n#include "maps.h"\n#include "types.h"\nint b;\n',
        maps='#include "types.h"\nint m;\n',
        types="int t;\n",
    )

    text = source.inline(program)

    assert text.splitlines() == [
        '#line 1 "bpf/director.c"',
        "int a;",
        '#line 1 "bpf/maps.h"',
        '#line 1 "bpf/types.h"',
        "int t;",
        '#line 2 "bpf/maps.h"',
        "int m;",
        '#line 3 "bpf/director.c"',
        '#line 4 "bpf/director.c"',
        "int b;",
    ]


def test_system_headers_stay(bpf: Path) -> None:
    program = write(bpf, director="#include <uapi/linux/bpf.h>\n")

    assert "#include <uapi/linux/bpf.h>\n" in source.inline(program)


def test_headers_that_name_each_other_come_to_an_end(bpf: Path) -> None:
    program = write(
        bpf, director='#include "a.h"\n', a='#include "b.h"\nint a;\n', b='#include "a.h"\nint b;\n'
    )

    text = source.inline(program)

    assert (text.count("int a;"), text.count("int b;")) == (1, 1)


def test_a_missing_header_is_named_with_its_place(bpf: Path) -> None:
    program = write(bpf, director='int a;\n#include "maps.h"\n', maps='\n#include "nowhere.h"\n')

    with pytest.raises(LoaderError, match=r"^bpf/maps\.h:2: .*'nowhere\.h'"):
        source.inline(program)


def test_a_missing_program_is_named(bpf: Path) -> None:
    with pytest.raises(LoaderError, match=r"director\.c cannot be read"):
        source.inline(bpf / "director.c")


def test_statements_are_pinpointed_and_comments_are_not_mistaken_for_them(bpf: Path) -> None:
    program = write(
        bpf,
        director="int f(void)\n{\n\tint a =\n\t\t1; /* a;\n\tb; */\n\treturn a; // done;\n}\n",
    )

    text = source.pinpointed(source.inline(program), bpf)

    name = f"{bpf}/director.c"
    assert text.splitlines() == [
        f'#line 1 "{name}"',
        "int f(void)",
        "{",
        f'#line 3 "{name}"',
        "\tint a =",
        "\t\t1; /* a;",
        f'#line 5 "{name}"',
        "\tb; */",
        "\treturn a; // done;",
        f'#line 7 "{name}"',
        "}",
    ]


@pytest.mark.parametrize(
    ("text", "enums"),
    [
        pytest.param("enum e { A = 0, B = 1, };", {"e": {"A": 0, "B": 1}}, id="plain"),
        pytest.param("enum e {\n\tA = 1,\n\tB = 0x10\n};", {"e": {"A": 1, "B": 16}}, id="hexadecimal"),
        pytest.param("enum e { A = 7u };", {"e": {"A": 7}}, id="suffix"),
        pytest.param("enum e { A = 3, B, C };", {"e": {"A": 3, "B": 4, "C": 5}}, id="counted on, as C does"),
        pytest.param(
            "enum e { A = 0, /* B = 1, */ C = 2 // D = 3\n};", {"e": {"A": 0, "C": 2}}, id="comments"
        ),
        pytest.param(
            "enum a { A = 0 };\nenum b { B = 1 };", {"a": {"A": 0}, "b": {"B": 1}}, id="two declarations"
        ),
        pytest.param("int f(enum e x) { return x; }", {}, id="a use is no declaration"),
    ],
)
def test_enums(text: str, enums: dict[str, dict[str, int]]) -> None:
    assert source.enums(text) == enums


@pytest.mark.parametrize("value", ["1 << 3", "OTHER", "010", "-1", "1.5"])
def test_an_enum_whose_value_is_not_plain_is_refused(value: str) -> None:
    with pytest.raises(LoaderError, match=r"enum e: 'A = "):
        source.enums(f"enum e {{ A = {value} }};")


@pytest.mark.parametrize(
    ("types", "sizes", "same"),
    [
        pytest.param("struct a { u32 x; };", Sizes(), True, id="the same"),
        pytest.param(
            "/* new */\n\nstruct  a {\n\tu32 x; // y\n};\n", Sizes(), True, id="comments and spaces"
        ),
        pytest.param("struct a { u64 x; };", Sizes(), False, id="another type"),
        pytest.param("struct a { u32 x; };", Sizes(services=8), False, id="another size"),
    ],
)
def test_the_layout_digest_follows_what_shapes_the_maps(
    bpf: Path, types: str, sizes: Sizes, same: bool
) -> None:
    write(bpf, maps='#include "types.h"\nMAP(a);\n', types="struct a { u32 x; };")
    before = source.layout_digest(bpf, Sizes())

    write(bpf, types=types)

    assert (source.layout_digest(bpf, sizes) == before) is same
    assert len(before) == 64


def test_the_layout_digest_does_not_follow_the_rest_of_the_program(bpf: Path) -> None:
    write(bpf, director="int a;\n", maps="MAP(a);\n")
    before = source.layout_digest(bpf, Sizes())

    write(bpf, director="int b;\n", parse="int p;\n")

    assert source.layout_digest(bpf, Sizes()) == before


def test_the_program_digest_follows_text_and_flags() -> None:
    digests = {
        source.program_digest(text, flags)
        for text, flags in [
            ("a", ["b"]),
            ("a", ["c"]),
            ("ab", []),
            ("a", []),
            ("a", ["b", "c"]),
            ("a", ["bc"]),
        ]
    }

    assert len(digests) == 6


def test_the_installed_program_can_be_put_together() -> None:
    text = source.inline(source.program())

    assert "int director(struct xdp_md *ctx)" in text
    assert '#include "' not in text
    assert {"reason", "stage", "policy"} <= source.enums(text).keys()
