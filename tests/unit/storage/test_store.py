# SPDX-License-Identifier: Apache-2.0
"""The stored desired state, and how it meets the configuration file at a start."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_plane import FakePlane
from xdpdirector.control.configuration import initial_state
from xdpdirector.errors import DamagedStoreError, ForeignStoreError, StoreError
from xdpdirector.model import AdminState, Configuration, ServiceSpec
from xdpdirector.model.checks import HttpCheck
from xdpdirector.state.revisions import RevisionDraft
from xdpdirector.storage import store as store_module
from xdpdirector.storage.store import Store

WEB1 = {"address": "192.0.2.21", "weight": 1}
WEB2 = {"address": "192.0.2.22", "weight": 2}
OLD, NEW = "digest of the old file", "digest of the new file"


def service(listener: str = "192.0.2.10:80/tcp", **backends: dict[str, Any]) -> ServiceSpec:
    return ServiceSpec.model_validate({"listeners": [listener], "backends": backends})


def file(**services: ServiceSpec) -> Configuration:
    return Configuration(interfaces=("eth0",), services=services)


def drained(spec: ServiceSpec, name: str, admin: AdminState = AdminState.DRAIN) -> ServiceSpec:
    backend = spec.backends[name].model_copy(update={"admin": admin})
    return spec.model_copy(update={"backends": {**spec.backends, name: backend}})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lib" / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as opened:
        yield opened


def take_in(store: Store, configuration: Configuration, digest: str = OLD) -> dict[str, ServiceSpec]:
    """As a daemon does at a start, and when it is told to read the file again."""
    services = initial_state(store, configuration, digest, FakePlane()).services
    store.append(
        RevisionDraft(
            services, author="file", reason="start", file_digest=digest, file_services=configuration.services
        )
    )
    return dict(services)


def change(store: Store, **services: ServiceSpec | None) -> None:
    """What the API does: change, add and, with None, delete services."""
    before = store.latest()
    wanted = {**(before.services if before else {}), **services}
    kept = {name: spec for name, spec in wanted.items() if spec is not None}
    store.append(RevisionDraft(kept, author="operator", reason="because"))


def test_nothing_is_stored_at_first(store: Store) -> None:
    assert store.latest() is None


def test_what_is_appended_is_the_latest_also_after_opening_again(path: Path) -> None:
    services = {
        "web": drained(service(web1=WEB1, web2=WEB2), "web1"),
        "ftp": service("[2001:db8::10]:21/tcp"),
    }
    before = datetime.now(UTC)

    with Store(path) as first:
        written = first.append(
            RevisionDraft(services, author="operator", reason="kernel update", file_digest=OLD)
        )
    with Store(path) as second:
        read = second.latest()

    assert read == written
    assert read.services == services
    assert (read.id, read.author, read.reason, read.file_digest) == (1, "operator", "kernel update", OLD)
    assert before <= read.at <= datetime.now(UTC)


def test_revisions_are_numbered_and_the_oldest_forgotten(store: Store, path: Path) -> None:
    for _ in range(store_module.KEPT + 5):
        last = store.append(RevisionDraft({}, author="operator", reason=""))

    with closing(sqlite3.connect(path)) as database:
        count, oldest = database.execute("SELECT count(*), min(id) FROM revisions").fetchone()
    assert (last.id, count, oldest) == (store_module.KEPT + 5, store_module.KEPT, 6)


def test_the_last_file_stays_remembered(store: Store) -> None:
    take_in(store, file(web=service(), mail=service("192.0.2.10:25/tcp")))

    change(store, mail=None, ftp=service("192.0.2.10:21/tcp"))

    latest = store.latest()
    assert latest
    assert latest.file_digest == OLD
    assert latest.file_services == {"web"}


def test_the_file_is_for_the_owner_only(store: Store, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_failed_append_changes_nothing(store: Store, path: Path) -> None:
    change(store, web=service())
    with closing(sqlite3.connect(path)) as database:
        database.execute(
            "CREATE TRIGGER no BEFORE INSERT ON revisions BEGIN SELECT RAISE(ABORT, 'no more'); END"
        )

    with pytest.raises(StoreError, match="no more"):
        change(store, ftp=service("192.0.2.10:21/tcp"))

    latest = store.latest()
    assert latest
    assert set(latest.services) == {"web"}


def test_closing_twice_is_fine_and_then_it_is_closed(store: Store) -> None:
    store.close()
    store.close()

    with pytest.raises(StoreError, match="closed"):
        store.latest()


def prepared(path: Path, *statements: str) -> None:
    """Make what a release wrote, and change it by hand."""
    with Store(path) as opened:
        opened.append(RevisionDraft({"web": service()}, author="operator", reason=""))
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def refusal(path: Path, kind: type[StoreError] = StoreError) -> str:
    with pytest.raises(StoreError) as refused, Store(path, patience=0.01) as opened:
        opened.latest()
    assert type(refused.value) is kind
    return refused.value.detail


def test_a_newer_database_is_refused(path: Path) -> None:
    prepared(path, "PRAGMA user_version = 8")

    assert "written by a newer release (format 8, this one knows 7): install that release" in refusal(
        path, ForeignStoreError
    )


def test_an_expression_that_an_earlier_release_took_is_read(path: Path) -> None:
    """Else an upgrade would not come up; the check then says what is wrong with it."""
    with Store(path) as store:
        spec = service().model_copy(update={"check": HttpCheck(type="http", body="ready")})
        store.append(RevisionDraft({"web": spec}, author="a", reason="r"))
        store.database.write("UPDATE revisions SET document = replace(document, 'ready', '(?=ready)')", ())
    with Store(path) as store:
        latest = store.latest()

    assert latest
    assert isinstance(check := latest.services["web"].check, HttpCheck)
    assert check.body == "(?=ready)"


def test_a_foreign_database_is_refused(path: Path) -> None:
    prepared(path, "PRAGMA application_id = 1")

    assert refusal(path, ForeignStoreError) == f"{path} is a database of another program: move it away"


@pytest.mark.parametrize(
    "document",
    [
        pytest.param("{", id="not JSON"),
        pytest.param("[]", id="a list"),
        pytest.param("{}", id="no services"),
        pytest.param('{"services": {"web": {"scheduler": "newer"}}}', id="another release's"),
    ],
)
def test_a_revision_that_is_not_understood_is_refused(document: str, path: Path) -> None:
    prepared(path, f"UPDATE revisions SET document = '{document}'")

    assert refusal(path, ForeignStoreError).startswith(
        f"revision 1 in the state database {path} cannot be read by this release"
    )


def test_what_is_no_database_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"something else entirely" * 100)

    assert "is damaged: restore it, or move the file away" in refusal(path, DamagedStoreError)


def test_a_damaged_database_is_refused(path: Path) -> None:
    prepared(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)

    assert str(path) in refusal(path, DamagedStoreError)


def test_a_database_in_use_is_refused(path: Path) -> None:
    prepared(path)

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        assert "another process uses it: is a second daemon" in refusal(path)


def test_a_path_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lib").write_text("a file where a directory should be")

    assert "cannot be opened" in refusal(tmp_path / "lib" / "state.db")


def test_with_nothing_stored_the_file_says_all(store: Store) -> None:
    configuration = file(web=service(web1=WEB1))

    assert take_in(store, configuration) == configuration.services


def test_drains_weights_and_additions_survive_a_restart(store: Store) -> None:
    configuration = file(web=service(web1=WEB1, web2=WEB2))
    take_in(store, configuration)
    changed = drained(service(web1={**WEB1, "weight": 9}, web3={"address": "192.0.2.23"}), "web1")
    ftp = service("192.0.2.10:21/tcp")
    change(store, web=changed, ftp=ftp)

    first = take_in(store, configuration)
    second = take_in(store, configuration)

    assert first == second == {"web": changed, "ftp": ftp}


def test_a_deleted_service_stays_deleted_while_the_file_is_the_same(store: Store) -> None:
    configuration = file(web=service(), mail=service("192.0.2.10:25/tcp"))
    take_in(store, configuration)
    change(store, mail=None)

    assert set(take_in(store, configuration)) == {"web"}


def test_of_a_changed_file_only_what_differs_counts(store: Store) -> None:
    take_in(store, file(web=service(web1=WEB1)))
    heavier, added = {**WEB1, "weight": 9}, {"address": "192.0.2.23"}
    change(store, web=service(web1=heavier, web3=added))

    wanted = take_in(store, file(web=service(web1=WEB1, web2=WEB2)), NEW)

    assert wanted == {"web": service(web1=heavier, web2=WEB2, web3=added)}


def test_what_the_file_leaves_out_is_remembered_as_left_out(store: Store) -> None:
    """Else a later release's defaults would be taken for what this file said."""
    stated = file(web=service(web1={"address": "192.0.2.21"}))
    take_in(store, stated)

    said = store.file()

    assert said == stated.services
    assert said["web"].backends["web1"].model_fields_set == {"address"}
    assert said["web"].model_fields_set == {"listeners", "backends"}


