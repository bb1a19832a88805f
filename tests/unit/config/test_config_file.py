# SPDX-License-Identifier: Apache-2.0
"""The configuration file: what is accepted, and what each mistake is told."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from xdpdirector.config import config_file, yaml_document
from xdpdirector.config.messages import problems
from xdpdirector.errors import ConfigurationError
from xdpdirector.model import AdminState, Listener, Scheduler, ServiceSpec
from xdpdirector.model.checks import HttpCheck

GOOD = """\
interfaces: [eth0]
mode: auto                      # native | generic | auto
services:
  web:
    listeners: ["192.0.2.10:80/tcp", "192.0.2.10:443/tcp", "[2001:db8::10]:80/tcp"]
    scheduler: wlc
    check: {type: http, path: /healthz, interval: 2s, timeout: 1s, rise: 2, fall: 3}
    backends:
      web1: {address: 192.0.2.21, weight: 1}
      web2: {address: 192.0.2.22, weight: 2, admin: drain}
"""

TYPES = (
    "agent, dns, exec, ftp, http, https, icmp, imap, ldap, mysql, pop3, postgres, sctp, smtp, tcp, tls, udp"
)
WEB = """\
interfaces: [eth0]
services:
  web:
    listeners: ["192.0.2.10:80/tcp"]
"""

Writer = Any


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Writes a file, returns its path."""

    def write_file(content: str | bytes) -> Path:
        path = tmp_path / "director.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def refusal(path: Path) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as refused:
        config_file.load(path)
    return refused.value


def told(error: ConfigurationError, path: Path) -> list[str]:
    """The lines of the message, without the path."""
    return [line.removeprefix(f"{path}:") for line in str(error).splitlines()]


