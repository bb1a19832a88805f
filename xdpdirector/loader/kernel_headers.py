# SPDX-License-Identifier: Apache-2.0
"""A header tree with which BCC compiles a networking program without kernel headers.

BCC requires a kernel source tree. An XDP program needs of it only the user-space API headers, which the
package linux-libc-dev has, and a few kernel-internal names that BCC's helpers use. Knows nothing of BCC
itself: it makes a directory and returns its path.
"""

from __future__ import annotations

import platform
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from xdpdirector.errors import LoaderError

SYSTEM_INCLUDE = Path("/usr/include")
PACKAGE = "linux-libc-dev"

_KCONFIG = """\
/* What the kernel's own headers would define before anything else. */
#ifndef XDPDIRECTOR_KCONFIG_H
#define XDPDIRECTOR_KCONFIG_H
#define CONFIG_BPF_SYSCALL 1
#ifndef __ASSEMBLY__
typedef signed char s8;
typedef unsigned char u8;
typedef short s16;
typedef unsigned short u16;
typedef int s32;
typedef unsigned int u32;
typedef long long s64;
typedef unsigned long long u64;
typedef __SIZE_TYPE__ size_t;
typedef __UINTPTR_TYPE__ uintptr_t;
typedef _Bool bool;
#define false 0
#define true 1
#define NULL ((void *)0)
#define inline inline __attribute__((__always_inline__))
#define __always_inline inline
#define noinline __attribute__((__noinline__))
#define __packed __attribute__((__packed__))
#define __aligned(bytes) __attribute__((__aligned__(bytes)))
#define likely(condition) __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define htons(x) ((u16)__builtin_bswap16(x))
#define htonl(x) ((u32)__builtin_bswap32(x))
#else
#define htons(x) ((u16)(x))
#define htonl(x) ((u32)(x))
#endif
#define ntohs(x) htons(x)
#define ntohl(x) htonl(x)
#endif
#endif
"""

_SOCKET = """\
/* For linux/if.h, which linux/icmp.h pulls in. */
#ifndef XDPDIRECTOR_SOCKET_H
#define XDPDIRECTOR_SOCKET_H
struct sockaddr {
\tunsigned short sa_family;
\tchar sa_data[14];
};
#endif
"""

# BCC has its own bpf.h: with the system's, everything would be defined twice.
STUBS = {
    "uapi/linux/bpf.h": "",
    "linux/kconfig.h": _KCONFIG,
    "linux/log2.h": "",
    "asm/page.h": "#define PAGE_SIZE 4096UL\n",
    "sys/socket.h": _SOCKET,
}


@contextmanager
def tree(system: Path = SYSTEM_INCLUDE) -> Iterator[Path]:
    """A tree that exists within the block and that nobody else can write; BCC_KERNEL_SOURCE takes its path.

    LoaderError if the headers are not installed, or the tree cannot be written.
    """
    architecture = _architecture(system)
    with ExitStack() as stack:
        try:
            made = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xdpdirector-headers-")))
            _fill(made / "include", system, architecture)
        except OSError as error:
            raise LoaderError(f"the header tree cannot be made: {error}") from error
        yield made


def _architecture(system: Path) -> Path:
    """The directory with this machine's `asm/`."""
    triplet = sysconfig.get_config_var("MULTIARCH") or f"{platform.machine()}-linux-gnu"
    for candidate in (system / triplet, system):
        if (candidate / "asm" / "types.h").is_file() and (system / "linux" / "if_ether.h").is_file():
            return candidate
    raise LoaderError(
        f"the kernel's user-space headers are missing under {system}: "
        f"install them with `apt install {PACKAGE}`"
    )


def _fill(include: Path, system: Path, architecture: Path) -> None:
    """Link the files of `linux/` one by one, since one of them is replaced; the rest as whole directories."""
    for name in ("linux", "uapi/linux", "asm", "sys"):
        (include / name).mkdir(parents=True)
    for header in (system / "linux").iterdir():
        (include / "uapi" / "linux" / header.name).symlink_to(header)
    (include / "uapi" / "asm").symlink_to(architecture / "asm")
    (include / "asm-generic").symlink_to(system / "asm-generic")
    (include / "linux" / "version.h").symlink_to(system / "linux" / "version.h")
    for name, text in STUBS.items():
        (include / name).unlink(missing_ok=True)
        (include / name).write_text(text)
