# SPDX-License-Identifier: Apache-2.0
"""The trial of the install CD: its answer file, and stories that go on beside each other."""

from __future__ import annotations

import hashlib
import ssl
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dev.iso import lan, trial
from dev.iso.beside import beside
from dev.iso.medium import answers, settings
from dev.iso.medium.settings import Cards
from tests.support import loopback_certificate
from xdpdirector.errors import DirectorError
from xdpdirector.lab.errors import LabError


def test_stories_go_on_beside_each_other() -> None:
    both = threading.Barrier(2, timeout=30)

    def meets() -> None:
        both.wait()

    beside(meets, meets, give_up=both.abort)


def test_when_one_fails_the_other_ends_and_the_first_error_is_raised() -> None:
    given_up = threading.Event()

    def fails() -> None:
        raise LabError("the disk was written to")

    def waits() -> None:
        if given_up.wait(30):
            raise LabError("given up")

    for stories in ((fails, waits), (waits, fails)):
        given_up.clear()
        with pytest.raises(DirectorError, match="the disk was written to"):
            beside(*stories, give_up=given_up.set)
        assert given_up.is_set()


def test_the_backend_of_the_trial_has_the_vips_of_both_directors() -> None:
    text = trial.answer_file("ssh-ed25519 AAAA trial")

    site = answers.read(text, "site.yaml")
    backend = answers.machine_for(site, [lan.MACS["web1"]])
    found = settings.of_machine(site, backend, Cards({lan.MACS["web1"]: "enp0s9"}))

    assert found.files["etc/xdpdirector/backend.conf"].text.splitlines()[1:] == [lan.VIP, lan.WAITING_VIP]
    assert site.director["services"]["web"]["check"] == trial.CHECK


def test_each_machine_of_the_trial_has_a_card_of_its_own() -> None:
    assert len(set(lan.MACS.values())) == len(lan.MACS)


class Pages(SimpleHTTPRequestHandler):
    def log_message(self, *_said: object) -> None:
        """Not among the tests' words."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serves `page` over TLS; the digest of its certificate as openssl prints it."""
    made = loopback_certificate.made(tmp_path, "director")
    (tmp_path / "page").write_text('{"is": "there"}')
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    serving = ThreadingHTTPServer(("127.0.0.1", 0), partial(Pages, directory=str(tmp_path)))
    serving.socket = context.wrap_socket(serving.socket, server_side=True)
    monkeypatch.setattr(lan, "API", serving.server_address[1])
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(made.certificate.read_text())).digest()
    yield digest.hex(":").upper()
    serving.shutdown()
    serving.server_close()
    thread.join()


def test_an_api_has_the_certificate_that_the_console_shows(server: str) -> None:
    assert lan.Api("127.0.0.1", server, "token").ask("/page") == {"is": "there"}

    with pytest.raises(LabError, match="showed the certificate 00:"):
        lan.Api("127.0.0.1", f"00{server[2:]}", "token").ask("/page")


def test_an_api_that_refuses_is_no_api(server: str) -> None:
    with pytest.raises(LabError, match=r"GET /none of 127.0.0.1 was answered by 404"):
        lan.Api("127.0.0.1", server, "token").ask("/none")
