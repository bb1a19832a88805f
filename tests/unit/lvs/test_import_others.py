# SPDX-License-Identifier: Apache-2.0
"""ldirectord.cf and saved rules of ipvsadm as services; and the commands that import and export."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.cli import main
from xdpdirector.lvs import ldirectord, saved
from xdpdirector.lvs.imported import Imported
from xdpdirector.lvs.names import SystemNames
from xdpdirector.model import Configuration

VIP, NAME = "192.0.2.10", "tcp-192.0.2.10-80"
REALS = "\treal=192.0.2.21:80 gate 2\n\treal=192.0.2.22:80 gate\n"
FWMARKS = {"1": ["192.0.2.11:80/tcp", "192.0.2.11:443/tcp"]}


class NoHosts(SystemNames):
    def address(self, host: str) -> str | None:
        return None


def read(text: str) -> Imported:
    return ldirectord.read(text, "ld.cf", NoHosts(), fwmarks=FWMARKS)


def left(imported: Imported) -> list[str]:
    return [each.origin.text.partition("=")[0] for each in imported.left]


ROWS: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("plain", "\tscheduler=rr\n\tchecktype=on\n", {"scheduler": "rr"}, []),
    (
        "persistent",
        "\tpersistent=600\n\tnetmask=255.255.255.0\n\tchecktype=on\n",
        {"persistence": {"timeout": "600s", "prefix": 24, "on_drain": "keep"}},
        [],
    ),
    (
        "odd-netmask",
        "\tpersistent=600\n\tnetmask=255.0.255.0\n\tchecktype=on\n",
        {"persistence": {"timeout": "600s", "on_drain": "keep"}},
        ["netmask"],
    ),
    (
        "http",
        '\tservice=http\n\trequest="index.html"\n\treceive="Test"\n\tvirtualhost=www.example\n',
        {
            "check": {
                "type": "http",
                "interval": "10s",
                "timeout": "5s",
                "rise": 1,
                "fall": 1,
                "via": "address",
                "path": "/index.html",
                "body": "Test",
                "host": "www.example",
            }
        },
        [],
    ),
    (
        "connect",
        "\tchecktype=connect\n\tcheckport=81\n",
        {
            "check": {
                "type": "tcp",
                "interval": "10s",
                "timeout": "5s",
                "rise": 1,
                "fall": 1,
                "via": "address",
                "port": 81,
            }
        },
        [],
    ),
    (
        "ping",
        "\tchecktype=ping\n\tcheckinterval=2\n\tchecktimeout=1\n\tfailurecount=3\n",
        {
            "check": {
                "type": "icmp",
                "interval": "2s",
                "timeout": "1s",
                "rise": 1,
                "fall": 3,
                "via": "address",
            }
        },
        [],
    ),
    (
        "imaps",
        "\tservice=imaps\n",
        {
            "check": {
                "type": "imap",
                "interval": "10s",
                "timeout": "5s",
                "rise": 1,
                "fall": 1,
                "via": "address",
                "tls": "direct",
            }
        },
        [],
    ),
    (
        "combined",
        "\tchecktype=5\n\tservice=smtp\n",
        {
            "check": {
                "type": "smtp",
                "interval": "10s",
                "timeout": "5s",
                "rise": 1,
                "fall": 1,
                "via": "address",
            }
        },
        ["checktype"],
    ),
    (
        "no-such-service",
        "\tservice=sip\n",
        {
            "check": {
                "type": "tcp",
                "interval": "10s",
                "timeout": "5s",
                "rise": 1,
                "fall": 1,
                "via": "address",
            }
        },
        ["virtual"],
    ),
    (
        "external",
        '\tchecktype=external\n\tcheckcommand="/usr/bin/check -x"\n',
        {
            "check": {
                "type": "exec",
                "interval": "10s",
                "timeout": "5s",
                "rise": 1,
                "fall": 1,
                "via": "address",
                "command": ["/usr/bin/check", "-x"],
            }
        },
        ["checkcommand"],
    ),
    ("off", "\tchecktype=off\n", {}, ["checktype"]),
    ("fallback", "\tfallback=192.0.2.29:80 gate\n\tchecktype=on\n", {"fallback": "192.0.2.29"}, []),
    ("fallback-here", "\tfallback=127.0.0.1:80 gate\n\tchecktype=on\n", {}, ["fallback"]),
    ("nat", "\treal=192.0.2.23:80 masq\n\tchecktype=on\n", {}, ["real"]),
    (
        "tunnel",
        "\treal=203.0.113.24:80 ipip 3\n\tchecktype=on\n",
        {
            "backends": {
                "192.0.2.21": {"address": "192.0.2.21", "weight": 2},
                "192.0.2.22": {"address": "192.0.2.22"},
                "203.0.113.24": {"address": "203.0.113.24", "weight": 3, "forward": "ipip"},
            }
        },
        [],
    ),
    ("other-port", "\treal=192.0.2.23:8080 gate\n\tchecktype=on\n", {}, ["real"]),
    ("range", "\treal=192.0.2.24->192.0.2.26:80 gate 7\n\tchecktype=on\n", {}, []),
    ("persistent-0", "\tpersistent=0\n\tchecktype=on\n", {"persistence": None}, ["persistent"]),
    ("no-port", "\treal=192.0.2.23 gate 3\n\tchecktype=on\n", {}, []),
    ("scheduler", "\tscheduler=fastest\n\tchecktype=on\n", {}, ["scheduler"]),
    (
        "flags",
        "\tscheduler=mh\n\tschedflags=mh-port,mh-fallback\n\tchecktype=on\n",
        {"scheduler": "mh", "hash": "flow"},
        [],
    ),
    (
        "flags-of-others",
        "\tscheduler=sh\n\tschedflags=mh-port,flag-1\n\tchecktype=on\n",
        {"scheduler": "sh", "hash": "address"},
        ["schedflags", "schedflags"],
    ),
    ("old-names", '\tconnecttimeout=3\n\tload="x"\n\tchecktype=on\n', {}, ["connecttimeout", "load"]),
    ("locality", "\tscheduler=lblcr\n\tchecktype=on\n", {"scheduler": "lblcr"}, []),
    (
        "mail",
        "\temailalert=a@example.com\n\tmonitorfile=/x\n\tchecktype=on\n",
        {},
        ["emailalert", "monitorfile"],
    ),
    ("unknown", "\tfrobnicate=5\n\tchecktype=on\n", {}, ["frobnicate"]),
    ("malformed", "\treal=nowhere.invalid:80 gate\n\tchecktype=on\n", {}, ["real"]),
]


@pytest.mark.parametrize(("text", "fields", "words"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_ldirectord(text: str, fields: dict[str, Any], words: list[str]) -> None:
    imported = read(f"virtual={VIP}:80\n{REALS}{text}")

    (service,) = imported.services.values()
    assert {key: service.get(key) for key in fields} == fields
    assert left(imported) == words
    assert service["backends"]["192.0.2.21"] == {"address": "192.0.2.21", "weight": 2}
    printed = YAML(typ="safe").load(imported.yaml("eth0"))
    assert printed == imported.document("eth0")
    Configuration.model_validate(printed)


def test_ldirectord_globals() -> None:
    text = (
        "checkinterval=3\nchecktimeout=2\nquiescent=yes\nautoreload=yes\n# no\nvirtual=1\n\tprotocol=fwm\n"
        + REALS
    )

    imported = read(text + "\tservice=http\n")

    assert sorted(imported.services["fwm-1"]["listeners"]) == sorted(FWMARKS["1"])
    assert imported.services["fwm-1"]["check"]["interval"] == "3s"
    assert left(imported) == ["quiescent", "autoreload"]
    assert imported.fwmarks == FWMARKS


SAVED = f"""\
-A -t {VIP}:80 -s wrr -p 600
-a -t {VIP}:80 -r 192.0.2.21:80 -g -w 3
-a -t {VIP}:80 -r 192.0.2.22:80 -m -w 1
-A -u {VIP}:53 -s fastest
-L -n
-A -f 1 -s wlc
-a -f 1 -r 192.0.2.23:0 -g -w 1
"""


def test_saved_rules() -> None:
    imported = saved.read(SAVED, "rules", NoHosts(), fwmarks=FWMARKS)

    assert imported.services.keys() == {NAME, "fwm-1"}
    assert imported.services[NAME]["backends"].keys() == {"192.0.2.21"}
    assert [each.origin.line for each in imported.left] == [3, 4, 5]
    assert imported.services[NAME]["backends"]["192.0.2.21"] == {"address": "192.0.2.21", "weight": 3}
    assert "labels" not in imported.yaml("eth0")
    Configuration.model_validate(imported.document("eth0"))


SCRIPT = f"""\
#!/bin/sh
/sbin/ipvsadm -C
sudo ipvsadm -A -t {VIP}:80 -s rr
  /usr/sbin/ipvsadm -a -t {VIP}:80 -r 192.0.2.21 -g -w 2
