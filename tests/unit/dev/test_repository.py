# SPDX-License-Identifier: Apache-2.0
"""APT takes packages from the repository: it finds the newest version, and checks the signature."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dev.package import repository
from xdpdirector.lab.errors import LabError

KEY = "archive@example.org"


@pytest.fixture
def key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A secret key in a home of its own."""
    home = tmp_path_factory.mktemp("gpg")  # gpg's agent listens in it: the path must be short
    home.chmod(0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    subprocess.run(
        ["gpg", "--batch", "--passphrase", "", "--quick-generate-key", KEY, "ed25519", "sign", "never"],
        check=True,
        capture_output=True,
    )
    yield KEY
    subprocess.run(["gpgconf", "--kill", "all"], check=True)


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Path]:
    """A package of that version."""

    def build(version: str) -> Path:
        root = tmp_path / f"build-{version}"
        (root / "DEBIAN").mkdir(parents=True)
        (root / "DEBIAN").chmod(0o755)
        (root / "DEBIAN" / "control").write_text(
            f"Package: xdpdirector\nVersion: {version}\nArchitecture: all\n"
            "Maintainer: Nobody <nobody@example.org>\nDescription: a package\n"
        )
        made = tmp_path / f"xdpdirector_{version}_all.deb"
        subprocess.run(["dpkg-deb", "--build", str(root), str(made)], check=True, capture_output=True)
        return made

    return build


class Apt:
    """APT with directories of its own, which knows this repository only."""

    def __init__(self, home: Path, archive: Path, uri: str = "") -> None:
        for name in ("etc", "state/lists/partial", "cache/archives/partial"):
            (home / name).mkdir(parents=True)
        self.root = home / "root"
        """What apt-get installs into, by dpkg."""
        for name in ("info", "updates"):
            (self.root / "var/lib/dpkg" / name).mkdir(parents=True)
        status = self.root / "var/lib/dpkg/status"
        status.touch()
        (home / "etc" / "one.sources").write_text(
            repository.source(uri or f"file:{archive}", str(archive / repository.KEYRING))
        )
        self._options = [
            f"-oDir::Etc::SourceList={os.devnull}",
            f"-oDir::Etc::SourceParts={home}/etc",
            f"-oDir::State={home}/state",
            f"-oDir::State::status={status}",
            f"-oDPkg::Options::=--root={self.root}",
            f"-oDir::Log={home}",
            f"-oDir::Cache={home}/cache",
            "-oAPT::Sandbox::User=root",
        ]

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        line = [command, *self._options, *arguments]
        return subprocess.run(
            line, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"}
        )

    def update(self) -> None:
        done = self.run("apt-get", "update", "--error-on=any")
        assert done.returncode == 0, done.stderr

    def change(self, *words: str) -> None:
        done = self.run("apt-get", "--yes", *words)
        assert done.returncode == 0, done.stdout + done.stderr

    def installed(self) -> str:
        admin = str(self.root / "var/lib/dpkg")
        query = ["dpkg-query", f"--admindir={admin}", "--show", "--showformat=${Version}", "xdpdirector"]
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout

    def candidate(self) -> str:
        said = self.run("apt-cache", "policy", "xdpdirector").stdout
        return next(line.split()[1] for line in said.splitlines() if "Candidate:" in line)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def apt(tmp_path: Path, archive: Path) -> Apt:
    return Apt(tmp_path / "apt", archive)


def test_a_newer_package_is_found(key: str, make: Callable[[str], Path], archive: Path, apt: Apt) -> None:
    repository.publish([make("0.2.0")], archive, key)
    apt.update()
    before = apt.candidate()

    repository.publish([make("0.3.0")], archive, key)
    apt.update()

    assert (before, apt.candidate()) == ("0.2.0", "0.3.0")
    assert apt.run("apt-get", "download", "--print-uris", "xdpdirector=0.2.0").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: dpkg changes into the root that it installs into")
def test_an_upgrade_takes_the_newer_package(
    key: str, make: Callable[[str], Path], archive: Path, apt: Apt
) -> None:
    repository.publish([make("0.2.0")], archive, key)
    apt.update()
    apt.change("install", "xdpdirector")
    before = apt.installed()

    repository.publish([make("0.3.0")], archive, key)
    apt.update()
    apt.change("upgrade")

    assert (before, apt.installed()) == ("0.2.0", "0.3.0")


def test_an_index_of_before_is_still_there_by_its_hash(
    key: str, make: Callable[[str], Path], archive: Path
) -> None:
    repository.publish([make("0.2.0")], archive, key)
    [directory] = archive.glob("dists/stable/main/binary-*")
    before = {path.name for path in (directory / "by-hash" / "SHA256").iterdir()}

    repository.publish([make("0.3.0")], archive, key)

    after = {path.name for path in (directory / "by-hash" / "SHA256").iterdir()}
    assert len(before) == 2
    assert before < after
    assert "Acquire-By-Hash: yes" in (archive / "dists/stable/InRelease").read_text()


def test_indices_are_asked_for_by_hash_and_found(
    key: str, make: Callable[[str], Path], archive: Path, tmp_path: Path
) -> None:
    """Over HTTP: what APT does not find by its hash it asks for by name, in silence."""
    asked: list[tuple[str, int]] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            asked.append((self.path, int(code)))

    repository.publish([make("0.2.0")], archive, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(archive)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        apt = Apt(tmp_path / "apt", archive, f"http://127.0.0.1:{server.server_port}/")
        apt.update()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    assert apt.candidate() == "0.2.0"
    assert [path for path, code in asked if "/by-hash/" in path and code == 200]
    assert [
        path for path, code in asked if "binary" in path and ("/by-hash/" not in path or code != 200)
    ] == []


def test_an_index_that_somebody_changed_is_refused(
    key: str, make: Callable[[str], Path], archive: Path, apt: Apt
) -> None:
    repository.publish([make("0.2.0")], archive, key)
    release = archive / "dists/stable/InRelease"
    release.write_text(release.read_text().replace("Origin: XDP Director", "Origin: Somebody"))

    done = apt.run("apt-get", "update", "--error-on=any")

    assert done.returncode != 0
    assert "BADSIG" in done.stderr or "signature" in done.stderr


def test_a_key_that_is_not_there_is_named(key: str, make: Callable[[str], Path], archive: Path) -> None:
    with pytest.raises(LabError):
        repository.publish([make("0.2.0")], archive, "nobody@example.org")
    assert not archive.exists()
