# SPDX-License-Identifier: Apache-2.0
"""What a mistake at the command line gets: an exit status, one paragraph that names the thing and the remedy, and
traffic that goes on as if nobody had tried.

The director's data plane runs without its daemon, as while an operator restarts it with another file.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.support.lab_client import Conversation, answering
from tests.support.lab_director import (
    CHECK,
    becomes,
    command,
    directing,
    require_open_checkout,
)
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.paths import InstancePaths

pytestmark = [pytest.mark.root, pytest.mark.backends(2)]

Document = dict[str, Any]
USAGE, CONFLICT, NOT_ALLOWED, FAILED = 2, 4, 6, 1
SIZES = {"sizes": {"connections": 4096}}  # other ones than what is loaded: the program must be compiled anew


@pytest.fixture(scope="module")
def good(lab: Lab) -> Document:
    return web_configuration(lab.topology.backend_nodes, check=CHECK)


@pytest.fixture(scope="module")
def director(lab: Lab, good: Document) -> Iterator[LabDirector]:
    """Its daemon is stopped, and starts again at the end as if nothing had happened."""
    with directing(lab, good) as director:
        before = lab.director_host.xdp_program()
        assert director.stop()
        yield director
        director.start()
        for host in lab.backends:
            becomes(director, host.name, "up")
        assert lab.director_host.xdp_program() == before


@pytest.fixture(scope="module")
def conversation(lab: Lab, director: LabDirector) -> Iterator[Conversation]:
    """Goes on through everything."""
    with Conversation(lab.client, VIP4) as conversation:
        yield conversation


@dataclass
class Traffic:
    """What runs, and must go on unchanged."""

    lab: Lab
    conversation: Conversation
    before: tuple[object, ...] = ()

    def look(self) -> tuple[object, ...]:
        host = self.lab.director_host
        addresses = host.run("ip", "-brief", "address", "show", "eth0").stdout
        return host.xdp_program(), sorted(addresses.split())

    def assert_unchanged(self) -> None:
        assert self.look() == self.before
        assert self.conversation.who() == self.conversation.backend
        assert all(answering(self.lab.client, vip) for vip in (VIP4, VIP6))


@pytest.fixture(autouse=True)
def traffic(lab: Lab, director: LabDirector, conversation: Conversation) -> Iterator[None]:
    traffic = Traffic(lab, conversation)
    traffic.before = traffic.look()
    yield
    traffic.assert_unchanged()


@dataclass
class Attempt:
    """`run` with a file, by default of the instance whose data plane runs."""

    director: LabDirector
    directory: Path

    def __call__(
        self,
        document: Document | str,
        *,
        verb: str = "run",
        instance: str = "",
        prefix: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        file = self.directory / "director.yaml"
        with file.open("w") as stream:
            if isinstance(document, str):
                stream.write(document)
            else:
                YAML().dump(document, stream)
        director = LabDirector(self.director.host, InstancePaths(instance or self.director.paths.name))
        return command(
            director, verb, "--config", str(file), check=False, prefix=prefix, environment=environment
        )


@pytest.fixture
def attempt(director: LabDirector, tmp_path: Path) -> Attempt:
    return Attempt(director, tmp_path)


def assert_says(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    """One paragraph on stderr, with all of these patterns."""
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith("xdpdirector: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert re.search(word, done.stderr), f"{word!r} is not in: {done.stderr}"


def changed(document: Document, change: Callable[[Document, Document], object]) -> Document:
    """A copy, after `change` of the copy and its service."""
    copy = deepcopy(document)
    change(copy, copy["services"]["web"])
    return copy


ROWS: list[Any] = [
    pytest.param(
        lambda top, web: top.update(interfaces=["eth7"]), "eth7", "there are: .*eth0", id="unknown interface"
    ),
    pytest.param(
        lambda top, web: top.update(interface="eth0"), r"yaml:\d+:\d+: .*'interface'", id="unknown key"
    ),
    pytest.param(
        lambda top, web: web.update(listen="x"), r"yaml:\d+:\d+: .*'listen'", id="unknown key inside"
    ),
    pytest.param(
        lambda top, web: web.update(scheduler="fastest"), "fastest", "wlc.*mh", id="unknown scheduler"
    ),
    pytest.param(
        lambda top, web: web.update(listeners=[f"{VIP4}:65536/tcp"]),
        "port '65536'",
        "1 to 65535",
        id="port out of range",
    ),
    pytest.param(
        lambda top, web: web["listeners"].append(f"{VIP4}:80/tcp"),
        f"{VIP4}:80/tcp stands twice",
        "remove one",
        id="duplicate listener",
    ),
    pytest.param(
        lambda top, web: top["services"].update(shop=deepcopy(web)),
        f"{VIP4}:80/tcp",
        "'web' and .*'shop'",
        id="two services with one listener",
    ),
    pytest.param(
        lambda top, web: web["backends"]["backend1"].update(address=str(VIP4)),
        "'backend1' has the service's own VIP",
        "address of its own",
        id="backend with the VIP's address",
    ),
    pytest.param(
        lambda top, web: web["backends"]["backend1"].update(web["backends"]["backend2"]),
        "'backend1' and 'backend2' both have the address 192.0.2.22",
        id="two backends with one address",
    ),
    pytest.param(
        lambda top, web: web["backends"].update(newcomer={"address": "203.0.113.21"}),
        "web/newcomer.*203.0.113.21",
        "network of the director's own",
        id="backend on another network",
    ),
    pytest.param(
        lambda top, web: web["check"].update(timeout="2s"),
        "timeout 2s is longer than interval 300ms",
        "make it shorter",
        id="check that takes longer than its interval",
    ),
]


@pytest.mark.parametrize(
    ("change", "words"), [pytest.param(*row.values[:1], row.values[1:], id=row.id) for row in ROWS]
)
def test_a_configuration_that_cannot_be(
    attempt: Attempt, good: Document, change: Callable[[Document, Document], object], words: tuple[str, ...]
) -> None:
    assert_says(attempt(changed(good, change)), USAGE, *words)


@pytest.fixture
def spare_interface(lab: Lab) -> Iterator[str]:
    """Another one than that whose program runs."""
    lab.director_host.run("ip", "link", "add", "spare0", "type", "veth", "peer", "name", "spare1")
    lab.director_host.run("ip", "link", "set", "spare0", "up")
    yield "spare0"
    lab.director_host.run("ip", "link", "delete", "spare0")


def test_a_first_start_with_a_backend_on_another_network(
    attempt: Attempt, good: Document, director: LabDirector, spare_interface: str
) -> None:
    """Nothing is stored that could be served instead."""

    def change(top: Document, web: Document) -> None:
        top.update(interfaces=[spare_interface], vips="external")
        web.update(listeners=["198.51.100.10:80/tcp"], backends={"backend1": {"address": "203.0.113.21"}})

    instance = f"{director.paths.name}-first"
    try:
        done = attempt(changed(good, change), instance=instance)
    finally:
        command(LabDirector(director.host, InstancePaths(instance)), "unload")

    assert_says(done, USAGE, "web/backend1.*203.0.113.21", "network of the director's own")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("interfaces: [eth0\nservices: {}\n", (r"director.yaml:\d+:\d+: ",), id="broken"),
        pytest.param(
            "interfaces: [eth0]\ninterfaces: [eth0]\n", (r":2:1: .*'interfaces'",), id="repeated key"
        ),
        pytest.param("", ("empty", "it needs 'interfaces"), id="empty"),
        pytest.param("- eth0\n", (r"director.yaml:1:1: ",), id="a list"),
        pytest.param("interfaces: [eth0]\nmode: \x00\n", (r"director.yaml:2:",), id="a control character"),
    ],
)
def test_text_that_is_no_configuration(attempt: Attempt, text: str, words: tuple[str, ...]) -> None:
    assert_says(attempt(text), USAGE, *words)


def test_a_file_that_is_not_there(director: LabDirector, tmp_path: Path) -> None:
    done = command(director, "run", "--config", str(tmp_path / "absent.yaml"), check=False)

    assert_says(done, USAGE, "absent.yaml", "no such file", "--config")


def test_several_mistakes_are_told_at_once(attempt: Attempt, good: Document) -> None:
    done = attempt({**good, "interface": "eth0", "mode": "fast"})

    assert done.returncode == USAGE
    assert "'interface'" in done.stderr
    assert "fast" in done.stderr
    assert done.stderr.count("\n") == 2
    assert "Traceback" not in done.stderr


def test_an_instance_with_an_impossible_name(attempt: Attempt, director: LabDirector) -> None:
    line = [
        sys.executable,
        "-m",
        "xdpdirector",
        "-i",
        "../etc",
        "run",
        "--config",
        str(director.configuration),
    ]
    done = director.host.run(*line, check=False)

    assert_says(done, USAGE, r"'\.\./etc'", "lower-case letters")


def test_a_second_daemon(attempt: Attempt, director: LabDirector, good: Document) -> None:
    director.start()
    try:
        done = attempt(good)
        assert director.ready
    finally:
        director.stop()

    assert_says(done, CONFLICT, f"instance '{director.paths.name}'", "process", "--instance")


@pytest.mark.parametrize("verb", ["run", "load"])
def test_another_director_on_the_same_interface(
    lab: Lab, attempt: Attempt, director: LabDirector, good: Document, verb: str
) -> None:
    """Not even its VIPs may touch those that serve."""
    other = f"{director.paths.name}-other"
    listeners = {"listeners": ["192.0.2.77:80/tcp"]}

    done = attempt(changed(good, lambda top, web: web.update(listeners)), verb=verb, instance=other)

    assert_says(
        done, CONFLICT, f"instance '{director.paths.name}'", "room for one", "take eth0 out of `interfaces`"
    )
    assert "xdp off" not in done.stderr
    assert not InstancePaths(other).pins.exists()
    assert not InstancePaths(other).state.exists()


def test_a_mode_that_cannot_be_changed_in_place(attempt: Attempt, good: Document) -> None:
    done = attempt({**good, "mode": "generic"})

    assert_says(done, CONFLICT, "native", "generic", "xdpdirector unload")


@pytest.mark.parametrize("verb", ["run", "load", "unload"])
@pytest.mark.parametrize(
    "who",
    [
        pytest.param(("--reuid=65534", "--regid=65534", "--clear-groups"), id="nobody"),
        pytest.param((), id="root without capabilities"),
    ],
)
def test_without_privileges(
    director: LabDirector, attempt: Attempt, good: Document, verb: str, who: tuple[str, ...]
) -> None:
    prefix = ("setpriv", *who, "--bounding-set=-all", "--inh-caps=-all")
    if who:
        require_open_checkout()

    if verb == "unload":
        done = command(director, verb, check=False, prefix=prefix)
    else:
        done = attempt(good, verb=verb, prefix=prefix)

    own = "CAP_NET_RAW" if verb == "run" else "CAP_BPF"
    assert_says(done, NOT_ALLOWED, "privileges|not allowed", "run as root", own, "CAP_NET_ADMIN")


IMPOSTOR = 'lattice = "body-centred cubic"\n'
WITHOUT_BCC = """
import sys
from importlib.machinery import PathFinder


class WithoutBcc(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == "bcc" else super().find_spec(name, path, target)


sys.meta_path[:] = [WithoutBcc if finder is PathFinder else finder for finder in sys.meta_path]
"""


@pytest.mark.parametrize("verb", ["run", "load"])
@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        pytest.param("bcc/__init__.py", IMPOSTOR, ("unrelated", "uninstall bcc"), id="impostor"),
        pytest.param("sitecustomize.py", WITHOUT_BCC, ("missing", "--system-site-packages"), id="missing"),
    ],
)
def test_bcc_that_is_not_there(
    attempt: Attempt,
    good: Document,
    tmp_path: Path,
    verb: str,
    file: str,
    content: str,
    words: tuple[str, ...],
) -> None:
    place = tmp_path / "site" / file
    place.parent.mkdir(parents=True)
    place.write_text(content)
    search = os.pathsep.join(filter(None, [str(tmp_path / "site"), os.environ.get("PYTHONPATH")]))

    done = attempt(good | SIZES, verb=verb, environment={"PYTHONPATH": search})

    assert_says(done, FAILED, "bcc", *words, "apt install python3-bpfcc")
