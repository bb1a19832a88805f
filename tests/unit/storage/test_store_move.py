# SPDX-License-Identifier: Apache-2.0
"""The desired state goes from a director's own file to a real etcd, and back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

import tests.support.stage as s
from tests.support.etcd import Etcd, needed
from xdpdirector.errors import ConflictError, NotFoundError
from xdpdirector.model.guard import parse_prefix
from xdpdirector.model.status import utc_now
from xdpdirector.model.store import StoreSpec
from xdpdirector.state.denylist import Denial, StoredDenyList
from xdpdirector.state.drains import Drain
from xdpdirector.state.revisions import RevisionDraft
from xdpdirector.storage.denylist_store import SqliteDenyList
from xdpdirector.storage.etcd.fleet_denylist import FleetDenyList
from xdpdirector.storage.etcd.fleet_store import FleetStore
from xdpdirector.storage.etcd.gateway import Gateway
from xdpdirector.storage.etcd.move import Places, to_etcd, to_sqlite
from xdpdirector.storage.fallback import FallbackStore
from xdpdirector.storage.store import MIRROR_FORMAT, Store
from xdpdirector.system import boot_time
from xdpdirector.system.boot_time import Moment

pytestmark = needed
FILE = {"web": s.service("web1", "web2")}


@pytest.fixture
def places(etcd: Etcd, tmp_path: Path) -> Places:
    return place(etcd.spec(prefix=f"/{tmp_path.name}"), tmp_path)


def place(spec: StoreSpec, directory: Path) -> Places:
    return Places(directory / "state.db", directory / "fleet.db", directory / "spare", spec, directory.name)


def newest(store: Store) -> int:
    latest = store.latest()
    return latest.id if latest else 0


def filled(path: Path, count: int) -> None:
    """So many revisions, a drain and a deny list."""
    now = Moment(*boot_time.now())
    drain = Drain(now, "patches", now.later(600), "cut", 7, within=600)
    with Store(path) as store:
        store.append(RevisionDraft(FILE, "file", "start", file_digest="of the file", file_services=FILE))
        for number in range(2, count + 1):
            changed = {"web": s.service("web1", "web2", backends={"web3": s.backend("web3", weight=number)})}
            store.append(RevisionDraft(changed, f"author{number}", "why", drains={s.WEB1: drain}))
        denials = {parse_prefix("198.51.100.0/24"): Denial("rude", "ann", utc_now())}
        SqliteDenyList(lambda: store.database).keep({}, StoredDenyList(denials))


def test_to_etcd_and_back(places: Places, tmp_path: Path) -> None:
    filled(places.own, 30)

    plan = to_etcd(places, do=False)
    assert plan[0].startswith(f"from {places.own}: revision 30 of ")
    assert "revisions that go there, with their numbers: 1 to 30" in plan
    assert not places.copy.exists()
    assert to_etcd(places, do=True)[-1].startswith("done: revision 30 of ")

    with FallbackStore(places.copy, places.spare, form=MIRROR_FORMAT) as mirror:
        fleet = FleetStore(Gateway(places.etcd), places.prefix, mirror, "one")
        fleet.refresh()
        latest = fleet.latest()
        assert latest
        assert latest.file_digest == "of the file"
        assert fleet.file() == FILE
        assert fleet.drains()[s.WEB1].reason == "patches"
        made = fleet.append(RevisionDraft(FILE, "ann", "in the fleet", base=30))
        denials = FleetDenyList(fleet, SqliteDenyList(lambda: mirror.database), lambda: StoredDenyList({}))
        before = denials.load()
        [(_, denial)] = before.denials.items()
        assert (denial.reason, denial.author) == ("rude", "ann")
        more = {**before.denials, parse_prefix("203.0.113.7"): Denial("scans", "bob", utc_now())}
        denials.keep(before.denials, StoredDenyList(more, before.file_digest))
        fleet.close()
    assert made.id == 31

    plan = to_sqlite(places, do=False)
    assert f"to {places.own}: revision 30 of" in plan[1]
    with Store(places.own) as own:
        assert newest(own) == 30
    to_sqlite(places, do=True)
    with Store(places.own) as own:
        latest = own.latest()
        assert latest
        assert (latest.id, latest.author, latest.services) == (31, "ann", FILE)
        assert [each.id for each in own.summaries(before=None, limit=100)] == list(range(31, 0, -1))
        earlier = own.revision(7)
        assert earlier
        assert earlier.author == "author7"
        assert own.file() == FILE
        assert own.drains()[s.WEB1].on_deadline == "cut"
        reasons = [each.reason for each in SqliteDenyList(lambda: own.database).load().denials.values()]
        assert reasons == ["rude", "scans"]
    [copy] = tmp_path.glob("state.db.former-*")
    with Store(copy) as former:
        assert newest(former) == 30


def test_another_director_gets_what_was_moved(places: Places, tmp_path: Path) -> None:
    filled(places.own, 3)
    to_etcd(places, do=True)

    with FallbackStore(tmp_path / "other.db", tmp_path / "other", form=MIRROR_FORMAT) as mirror:
        other = FleetStore(Gateway(places.etcd), places.prefix, mirror, "other")
        other.refresh()
        assert [each.author for each in other.summaries(before=None, limit=9)] == [
            "author3",
            "author2",
            "file",
        ]
        deadline = other.drains()[s.WEB1].deadline
        assert deadline
        assert deadline.told(boot_time.now()) - utc_now() <= timedelta(seconds=600)
        other.close()


def test_a_fleet_that_is_there_is_not_overwritten(places: Places) -> None:
    filled(places.own, 3)
    to_etcd(places, do=True)

    with pytest.raises(ConflictError, match="there is a fleet at /"):
        to_etcd(places, do=True)


def test_what_is_not_there_cannot_be_moved(places: Places) -> None:
    with pytest.raises(NotFoundError, match=r"state\.db does not exist"):
        to_etcd(places, do=True)
    with pytest.raises(NotFoundError, match="has no revision"):
        to_sqlite(places, do=True)


def test_without_etcd_one_goes_on_with_what_was_seen_last(tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd") as etcd:
        places = place(etcd.spec(), tmp_path)
        filled(places.own, 3)
        to_etcd(places, do=True)
    places.own.unlink()

    done = to_sqlite(places, do=True)

    assert f"from {places.copy}, what this director saw last, as etcd cannot be asked" in done[0]
    with Store(places.own) as own:
        latest = own.latest()
        assert latest
        assert latest.id == 3
