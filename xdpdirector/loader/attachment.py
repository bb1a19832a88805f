# SPDX-License-Identifier: Apache-2.0
"""Attaches the prepared program to interfaces, replaces it in place, and detaches it. Needs libbpf only.

Knows nothing of compilers or map contents. Never detaches an interface's program to attach another one: a
native NIC would lose its link for a moment.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Literal

from xdpdirector import libbpf
from xdpdirector.errors import (
    ConflictError,
    ForeignProgramError,
    InvalidRequestError,
    LoaderError,
    NotAllowedError,
)
from xdpdirector.libbpf import XdpFlags, XdpMode
from xdpdirector.loader import bpffs, layout
from xdpdirector.net import veth_peer
from xdpdirector.net.mtu import ETHERNET_MTU, mtu_of
from xdpdirector.paths import InstancePaths
from xdpdirector.system import untrusted_directory

Mode = Literal["native", "generic", "auto"]

_FLAGS = {"native": XdpFlags.NATIVE, "generic": XdpFlags.GENERIC}
_NAMES = {XdpMode.NATIVE: "native", XdpMode.GENERIC: "generic"}


@dataclass(frozen=True)
class Attachment:
    """An interface with our program. `note`: a sentence if the mode is not the first choice."""

    interface: str
    ifindex: int
    mode: str
    program_id: int
    note: str = ""


@dataclass(frozen=True)
class _Present:
    """An interface before the change. `fd`: its present program, None if it has none."""

    interface: str
    ifindex: int
    mode: XdpMode
    fd: int | None


@dataclass(frozen=True)
class _Step:
    """The change at one interface. `modes`: in the order to try. `why`: why native mode is not tried."""

    interface: str
    ifindex: int
    modes: tuple[str, ...]
    old_fd: int | None
    why: str = ""


def attach(
    paths: InstancePaths,
    interfaces: Iterable[str],
    mode: Mode = "auto",
    force: bool = False,
    *,
    done: Callable[[], None] = lambda: None,
) -> list[Attachment]:
    """Attach the prepared program to all of the interfaces or, on failure, to none.

    `done` is called once it is attached, before maps of a previous program are removed. `auto` keeps the mode
    of an interface that has our program, and otherwise tries native, then generic; on a veth whose peer is
    not ready for native XDP, generic only. `force` replaces a foreign program, but never another instance's.
    InvalidRequestError: no such interface. ForeignProgramError, ConflictError: another program is in the way.
    LoaderError: nothing is prepared, or the kernel refuses.
    """
    names = list(interfaces)
    with bpffs.locked(paths), ExitStack() as stack, bpffs.translated("attaching the program"):
        fd = _prepared(paths, stack)
        present = [_look(paths, stack, name, force) for name in names]
        attached = _carry_out(fd, [_plan(found, mode) for found in present])
        done()
        _clean(paths)
        return attached


def refuse_obstacles(
    paths: InstancePaths, interfaces: Iterable[str], mode: Mode = "auto", *, force: bool = False
) -> None:
    """Raise the ForeignProgramError or ConflictError that `attach` would raise, before anything is prepared."""
    with ExitStack() as stack, bpffs.translated("asking for the attached programs"):
        for name in interfaces:
            _plan(_look(paths, stack, name, force), mode)


def needs_frags(paths: InstancePaths, interfaces: Iterable[str], mode: Mode = "auto") -> bool:
    """Whether the program must take frames in several buffers (BPF_F_XDP_HAS_FRAGS): an interface with a large MTU
    will be in native mode, and its driver takes no other program, which is tried.

    Not where an interface will be in generic mode: Linux since 6.9 copies frames for such a program and loses
    `mac_len` in that (skb_pp_cow_data()), so that traffic control sends the replies to probes on without their
    Ethernet headers. Without the flag the kernel makes one buffer of each frame there.
    """
    with ExitStack() as stack, bpffs.translated("trying which programs the driver takes"):
        steps = [_plan(_look(paths, stack, name, force=True), mode) for name in interfaces]
        large = [step for step in steps if mtu_of(step.interface) > ETHERNET_MTU]
        if not large or any(step.modes[0] == "generic" for step in steps):
            return False
        if any(step.old_fd is not None for step in large):
            loaded = layout.read(paths)
            return bool(loaded and loaded.has_frags)
        refusing = [step for step in large if not _takes(step.ifindex, has_frags=False)]
        return bool(refusing) and all(_takes(step.ifindex, has_frags=True) for step in refusing)


def _takes(ifindex: int, *, has_frags: bool) -> bool:
    """Whether the driver takes such a program in native mode. Some restart their queues for it."""
    fd = libbpf.xdp_pass_prog_load("native_probe", has_frags)
    try:
        libbpf.xdp_attach(ifindex, fd, XdpFlags.NATIVE | XdpFlags.UPDATE_IF_NOEXIST)
        libbpf.xdp_detach(ifindex, XdpFlags.NATIVE, fd)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            raise
        return False
    finally:
        os.close(fd)
    return True


def attachments(paths: InstancePaths) -> list[Attachment]:
    """The interfaces of this network namespace with this instance's program, including retired ones."""
    with bpffs.translated("asking for the attached programs"):
        ours = _ours(paths)
        return [found for found in _attached() if found.program_id in ours]


