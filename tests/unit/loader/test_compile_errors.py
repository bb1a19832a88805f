# SPDX-License-Identifier: Apache-2.0
"""What the compiler and the verifier print, and the error that becomes of it."""

from pathlib import Path

import pytest

from xdpdirector.errors import LoaderError, NotAllowedError
from xdpdirector.loader import compile_errors

ROOT = Path("/opt/director/bpf")
COMPILE_FAILED = "Failed to compile BPF module <text>"
LOAD_FAILED = "Failed to load BPF program b'director': Permission denied"

COMPILER = f"""\
{ROOT}/parse.h:5:2: warning: unused variable 'x'
{ROOT}/maps.h:4:11: error: use of undeclared identifier 'q'
   return q;
          ^
1 error generated.
"""

VERIFIER = """\
bpf: Failed to load program: Permission denied
0: R1=ctx() R10=fp0
; return bad((void*)(long)ctx->data); @ director.c:4
0: (61) r1 = *(u32 *)(r1 +0)          ; R1=pkt(r=0)
; return p[3]; @ maps.h:5
1: (71) r0 = *(u8 *)(r1 +3)
invalid access to packet, off=3 size=1, R1(id=0,off=3,r=0)
R1 offset is outside of the packet
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0

"""

# Before Linux 6.8 the log quotes statements without their place.
OLD_VERIFIER = VERIFIER.replace(" @ director.c:4", "").replace(" @ maps.h:5", "")

NO_MAP = "could not open bpf map: ring, error: Cannot allocate memory\n"


@pytest.mark.parametrize(
    ("reason", "log", "first", "contained"),
    [
        pytest.param(
            COMPILE_FAILED,
            COMPILER,
            "the packet program does not compile. Nothing that runs was changed.",
            "\nbpf/maps.h:4:11: error: use of undeclared identifier 'q'\n   return q;\n",
            id="compiler",
        ),
        pytest.param(
            LOAD_FAILED,
            VERIFIER,
            "bpf/maps.h:5: the kernel's verifier refuses the program: R1 offset is outside of the packet. "
            "Nothing that runs was changed. The end of its log:",
            "\n; return p[3]; @ bpf/maps.h:5\n",
            id="verifier",
        ),
        pytest.param(
            LOAD_FAILED,
            OLD_VERIFIER,
            "the kernel's verifier refuses the program: R1 offset is outside of the packet. "
            "Nothing that runs was changed. The end of its log:",
            "\n; return p[3];\n",
            id="verifier of an older kernel",
        ),
        pytest.param(
            COMPILE_FAILED,
            NO_MAP,
            "the map 'ring' cannot be made: Cannot allocate memory. Nothing that runs was changed. "
            "Perhaps `sizes` in the configuration asks for more than there is memory",
            "",
            id="a map that cannot be made",
        ),
        pytest.param(
            LOAD_FAILED, "", f"{LOAD_FAILED}. Nothing that runs was changed.", "", id="nothing printed"
        ),
    ],
)
def test_the_error_says_what_and_where(reason: str, log: str, first: str, contained: str) -> None:
    error = compile_errors.explained(reason, log, ROOT)

    assert type(error) is LoaderError
    assert error.detail.splitlines()[0] == first
    assert contained in error.detail


ENDLESS = """\
bpf: Failed to load program: Invalid argument
4: (85) call bpf_ktime_get_ns#5       ; R0=scalar()
5: (55) if r0 != 0x0 goto pc-2 infinite loop detected at insn 4
cur state: R0=scalar(umin=1)
old state: R0=scalar(umin=1)
processed 60 insns (limit 1000000) max_states_per_insn 0 total_states 3 peak_states 3 mark_read 0
"""

DISASSEMBLY = """\
Disassembly of function clock
; return XDP_DROP; // Line  80
   4:\tb7 00 00 00 01 00 00 00\tr0 = 1

Disassembly of function director
; { // Line  62
   3:\tb7 01 00 00 00 00 00 00\tr1 = 0
; while (bpf_ktime_get_ns()) // Line  64
   4:\t85 00 00 00 05 00 00 00\tcall 5
   5:\t55 00 fb ff 00 00 00 00\tif r0 != 0 goto -5
"""


def test_the_instruction_where_the_verifier_stopped_leads_to_its_line() -> None:
    stop = compile_errors.stopped_at(LOAD_FAILED, ENDLESS)

    assert stop == ("director", 4)
    assert compile_errors.source_line(DISASSEMBLY, *stop) == 64
    assert compile_errors.source_line(DISASSEMBLY, "director", 9) is None
    detail = compile_errors.explained(LOAD_FAILED, ENDLESS, ROOT, "bpf/maps.h:7").detail
    assert detail.startswith("bpf/maps.h:7: the kernel's verifier refuses the program: 5: (55) ")


@pytest.mark.parametrize(
    ("log", "stop"),
    [
        pytest.param(VERIFIER, None, id="the log says it"),
        pytest.param(OLD_VERIFIER, ("director", 1), id="statements without places"),
        pytest.param(COMPILER, None, id="not the verifier"),
    ],
)
def test_the_place_is_looked_for_only_when_the_log_lacks_it(log: str, stop: tuple[str, int] | None) -> None:
    assert compile_errors.stopped_at(LOAD_FAILED, log) == stop


def test_a_long_verifier_log_is_cut_to_its_end() -> None:
    log = VERIFIER.replace("0: R1=ctx", "0: (b7) r0 = 0\n" * 500 + "0: R1=ctx")

    detail = compile_errors.explained(LOAD_FAILED, log, ROOT).detail

    assert len(detail.splitlines()) == 1 + compile_errors.VERIFIER_LINES
    assert "processed 2 insns" in detail.splitlines()[-1]


@pytest.mark.parametrize(
    ("reason", "log"),
    [
        pytest.param("Need super-user privileges to run", "", id="program"),
        pytest.param(
            COMPILE_FAILED, "could not open bpf map: ring, error: Operation not permitted", id="map"
        ),
    ],
)
def test_missing_privileges_are_told_apart(reason: str, log: str) -> None:
    assert type(compile_errors.explained(reason, log, ROOT)) is NotAllowedError
