# SPDX-License-Identifier: Apache-2.0
"""Programs for frames in several buffers (BPF_F_XDP_HAS_FRAGS): when the loader makes one, and that it stays so."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.loader_trials import SMALL, program_id, state
from xdpdirector.lab import xdp_pass_port
from xdpdirector.libbpf import XdpMode
from xdpdirector.loader import attachment, compiler
from xdpdirector.loader.layout import Loaded
from xdpdirector.paths import InstancePaths

pytestmark = pytest.mark.root


def large(*interfaces: str) -> None:
    for name in interfaces:
        subprocess.run(["ip", "link", "set", name, "mtu", "9000"], check=True)


def make_ready(peer: str) -> None:
    """What `auto` wants of a veth's peer before it takes native mode."""
    xdp_pass_port.main([peer])
    subprocess.run(["ethtool", "-K", peer, "tx", "off"], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("mode", "interfaces", "jumbo", "ready", "expected"),
    [
        pytest.param("native", ["one0"], [], [], False, id="frames that fit"),
        pytest.param("native", ["one0"], ["one0", "one1"], [], True, id="frames that do not"),
        pytest.param("generic", ["one0"], ["one0", "one1"], [], False, id="generic"),
        pytest.param("auto", ["one0"], ["one0", "one1"], [], False, id="auto, generic"),
        pytest.param("auto", ["one0"], ["one0", "one1"], ["one1"], True, id="auto, native"),
        pytest.param("auto", ["lo"], [], [], False, id="auto, no native mode at all"),
        pytest.param(
            "auto", ["one0", "two0"], ["one0", "one1"], ["one1"], False, id="auto, the other generic"
        ),
        pytest.param(
            "auto", ["one0", "two0"], ["one0", "one1"], ["one1", "two1"], True, id="auto, the other native"
        ),
    ],
)
def test_when_they_are_needed(
    paths: InstancePaths,
    namespace: str,
    mode: attachment.Mode,
    interfaces: Sequence[str],
    jumbo: Sequence[str],
    ready: Sequence[str],
    expected: bool,
) -> None:
    large(*jumbo)
    for peer in ready:
        make_ready(peer)

    assert attachment.needs_frags(paths, interfaces, mode) is expected
    assert not any(program_id(name) for name in interfaces)


def test_without_it_native_mode_is_refused(paths: InstancePaths, prepared: Loaded) -> None:
    large("one0", "one1")

    with pytest.raises(Exception, match="one0"):
        attachment.attach(paths, ["one0"], "native")


def test_it_stays_so(paths: InstancePaths, program: Path, namespace: str) -> None:
    """A program that is attached decides: a restart loads what can take its place."""
    large("one0", "one1")
    first = compiler.ensure(
        paths, SMALL, program, has_frags=attachment.needs_frags(paths, ["one0"], "native")
    )
    attachment.attach(paths, ["one0"], "native")

    assert first.has_frags
    assert state("one0").mode is XdpMode.NATIVE
    assert compiler.current(paths, SMALL, program) == first
    assert attachment.needs_frags(paths, ["one0"], "auto")
    assert compiler.ensure(paths, SMALL, program, has_frags=True) == first

    subprocess.run(["ip", "link", "set", "one0", "mtu", "1500"], check=True)
    subprocess.run(["ip", "link", "set", "one1", "mtu", "1500"], check=True)
    other = compiler.ensure(paths, SMALL, program, has_frags=attachment.needs_frags(paths, ["one0"], "auto"))

    assert not other.has_frags
    assert other.pins != first.pins
    [attached] = attachment.attach(paths, ["one0"])
    assert (attached.mode, program_id("one0")) == ("native", other.program_id)
