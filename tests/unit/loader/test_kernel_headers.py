# SPDX-License-Identifier: Apache-2.0
"""The header tree that stands in for kernel headers."""

import os
import stat
from pathlib import Path

import pytest

from xdpdirector.errors import LoaderError
from xdpdirector.loader import kernel_headers


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


def test_the_tree_has_the_system_s_headers_but_bpf_h(system: Path) -> None:
    with kernel_headers.tree(system) as tree:
        include = tree / "include"

        assert "ETH_P_IP" in (include / "uapi/linux/if_ether.h").read_text()
        assert "LINUX_VERSION_CODE" in (include / "linux/version.h").read_text()
        assert (include / "uapi/linux/bpf.h").read_text() == ""
        assert (system / "linux/bpf.h").read_text() == "struct bpf_insn;\n"
        assert "typedef unsigned long long u64;" in (include / "linux/kconfig.h").read_text()
        assert (include / "uapi/asm/types.h").is_file()


def test_nobody_else_can_write_into_the_tree(system: Path) -> None:
    with kernel_headers.tree(system) as tree:
        assert stat.S_IMODE(tree.stat().st_mode) == 0o700
        assert tree.stat().st_uid == os.geteuid()


def test_the_tree_goes_and_the_system_s_headers_stay(system: Path) -> None:
    with kernel_headers.tree(system) as tree:
        pass

    assert not tree.exists()
    assert (system / "linux/if_ether.h").is_file()


@pytest.mark.parametrize("missing", ["linux/if_ether.h", "asm/types.h"])
def test_missing_headers_name_the_package(system: Path, missing: str) -> None:
    (system / missing).unlink()

    with pytest.raises(LoaderError, match="apt install linux-libc-dev"), kernel_headers.tree(system):
        pass
