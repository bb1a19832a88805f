# SPDX-License-Identifier: Apache-2.0
"""XDP programs: loaded from instructions, attached, asked for, and run by hand."""

from __future__ import annotations

import ctypes as ct
import struct
from typing import NamedTuple

from xdpdirector.libbpf.constants import BPF_PROG_TYPE_XDP, TEST_RUN_LIVE_FRAMES, XdpMode, XdpVerdict
from xdpdirector.libbpf.library import Options, checked, fields, functions, library

XDP_HAS_FRAGS = 1 << 5  # BPF_F_XDP_HAS_FRAGS, include/uapi/linux/bpf.h
TEST_FRAME_ROOM = 4096
LIVE_BATCH = 64


class _AttachOptions(Options):
    _fields_ = fields("size_t sz; int old_prog_fd padding")


class _QueryOptions(Options):
    _fields_ = fields("size_t sz; u32 program native hardware generic; u8 mode")


class _LoadOptions(Options):
    """The first fields of struct bpf_prog_load_opts (libbpf, bpf.h)."""

    _fields_ = fields("size_t sz; int attempts; u32 expected_attach_type prog_btf_fd prog_flags")


class _TestRunOptions(Options):
    _fields_ = fields(
        "size_t sz; pointer data_in data_out; u32 data_size_in data_size_out;"
        "pointer ctx_in ctx_out; u32 ctx_size_in ctx_size_out;"
        "u32 retval; int repeat; u32 duration flags cpu batch_size"
    )


def xdp_prog_load(name: str, instructions: bytes, has_frags: bool = False) -> int:
    """Load an XDP program written as instructions (struct bpf_insn, 8 bytes each): no compiler.

    `has_frags`: it takes frames in several buffers (BPF_F_XDP_HAS_FRAGS, Linux 5.18). Without it drivers refuse
    native mode where a frame does not fit into a page. Programs in one BPF_MAP_TYPE_PROG_ARRAY must all have it,
    or none of them.
    """
    options = _LoadOptions(prog_flags=XDP_HAS_FRAGS if has_frags else 0)
    return checked(
        functions().bpf_prog_load(
            BPF_PROG_TYPE_XDP,
            name.encode(),
            b"GPL",
            instructions,
            len(instructions) // 8,
            ct.addressof(options),
        ),
        f"loading the program '{name}'",
    )


def xdp_pass_prog_load(name: str, has_frags: bool = False) -> int:
    """Load an XDP program that passes every frame."""
    # r0 = XDP_PASS (BPF_ALU64 | BPF_MOV | BPF_K); exit (BPF_JMP | BPF_EXIT): code, registers, offset, immediate
    instructions = struct.pack("=BBhiBBhi", 0xB7, 0, 0, XdpVerdict.PASS, 0x95, 0, 0, 0)
    return xdp_prog_load(name, instructions, has_frags)


class XdpState(NamedTuple):
    """`program_id` 0: none attached. `native` and `generic` are the ids by mode."""

    program_id: int
    mode: XdpMode
    native: int
    generic: int


def xdp_query(ifindex: int) -> XdpState:
    options = _QueryOptions()
    checked(
        functions().bpf_xdp_query(ifindex, 0, ct.addressof(options)),
        f"asking interface {ifindex} for its XDP program",
    )
    native, generic = options.native, options.generic
    return XdpState(options.program or native or generic, XdpMode(options.mode), native, generic)


def xdp_attach(ifindex: int, fd: int, flags: int, old_fd: int | None = None) -> None:
    """Attach a program; with `old_fd` only in place of exactly that program (EEXIST otherwise)."""
    _xdp("bpf_xdp_attach", (ifindex, fd, flags), old_fd, f"attaching to interface {ifindex}")


def xdp_detach(ifindex: int, flags: int, old_fd: int | None = None) -> None:
    """Detach; with `old_fd` only exactly that program (EEXIST otherwise)."""
    _xdp("bpf_xdp_detach", (ifindex, flags), old_fd, f"detaching from interface {ifindex}")