def test_a_whole_configuration(write: Writer) -> None:
    configuration = config_file.load(write(GOOD))

    web = configuration.services["web"]
    assert configuration.interfaces == ("eth0",)
    assert web.scheduler is Scheduler.WLC
    assert web.listeners[2] == Listener.parse("[2001:db8::10]:80/tcp")
    assert web.check == HttpCheck(type="http", path="/healthz", interval=2, timeout=1, rise=2, fall=3)
    assert web.backends["web2"].admin is AdminState.DRAIN


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\ufeffinterfaces: [eth0]\n", id="byte order mark"),
        pytest.param("interfaces: [eth0]\r\nmode: native\r\n", id="carriage returns"),
        pytest.param('{"interfaces": ["eth0"], "services": {}}', id="JSON"),
        pytest.param(
            WEB + "    backends:\n      1: {address: 192.0.2.21}\n      no: {address: 192.0.2.22}\n",
            id="names that look like numbers or booleans",
        ),
        pytest.param(
            WEB + "    check: &plain {type: tcp}\n  ftp: {listeners: ['192.0.2.10:21/tcp'], check: *plain}\n",
            id="an alias",
        ),
    ],
)
def test_accepted(text: str, write: Writer) -> None:
    assert config_file.load(write(text)).interfaces == ("eth0",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "    shceduler: wlc\n",
            "5:5: service 'web': unknown key 'shceduler': did you mean 'scheduler'?",
            id="misspelt key",
        ),
        pytest.param(
            "    timeouts: {zzz: 1s}\n",
            "5:16: timeouts of service 'web': unknown key 'zzz': the keys there are tcp, tcpfin, udp, syn",
            id="unknown key",
        ),
        pytest.param(
            "    backends:\n      web1: {address: 192.0.2.21, port: 80}\n",
            "6:35: backend 'web1' of service 'web': unknown key 'port': "
            "a backend has no port, because direct routing keeps the destination port",
            id="port of a backend",
        ),
        pytest.param(
            "    scheduler: wlq\n",
            "5:5: scheduler of service 'web': unknown scheduler 'wlq': "
            "use 'rr', 'wrr', 'lc', 'wlc', 'sed', 'nq', 'sh', 'mh', 'fo', 'ovf', 'dh', 'lblc', 'lblcr' or 'twos'",
            id="unknown scheduler",
        ),
        pytest.param(
            "    check: {}\n",
            f"5:5: check of service 'web': the key 'type' is missing: use one of {TYPES}",
            id="check without type",
        ),
        pytest.param(
            "    check: {type: smpt}\n",
            f"5:13: check of service 'web': unknown type 'smpt': use one of {TYPES}",
            id="unknown check",
        ),
        pytest.param(
            "    check: http\n",
            "5:5: check of service 'web': must hold keys and values, not 'http'",
            id="check that is a word",
        ),
        pytest.param(
            "    check: {type: http, path: healthz}\n",
            "5:25: path of check of service 'web': 'healthz' must begin with '/' and have no spaces",
            id="path",
        ),
        pytest.param(
            "    check:\n      type: http\n      http: yes\n",
            "7:7: check of service 'web': unknown key 'http': the keys there are "
            "interval, timeout, rise, fall, port, via, path, host, status, body, weight_header, type",
            id="a key that is the check's type",
        ),
        pytest.param(
            "    check: {type: http, status: [200, 99]}\n",
            "5:39: item 2 of status of check of service 'web': 99 is out of range: use 100 to 599",
            id="status",
        ),
        pytest.param(
            "    check: {type: tcp, port: 80000}\n",
            "5:24: port of check of service 'web': 80000 is out of range: use 1 to 65535",
            id="port of a check",
        ),
        pytest.param(
            "    check: {type: tcp, interval: 1s, timeout: 2s}\n",
            "5:5: check of service 'web': timeout 2s is longer than interval 1s: "
            "make it shorter, or the interval longer",
            id="timeout over interval",
        ),
        pytest.param(
            "    check: {type: tcp, interval: soon}\n",
            "5:24: interval of check of service 'web': 'soon' is not a duration: write it like 300ms, 2s or 5m",
            id="duration",
        ),
        pytest.param(
            "    backends:\n      web1: {address: 192.0.2.21, weight: heavy}\n",
            "6:35: weight of backend 'web1' of service 'web': 'heavy' is not a whole number: use 0 to 65535",
            id="weight",
        ),
        pytest.param(
            "    backends:\n      web1: {address: web1.example.org}\n",
            "6:14: address of backend 'web1' of service 'web': 'web1.example.org' is not an IPv4 or IPv6 address",
            id="address",
        ),
        pytest.param(
            "    backends:\n      web1: {weight: 2}\n",
            "6:7: backend 'web1' of service 'web': the key 'address' is missing: add it",
            id="missing key",
        ),
        pytest.param(
            "    backends:\n      web/1: {address: 192.0.2.21}\n",
            "6:7: backends of service 'web': 'web/1' cannot be a name: "
            "use letters, digits, '.', '_' and '-', with a letter or digit first and last",
            id="name",
        ),
        pytest.param(
            "    backends:\n      web1: {address: 192.0.2.21}\n      web2: {address: 192.0.2.21}\n",
            "7:14: service 'web': backends 'web1' and 'web2' both have the address 192.0.2.21",
            id="two backends of one address",
        ),
        pytest.param(
            "    ring_slots: 1000\n",
            "5:5: service 'web': ring_slots 1000 is not prime: use 4093, 16381, 65537 or another prime number",
            id="ring that is not prime",
        ),
        pytest.param(
            "    backends:\n",
            "5:5: backends of service 'web': there is nothing: write its keys, indented, or remove it",
            id="empty mapping",
        ),
        pytest.param(
            "  mail: {listeners: '192.0.2.10:25/tcp'}\n",
            "5:10: listeners of service 'mail': must be a list, not '192.0.2.10:25/tcp': "
            'write ["192.0.2.10:25/tcp"]',
            id="no list",
        ),
        pytest.param(
            "  mail: {listeners: []}\n",
            "5:10: listeners of service 'mail': there must be 1 at least",
            id="empty list",
        ),
        pytest.param(
            "  mail: {listeners: ['192.0.2.10:25/tcp', '192.0.2.10:99999/tcp']}\n",
            "5:43: item 2 of listeners of service 'mail': "
            "port '99999' in listener '192.0.2.10:99999/tcp' is out of range: use 1 to 65535, A-B, or *",
            id="port of a listener",
        ),
        pytest.param(
            "  mail: {listeners: ['192.0.2.10:25/tcp', '192.0.2.10:25/tcp']}\n",
            "5:43: service 'mail': listener 192.0.2.10:25/tcp stands twice: remove one",
            id="listener twice in a service",
        ),
        pytest.param(
            "  mail:\n    listeners:\n      - 192.0.2.10:80/tcp\n",
            "7:9: listener 192.0.2.10:80/tcp belongs to service 'web' and to service 'mail'",
            id="listener in two services",
        ),
        pytest.param(
            "  mail: [192.0.2.10:25/tcp]\n",
            "5:3: service 'mail': must hold keys and values, not a list",
            id="service that is a list",
        ),
        pytest.param(
            "sizes: {services: 0}\n",
            "5:9: services of sizes: 0 is out of range: use 1 to 4096",
            id="size",
        ),
        pytest.param(
            "mode: fast\n", "5:1: mode: unknown mode 'fast': use 'auto', 'native' or 'generic'", id="mode"
        ),
    ],
)
def test_one_mistake(text: str, message: str, write: Writer) -> None:
    path = write(WEB + text)

    error = refusal(path)

    assert told(error, path) == [message]
    assert message.startswith(f"{error.line}:{error.column}: ")
    assert (error.source, error.exit_code) == (str(path), 2)


