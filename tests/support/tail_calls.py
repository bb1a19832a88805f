# SPDX-License-Identifier: Apache-2.0
"""With which map and index a program's tail calls are made, as far as these are constant (RFC 9669).

Follows all paths through the bytecode, with what each register holds: a map, a number, or None for anything else,
also for what is written to the stack and read again.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_INSTRUCTION = struct.Struct("<BBhi")
_ALU, _ALU64, _LD, _LDX, _ST, _STX, _JMP, _JMP32 = 4, 7, 0, 1, 2, 3, 5, 6
_LOAD_64, _MAP_FD, _REGISTER_SOURCE = 0x18, 1, 0x08
_MOVE, _CALL, _EXIT, _ALWAYS = 0xB0, 0x80, 0x90, 0x00
_TAIL_CALL = 12
_REGISTERS, _CLOBBERED = 11, range(6)


class Map(NamedTuple):
    number: int


Known = Map | int | None
State = tuple[Known, ...]


class TailCall(NamedTuple):
    """None: not the same on all paths that lead there."""

    at: int
    map: Known
    index: Known


def tail_calls(bytecode: bytes) -> list[TailCall]:
    """In the order of the bytecode."""
    instructions = list(_INSTRUCTION.iter_unpack(bytecode))
    states: dict[int, State] = {0: (None,) * _REGISTERS}
    changed = [0]
    while changed:
        at = changed.pop()
        after = _after(instructions[at], states[at])
        for then in _next(at, *instructions[at]):
            known = states.get(then)
            joined = after if known is None else _same(known, after)
            if joined != known:
                states[then] = joined
                changed.append(then)
    return [
        TailCall(at, *states[at][2:4])
        for at, (opcode, _, _, immediate) in enumerate(instructions)
        if opcode == _JMP | _CALL and immediate == _TAIL_CALL and at in states
    ]


def _same(one: State, other: State) -> State:
    return tuple(a if a == b else None for a, b in zip(one, other, strict=True))


def _next(at: int, opcode: int, _registers: int, offset: int, immediate: int) -> list[int]:
    kind, operation = opcode & 7, opcode & 0xF0
    if opcode == _LOAD_64:
        return [at + 2]
    if kind not in (_JMP, _JMP32) or (kind, operation) == (_JMP, _CALL):
        return [at + 1]
    if (kind, operation) == (_JMP, _EXIT):
        return []
    if operation == _ALWAYS:
        return [at + 1 + (offset if kind == _JMP else immediate)]
    return [at + 1, at + 1 + offset]


def _after(instruction: tuple[int, int, int, int], before: State) -> State:
    opcode, registers, _, immediate = instruction
    state, to = list(before), registers & 0x0F
    kind, operation = opcode & 7, opcode & 0xF0
    if opcode == _LOAD_64:
        state[to] = Map(immediate) if registers >> 4 == _MAP_FD else None
    elif kind in (_ALU, _ALU64):
        state[to] = _moved(opcode, registers >> 4, immediate, before) if operation == _MOVE else None
    elif kind == _LDX:
        state[to] = None
    elif (kind, operation) == (_JMP, _CALL):
        for number in _CLOBBERED:
            state[number] = None
    return tuple(state)


def _moved(opcode: int, source: int, immediate: int, before: State) -> Known:
    if not opcode & _REGISTER_SOURCE:
        return immediate
    return before[source] if opcode & 7 == _ALU64 else None
