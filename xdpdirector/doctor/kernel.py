# SPDX-License-Identifier: Apache-2.0
"""The kernel: its version and features, its BPF settings, its clock source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xdpdirector.doctor.finding import Finding, error, note, ok, warning
from xdpdirector.doctor.subject import Subject
from xdpdirector.loader.bpffs import OLDEST_KERNEL, TRIED_KERNEL

# What an older kernel lacks (Linux' own change logs).
SINCE = {
    (
        5,
        16,
    ): "neighbours that the kernel itself keeps resolved (NTF_EXT_MANAGED): the daemon asks each second instead",
    (
        5,
        18,
    ): "marks on addresses (IFA_PROTO): a restarted daemon does not know its own VIPs again, and leaves them",
}
JIT = Path("/proc/sys/net/core/bpf_jit_enable")
HARDEN = Path("/proc/sys/net/core/bpf_jit_harden")
STATISTICS = Path("/proc/sys/kernel/bpf_stats_enabled")
LOCKDOWN = Path("/sys/kernel/security/lockdown")
CLOCK = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
QUICK_CLOCKS = {
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "xen",
    "arch_sys_counter",
    "riscv_clocksource",
}


def look(subject: Subject) -> Iterator[Finding]:
    yield from _version(subject)
    yield from _settings(subject)
    yield from _clock(subject)


def _version(subject: Subject) -> Iterator[Finding]:
    release, version = subject.machine.kernel
    evidence = f"uname -r says {release}"
    if version < OLDEST_KERNEL:
        yield error(
            f"Linux {release} is too old: the least is {_text(OLDEST_KERNEL)}",
            evidence,
            f"use Linux {_text(TRIED_KERNEL)} or newer",
        )
        return
    if version < TRIED_KERNEL:
        remedy = f"use Linux {_text(TRIED_KERNEL)} or newer"
        yield warning(f"Linux {release} is older than what this was tried on", evidence, remedy)
    else:
        yield ok(f"Linux {release}", evidence)
    for since, what in SINCE.items():
        if version < since:
            yield note(f"this kernel lacks {what}", f"{evidence}; it came with {_text(since)}")


def _settings(subject: Subject) -> Iterator[Finding]:
    if (jit := _value(subject, JIT)) == "0":
        yield warning(
            "BPF programs are interpreted, several times slower",
            f"{JIT} is 0",
            "sysctl -w net.core.bpf_jit_enable=1",
        )
    elif jit:
        yield ok("BPF programs are compiled to machine code", f"{JIT} is {jit}")
    if _value(subject, HARDEN) == "2":
        yield note(
            "BPF programs are hardened against their author, which costs some speed",
            f"{HARDEN} is 2",
            "sysctl -w net.core.bpf_jit_harden=1",
        )
    if _value(subject, STATISTICS) == "1":
        yield note(
            "run times of BPF programs are counted, which costs some 20 ns a packet",
            f"{STATISTICS} is 1",
            "sysctl -w kernel.bpf_stats_enabled=0",
        )
    if "[confidentiality]" in (lockdown := _value(subject, LOCKDOWN)):
        yield error(
            "the kernel is locked down and refuses programs that read memory",
            f"{LOCKDOWN} is {lockdown}",
            "boot with lockdown=integrity, or none",
        )


def _clock(subject: Subject) -> Iterator[Finding]:
    source = _value(subject, CLOCK)
    if source in QUICK_CLOCKS:
        yield ok(f"the clock source {source} is quick", f"{CLOCK}")
    elif source:
        yield note(
            f"the clock source {source} is slow; packets do not wait for it, the daemon and its checks do",
            f"{CLOCK} is {source}",
            "look in the kernel's log why tsc was given up; offer a virtual machine kvm-clock or an invariant tsc",
        )


def _value(subject: Subject, path: Path) -> str:
    """Empty where the kernel has no such setting."""
    try:
        return subject.machine.text(path)
    except FileNotFoundError:
        return ""


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
