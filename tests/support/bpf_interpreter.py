# SPDX-License-Identifier: Apache-2.0
"""Interprets the bytecode of the packet program for one frame, and counts the instructions (RFC 9669).

What a packet costs is thereby a number that is the same on every machine. Map look-ups read the kernel's maps, and
stores change a copy. It knows the instructions and helpers on the path of an established packet; another helper
ends it with InterpreterError, and so does a tail call, as that path has none.
"""

from __future__ import annotations

import operator
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

Lookup = Callable[[str, bytes], bytes | None]
"""The value of a map's entry by the map's name and the key."""

_INSTRUCTION = struct.Struct("<BBhi")
_LD, _LDX, _ST, _STX, _ALU, _JMP, _JMP32, _ALU64 = range(8)  # classes
_WIDTHS = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}
_ATOMIC, _FETCH_ADD, _COMPARE_AND_SWAP = 0xC0, 0x01, 0xF1
_REGISTER_SOURCE = 0x08
_CALL, _EXIT, _ALWAYS = 0x80, 0x90, 0x00
_MAP_FD = 1
_MAP_LOOKUP, _JIFFIES = 1, 118  # enum bpf_func_id
_STACK_BYTES, _CONTEXT_BYTES, _IFINDEX_AT = 512, 24, 12  # struct xdp_md
_MASK = {4: (1 << 32) - 1, 8: (1 << 64) - 1}


class InterpreterError(AssertionError):
    """The program leaves the path that is interpreted."""


class Result(NamedTuple):
    """`instructions` as BPF counts them; `lookups` by map."""

    verdict: int
    frame: bytes
    instructions: int
    lookups: Counter[str]


class Interpreter:
    """`maps`: names by the numbers in the bytecode. `value_size`: bytes of their values, of one CPU."""

    def __init__(
        self, bytecode: bytes, maps: Mapping[int, str], key_size: Mapping[str, int], value_size: Mapping[str, int],
        lookup: Lookup, jiffies: int,
    ) -> None:  # fmt: skip
        self._code = list(_INSTRUCTION.iter_unpack(bytecode))
        self._maps, self._key_size, self._value_size = maps, key_size, value_size
        self._lookup, self._jiffies = lookup, jiffies

    def run(self, frame: bytes, ifindex: int) -> Result:
        """What the program makes of a frame that comes in on that interface."""
        memory = _Memory()
        context = bytearray(_CONTEXT_BYTES)
        context[_IFINDEX_AT : _IFINDEX_AT + 4] = ifindex.to_bytes(4, "little")
        data = memory.add(frame)
        context_at, stack = memory.add(context), memory.add(bytes(_STACK_BYTES))
        pointers = {context_at: data, context_at + 4: data + len(frame)}
        registers, found, lookups = [0] * 11, dict[tuple[str, bytes], int](), Counter[str]()
        registers[1], registers[10] = context_at, stack + _STACK_BYTES
        at = count = 0
        while True:
            opcode, both, offset, number = self._code[at]
            target, source, kind = both & 15, both >> 4, opcode & 7
            at, count = at + 1, count + 1
            if kind == _LD:
                high = self._code[at][3]
                wide = (number & _MASK[4]) | (high & _MASK[4]) << 32
                registers[target] = number if source == _MAP_FD else wide
                at += 1
            elif kind == _LDX:
                address = registers[source] + offset & _MASK[8]
                registers[target] = pointers.get(address) or memory.load(address, _WIDTHS[opcode & 0x18])
            elif kind == _ST:
                memory.store(registers[target] + offset, _WIDTHS[opcode & 0x18], number)
            elif kind == _STX:
                self._store(memory, registers, opcode, registers[target] + offset, source, number)
            elif kind in (_ALU, _ALU64):
                operand = registers[source] if opcode & _REGISTER_SOURCE else number
                width = 8 if kind == _ALU64 else 4
                registers[target] = _computed(opcode, width, registers[target], operand, number)
            elif opcode & 0xF0 == _CALL:
                registers[0] = self._called(number, registers, memory, found, lookups)
            elif opcode & 0xF0 == _EXIT:
                return Result(registers[0], memory.bytes_at(data, len(frame)), count, lookups)
            else:
                operand = registers[source] if opcode & _REGISTER_SOURCE else number
                if _jumps(opcode, 8 if kind == _JMP else 4, registers[target], operand):
                    at += offset

    @staticmethod
    def _store(
        memory: _Memory, registers: list[int], opcode: int, address: int, source: int, number: int
    ) -> None:
        width = _WIDTHS[opcode & 0x18]
        if opcode & 0xE0 != _ATOMIC:
            memory.store(address, width, registers[source])
            return
        before = memory.load(address, width)
        if number == _COMPARE_AND_SWAP:
            if before == registers[0]:
                memory.store(address, width, registers[source])
            registers[0] = before
            return
        memory.store(address, width, before + registers[source])
        if number & _FETCH_ADD:
            registers[source] = before

    def _called(
        self,
        helper: int,
        registers: list[int],
        memory: _Memory,
        found: dict[tuple[str, bytes], int],
        lookups: Counter[str],
    ) -> int:
        if helper == _JIFFIES:
            return self._jiffies
        if helper != _MAP_LOOKUP:
            raise InterpreterError(f"the program calls helper {helper}")
        name = self._maps[registers[1]]
        key = memory.bytes_at(registers[2], self._key_size[name])
        lookups[name] += 1
        if (name, key) not in found:
            value = self._lookup(name, key)
            found[name, key] = memory.add(value[: self._value_size[name]]) if value else 0
        return found[name, key]


