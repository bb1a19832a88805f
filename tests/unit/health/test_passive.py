# SPDX-License-Identifier: Apache-2.0
"""Who is suspect by his clients' packets, who is ejected for it, and how he comes back."""

from __future__ import annotations

from random import Random

import pytest

from xdpdirector.health.passive import (
    EJECTED,
    NORMAL,
    PATIENCE,
    SUSPECT,
    TRIAL,
    TRIAL_SHARE,
    Change,
    Figures,
    Opened,
    PassiveHealth,
    bounds,
    is_too_high,
    is_unsuspicious,
)
from xdpdirector.model.passive import WINDOW, PassiveSpec, PassiveState

SHOWN = PassiveSpec()
EJECTS = PassiveSpec(eject=True)
LOOK = 5.0
NAMES = ("web1", "web2", "web3", "web4")


class Service:
    """Backends with so many connections between two looks, of which so many must send their SYN again."""

    def __init__(self, *names: str, spec: PassiveSpec = EJECTS) -> None:
        self.spec, self.now = spec, 1000.0
        self.health = PassiveHealth()
        self.rates = dict.fromkeys(names or NAMES, Opened(50, 0))
        self.totals = dict.fromkeys(self.rates, Opened(0, 0))
        self.down: set[str] = set()
        self.look()

    def look(self, times: int = 1) -> list[Change]:
        changes = []
        for _ in range(times):
            self.now += LOOK
            for name, rate in self.rates.items():
                had = self.totals[name]
                self.totals[name] = Opened(had.connections + rate.connections, had.repeated + rate.repeated)
            totals = {name: self.totals[name] for name in self.rates}
            changes += self.health.look(totals, set(self.rates) - self.down, self.spec, self.now)
        return changes

    def states(self) -> dict[str, PassiveState]:
        """Of those that are not normal."""
        found = {name: self.health.state(name) for name in self.rates}
        return {name: state for name, state in found.items() if state is not NORMAL}

    def eject(self, name: str) -> None:
        self.rates[name] = Opened(50, 25)
        self.look(2)
        assert self.states() == {name: EJECTED}


# Statistics


@pytest.mark.parametrize(
    ("opened", "z", "expected"),
    [
        pytest.param(Opened(0, 0), 3.0, (0.0, 1.0), id="nothing known"),
        pytest.param(Opened(10, 1), 1.96, (0.0179, 0.4042), id="1 of 10"),
        pytest.param(Opened(100, 0), 1.96, (0.0, 0.0370), id="0 of 100"),
        pytest.param(Opened(20, 20), 1.96, (0.8389, 1.0), id="20 of 20"),
    ],
)
def test_bounds_are_those_of_wilson(opened: Opened, z: float, expected: tuple[float, float]) -> None:
    """Values of R's binom.confint(method = "wilson")."""
    assert bounds(opened, z) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(
    ("own", "siblings", "too_high"),
    [
        pytest.param((200, 100), (600, 6), True, id="half of them, hardly any elsewhere"),
        pytest.param((200, 100), (600, 300), False, id="half of them, everywhere"),
        pytest.param((200, 100), (600, 150), False, id="twice the siblings'"),
        pytest.param((20, 20), (60, 0), True, id="all of few"),
        pytest.param((20, 4), (400, 0), False, id="a fifth of few may be chance"),
        pytest.param((2000, 400), (40000, 40), True, id="a fifth of many is none"),
        pytest.param((2000, 100), (40000, 0), False, id="surely more, but under `share`"),
        pytest.param((200, 100), (0, 0), False, id="no siblings"),
        pytest.param((0, 0), (600, 0), False, id="no connections"),
    ],
)
def test_too_high(own: tuple[int, int], siblings: tuple[int, int], too_high: bool) -> None:
    assert is_too_high(Figures(Opened(*own), Opened(*siblings)), SHOWN) is too_high


def test_nothing_is_too_high_and_unsuspicious() -> None:
    random = Random(1)
    for _ in range(2000):
        own, siblings = (
            Opened(n, random.randint(0, n)) for n in (random.randint(1, 500), random.randint(1, 500))
        )
        figures = Figures(own, siblings)

        assert not (is_too_high(figures, SHOWN) and is_unsuspicious(figures, SHOWN))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.3])
