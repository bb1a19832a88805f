# SPDX-License-Identifier: Apache-2.0
"""A thin typed binding of libbpf.so.1: pinned objects, maps, XDP attachments, test runs.

Knows nothing of the director: file descriptors, bytes and numbers only. Functions return values or raise
OSError (errno and what failed); a descriptor that they return is the caller's to close. libbpf's prints are
kept away from stderr; the kernel's explanation of a refusal (netlink extack) becomes part of the error.
The C side is declared in libbpf's bpf.h and libbpf.h (1.0 and later), the structs in linux/bpf.h.
"""

from xdpdirector.libbpf.constants import (
    PER_CPU_TYPES,
    MapType,
    Update,
    XdpFlags,
    XdpMode,
    XdpVerdict,
)
from xdpdirector.libbpf.entries import (
    delete,
    delete_batch,
    lookup,
    lookup_batches,
    lookup_range,
    update,
    update_batch,
)
from xdpdirector.libbpf.library import possible_cpus
from xdpdirector.libbpf.objects import (
    MapInfo,
    ProgramInfo,
    btf_data,
    btf_load,
    map_create,
    map_info,
    obj_get,
    obj_pin,
    opened,
    prog_fd,
    prog_info,
)
from xdpdirector.libbpf.ringbuf import RingBuffer
from xdpdirector.libbpf.xdp import (
    RepeatedRun,
    RunResult,
    XdpState,
    prog_test_run,
    xdp_attach,
    xdp_detach,
    xdp_pass_prog_load,
    xdp_prog_load,
    xdp_query,
)

__all__ = [
    "PER_CPU_TYPES",
    "MapInfo",
    "MapType",
    "ProgramInfo",
    "RepeatedRun",
    "RingBuffer",
    "RunResult",
    "Update",
    "XdpFlags",
    "XdpMode",
    "XdpState",
    "XdpVerdict",
    "btf_data",
    "btf_load",
    "delete",
    "delete_batch",
    "lookup",
    "lookup_batches",
    "lookup_range",
    "map_create",
    "map_info",
    "obj_get",
    "obj_pin",
    "opened",
    "possible_cpus",
    "prog_fd",
    "prog_info",
    "prog_test_run",
    "update",
    "update_batch",
    "xdp_attach",
    "xdp_detach",
    "xdp_pass_prog_load",
    "xdp_prog_load",
    "xdp_query",
]
