# SPDX-License-Identifier: Apache-2.0
"""The order of stores where processors do not keep it. That a barrier is one can only be seen on such a machine."""

from __future__ import annotations

from threading import Thread

import pytest

from xdpdirector.system import memory_order


@pytest.mark.parametrize(("machine", "kept"), [("x86_64", True), ("aarch64", False), ("riscv64", False)])
def test_x86_keeps_the_order(machine: str, kept: bool) -> None:
    assert memory_order.is_kept(machine) is kept


def test_nothing_is_done_where_the_order_is_kept() -> None:
    assert (memory_order.barrier is memory_order._nothing) is memory_order.is_kept()


def test_threads_do_not_wait_for_each_other() -> None:
    threads = [Thread(target=lambda: [memory_order._barrier() for _ in range(1000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert not any(thread.is_alive() for thread in threads)
