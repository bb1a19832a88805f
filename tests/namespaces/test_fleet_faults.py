# SPDX-License-Identifier: Apache-2.0
"""Three daemons with clocks an hour apart, on a real etcd of three members: members that die, paths that are cut,
writers at once, a request that is sent again elsewhere, and a backend that one director does not reach.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from dev.chaos.lab import ChaosDirector
from tests.support.cut_path import Cut
from tests.support.etcd import needed
from xdpdirector.client import UnixConnection
from xdpdirector.errors import DirectorError, StoreError
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import HealthCheck, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.etcd import LabEtcd
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until
from xdpdirector.storage.etcd.reports import LEASE

pytestmark = [pytest.mark.root, pytest.mark.slow, needed]

SOON = 90.0  # seconds: for what takes one or two on a quiet machine
CLOCKS = (0, 3600, -3600)
"""Seconds by which the directors' wall clocks differ from the true time."""
SERVING = 2
"""Backends of the service; the hosts after them have a member of etcd each."""
MEMBERS = 3
BACKEND, OTHER = (f"/v1/services/web/backends/backend{number}" for number in (1, 2))


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory(backends=SERVING + MEMBERS, directors=len(CLOCKS))
    for host in lab.backends[:SERVING]:
        lab.nginx(host.name)
    return lab


@pytest.fixture(scope="module")
def etcd(lab: Lab) -> Iterator[LabEtcd]:
    made = LabEtcd(*lab.backends[SERVING:])
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def fleet(lab: Lab, etcd: LabEtcd) -> Iterator[list[LabDirector]]:
    """The first one has the VIPs."""
    directors: list[LabDirector] = []
    check = HealthCheck(interval=1.0, timeout=0.9)
    try:
        for number, seconds in enumerate(CLOCKS, start=1):
            director = ChaosDirector(lab.director_hosts[number - 1], lab.topology.instances[number - 1])
            directors.append(director)
            director.set_clock(seconds)
            store = {"type": "etcd", "endpoints": etcd.endpoints, "name": f"d{number}", "insecure": True}
            services = web_configuration(lab.topology.backend_nodes[:SERVING], check=check)
            vips = "manage" if number == 1 else "external"
            director.configure(services | {"vips": vips, "store": store, "health": "majority"})
            director.start()
        yield directors
    finally:
        for each in directors:
            each.stop()


@pytest.fixture(autouse=True)
def whole(fleet: list[LabDirector], etcd: LabEtcd) -> None:
    """Each test begins with a fleet that is ready, and agrees."""
    etcd.start()
    for each in fleet:
        each.wait_serving(SOON)
    wait_until(lambda: all(is_whole(each, len(fleet)) for each in fleet), "the fleet is whole", SOON)


def is_whole(director: LabDirector, count: int) -> bool:
    seen = director.client.get("/v1/fleet")
    reports = seen["directors"]
    told = all(each["ready"] and each["down"] == {} and not each["undecided"] for each in reports)
    agrees = len(reports) == count and len({each["revision"] for each in reports}) == 1
    return told and agrees and seen["store"]["reached"]


def weight(director: LabDirector, backend: str = BACKEND) -> int:
    return int(director.client.get(backend)["weight"])


def made(director: LabDirector, wanted: int) -> None:
    """Set the weight; while etcd elects a leader a change may be refused, or be made without an answer."""

    def done() -> bool:
        with contextlib.suppress(StoreError):
            director.client.patch(BACKEND, {"weight": wanted}, timeout=30)
        return weight(director) == wanted

    wait_until(done, f"{director.paths.name} changes the weight", SOON, interval=0.2)


def all_have(directors: Sequence[LabDirector], wanted: int) -> None:
    wait_until(lambda: {weight(each) for each in directors} == {wanted}, f"all have {wanted}", SOON)


def reached(director: LabDirector) -> bool:
    return bool(director.client.get("/v1/fleet")["store"]["reached"])


def asked(
    director: LabDirector, method: str, path: str, body: object, headers: Mapping[str, str]
) -> tuple[int, bytes, str | None]:
    """Status, body and ETag of the answer."""
    with contextlib.closing(UnixConnection(director.paths.socket, 60.0)) as connection:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        connection.request(method, path, json.dumps(body), {"content-type": kind, **headers})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers["etag"]


def served(lab: Lab) -> bool:
    return lab.client.run("curl", "-s", "-m", "5", "http://192.0.2.10/", check=False).returncode == 0


def happened(director: LabDirector, types: str) -> list[tuple[str, str]]:
    """Kinds and subjects of events, the oldest first."""
    said = director.client.stream("/v1/events", {"types": types, "last": 1000, "follow": "false"})
    return [(message.event, json.loads(message.data)["subject"]) for message in said]