def test_who_is_as_good_as_the_others_is_not_suspected(share: float) -> None:
    """Two hours of ten backends with few connections: chance alone."""
    random, service = Random(f"{share}"), Service(*(f"web{n}" for n in range(10)), spec=SHOWN)
    suspected = 0
    for _ in range(1440):
        for name in service.rates:
            service.rates[name] = Opened(5, sum(random.random() < share for _ in range(5)))
        suspected += sum(change.after is SUSPECT for change in service.look())

    assert suspected <= 1


@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
def test_who_is_bad_is_found_within_a_minute(share: float) -> None:
    random, service = Random(f"{share}"), Service(spec=SHOWN)
    for _ in range(12):
        for name in service.rates:
            bad = share if name == "web2" else 0.01
            service.rates[name] = Opened(20, sum(random.random() < bad for _ in range(20)))
        service.look()

    assert service.states() == {"web2": SUSPECT}


def test_a_bad_one_does_not_hide_another() -> None:
    service = Service("web1", "web2", "web3", spec=SHOWN)
    service.rates |= {"web1": Opened(50, 25), "web2": Opened(50, 30)}

    service.look(6)

    assert service.states() == {"web1": SUSPECT, "web2": SUSPECT}


def test_when_all_are_bad_none_is_suspect() -> None:
    """It is the network, or the director."""
    service = Service()
    service.rates = dict.fromkeys(NAMES, Opened(50, 25))

    assert service.look(20) == []


def test_a_backend_alone_is_never_judged() -> None:
    service = Service("web1")
    service.rates["web1"] = Opened(50, 50)

    assert service.look(20) == []


# Suspects


def test_one_look_is_not_enough() -> None:
    service = Service(spec=SHOWN)
    service.rates["web1"] = Opened(500, 500)

    assert service.look() == []
    assert [(each.backend, each.before, each.after) for each in service.look()] == [("web1", NORMAL, SUSPECT)]


def test_a_suspect_is_cleared_when_the_window_is_good_again() -> None:
    service = Service(spec=SHOWN)
    service.rates["web1"] = Opened(50, 25)
    service.look(3)
    service.rates["web1"] = Opened(50, 0)

    changes = service.look(round(WINDOW / LOOK) + 3)

    assert [each.after for each in changes] == [NORMAL]


def test_a_suspect_without_connections_is_cleared_in_time() -> None:
    service = Service(spec=SHOWN)
    service.rates["web1"] = Opened(50, 25)
    service.look(3)
    service.rates["web1"] = Opened(0, 0)

    service.look(round(WINDOW / LOOK))
    assert service.states() == {"web1": SUSPECT}
    service.look(round(PATIENCE / LOOK))

    assert service.states() == {}


def test_suspects_that_are_not_to_be_ejected_keep_their_weight() -> None:
    service = Service(spec=SHOWN)
    service.rates["web1"] = Opened(50, 25)
    service.look(20)

    assert service.states() == {"web1": SUSPECT}
    assert service.health.part("web1", SHOWN) == 1.0


def test_a_backend_that_comes_anew_is_not_judged_by_the_one_before() -> None:
    service = Service(spec=SHOWN)
    service.rates["web1"] = Opened(50, 25)
    service.look()
    service.totals["web1"] = Opened(0, 0)
    service.rates["web1"] = Opened(50, 0)

    assert service.look(10) == []


def test_who_is_gone_is_forgotten() -> None:
    service = Service()
    service.eject("web1")
    rate = service.rates.pop("web1")
    service.look()
    service.rates["web1"] = rate

    service.look()

    assert service.states() == {}


# Ejection


def test_a_suspect_is_ejected_and_loses_its_weight() -> None:
    service = Service()

    service.eject("web1")

    assert service.health.part("web1", EJECTS) == 0.0
    assert [service.health.part(name, EJECTS) for name in NAMES[1:]] == [1.0] * 3
    assert service.health.figures("web1").own.share == pytest.approx(0.25, abs=0.26)