@pytest.mark.parametrize(
    "content",
    [
        "interfaces:\t[eth0]\nmode:\tauto\n",
        "interfaces: [eth0]\t# the only one\nmode: auto\t# or generic\n",
        "interfaces:\t\n  -\teth0\nmode: auto \t \n",
        "\t# all\ninterfaces: ['eth0']\t\n\t\nmode: &x\tauto\n",
    ],
    ids=["behind a colon", "before a comment", "behind a dash", "in empty lines"],
)
def test_tabs_separate_as_in_yaml_1_2(tmp_path: Path, content: str) -> None:
    path = tmp_path / "director.yaml"
    path.write_text(content)

    loaded = config_file.load(path)

    assert (loaded.interfaces, loaded.mode) == (("eth0",), "auto")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("", "1:1: the file is empty: it needs 'interfaces: [NAME]' at least", id="empty"),
        pytest.param(
            "# soon\n", "1:1: the file is empty: it needs 'interfaces: [NAME]' at least", id="comment"
        ),
        pytest.param("- eth0\n", "1:1: the document must hold keys and values, not a list", id="list"),
        pytest.param("eth0\n", "1:1: the document must hold keys and values, not 'eth0'", id="word"),
        pytest.param("mode: auto\n", "1:1: the key 'interfaces' is missing: add it", id="no interfaces"),
        pytest.param(
            "interfaces: [a]\nmode: auto\ninterfaces: [b]\n",
            "3:1: the key 'interfaces' stands already in line 1: remove one of the two",
            id="repeated key",
        ),
        pytest.param(
            "interfaces:\n- \ta: 1\n",
            "2:3: a tab stands here: YAML is indented with spaces only",
            id="tab behind a dash",
        ),
        pytest.param(
            "interfaces:\n\t- eth0\n", "2:1: a tab stands here: YAML is indented with spaces only", id="tab"
        ),
        pytest.param(
            "services:\n  dns:\n    listeners:\n      - [2001:db8::10]:53/udp\n",
            "4:23: an IPv6 listener needs quotes, because YAML takes '[' for a list: \"[2001:db8::10]:80/tcp\"",
            id="IPv6 without quotes",
        ),
        pytest.param(
            "mode: auto\n---\nmode: auto\n",
            "2:1: a second document begins here: keep one and remove the '---' line",
            id="two documents",
        ),
        pytest.param(
            "mode: *x\n",
            "1:7: there is no anchor of that name above: define it with '&', or quote the value",
            id="unknown alias",
        ),
        pytest.param(
            "mode: a: b\n",
            "1:8: a ':' cannot stand here: check the indentation, or quote the value",
            id="two colons",
        ),
        pytest.param(
            "mode: 'auto\n",
            "2:1: this is not YAML: found unexpected end of stream (while scanning a quoted scalar "
            "that begins in line 1): check the indentation, brackets and quotes",
            id="open quote",
        ),
        pytest.param(
            "services: &x {web: *x}\n",
            "1:11: this anchor contains an alias to itself: remove the alias",
            id="alias to itself",
        ),
        pytest.param(
            "a: &a {b: 1}\nc: {<<: *a}\n",
            "2:5: merge keys (<<) are not YAML 1.2: repeat the keys, or alias the whole value",
            id="merge key",
        ),
        pytest.param(
            "mode: !!python/name:os.system x\n",
            "1:7: the tag '!!python/name:os.system' is not for this file: write the value without it",
            id="tag",
        ),
        pytest.param(
            f"mode: {'9' * 5000}\n",
            f"1:7: '{'9' * 40}' is no value of the type that it has here: quote it",
            id="number without end",
        ),
        pytest.param(
            "? [a]\n: b\n",
            "1:3: a key must be a plain word, not a list or a mapping (a missing quote?)",
            id="list as key",
        ),
        pytest.param(
            f"mode: {'[' * 40}{']' * 40}\n",
            "1:39: more than 32 levels are too deep: no key of the director needs that",
            id="deep",
        ),
        pytest.param(
            "mode: " + "[" * 3000,
            "1:1: the brackets are nested too deeply: no key of the director needs that",
            id="very deep",
        ),
        pytest.param(
            "mode: a\x00b\n",
            "1:8: the control character U+0000 is not allowed in YAML: remove it",
            id="control character",
        ),
        pytest.param(
            b"mode: auto\n# \xe4\n", "2:3: the octet 0xe4 is not UTF-8: save the file as UTF-8", id="Latin 1"
        ),
        pytest.param(
            "interfaces: [a]\n".encode("utf-16"),
            "1:1: the octet 0xff is not UTF-8: save the file as UTF-8",
            id="UTF-16",
        ),
        pytest.param(
            b"#" * (config_file.LARGEST + 1),
            " the file is larger than 4 MiB: is it a configuration at all?",
            id="huge",
        ),
    ],
)
def test_no_configuration_at_all(content: str | bytes, message: str, write: Writer) -> None:
    path = write(content)

    assert told(refusal(path), path) == [message]


