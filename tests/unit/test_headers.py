# SPDX-License-Identifier: Apache-2.0
"""The header tree that stands in for kernel headers."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from xdpdirector import headers
from xdpdirector.errors import LoaderError


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """What linux-libc-dev installs, in small."""
    include = tmp_path / "include"
    for name, text in {
        "linux/bpf.h": "struct bpf_insn;\n",
        "linux/if_ether.h": "#define ETH_P_IP 0x0800\n",
        "linux/version.h": "#define LINUX_VERSION_CODE 393216\n",
        "asm/types.h": "\n",
        "asm-generic/types.h": "\n",
    }.items():
        (include / name).parent.mkdir(parents=True, exist_ok=True)
        (include / name).write_text(text)
    return include


def test_the_tree_has_the_system_s_headers_but_bpf_h(tmp_path: Path, system: Path) -> None:
    tree = headers.make(tmp_path / "run", system)

    include = tree / "include"
    assert "ETH_P_IP" in (include / "uapi/linux/if_ether.h").read_text()
    assert "LINUX_VERSION_CODE" in (include / "linux/version.h").read_text()
    assert (include / "uapi/linux/bpf.h").read_text() == ""
    assert (system / "linux/bpf.h").read_text() == "struct bpf_insn;\n"
    assert "typedef unsigned long long u64;" in (include / "linux/kconfig.h").read_text()
    assert (include / "uapi/asm/types.h").is_file()


def test_the_tree_is_made_once_for_a_version(tmp_path: Path, system: Path) -> None:
    first = headers.make(tmp_path, system)
    made = first.stat().st_mtime_ns
    second = headers.make(tmp_path, system)

    assert (second, second.stat().st_mtime_ns) == (first, made)

    (system / "linux/version.h").write_text("#define LINUX_VERSION_CODE 393217\n")

    assert headers.make(tmp_path, system) != first


def test_two_loaders_at_once_make_one_tree(tmp_path: Path, system: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        trees = set(pool.map(lambda _: headers.make(tmp_path / "run", system), range(8)))

    assert list((tmp_path / "run").iterdir()) == list(trees)


def test_trees_can_be_removed(tmp_path: Path, system: Path) -> None:
    headers.make(tmp_path / "run", system)

    headers.remove(tmp_path / "run")

    assert list((tmp_path / "run").iterdir()) == []
    assert (system / "linux/if_ether.h").is_file()


@pytest.mark.parametrize("missing", ["linux/if_ether.h", "asm/types.h"])
def test_missing_headers_name_the_package(tmp_path: Path, system: Path, missing: str) -> None:
    (system / missing).unlink()

    with pytest.raises(LoaderError, match="apt install linux-libc-dev"):
        headers.make(tmp_path / "run", system)
