# SPDX-License-Identifier: Apache-2.0
"""etcd's gateway by a real etcd: conditions, certificates, passwords, members that are away."""

from __future__ import annotations

import base64
import contextlib
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.support.etcd import DEADLINE, Etcd, free_ports, needed
from xdpdirector.errors import StoreError, UncertainError
from xdpdirector.model.fleet import DirectorReport
from xdpdirector.model.store import StoreSpec
from xdpdirector.storage.etcd.gateway import (
    Gateway,
    Watch,
    after_all,
    delete,
    get,
    items,
    put,
    unchanged,
)
from xdpdirector.storage.etcd.reports import Reports


def text(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


@needed
def test_a_transaction_is_made_on_its_condition(etcd: Etcd) -> None:
    gateway = Gateway(etcd.spec())

    assert gateway.transaction([unchanged("/t/a", 0)], [put("/t/a", b"1")])[0]
    assert not gateway.transaction([unchanged("/t/a", 0)], [put("/t/a", b"2")])[0]

    [found] = items(gateway.read(get("/t/a"))[0])
    assert (found.key, found.value) == ("/t/a", b"1")
    assert gateway.transaction([unchanged("/t/a", found.changed)], [put("/t/a", b"3")])[0]
    assert [each.value for each in gateway.range("/t/", after_all("/t/"))] == [b"3"]


@needed
def test_a_watch_tells_of_changes_until_it_is_closed(etcd: Etcd) -> None:
    gateway, told = Gateway(etcd.spec()), threading.Semaphore(0)
    watch = Watch(gateway, "/w/a", lambda: told.release())
    watch.start()

    assert told.acquire(timeout=DEADLINE)  # it stands
    gateway.transaction([], [put("/w/a", b"1")])
    assert told.acquire(timeout=DEADLINE)
    watch.move()
    assert told.acquire(timeout=DEADLINE)  # it stands again: something may have been missed

    watch.close()
    assert not watch._thread.is_alive()


@needed
def test_members_that_are_away_are_passed_over(etcd: Etcd) -> None:
    [nobody] = free_ports(1)
    spec = StoreSpec.model_validate(
        {"type": "etcd", "endpoints": [f"127.0.0.1:{nobody}", etcd.members[0].endpoint]}
    )
    gateway = Gateway(spec)

    assert gateway.transaction([], [put("/p/a", b"1")])[0]
    assert str(gateway.endpoint) == etcd.members[0].endpoint


def test_with_all_members_away_it_says_what_is_wrong_with_each() -> None:
    ports = free_ports(2)
    endpoints = [f"127.0.0.1:{port}" for port in ports]
    gateway = Gateway(StoreSpec.model_validate({"type": "etcd", "endpoints": endpoints}))

    with pytest.raises(StoreError) as raised:
        gateway.read(get("/a"))

    refused = "Connection refused"
    assert raised.value.detail == (
        f"etcd cannot be asked: {endpoints[0]}: {refused}; {endpoints[1]}: {refused}"
    )


def test_what_was_sent_and_not_answered_is_in_doubt() -> None:
    """Of a change, not of a question; and the next member is not asked to make it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        endpoint = f"127.0.0.1:{listening.getsockname()[1]}"

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken, _ = listening.accept()
                    taken.recv(65536)
                    taken.close()

        threading.Thread(target=hang_up, daemon=True).start()
        gateway = Gateway(StoreSpec.model_validate({"type": "etcd", "endpoints": [endpoint]}))
        with pytest.raises(UncertainError, match="did not say whether it made the change"):
            gateway.transaction([], [put("/a", b"1")])
        with pytest.raises(StoreError, match="etcd cannot be asked") as raised:
            gateway.read(get("/a"))
        assert not isinstance(raised.value, UncertainError)
        listening.shutdown(socket.SHUT_RDWR)


def test_what_is_no_etcd_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        endpoint = f"127.0.0.1:{listening.getsockname()[1]}"

        def answer() -> None:
            taken, _ = listening.accept()
            with taken:
                taken.recv(65536)
                taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

        threading.Thread(target=answer, daemon=True).start()
        gateway = Gateway(StoreSpec.model_validate({"type": "etcd", "endpoints": [endpoint]}))
        with pytest.raises(StoreError, match="hello"):
            gateway.read(get("/a"))


def certified(directory: Path, name: str) -> tuple[Path, Path]:
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "30"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command = ["openssl", "req", "-x509", *curve, *subject, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@needed
def test_both_sides_show_certificates(tmp_path: Path) -> None:
    (own, own_key), (theirs, their_key), (strange, _) = (
        certified(tmp_path, name) for name in ("director", "etcd", "stranger")
    )
    trusted = tmp_path / "trusted.pem"  # etcd's own, too: its gateway is a client of it
    trusted.write_text(own.read_text() + theirs.read_text())
    options = ["--cert-file", str(theirs), "--key-file", str(their_key), "--client-cert-auth"]
    options += ["--trusted-ca-file", str(trusted)]
    with Etcd(tmp_path, options=options, scheme="https") as etcd:
        right = {"ca": str(theirs), "certificate": str(own), "key": str(own_key)}
        gateway = Gateway(etcd.spec(tls=right))
        until = time.monotonic() + DEADLINE
        while True:
            try:
                assert gateway.transaction([], [put("/a", b"1")])[0]
                break
            except StoreError:
                assert time.monotonic() < until, (tmp_path / "m0.log").read_text()
                time.sleep(0.1)
        assert [each.value for each in gateway.range("/a", "/b")] == [b"1"]

        with pytest.raises(StoreError, match=r"(?i)certificate.verify.failed"):
            Gateway(etcd.spec(tls={**right, "ca": str(strange)})).range("/a", "/b")
        with pytest.raises(StoreError, match="etcd cannot be asked"):
            Gateway(etcd.spec(tls={"ca": str(theirs)})).range("/a", "/b")
    with pytest.raises(StoreError, match=r"store\.tls: "):
        Gateway(etcd.spec(tls={"ca": str(tmp_path / "nothing.pem")}))


@needed
def test_a_user_has_a_password_and_a_new_token_when_the_old_one_is_gone(tmp_path: Path) -> None:
    with Etcd(tmp_path) as etcd:
        member = etcd.members[0]
        for name in ("root", "director"):
            member.ask("/v3/auth/user/add", {"name": name, "password": f"{name}'s"})
        member.ask("/v3/auth/role/add", {"name": "root"})
        member.ask("/v3/auth/role/add", {"name": "fleet"})
        everything = {"permType": "READWRITE", "key": text("/f/"), "range_end": text("/f0")}
        member.ask("/v3/auth/role/grant", {"name": "fleet", "perm": everything})
        member.ask("/v3/auth/user/grant", {"user": "root", "role": "root"})
        member.ask("/v3/auth/user/grant", {"user": "director", "role": "fleet"})
        member.ask("/v3/auth/enable", {})
        secret = tmp_path / "password"
        secret.write_text("director's\n")
        gateway = Gateway(etcd.spec(user="director", password_file=str(secret)))

        assert gateway.transaction([], [put("/f/a", b"1")])[0]
        gateway._token = "director.1"
        assert gateway.transaction([], [put("/f/a", b"2")])[0]
        with pytest.raises(StoreError, match="permission denied"):
            gateway.range("/g/", "/g0")
        with pytest.raises(StoreError, match=r"user name is empty|etcd refuses"):
            Gateway(etcd.spec()).range("/f/", "/f0")
        secret.write_text("another\n")
        with pytest.raises(StoreError, match="authentication failed"):
            Gateway(etcd.spec(user="director", password_file=str(secret))).range("/f/", "/f0")


@needed
def test_a_report_goes_with_its_director(etcd: Etcd) -> None:
    ways = [Reports(Gateway(etcd.spec()), "/r", name) for name in ("one", "two")]
    said = [DirectorReport(name="one", revision=7), DirectorReport(name="two", drains={"web/web1": 3})]

    assert ways[0].exchange(said[0]) == {"one": said[0]}
    assert ways[1].exchange(said[1]) == {"one": said[0], "two": said[1]}
    gateway = Gateway(etcd.spec())
    gateway.transaction([], [put("/r/directors/new", b'{"name": "new", "revision": 8, "more": [1]}')])
    gateway.transaction([], [put("/r/directors/odd", b"7")])
    assert ways[0].all()["new"] == DirectorReport(name="new", revision=8)
    assert "cannot be read" in ways[0].all()["odd"].why
    gateway.transaction([], [delete("/r/directors/new"), delete("/r/directors/odd")])
    ways[1].leave()
    assert ways[0].all() == {"one": said[0]}
    gone = ways[0]._lease
    gateway.revoke(gone)  # as one that was away for too long
    assert ways[0].exchange(said[0]) == {"one": said[0]}
    assert ways[0]._lease != gone


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"type": "etcd"}, "etcd needs endpoints"),
        ({"endpoints": ["127.0.0.1:1"]}, "endpoints is for `type: etcd`"),
        ({"type": "etcd", "endpoints": ["192.0.2.5:2379"]}, "192.0.2.5:2379 is no loopback address"),
        ({"type": "etcd", "endpoints": ["127.0.0.1:1", "127.0.0.1:1"]}, "stands twice"),
        ({"type": "etcd", "endpoints": ["127.0.0.1:1"], "user": "me"}, "belong together"),
        ({"type": "etcd", "endpoints": ["127.0.0.1:1"], "prefix": "fleet"}, "pattern"),
        (
            {"type": "etcd", "endpoints": ["127.0.0.1:1"], "tls": {"ca": "/ca", "key": "/key"}},
            "certificate and key belong together",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(said: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        StoreSpec.model_validate(said)


def test_nothing_of_it_is_imported_without_a_fleet() -> None:
    program = (
        "import sys, xdpdirector.daemon.lifecycle; "
        "print(any(name.startswith('xdpdirector.storage.etcd') for name in sys.modules))"
    )
    said = subprocess.run(
        ["/usr/bin/env", "python", "-c", program], check=True, capture_output=True, text=True
    ).stdout
    assert said == "False\n"
