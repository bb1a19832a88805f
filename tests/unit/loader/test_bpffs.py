# SPDX-License-Identifier: Apache-2.0
"""Which kernels the packet program is loaded on."""

import pytest

from xdpdirector.errors import LoaderError
from xdpdirector.loader import bpffs


@pytest.mark.parametrize("release", ["5.18.0", "6.1.0-28-amd64", "6.18.0+", "10.0-rc1", "7"])
def test_a_kernel_that_is_new_enough_is_taken(release: str) -> None:
    bpffs.require_kernel(release)


@pytest.mark.parametrize("release", ["5.17.15", "5.14.21-150500.55", "5.4.0", "4.19", "3.10.0-1160.el7"])
def test_a_kernel_that_is_too_old_is_named_with_the_least_that_is_needed(release: str) -> None:
    with pytest.raises(
        LoaderError, match=rf"use Linux 5\.18 or newer .* this is Linux {release}, which is too old"
    ):
        bpffs.require_kernel(release)