def detach(paths: InstancePaths, interfaces: Iterable[str]) -> list[str]:
    """Detach our program from these interfaces; returns those that had it. Other programs stay."""
    names = set(interfaces)
    with bpffs.locked(paths):
        return _take_off(paths, names)


def unload(paths: InstancePaths) -> list[str]:
    """Remove everything: attachments, pins, layout; returns the interfaces that had the program.

    Works on whatever is left of an incomplete instance.
    """
    bpffs.require_privileges()
    with bpffs.locked(paths):
        freed = _take_off(paths, {found.interface for found in attachments(paths)})
        with bpffs.translated(f"removing {paths.pins} and {paths.run}"):
            bpffs.remove_tree(paths.pins)
            with suppress(OSError):  # not empty: other instances have files there
                paths.pins.parent.rmdir()
            layout.clear(paths)
            with untrusted_directory.directory(paths.run) as place:
                untrusted_directory.remove(place, paths.loader_lock.name)
            with suppress(OSError):  # not empty: the daemon has files there
                paths.run.rmdir()
    return freed


def _prepared(paths: InstancePaths, stack: ExitStack) -> int:
    try:
        return stack.enter_context(libbpf.opened(paths.pins / bpffs.PROGRAM))
    except FileNotFoundError as error:
        raise LoaderError(
            f"instance '{paths.name}' has no prepared program: run `xdpdirector load` first"
        ) from error


def _ours(paths: InstancePaths) -> set[int]:
    """Ids of this instance's programs; layout.json also knows a program whose pin was removed."""
    loaded = layout.read(paths)
    return set(bpffs.pinned_programs(paths)) | ({loaded.program_id} if loaded else set())


def _attached() -> Iterator[Attachment]:
    for ifindex, name in socket.if_nameindex():
        with suppress(FileNotFoundError):  # the interface was removed meanwhile
            state = libbpf.xdp_query(ifindex)
            if state.program_id:
                yield Attachment(name, ifindex, _NAMES.get(state.mode, "hardware"), state.program_id)


def _look(paths: InstancePaths, stack: ExitStack, name: str, force: bool) -> _Present:
    ifindex = _index(name)
    state = libbpf.xdp_query(ifindex)
    if not state.program_id:
        return _Present(name, ifindex, state.mode, None)
    if state.program_id not in _ours(paths):
        if other := bpffs.instance_of(state.program_id):
            raise ForeignProgramError(_of_instance(paths, name, other))
        if not force:
            raise ForeignProgramError(_foreign(name, state.program_id))
    fd = bpffs.open_program(paths, state.program_id)
    stack.callback(os.close, fd)
    return _Present(name, ifindex, state.mode, fd)


def _plan(present: _Present, mode: Mode) -> _Step:
    if present.fd is None and mode == "auto" and (why := veth_peer.fault(present.interface)):
        why = f"in native mode a veth would lose what is sent on: {why}"
        return _Step(present.interface, present.ifindex, ("generic",), None, why)
    if present.fd is None:
        modes = ("native", "generic") if mode == "auto" else (mode,)
        return _Step(present.interface, present.ifindex, modes, None)
    name, running = present.interface, _NAMES.get(present.mode)
    if running is None or mode not in ("auto", running):
        raise ConflictError(
            f"{name} carries an XDP program in {running or 'hardware'} mode and {mode} mode is asked for: "
            "a mode cannot be changed in place. Ask for the present mode or auto, or first take the program "
            f"off with `xdpdirector unload` (or `ip link set dev {name} xdp off`), which interrupts the traffic"
        )
    return _Step(name, present.ifindex, (running,), present.fd)


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError as error:
        present = ", ".join(other for _, other in socket.if_nameindex())
        raise InvalidRequestError(f"there is no interface '{name}' here; there are: {present}") from error