def test_all_mistakes_are_told_in_the_order_of_the_file(write: Writer) -> None:
    path = write("interfaces: [a b]\nmode: fast\nservices:\n  web: {listeners: [], weight: 1}\n")

    error = refusal(path)

    assert [line.split(": ")[0] for line in told(error, path)] == ["1:14", "2:1", "4:9", "4:24"]
    assert (error.line, error.column, error.pointer) == (1, 14, "/interfaces/0")


def test_very_many_mistakes_are_counted(write: Writer) -> None:
    path = write("interfaces: [a]\n" + "".join(f"key{number}: 1\n" for number in range(30)))

    lines = told(refusal(path), path)

    assert len(lines) == 21
    assert lines[-1] == "... and 10 more"


def test_aliases_cannot_explode(write: Writer) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 12)]
    path = write("\n".join(lines))

    assert "with its aliases this is more than 250000 values: use fewer aliases" in str(refusal(path))


def test_no_file(tmp_path: Path) -> None:
    path = tmp_path / "director.yaml"

    error = refusal(path)

    assert str(error) == f"{path}: there is no such file: write one, or name another with --config"


def test_a_directory(tmp_path: Path) -> None:
    assert str(refusal(tmp_path)) == f"{tmp_path}: this is a directory: name the file in it"


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_whatever_is_written_there_is_no_other_error(
    tmp_path_factory: pytest.TempPathFactory, content: str | bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "anything.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))

    refusal(path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
KEYS = [
    "listeners",
    "scheduler",
    "check",
    "backends",
    "timeouts",
    "ring_slots",
    "type",
    "path",
    "status",
    "x",
]


@given(st.dictionaries(st.sampled_from(KEYS), VALUES | st.dictionaries(st.sampled_from(KEYS), VALUES)))
def test_whatever_the_api_is_sent_there_is_a_sentence(sent: dict[str, object]) -> None:
    try:
        ServiceSpec.model_validate(sent)
    except ValidationError as error:
        found = problems(error, sent, ServiceSpec)

        assert found
        assert all(problem.sentence and "nput should" not in problem.sentence for problem in found)


def test_a_pointer_is_escaped() -> None:
    sent = {"listeners": ["192.0.2.10:80/tcp"], "backends": {"a/b~c": {"address": "192.0.2.21"}}}

    with pytest.raises(ValidationError) as failed:
        ServiceSpec.model_validate(sent)

    assert [problem.pointer for problem in problems(failed.value, sent, ServiceSpec)] == ["/backends/a~1b~0c"]


def test_places_count_from_one() -> None:
    found = yaml_document.parse("a:\n  b: [x, y]\n", "here")

    assert found.data == {"a": {"b": ["x", "y"]}}
    assert found.place(("a", "b", 1)) == (2, 10)
    assert found.place(("a", "missing", "deep")) == (1, 1)


def test_digest_is_of_what_is_said_about_services(write: Writer) -> None:
    before = config_file.digest(config_file.load(write(GOOD)))

    commented = config_file.digest(config_file.load(write("# new\n" + GOOD.replace("[eth0]", "[eth1]"))))
    heavier = config_file.digest(config_file.load(write(GOOD.replace("weight: 1", "weight: 3"))))

    assert commented == before
    assert heavier != before


def test_the_schema_knows_every_key() -> None:
    schema = config_file.schema()

    top = {"interfaces", "mode", "vips", "api", "user", "sizes", "guard", "lan", "checks", "lvs", "sync"}
    assert set(schema["properties"]) == top | {"store", "health", "services"}
    assert schema["additionalProperties"] is False


def test_a_majority_needs_a_fleet(write: Writer) -> None:
    fleet = 'store: {type: etcd, endpoints: ["127.0.0.1:2379"]}'

    with pytest.raises(ConfigurationError, match="health: majority needs other directors"):
        config_file.load(write(f"{GOOD}\nhealth: majority\n"))

    assert config_file.load(write(f"{GOOD}\n{fleet}\nhealth: majority\n")).health == "majority"