def test_the_newest_change_counts_whatever_the_clocks_say(fleet: list[LabDirector]) -> None:
    """A director an hour behind changes what one an hour ahead has just made."""
    for round_ in range(3):
        for number in (1, 2, 0):
            wanted = 100 + 10 * round_ + number
            fleet[number].client.patch(BACKEND, {"weight": wanted})
            all_have(fleet, wanted)
    past = [each.client.get("/v1/revisions", {"limit": 9})["items"] for each in fleet]
    assert past[0] == past[1] == past[2]
    numbers = [each["revision"] for each in past[0]]
    assert numbers == sorted(numbers, reverse=True)
    at = [datetime.fromisoformat(each["at"]) for each in past[0]]
    assert max(at) - min(at) > timedelta(hours=1), at  # they were made by different clocks


def known(director: LabDirector) -> int:
    """How many directors it knows of, itself among them."""
    return len(director.client.get("/v1/fleet")["directors"])


def test_no_director_is_missed_for_its_clock(fleet: list[LabDirector]) -> None:
    """Leases are etcd's: over several times of one, each stays known to all."""
    everyone = [len(fleet)] * len(fleet)
    wait_until(
        lambda: [known(each) for each in fleet] == everyone, "each knows all, after the test before", SOON
    )
    before = [happened(each, "fleet.left") for each in fleet]
    began = time.monotonic()
    while time.monotonic() - began < 2 * LEASE:
        for each in fleet:
            assert known(each) == len(fleet)
        time.sleep(0.2)
    assert [happened(each, "fleet.left") for each in fleet] == before


def test_a_drains_deadline_fires_once_and_not_by_another_clock(fleet: list[LabDirector]) -> None:
    cuts = sum(len(happened(each, "backend.cut")) for each in fleet)
    for number in (2, 1):
        began = time.monotonic()
        body = {"deadline": "3s", "on_deadline": "cut"}
        fleet[number].client.post(f"{OTHER}/drain", body)
        for each in fleet:
            wait_until(lambda each=each: each.client.get(OTHER)["admin"] == "maintenance", "it is cut", SOON)
        assert time.monotonic() - began >= 3.0
        fleet[number].client.post(f"{OTHER}/enable")
        wait_until(
            lambda: all(each.client.get(OTHER)["admin"] == "enabled" for each in fleet), "it is back", SOON
        )
    assert sum(len(happened(each, "backend.cut")) for each in fleet) == cuts + 2


def test_two_writers_at_once_lose_no_update(fleet: list[LabDirector]) -> None:
    """Two hundred changes through two directors, each made of the weight that it finds."""
    fleet[0].client.patch(BACKEND, {"weight": 1000})
    all_have(fleet, 1000)
    revision = fleet[0].client.get("/readyz")["revision"]

    def write(director: LabDirector) -> int:
        conflicts, left = 0, 100
        while left:
            text, tag = director.client.text(BACKEND, "application/json")
            wanted = {"weight": json.loads(text)["weight"] + 1}
            status, answer, _ = asked(director, "PATCH", BACKEND, wanted, {"if-match": tag})
            assert status in (200, 412), answer
            left -= status == 200
            conflicts += status == 412
        return conflicts

    with ThreadPoolExecutor(2) as pool:
        conflicts = sum(pool.map(write, fleet[1:]))

    all_have(fleet, 1200)
    wait_until(
        lambda: {each.client.get("/readyz")["revision"] for each in fleet} == {revision + 200},
        "there is a revision for each change, and no other",
        SOON,
    )
    assert conflicts, "the writers never met"


def test_another_director_gives_the_same_answer_to_a_request_that_is_sent_again(
    fleet: list[LabDirector],
) -> None:
    def sent(director: LabDirector, body: object, key: str) -> tuple[int, bytes, str | None]:
        headers = {"idempotency-key": key}
        return asked(director, "POST", "/v1/services/web/backends", body, headers)

    body = {"name": "again", "address": "192.0.2.77", "weight": 3}
    first = sent(fleet[0], body, "one-key")
    assert first[0] == 201
    try:
        assert [sent(each, body, "one-key") for each in fleet] == [first] * len(fleet)
        assert sent(fleet[1], body, "another-key")[0] == 409
        other = sent(fleet[2], body | {"weight": 4}, "one-key")
        assert (other[0], b"Idempotency-Key" in other[1]) == (422, True)
    finally:
        fleet[2].client.delete("/v1/services/web/backends/again")
    wait_until(
        lambda: all(len(each.client.get("/v1/services/web")["backends"]) == SERVING for each in fleet),
        "it is gone everywhere",
        SOON,
    )


def verdicts(fleet: Sequence[LabDirector]) -> list[str]:
    return [each.client.get(OTHER)["operational"] for each in fleet]


