# SPDX-License-Identifier: Apache-2.0
"""Lets this machine run programs of another architecture, by QEMU's user emulation: the scripts of its Debian
packages, while an image is made.

By binfmt_misc (Documentation/admin-guide/binfmt-misc.rst in the kernel's tree). Knows nothing of images.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from dev.vm.architecture import Architecture
from xdpdirector.lab.errors import LabError

PACKAGE = "qemu-user-static"
_MASK = b"\xff" * 7 + b"\x00" + b"\xff" * 8 + b"\xfe\xff\xff\xff"  # any OS ABI; ET_EXEC and ET_DYN
_OWN_MOUNTS = ("unshare", "--mount", "--")
_FLAGS = "PF"  # argv[0] as it was; the emulator is opened now, so that it need not be in a chroot
# Tells the kernel, unless an entry of somebody else is there that works in a chroot, too; then holds the mount,
# without which there are no entries, until its input ends.
_HOLD = """
name=$1 line=$2 magic=$3
cd "$0" && mount -t binfmt_misc binfmt_misc . && cd "$0" || exit 1
for entry in $(grep -s -l "^magic $magic$" *); do
    [ "$entry" != "$name" ] || continue
    if grep -q '^enabled' "$entry" && grep -q '^flags: .*F' "$entry"; then echo known; exit; fi
done
[ ! -e "$name" ] || echo -1 >"$name"  # a killed run left it
printf %s "$line" >register || exit 1
echo told
cat >/dev/null
echo -1 >"$name"
"""


@contextmanager
def runnable(architecture: Architecture, machine: str = "") -> Iterator[None]:
    """Within the block this machine runs its programs. Nothing to do for its own architecture (`machine`: uname
    -m), or if the kernel was told already. LabError when that is not possible."""
    if architecture.machine == (machine or platform.machine()):
        yield
        return
    usual, later = architecture.user_emulators
    emulator = shutil.which(usual) or shutil.which(later)
    if not emulator:
        raise LabError(f"the command '{usual}' is missing: apt-get install {PACKAGE}")
    name = f"xdpdirector-{architecture.machine}"
    line = registration(name, architecture, emulator)
    with (
        TemporaryDirectory(prefix="xdpdirector-binfmt-") as place,
        subprocess.Popen(
            [*_OWN_MOUNTS, "sh", "-c", _HOLD, place, name, line, architecture.magic.hex()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as holder,
    ):
        assert holder.stdin
        assert holder.stdout
        assert holder.stderr
        if not holder.stdout.readline():
            raise LabError(
                "this kernel cannot be told to run programs of another architecture (CONFIG_BINFMT_MISC): "
                + holder.stderr.read().strip()
            )
        try:
            yield
        finally:
            holder.stdin.close()
            holder.wait()


def registration(name: str, architecture: Architecture, emulator: str) -> str:
    """The line for the kernel: programs that begin like this are run by that command."""
    fields = ("", name, "M", "", _escaped(architecture.magic), _escaped(_MASK), emulator, _FLAGS)
    return ":".join(fields)


def _escaped(octets: bytes) -> str:
    """The line has no zero octets, and no colons within fields."""
    return "".join(f"\\x{octet:02x}" for octet in octets)