def _of_instance(paths: InstancePaths, name: str, other: str) -> str:
    return (
        f"{name} carries the packet program of instance '{other}', and an interface has room for one: take {name} "
        f"out of `interfaces` of instance '{paths.name}' and give it another, or serve both from one instance. The "
        f"program of '{other}' is not replaced, not even with --force"
    )


def _foreign(name: str, program_id: int) -> str:
    title = "unknown"
    with suppress(OSError):
        fd = libbpf.prog_fd(program_id)
        title = libbpf.prog_info(fd).name or "without a name"
        os.close(fd)
    return (
        f"{name} carries an XDP program that is not this director's: id {program_id}, name '{title}'. "
        f"Stop what attached it or run `ip link set dev {name} xdp off`; or replace it with "
        "`xdpdirector load --force`"
    )


def _carry_out(fd: int, steps: list[_Step]) -> list[Attachment]:
    done: list[tuple[_Step, Attachment]] = []
    try:
        for step in steps:
            done.append((step, _put_on(fd, step)))
    except (LoaderError, NotAllowedError, ConflictError) as error:
        problems = [problem for step, made in reversed(done) for problem in _put_back(fd, step, made.mode)]
        if not problems:
            raise
        raise type(error)(f"{error.detail}; and putting things back failed: {'; '.join(problems)}") from error
    return [attachment for _, attachment in done]


def _put_on(fd: int, step: _Step) -> Attachment:
    """Attach in the first of the step's modes that works."""
    refusals = [step.why] if step.why else []
    for mode in step.modes:
        try:
            _exchange(fd, step, mode)
        except OSError as error:
            _raise_unless_another_mode_may_help(step, error)
            refusals.append(f"{mode} mode: {error.strerror}")
        else:
            note = f"{step.interface} runs in {mode} mode, because {'; '.join(refusals)}" if refusals else ""
            return Attachment(step.interface, step.ifindex, mode, libbpf.prog_info(fd).id, note)
    raise LoaderError(f"the program cannot be attached to {step.interface}: {'; '.join(refusals)}")


def _exchange(fd: int, step: _Step, mode: str) -> None:
    if step.old_fd is None:
        libbpf.xdp_attach(step.ifindex, fd, _FLAGS[mode] | XdpFlags.UPDATE_IF_NOEXIST)
    else:
        libbpf.xdp_attach(step.ifindex, fd, _FLAGS[mode], step.old_fd)


def _raise_unless_another_mode_may_help(step: _Step, error: OSError) -> None:
    if error.errno in (errno.EPERM, errno.EACCES):
        raise NotAllowedError(
            f"attaching to {step.interface} is not allowed: run as root, or give CAP_NET_ADMIN and CAP_BPF"
        ) from error
    if error.errno == errno.EBUSY:
        raise ConflictError(
            f"{step.interface} carries a program attached through a BPF link: end the process that holds it"
        ) from error
    if error.errno == errno.EEXIST:
        raise ConflictError(
            f"another process changed the program on {step.interface} at the same time"
        ) from error


def _put_back(fd: int, step: _Step, mode: str) -> list[str]:
    try:
        if step.old_fd is None:
            libbpf.xdp_detach(step.ifindex, _FLAGS[mode], fd)
        else:
            libbpf.xdp_attach(step.ifindex, step.old_fd, _FLAGS[mode], fd)
    except OSError as error:
        return [f"{step.interface}: {error}"]
    return []


def _clean(paths: InstancePaths) -> None:
    """Unpin retired programs that are no longer attached, then maps of earlier layouts. Without the
    privileges for it, that is left to the next loader."""
    if not os.access(paths.pins, os.W_OK):
        return
    running = {found.program_id for found in _attached()}
    retired = {
        number: path for number, path in bpffs.pinned_programs(paths).items() if path.name != bpffs.PROGRAM
    }
    for number, path in retired.items():
        if number not in running:
            path.unlink(missing_ok=True)
    loaded = layout.read(paths)
    if loaded and not running & set(retired):
        for directory in paths.pins.glob(f"{bpffs.MAPS}*"):
            if directory != loaded.pins:
                layout.forget(paths, directory)
                bpffs.remove_tree(directory)


def _take_off(paths: InstancePaths, names: set[str]) -> list[str]:
    freed = []
    with bpffs.translated("detaching the program"):
        for found in attachments(paths):
            if found.interface in names:
                fd = bpffs.open_program(paths, found.program_id)
                try:
                    libbpf.xdp_detach(found.ifindex, _FLAGS[found.mode], fd)
                finally:
                    os.close(fd)
                freed.append(found.interface)
    return freed