def _xdp(function: str, arguments: tuple[int, ...], old_fd: int | None, what: str) -> None:
    loaded = library()
    loaded.messages.clear()
    options = _AttachOptions(old_prog_fd=old_fd or 0)
    result = getattr(loaded.c, function)(*arguments, ct.addressof(options))
    if result < 0 and loaded.messages:
        what += f" ({'; '.join(loaded.messages)})"
    checked(result, what)


class RunResult(NamedTuple):
    """`frame`: as the program left it (empty for live frames); `nanoseconds`: the mean of one run."""

    verdict: int
    frame: bytes
    nanoseconds: int


def prog_test_run(
    fd: int, frame: bytes, ingress_ifindex: int = 0, rx_queue: int = 0, repeat: int = 1, live: bool = False
) -> RunResult:
    """Run an XDP program on a frame of 14 to about 4,000 bytes.

    The interface must exist in this network namespace. With `repeat` neither frame nor maps are restored
    between runs. `live`: verdicts happen, the frames really leave (BPF_F_TEST_XDP_LIVE_FRAMES).
    """
    data_in = ct.create_string_buffer(frame, len(frame))
    data_out = ct.create_string_buffer(max(TEST_FRAME_ROOM, len(frame) + 512))
    context = struct.pack("=6I", 0, len(frame), 0, ingress_ifindex, rx_queue, 0)
    context_in = ct.create_string_buffer(context, len(context))
    options = _TestRunOptions(repeat=repeat)
    options.data_in, options.data_size_in = ct.addressof(data_in), len(frame)
    options.ctx_in, options.ctx_size_in = ct.addressof(context_in), len(context)
    if live:
        options.flags, options.batch_size = TEST_RUN_LIVE_FRAMES, LIVE_BATCH
    else:
        options.data_out, options.data_size_out = ct.addressof(data_out), len(data_out)
    checked(
        functions().bpf_prog_test_run_opts(fd, ct.addressof(options)),
        f"test-running a frame of {len(frame)} bytes",
    )
    return RunResult(options.retval, b"" if live else data_out.raw[: options.data_size_out], options.duration)


class RepeatedRun:
    """An XDP program run by hand on frame after frame, in the same buffers: a few microseconds each.

    The interface must exist in this network namespace. OSError when the kernel refuses a frame.
    """

    def __init__(self, fd: int, ingress_ifindex: int) -> None:
        self._function = functions().bpf_prog_test_run_opts
        self._fd = fd
        self._data_in = ct.create_string_buffer(TEST_FRAME_ROOM)
        self._data_out = ct.create_string_buffer(2 * TEST_FRAME_ROOM)
        self._context = (ct.c_uint32 * 6)(0, 0, 0, ingress_ifindex, 0, 0)
        self._options = _TestRunOptions(repeat=1)
        self._options.data_in = ct.addressof(self._data_in)
        self._options.data_out = self._out = ct.addressof(self._data_out)
        self._options.ctx_in, self._options.ctx_size_in = (
            ct.addressof(self._context),
            ct.sizeof(self._context),
        )
        self._pointer = ct.addressof(self._options)

    def __call__(self, frame: bytes) -> tuple[int, bytes]:
        """The verdict, and the frame as the program left it."""
        size = len(frame)
        if size > TEST_FRAME_ROOM:
            raise ValueError(f"a frame of {size} bytes does not fit into {TEST_FRAME_ROOM}")
        ct.memmove(self._data_in, frame, size)
        options = self._options
        options.data_size_in = self._context[1] = size
        options.data_size_out = 2 * TEST_FRAME_ROOM
        result = self._function(self._fd, self._pointer)
        if result < 0:
            checked(result, f"test-running a frame of {size} bytes")
        return options.retval, ct.string_at(self._out, options.data_size_out)

    def blindly(self, frame: bytes, times: int) -> None:
        """So many times, each on that frame; nobody looks at verdicts, nor at what is left of it."""
        size = len(frame)
        ct.memmove(self._data_in, frame, size)
        options, function, fd, pointer = self._options, self._function, self._fd, self._pointer
        options.data_size_in = self._context[1] = size
        options.data_out = None
        try:
            for _ in range(times):
                options.data_size_out = 0  # the kernel writes there how long the frame is now
                result = function(fd, pointer)
                if result < 0:
                    checked(result, f"test-running a frame of {size} bytes")
        finally:
            options.data_out = self._out