class _Memory:
    """Regions; an address is a region's number, in the upper half, and the place in it."""

    def __init__(self) -> None:
        self._regions: list[bytearray] = [bytearray()]

    def add(self, content: bytes) -> int:
        self._regions.append(bytearray(content))
        return len(self._regions) - 1 << 32

    def bytes_at(self, address: int, count: int) -> bytes:
        region, begin = self._regions[address >> 32], address & _MASK[4]
        if not address >> 32 or begin + count > len(region):
            raise InterpreterError(f"{count} bytes at {address:#x} are not the program's")
        return bytes(region[begin : begin + count])

    def load(self, address: int, width: int) -> int:
        return int.from_bytes(self.bytes_at(address, width), "little")

    def store(self, address: int, width: int, value: int) -> None:
        self.bytes_at(address, width)
        begin = address & _MASK[4]
        self._regions[address >> 32][begin : begin + width] = (value % (1 << 8 * width)).to_bytes(
            width, "little"
        )


def _signed(value: int, width: int) -> int:
    return value - (1 << 8 * width) if value >> 8 * width - 1 else value


_ARITHMETIC: dict[int, Callable[[int, int], int]] = {
    0x00: operator.add,
    0x10: operator.sub,
    0x20: operator.mul,
    0x30: lambda a, b: a // b if b else 0,
    0x40: operator.or_,
    0x50: operator.and_,
    0x80: lambda a, _: -a,
    0x90: lambda a, b: a % b if b else a,
    0xA0: operator.xor,
    0xB0: lambda _, b: b,
}
_SHIFTS: dict[int, Callable[[int, int], int]] = {0x60: operator.lshift, 0x70: operator.rshift}
_SIGNED_SHIFT, _BYTE_SWAP = 0xC0, 0xD0


def _computed(opcode: int, width: int, target: int, operand: int, number: int) -> int:
    code, mask = opcode & 0xF0, _MASK[width]
    if code == _BYTE_SWAP:
        bits = target & (1 << number) - 1
        order = "big" if opcode & _REGISTER_SOURCE else "little"
        return int.from_bytes(bits.to_bytes(number // 8, "little"), order)  # type: ignore[arg-type]
    target, operand = target & mask, operand & mask
    if code in _SHIFTS:
        return _SHIFTS[code](target, operand & 8 * width - 1) & mask
    if code == _SIGNED_SHIFT:
        return _signed(target, width) >> (operand & 8 * width - 1) & mask
    return _ARITHMETIC[code](target, operand) & mask


_COMPARISONS: dict[int, Callable[[int, int], bool]] = {
    0x10: operator.eq,
    0x20: operator.gt,
    0x30: operator.ge,
    0x40: lambda a, b: bool(a & b),
    0x50: operator.ne,
    0xA0: operator.lt,
    0xB0: operator.le,
}
_SIGNED_COMPARISONS: dict[int, Callable[[int, int], bool]] = {
    0x60: operator.gt,
    0x70: operator.ge,
    0xC0: operator.lt,
    0xD0: operator.le,
}


def _jumps(opcode: int, width: int, target: int, operand: int) -> bool:
    code, mask = opcode & 0xF0, _MASK[width]
    if code == _ALWAYS:
        return True
    target, operand = target & mask, operand & mask
    if code in _SIGNED_COMPARISONS:
        return _SIGNED_COMPARISONS[code](_signed(target, width), _signed(operand, width))
    return _COMPARISONS[code](target, operand)