def test_a_file_that_an_earlier_release_took_in_counts_as_before(store: Store) -> None:
    """That kept its names only: all that a service of it has counts as the file's."""
    take_in(store, file(web=service(web1=WEB1, web2=WEB2)))
    ftp = service("192.0.2.10:21/tcp")
    changed = drained(service(web1={**WEB1, "weight": 9}, web2=WEB2), "web2")
    change(store, web=changed, ftp=ftp)
    store.database.write("UPDATE file SET document = NULL")

    same = initial_state(store, file(web=service(web1=WEB1, web2=WEB2)), OLD, FakePlane())
    other = initial_state(store, file(web=service(web1={**WEB1, "weight": 3}, web2=WEB2)), NEW, FakePlane())

    assert (same.services, same.takes_in, same.is_new) == ({"web": changed, "ftp": ftp}, True, False)
    heavier = drained(service(web1={**WEB1, "weight": 3}, web2=WEB2), "web2")
    assert (other.services, other.takes_in, other.is_new) == ({"web": heavier, "ftp": ftp}, True, True)


def test_a_changed_file_leaves_what_the_api_made(store: Store) -> None:
    take_in(store, file(web=service()))
    ftp = service("192.0.2.10:21/tcp")
    change(store, ftp=ftp)

    wanted = take_in(store, file(web=service(web1=WEB1)), NEW)

    assert wanted == {"web": service(web1=WEB1), "ftp": ftp}


