# SPDX-License-Identifier: Apache-2.0
"""What goes wrong while loading, and that it changes nothing."""

import os
from pathlib import Path

import pytest

from tests.support.loader_trials import (
    DIRECTOR,
    MAPS,
    SMALL,
    TYPES,
    answer,
    in_python,
    pinned_id,
    snapshot,
    write,
)
from xdpdirector.errors import (
    BccMissingError,
    LoaderError,
    NotAllowedError,
)
from xdpdirector.loader import compiler
from xdpdirector.paths import InstancePaths

pytestmark = pytest.mark.root


@pytest.mark.parametrize(
    ("replaced", "by", "expected"),
    [
        pytest.param(
            "\tzoo->octet = 0x11;",
            "\tzoo->octet = nonsense;",
            "bpf/types.h:27:15: error: use of undeclared identifier 'nonsense'",
            id="compiler",
        ),
        pytest.param(
            "\tzoo->octet = 0x11;",
            "\tzoo[1].octet = 0x11;",
            "bpf/types.h:27: the kernel's verifier refuses the program: ",
            id="verifier",
        ),
        pytest.param(
            "\tzoo->octet = 0x11;",
            "\twhile (bpf_ktime_get_ns())\n\t\tzoo->octet = 0x11;",
            "bpf/types.h:28: the kernel's verifier refuses the program: ",
            id="verifier, without line information",
        ),
        pytest.param("struct pair {", '#include "nowhere.h"\nstruct pair {', "bpf/types.h:1: ", id="header"),
    ],
)
def test_a_broken_program_is_pointed_to_and_changes_nothing(
    paths: InstancePaths, program: Path, replaced: str, by: str, expected: str
) -> None:
    compiler.prepare_in_child(paths, SMALL, program)
    before = snapshot(paths)
    write(program.parent, types=TYPES.replace(replaced, by))

    with pytest.raises(LoaderError) as caught:
        compiler.prepare_in_child(paths, SMALL, program)

    assert expected in caught.value.detail
    assert snapshot(paths) == before


def test_a_program_without_its_entry_is_refused(paths: InstancePaths, program: Path) -> None:
    write(program.parent, director=DIRECTOR.replace("int director(", "int doorman("))

    with pytest.raises(LoaderError, match=r"has no function 'director', only: clock, doorman"):
        compiler.prepare_in_child(paths, SMALL, program)


def test_a_map_without_a_pin_is_refused(paths: InstancePaths, program: Path) -> None:
    write(program.parent, maps=MAPS + "BPF_ARRAY(stray, u64, 1);\n")

    with pytest.raises(LoaderError, match="map stray is not pinned"):
        compiler.prepare_in_child(paths, SMALL, program)


def test_a_pinned_map_of_another_shape_is_not_adopted(paths: InstancePaths, program: Path) -> None:
    loaded = compiler.prepare_in_child(paths, SMALL, program)
    (loaded.pins / "flows").unlink()
    (loaded.pins / "tallies").rename(loaded.pins / "flows")
    before = pinned_id(loaded.program)

    with pytest.raises(
        LoaderError, match=r"flows is not the one .*type 6 instead of 9.*max_entries 4 instead of 1024"
    ):
        compiler.prepare_in_child(paths, SMALL, program)

    assert pinned_id(loaded.program) == before


def test_an_impostor_of_bcc_is_found_out(paths: InstancePaths, program: Path, tmp_path: Path) -> None:
    impostor = tmp_path / "site" / "bcc"
    impostor.mkdir(parents=True)
    (impostor / "__init__.py").write_text("lattice = 'body-centred cubic'\n")

    assert error_of_prepare(paths, program, PYTHONPATH=str(impostor.parent)) == BccMissingError.slug


def test_a_missing_bcc_is_named_with_its_package(paths: InstancePaths, program: Path) -> None:
    code = "import os, sys; sys.path = [place for place in sys.path if not os.path.isdir(place + '/bcc')]\n"

    assert error_of_prepare(paths, program, code) == BccMissingError.slug


def error_of_prepare(paths: InstancePaths, program: Path, first: str = "", **environment: str) -> str:
    """The slug of the error that `prepare` raises in a new interpreter; its text has the remedy."""
    code = first + (
        "from pathlib import Path\n"
        "from xdpdirector.loader import compiler\n"
        "from xdpdirector.errors import DirectorError\n"
        "from xdpdirector.model import Sizes\n"
        "from xdpdirector.paths import InstancePaths\n"
        "try:\n"
        f"    compiler.prepare(InstancePaths({paths.name!r}), Sizes(), Path({str(program)!r}))\n"
        "except DirectorError as error:\n"
        "    assert 'apt install python3-bpfcc' in error.detail, error.detail\n"
        "    print(error.slug)\n"
    )
    return in_python(code, **environment)


def test_without_privileges_it_says_so(paths: InstancePaths, program: Path) -> None:
    document = answer("setpriv", "--bounding-set=-all", instance=paths.name, program=program)

    assert document["error"]["slug"] == NotAllowedError.slug
    assert "give CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON" in document["error"]["detail"]


def test_a_few_capabilities_load_once_but_cannot_adopt(paths: InstancePaths, program: Path) -> None:
    few = ("setpriv", "--bounding-set=-all,+bpf,+net_admin,+perfmon")

    first = answer(*few, instance=paths.name, program=program)
    second = answer(*few, instance=paths.name, program=program)

    assert first["program_id"] == pinned_id(paths.pins / "program")
    assert second["error"]["slug"] == NotAllowedError.slug
    assert "needs CAP_SYS_ADMIN" in second["error"]["detail"]


def test_a_hidden_bpffs_is_not_mounted_over(namespace: str, paths: InstancePaths, program: Path) -> None:
    document = answer("ip", "netns", "exec", namespace, instance=paths.name, program=program)

    assert document["error"]["slug"] == LoaderError.slug
    detail = document["error"]["detail"]
    assert detail.startswith("run `mount -t bpf bpf /sys/fs/bpf` in this mount namespace")
    assert "nsenter --net=/run/netns/NAME" in detail
    assert f"(process {os.getpid()}), from which this command descends, has another mount namespace" in detail


HIDDEN = "mount -t tmpfs tmpfs /proc/1/ns"


@pytest.mark.parametrize(
    "first",
    [
        pytest.param("true", id="own process 1"),
        pytest.param(HIDDEN, id="process 1 that may not be looked at"),
    ],
)
def test_a_missing_bpffs_is_mounted(paths: InstancePaths, program: Path, first: str) -> None:
    script = f'umount /sys/fs/bpf && {first} && "$@" && stat -f -c %T /sys/fs/bpf >&2'
    private = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", script, "sh")

    document = answer(*private, instance=paths.name, program=program)

    assert document["program"] == str(paths.pins / "program")
    assert not paths.pins.exists()


def test_a_bpffs_that_cannot_be_mounted_is_explained(paths: InstancePaths, program: Path) -> None:
    script = 'umount /sys/fs/bpf && exec setpriv --bounding-set=-sys_admin "$@"'
    private = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", script, "sh")

    document = answer(*private, instance=paths.name, program=program)

    assert document["error"]["slug"] == NotAllowedError.slug
    assert document["error"]["detail"].startswith("run `mount -t bpf bpf /sys/fs/bpf` as root")
    assert "permission denied" in document["error"]["detail"]
