# SPDX-License-Identifier: Apache-2.0
"""The program on interfaces, in a namespace of the test's own."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.loader_trials import SMALL, program_id, state
from xdpdirector import libbpf
from xdpdirector.errors import (
    ConflictError,
    ForeignProgramError,
    InvalidRequestError,
    LoaderError,
)
from xdpdirector.lab import xdp_pass_port
from xdpdirector.libbpf import XdpFlags, XdpMode
from xdpdirector.loader import attachment, bpffs, compiler
from xdpdirector.loader.layout import Loaded
from xdpdirector.paths import InstancePaths

pytestmark = pytest.mark.root


def pass_all(peer: str) -> None:
    xdp_pass_port.main([peer])


def no_offload(peer: str) -> None:
    subprocess.run(["ethtool", "-K", peer, "tx", "off"], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("mode", "interface", "ready", "expected", "why"),
    [
        pytest.param("native", "one0", [], XdpMode.NATIVE, "", id="native"),
        pytest.param("generic", "one0", [], XdpMode.GENERIC, "", id="generic"),
        pytest.param(
            "auto", "one0", [pass_all, no_offload], XdpMode.NATIVE, "", id="auto where native works"
        ),
        pytest.param("auto", "lo", [], XdpMode.GENERIC, "because native mode: ", id="auto where it does not"),
        pytest.param("auto", "one0", [], XdpMode.GENERIC, "its peer one1 has no XDP program", id="veth"),
        pytest.param(
            "auto", "one0", [no_offload], XdpMode.GENERIC, "one1 has no XDP program", id="no program"
        ),
        pytest.param("auto", "one0", [pass_all], XdpMode.GENERIC, "one1 leaves checksums", id="checksums"),
    ],
)
def test_attach(
    paths: InstancePaths,
    prepared: Loaded,
    mode: attachment.Mode,
    interface: str,
    ready: list[Callable[[str], None]],
    expected: XdpMode,
    why: str,
) -> None:
    for make in ready:
        make("one1")

    [attached] = attachment.attach(paths, [interface], mode)

    assert state(interface).mode == expected
    assert state(interface).program_id == prepared.program_id == attached.program_id
    assert attached.mode == expected.name.lower()
    assert bool(attached.note) is bool(why)
    assert why in attached.note
    assert attachment.attachments(paths) == [replace(attached, note="")]


def test_attach_replaces_in_place(
    paths: InstancePaths, prepared: Loaded, prepare_another: Callable[[], Loaded]
) -> None:
    attachment.attach(paths, ["one0"], "generic")
    another = prepare_another()
    assert program_id("one0") == prepared.program_id

    [attached] = attachment.attach(paths, ["one0"], "auto")

    assert (attached.mode, attached.note) == ("generic", "")
    assert program_id("one0") == another.program_id
    assert bpffs.pinned_programs(paths) == {another.program_id: paths.pins / "program"}


def test_attach_twice_changes_nothing(paths: InstancePaths, prepared: Loaded) -> None:
    first = attachment.attach(paths, ["one0"], "generic")

    assert attachment.attach(paths, ["one0"]) == first


def test_attach_removes_maps_of_an_earlier_layout(
    paths: InstancePaths, program: Path, prepared: Loaded
) -> None:
    attachment.attach(paths, ["one0"])
    another = compiler.prepare_in_child(paths, SMALL.model_copy(update={"services": 5}), program)
    assert prepared.pins.is_dir()

    attachment.attach(paths, ["one0"])

    assert list(paths.pins.glob("maps-*")) == [another.pins]


def test_a_retired_program_stays_ours_while_it_is_attached(
    paths: InstancePaths, prepared: Loaded, prepare_another: Callable[[], Loaded]
) -> None:
    attachment.attach(paths, ["one0", "two0"])
    another = prepare_another()

    attachment.attach(paths, ["one0"])

    assert {found.interface: found.program_id for found in attachment.attachments(paths)} == {
        "one0": another.program_id,
        "two0": prepared.program_id,
    }
    assert attachment.detach(paths, ["two0"]) == ["two0"]


def test_attach_before_prepare_says_what_to_run(paths: InstancePaths, namespace: str) -> None:
    with pytest.raises(LoaderError, match="run `xdpdirector load` first"):
        attachment.attach(paths, ["one0"])


def test_an_unknown_interface_is_named_and_the_others_listed(paths: InstancePaths, prepared: Loaded) -> None:
    with pytest.raises(InvalidRequestError, match=r"'eth7'.*\blo\b.*\bone0\b"):
        attachment.attach(paths, ["one0", "eth7"])

    assert program_id("one0") == 0


@pytest.fixture
def foreign() -> Iterator[int]:
    """A descriptor of a program `return XDP_PASS`."""
    fd = libbpf.xdp_prog_load("stranger", bytes.fromhex("b7000000020000009500000000000000"))
    yield fd
    os.close(fd)


def test_a_foreign_program_is_left_alone_unless_forced(
    paths: InstancePaths, prepared: Loaded, foreign: int
) -> None:
    libbpf.xdp_attach(socket.if_nametoindex("two0"), foreign, XdpFlags.NATIVE)
    number = program_id("two0")

    with pytest.raises(ForeignProgramError, match=rf"two0 .*id {number}, name 'stranger'.*--force"):
        attachment.attach(paths, ["one0", "two0"])

    assert (program_id("one0"), program_id("two0")) == (0, number)
    assert attachment.detach(paths, ["two0"]) == []

    attachment.attach(paths, ["one0", "two0"], force=True)

    assert program_id("two0") == prepared.program_id


@pytest.mark.parametrize("before", ["native", "generic"])
def test_a_mode_is_not_switched(paths: InstancePaths, prepared: Loaded, before: attachment.Mode) -> None:
    attachment.attach(paths, ["one0"], before)
    after: attachment.Mode = "generic" if before == "native" else "native"

    with pytest.raises(
        ConflictError, match=f"one0 carries an XDP program in {before} mode and {after} mode is asked"
    ):
        attachment.attach(paths, ["one0"], after)

    assert program_id("one0") == prepared.program_id


def test_all_interfaces_or_none(
    paths: InstancePaths, prepared: Loaded, prepare_another: Callable[[], Loaded]
) -> None:
    attachment.attach(paths, ["one0"], "native")
    prepare_another()

    with pytest.raises(LoaderError, match=r"cannot be attached to lo: native mode: "):
        attachment.attach(paths, ["one0", "two0", "lo"], "native")

    assert [program_id(name) for name in ("one0", "two0", "lo")] == [prepared.program_id, 0, 0]


def test_detach_takes_off_our_program_only_where_asked(paths: InstancePaths, prepared: Loaded) -> None:
    attachment.attach(paths, ["one0", "two0"])

    assert attachment.detach(paths, ["two0", "nowhere0"]) == ["two0"]

    assert [program_id(name) for name in ("one0", "two0")] == [prepared.program_id, 0]


def lose_nothing(paths: InstancePaths) -> None:
    """The usual case."""


def lose_program(paths: InstancePaths) -> None:
    (paths.pins / "program").unlink()


def lose_pins(paths: InstancePaths) -> None:
    bpffs.remove_tree(paths.pins)


def lose_layout(paths: InstancePaths) -> None:
    paths.layout.unlink()


@pytest.mark.parametrize("lose", [lose_nothing, lose_program, lose_pins, lose_layout])
def test_unload_takes_everything_away(
    paths: InstancePaths, prepared: Loaded, lose: Callable[[InstancePaths], None]
) -> None:
    attachment.attach(paths, ["one0", "lo"])
    lose(paths)

    assert sorted(attachment.unload(paths)) == ["lo", "one0"]

    assert [program_id(name) for name in ("one0", "lo")] == [0, 0]
    assert not paths.pins.exists()
    assert attachment.unload(paths) == []