def test_what_left_the_file_goes(store: Store) -> None:
    take_in(store, file(web=service(), mail=service("192.0.2.10:25/tcp")))
    change(store, ftp=service("192.0.2.10:21/tcp"))

    wanted = take_in(store, file(web=service()), NEW)

    assert set(wanted) == {"web", "ftp"}


def test_what_the_api_made_stays_after_many_files(store: Store) -> None:
    take_in(store, file(web=service()), "1")
    change(store, ftp=service("192.0.2.10:21/tcp"))
    take_in(store, file(web=service(web1=WEB1)), "2")

    wanted = take_in(store, file(), "3")

    assert set(wanted) == {"ftp"}


def test_a_service_of_the_api_that_the_file_takes_over_goes_with_the_file(store: Store) -> None:
    take_in(store, file(), "1")
    change(store, ftp=service("192.0.2.10:21/tcp"))
    take_in(store, file(ftp=service("192.0.2.10:2121/tcp")), "2")

    assert take_in(store, file(), "3") == {}


@pytest.mark.parametrize("admin", [AdminState.DRAIN, AdminState.MAINTENANCE])
def test_the_admin_state_survives_a_changed_file(store: Store, admin: AdminState) -> None:
    take_in(store, file(web=service(web1=WEB1, web2=WEB2)))
    change(store, web=drained(service(web1=WEB1, web2=WEB2), "web1", admin))

    wanted = take_in(
        store, file(web=service(web1={**WEB1, "weight": 5}, web3={"address": "192.0.2.23"})), NEW
    )

    backends = wanted["web"].backends
    assert (backends["web1"].admin, backends["web1"].weight) == (admin, 5)
    assert backends["web3"].admin is AdminState.ENABLED


def test_an_admin_state_in_the_file_counts(store: Store) -> None:
    take_in(store, file(web=service(web1=WEB1)))
    change(store, web=drained(service(web1=WEB1), "web1"))

    wanted = take_in(store, file(web=service(web1={**WEB1, "admin": "enabled"})), NEW)

    assert wanted["web"].backends["web1"].admin is AdminState.ENABLED


def test_a_listener_of_the_file_and_of_the_api_is_a_contradiction(store: Store) -> None:
    take_in(store, file(web=service()))
    change(store, ftp=service("192.0.2.10:21/tcp"))

    begun = initial_state(store, file(mail=service("192.0.2.10:21/tcp")), NEW, FakePlane())

    assert begun.refusal == (
        "listener 192.0.2.10:21/tcp belongs to service 'mail' of the file and to service 'ftp' "
        "that was made through the API: remove one of the two"
    )
    assert set(begun.services) == {"web", "ftp"}
    assert not begun.takes_in