ipvsadm --add-server --tcp-service {VIP}:80 --real-server 192.0.2.22 --gatewaying
ipvsadm -Ln
"""


def test_a_script_of_commands() -> None:
    """They are called by their path, or as root."""
    imported = saved.read(SCRIPT, "script", NoHosts())

    assert {name: each["weight"] for name, each in imported.services[NAME]["backends"].items()} == {
        "192.0.2.21": 2,
        "192.0.2.22": 1,
    }
    assert [each.origin.line for each in imported.left] == [6]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(FakeDirector(), tmp_path / "api.sock") as server:
        yield server


def test_commands(tmp_path: Path, server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    rules = tmp_path / "rules"
    rules.write_text(SAVED)
    assert main(["import", "ipvsadm", str(rules), "--fwmark", f"1={VIP}:443/tcp", "--interface", "eth7"]) == 0
    printed, told = capsys.readouterr()
    assert YAML(typ="safe").load(printed)["interfaces"] == ["eth7"]
    assert told.count("not taken over: ") == 3
    assert main(["import", "ipvsadm", str(rules), "--strict"]) == 1
    assert main(["import", "ipvsadm", str(rules), "--fwmark", "x"]) == 2
    assert main(["import", "ipvsadm", str(tmp_path / "none")]) == 2
    capsys.readouterr()

    text = f"virtual_server {VIP} 80 {{\nlvs_method DR\nreal_server 192.0.2.21 80 {{\n}}\n}}\n"
    (tmp_path / "more.conf").write_text(text)
    (tmp_path / "keepalived.conf").write_text("include *.conf\ninclude more.d/*.conf\n")
    (tmp_path / "other.conf").write_text(text.replace(".21", ".22"))
    assert main(["import", "keepalived", str(tmp_path / "more.conf")]) == 0
    assert f"# {tmp_path / 'more.conf'}:1: virtual_server {VIP} 80 {{" in capsys.readouterr().out
    assert main(["import", "keepalived", str(tmp_path / "keepalived.conf")]) == 0
    assert (
        main(["import", "keepalived", str(tmp_path / "more.conf"), "--diff", str(tmp_path / "other.conf")])
        == 1
    )
    assert '-      "192.0.2.21"' in capsys.readouterr().out

    service = {"name": "web", "listeners": [f"{VIP}:80/tcp"], "backends": {"web1": {"address": "192.0.2.21"}}}
    server.client.post("/v1/services", service)
    assert main(["--socket", str(server.path), "export", "keepalived"]) == 0
    assert f"virtual_server {VIP} 80 {{" in capsys.readouterr().out
    assert main(["--socket", str(server.path), "export", "ipvsadm"]) == 0
    assert capsys.readouterr().out.startswith(f"-A -t {VIP}:80 -s wlc\n")


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"virtual={VIP}:80\n{REALS}"))

    assert main(["import", "ldirectord", "-"]) == 0
    assert f"# -:1: virtual={VIP}:80" in capsys.readouterr().out
