# SPDX-License-Identifier: Apache-2.0
"""A ring on its way from one owner to the next, slot by slot and as flows see it (the rules of bpf/select.h)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from xdpdirector.dataplane import service_plan
from xdpdirector.dataplane.service_plan import EXCEPTIONS, FLUX, NO_BACKEND

A, B, C, NOBODY = 1, 2, 3, NO_BACKEND
SLOTS = 4

same_each_time = settings(derandomize=True)
Slot = tuple[int, int, int]  # present owner, the one before, flags
Owners = st.lists(st.sampled_from([A, B, C, NOBODY]), min_size=SLOTS, max_size=SLOTS)


def slots_of(words: service_plan.Words) -> list[Slot]:
    parts = (service_plan.backends_of(words), service_plan.before_of(words), service_plan.flags_of(words))
    return list(zip(*(part.tolist() for part in parts), strict=True))


def words_of(*slots: Slot) -> service_plan.Words:
    return service_plan.pack(*np.array(slots).T)


# What packets see while slots are written


class Watched(np.ndarray):  # type: ignore[type-arg]
    """Calls `between` after each element that is written."""

    between: Callable[[], None]

    def __setitem__(self, places: npt.NDArray[np.int64], values: npt.NDArray[np.int64]) -> None:  # type: ignore[override]
        for place, value in zip(places.tolist(), values.tolist(), strict=True):
            super().__setitem__(place, value)
            self.between()


def seen(ring: service_plan.Words, owners: npt.NDArray[np.uint16]) -> list[Slot]:
    """Each slot as the packet path reads it. At rest nobody asks for the owner before."""
    slots = slots_of(np.asarray(ring))
    return [
        (owner - 1, NOBODY, 0) if owner else slot if slot[2] else (slot[0], NOBODY, 0)
        for owner, slot in zip(owners.tolist(), slots, strict=True)
    ]


STATES: list[Slot] = [
    (NOBODY, NOBODY, 0), (0, NOBODY, 0), (A, NOBODY, 0), (0xFFFE, NOBODY, 0), (B, A, FLUX), (B, NOBODY, EXCEPTIONS),
    (A, B, FLUX | EXCEPTIONS), (NOBODY, A, FLUX),
]  # fmt: skip


def test_a_packet_between_two_stores_sees_each_slot_as_it_was_or_as_it_is() -> None:
    before, after = (words_of(*slots) for slots in zip(*product(STATES, STATES), strict=True))
    ring, owners = before.copy().view(Watched), service_plan.resting_owners(before).view(Watched)
    was, becomes = seen(ring, owners), seen(after, service_plan.resting_owners(after))
    moments: list[list[Slot]] = []
    ring.between = owners.between = lambda: moments.append(seen(ring, owners))

    written = service_plan.store(ring, owners, after)

    assert written == len(moments) > len(after)
    for moment in moments:
        assert all(slot in pair for slot, pair in zip(moment, zip(was, becomes, strict=True), strict=True))
    assert moments[-1] == becomes
    assert service_plan.store(ring, owners, after) == 0


def test_an_owner_stands_one_higher_and_only_for_a_slot_at_rest() -> None:
    found = service_plan.resting_owners(words_of(*STATES)).tolist()

    assert found == [0, 1, A + 1, 0xFFFF, 0, 0, 0, 0]


# One slot


def test_a_word_is_the_slot_as_the_program_reads_it() -> None:
    """`struct ring_slot`: u16 backend, u16 before, u32 flags."""
    little_endian = words_of((0x1234, 0xFFFF, EXCEPTIONS | FLUX)).astype("<u8").tobytes()

    assert little_endian == bytes.fromhex("3412 ffff 03000000")


@same_each_time
@given(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.integers(0, 3)))
def test_what_is_packed_is_read_back(slot: Slot) -> None:
    assert slots_of(words_of(slot)) == [slot]


@pytest.mark.parametrize(
    ("recorded", "flags"),
    [
        pytest.param(False, 0, id="no flow yet: at rest"),
        pytest.param(True, EXCEPTIONS, id="flows have records that may disagree"),
    ],
)
def test_a_new_ring_is_not_in_flux(recorded: bool, flags: int) -> None:
    assert slots_of(service_plan.fresh([A, NOBODY], recorded=recorded)) == [
        (A, NOBODY, flags),
        (NOBODY, NOBODY, flags),
    ]


@pytest.mark.parametrize(
    ("slot", "owner", "after"),
    [
        pytest.param((A, NOBODY, 0), A, (A, NOBODY, 0), id="the same owner: nothing"),
        pytest.param((A, NOBODY, 0), B, (B, A, FLUX), id="another owner: flux"),
        pytest.param((A, NOBODY, 0), NOBODY, (NOBODY, A, FLUX), id="nobody any more: flux"),
        pytest.param((NOBODY, NOBODY, 0), A, (A, NOBODY, 0), id="nobody had it: no flux"),
        pytest.param((B, A, FLUX), B, (B, A, FLUX), id="in flux, the same owner: nothing"),
        pytest.param((B, A, FLUX), C, (C, A, FLUX), id="in flux, a third: the first stays the one before"),
        pytest.param((B, A, FLUX), A, (A, A, FLUX), id="in flux, back again: flux goes on"),
        pytest.param((NOBODY, A, FLUX), B, (B, A, FLUX), id="in flux without owner: the first stays"),
        pytest.param((A, NOBODY, EXCEPTIONS), B, (B, A, FLUX | EXCEPTIONS), id="exceptions stay"),
        pytest.param((A, NOBODY, EXCEPTIONS), A, (A, NOBODY, EXCEPTIONS), id="exceptions, the same owner"),
        pytest.param(
            (NOBODY, NOBODY, EXCEPTIONS), A, (A, NOBODY, EXCEPTIONS), id="exceptions, nobody had it"
        ),
    ],
)
def test_a_slot_gets_an_owner(slot: Slot, owner: int, after: Slot) -> None:
    assert slots_of(service_plan.advance(words_of(slot), [owner])) == [after]


@pytest.mark.parametrize(
    ("slot", "disagrees", "after"),
    [
        pytest.param((B, A, FLUX), False, (B, NOBODY, 0), id="flux ends"),
        pytest.param((B, A, FLUX), True, (B, NOBODY, EXCEPTIONS), id="flux ends, a record disagrees"),
        pytest.param((B, NOBODY, EXCEPTIONS), False, (B, NOBODY, 0), id="no record disagrees any more"),
        pytest.param((B, NOBODY, EXCEPTIONS), True, (B, NOBODY, EXCEPTIONS), id="a record still disagrees"),
        pytest.param((B, NOBODY, 0), False, (B, NOBODY, 0), id="at rest"),
        pytest.param((NOBODY, A, FLUX), False, (NOBODY, NOBODY, 0), id="nobody's slot"),
    ],
)
def test_flux_ends(slot: Slot, disagrees: bool, after: Slot) -> None:
    words = words_of((A, NOBODY, 0), slot)

    assert slots_of(service_plan.settle(words, {1} if disagrees else set())) == [(A, NOBODY, 0), after]


@same_each_time
@given(st.lists(Owners, min_size=1, max_size=6))
def test_only_the_wanted_owners_are_left(history: list[list[int]]) -> None:
    words = service_plan.fresh(history[0], recorded=False)
    for owners in history[1:]:
        words = service_plan.advance(words, owners)

    assert service_plan.backends_of(words).tolist() == history[-1]
    assert slots_of(service_plan.advance(words, history[-1])) == slots_of(words)
    assert slots_of(service_plan.settle(words, set())) == slots_of(
        service_plan.fresh(history[-1], recorded=False)
    )


# Flows


@dataclass
class Flow:
    """Of one slot; `backend` is where its first packet went, `recorded` whether it has a record."""

    slot: int
    backend: int
    recorded: bool = False
    seen: bool = field(default=True)
    """Since flux began."""


class FlowsOfARing(RuleBasedStateMachine):
    """Owners change, flows open, go on and end, flux ends. All backends serve: then no flow may ever move."""

    flows = Bundle("flows")

    def __init__(self) -> None:
        super().__init__()
        self.words = service_plan.fresh([A, B, C, NOBODY], recorded=False)
        self.living: list[Flow] = []

    def slot(self, position: int) -> Slot:
        return slots_of(self.words)[position]

    @rule(target=flows, position=st.integers(0, SLOTS - 1))
    def open(self, position: int) -> Flow | None:
        """A SYN: to the present owner, with a record while the slot is in flux."""
        owner, _, flags = self.slot(position)
        if owner == NOBODY:
            return None
        flow = Flow(position, owner, recorded=bool(flags & FLUX))
        self.living.append(flow)
        return flow

    @rule(flow=flows)
    def go_on(self, flow: Flow | None) -> None:
        """Any other packet: by the record unless the slot is at rest, else by the slot."""
        if flow not in self.living or flow is None:
            return
        owner, before, flags = self.slot(flow.slot)
        if flags and flow.recorded:
            goes_to = flow.backend  # what the record says
        elif flags & FLUX:
            goes_to = before
            flow.recorded = True
        else:
            goes_to = owner
        flow.seen = True

        assert goes_to == flow.backend

    @rule(flow=flows)
    def end(self, flow: Flow | None) -> None:
        if flow in self.living and flow is not None:
            self.living.remove(flow)

    @rule(owners=Owners)
    def change(self, owners: list[int]) -> None:
        in_flux = service_plan.flags_of(self.words) & np.uint64(FLUX)
        self.words = service_plan.advance(self.words, owners)
        entered = (service_plan.flags_of(self.words) & np.uint64(FLUX)) > in_flux
        for flow in self.living:
            if entered[flow.slot]:
                flow.seen = False

    @precondition(lambda self: (service_plan.flags_of(self.words) != 0).any())
    @rule()
    def settle(self) -> None:
        """The time-out has passed since the last slot entered flux: who showed no packet since is dead."""
        self.living = [flow for flow in self.living if flow.seen]
        disagreeing = {
            flow.slot for flow in self.living if flow.recorded and flow.backend != self.slot(flow.slot)[0]
        }
        self.words = service_plan.settle(self.words, disagreeing)

    @invariant()
    def a_slot_at_rest_has_no_one_before(self) -> None:
        assert all(flags & FLUX or before == NOBODY for _, before, flags in slots_of(self.words))

    def teardown(self) -> None:
        for flow in list(self.living):
            self.go_on(flow)


FlowsOfARing.TestCase.settings = settings(
    same_each_time, max_examples=2 * settings.default.max_examples, stateful_step_count=30
)
TestFlowsOfARing = FlowsOfARing.TestCase


WEIGHTS = st.dictionaries(st.integers(1, 4), st.integers(0, 300), max_size=4)


@settings(max_examples=200, deadline=None)
@given(story=st.lists(st.tuples(WEIGHTS, st.integers(0, 40)), min_size=1, max_size=12))
def test_nobody_has_saved_up_turns_nor_lost_them(story: list[tuple[dict[int, int], int]]) -> None:
    """Members and weights change, and some connections come in between."""
    served: dict[int, int] = {}
    before: dict[int, int] = {}
    for after, connections in story:
        served = service_plan.turns({each: served.get(each, 0) for each in after}, before, after)
        before, taking = after, {each: weight for each, weight in after.items() if weight}

        assert all(0 <= served[each] <= 3 * weight + 2 for each, weight in taking.items())
        given = dict.fromkeys(taking, 0)
        for _ in range(connections if taking else 0):
            each = min(taking, key=lambda each: (served[each] + 1) / taking[each])
            served[each] += 1
            given[each] += 1
        for each, weight in taking.items():
            assert abs(given[each] - connections * weight / sum(taking.values())) <= 2 + len(taking)