def test_a_majority_says_what_is_down_and_who_alone_does_not_reach_it_leaves(
    lab: Lab, fleet: list[LabDirector]
) -> None:
    """First the answers of a backend to one director are lost, then those to two of three."""
    backend, hosts = lab.backends[1], lab.director_hosts
    with Cut(backend, hosts[1]):
        wait_until(
            lambda: len(fleet[1].client.get("/readyz")["problems"]) == 2,
            "the one that is cut off says so",
            SOON,
        )
        assert verdicts(fleet) == ["up"] * 3
        assert fleet[0].ready
        assert fleet[2].ready
        assert set(fleet[1].client.get("/readyz")["problems"]) == {
            f"backend web/backend2 for VIP {vip} is down from here, and up from 2 of 3 directors"
            for vip in (VIP4, VIP6)
        }
        with Cut(backend, hosts[2]):
            wait_until(lambda: verdicts(fleet) == ["down"] * 3, "it is down for all", SOON)
            assert "down at 2 of 3 directors: d2, d3" in fleet[0].client.get(OTHER)["reason"]
            wait_until(lambda: all(each.ready for each in fleet), "all are ready", SOON)
        wait_until(lambda: verdicts(fleet) == ["up"] * 3, "it is up for all", SOON)
    wait_until(lambda: all(each.ready for each in fleet), "all are ready", SOON)


def test_members_of_etcd_die_one_by_one_and_all(lab: Lab, fleet: list[LabDirector], etcd: LabEtcd) -> None:
    wanted = 2000
    for number, member in enumerate(etcd.members):
        member.kill()
        wanted += 1
        made(fleet[number], wanted)
        all_have(fleet, wanted)
        etcd.start()
    etcd.members[0].kill()
    etcd.members[2].kill()
    wait_until(lambda: not any(map(reached, fleet)), "one of three does not answer", SOON)
    refused(fleet, wanted)
    etcd.kill()
    refused(fleet, wanted)
    assert served(lab)
    assert all(each.ready for each in fleet)
    etcd.start()
    made(fleet[1], wanted + 1)
    all_have(fleet, wanted + 1)


def refused(fleet: Sequence[LabDirector], known: int) -> None:
    """Nobody can change anything, and all know what they knew."""
    for each in fleet:
        with pytest.raises(StoreError):
            each.client.patch(BACKEND, {"weight": 1}, timeout=30)
        assert weight(each) == known


def test_a_director_that_is_cut_off_from_etcd_catches_up(
    lab: Lab, fleet: list[LabDirector], etcd: LabEtcd
) -> None:
    one, two, three = fleet
    made(one, 3000)
    all_have(fleet, 3000)
    with Cut(two.host, *(each.host for each in etcd.members)):
        wait_until(lambda: not reached(two), "it misses etcd", SOON)
        wait_until(lambda: ("fleet.left", "d2") in happened(one, "fleet"), "the others miss it", SOON)
        made(three, 3001)
        all_have([one, three], 3001)
        refused([two], 3000)
        assert two.ready  # it serves what it knows
        assert served(lab)
    all_have(fleet, 3001)
    made(two, 3002)
    all_have(fleet, 3002)


def test_a_member_that_is_cut_off_from_the_others_answers_nothing_old(
    fleet: list[LabDirector], etcd: LabEtcd
) -> None:
    """Each in turn, so that one of them leads; all directors reach it, and two reach a majority besides."""
    wanted = 4000
    for member in etcd.members:
        others = [each.host for each in etcd.members if each is not member]
        with contextlib.ExitStack() as stack:
            stack.enter_context(Cut(member.host, *others))
            for each in others:
                stack.enter_context(Cut(each, member.host))
            wanted += 1
            made(fleet[wanted % 3], wanted)
            all_have(fleet, wanted)
        wait_until(lambda: all(map(reached, fleet)), "all reach etcd", SOON)
    made(fleet[0], wanted + 1)
    all_have(fleet, wanted + 1)


def test_directors_need_no_path_to_each_other(fleet: list[LabDirector]) -> None:
    hosts = [each.host for each in fleet]
    with contextlib.ExitStack() as stack:
        for host in hosts:
            stack.enter_context(Cut(host, *(each for each in hosts if each is not host)))
        for number, each in enumerate(fleet):
            each.client.patch(BACKEND, {"weight": 5000 + number})
            all_have(fleet, 5000 + number)


def test_a_director_starts_while_etcd_has_no_majority(fleet: list[LabDirector], etcd: LabEtcd) -> None:
    made(fleet[0], 6000)
    all_have(fleet, 6000)
    for member in etcd.members[:2]:
        member.kill()
    wait_until(lambda: not reached(fleet[2]), "etcd is missed", SOON)
    fleet[2].kill()
    fleet[2].start()
    assert weight(fleet[2]) == 6000
    with pytest.raises(DirectorError):
        fleet[2].client.patch(BACKEND, {"weight": 1}, timeout=30)
    etcd.start()
    made(fleet[2], 6001)
    all_have(fleet, 6001)