def test_an_ejected_backend_may_keep_a_part() -> None:
    spec = PassiveSpec(eject=True, weight=0.2)
    service = Service(spec=spec)
    service.eject("web1")
    assert service.health.part("web1", spec) == 0.2
    service.look(6)

    assert service.states() == {"web1": TRIAL}
    assert service.health.part("web1", spec) == 0.2


@pytest.mark.parametrize(
    ("at_most", "number", "ejected"),
    [(0.3, 4, 1), (0.3, 3, 0), (0.5, 2, 1), (0.5, 3, 1), (0.5, 4, 2), (1.0, 4, 2), (0.1, 4, 0)],
)
def test_never_more_than_a_part_of_them(at_most: float, number: int, ejected: int) -> None:
    names = NAMES[:number]
    service = Service(*names, spec=PassiveSpec(eject=True, at_most=at_most))
    for name in names[: max(1, number // 2)]:
        service.rates[name] = Opened(50, 25)

    service.look(4)

    assert list(service.states().values()).count(EJECTED) == ejected
    assert set(service.states()) == set(names[: max(1, number // 2)])


def test_the_worst_is_ejected() -> None:
    service = Service(spec=PassiveSpec(eject=True, at_most=0.25))
    service.rates |= {"web1": Opened(50, 20), "web2": Opened(50, 45)}

    service.look(4)

    assert service.states() == {"web1": SUSPECT, "web2": EJECTED}


def test_who_is_down_counts_as_out() -> None:
    service = Service()
    service.down = {"web3", "web4"}
    service.rates["web1"] = Opened(50, 25)

    service.look(4)

    assert service.states() == {"web1": SUSPECT}


def test_when_others_go_down_who_was_ejected_comes_back() -> None:
    service = Service()
    service.eject("web1")
    service.down = {"web3", "web4"}

    assert [(each.backend, each.after) for each in service.look()] == [("web1", SUSPECT)]


def test_a_suspect_that_is_down_is_not_ejected() -> None:
    service = Service()
    service.rates["web1"] = Opened(50, 25)
    service.down = {"web1"}

    service.look(4)

    assert service.states() == {"web1": SUSPECT}


def test_one_that_is_not_to_be_ejected_any_more_comes_back_at_once() -> None:
    service = Service()
    service.eject("web1")
    service.spec = SHOWN

    service.look()

    assert service.health.part("web1", SHOWN) == 1.0
    assert service.states() == {"web1": SUSPECT}


# Trial


def test_who_is_well_on_trial_comes_back() -> None:
    service = Service()
    service.eject("web1")
    service.rates["web1"] = Opened(0, 0)
    service.look(6)
    assert service.states() == {"web1": TRIAL}
    assert service.health.part("web1", EJECTS) == TRIAL_SHARE
    service.rates["web1"] = Opened(10, 0)

    changes = service.look(3)

    assert [(each.before, each.after) for each in changes] == [(TRIAL, NORMAL)]


def test_what_came_before_the_trial_does_not_count() -> None:
    service = Service(spec=PassiveSpec(eject=True, trial_after=LOOK))
    service.eject("web1")
    service.rates["web1"] = Opened(30, 0)

    service.look(4)

    assert service.states() == {}


def test_syns_that_are_sent_again_later_count_in_a_trial() -> None:
    service = Service()
    service.eject("web1")
    service.rates["web1"] = Opened(0, 0)
    service.look(6)
    service.rates["web1"] = Opened(30, 0)
    service.look()
    service.rates["web1"] = Opened(0, 30)

    assert [each.after for each in service.look()] == [EJECTED]


def test_after_each_failed_trial_it_waits_twice_as_long() -> None:
    service = Service()
    service.eject("web1")
    waits, since = [], service.now
    for _ in range(400):
        for change in service.look():
            if change.after is TRIAL:
                waits.append(service.now - since)
            if change.after is EJECTED:
                since = service.now

    assert waits[:6] == [30.0, 60.0, 120.0, 240.0, 480.0, 480.0]


def test_a_trial_that_nobody_takes_part_in_ends() -> None:
    service = Service()
    service.eject("web1")
    service.rates["web1"] = Opened(0, 0)

    service.look(round((EJECTS.trial_after + PATIENCE) / LOOK) + 1)

    assert service.states() == {}
