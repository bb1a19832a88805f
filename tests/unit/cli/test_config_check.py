# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector config check FILE`: no daemon is asked, and what a daemon would refuse is refused."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from xdpdirector.cli import main

GOOD = """\
interfaces: [eth0]
services:
  web:
    listeners: ["192.0.2.10:80/tcp"]
    backends:
      web1: {address: 192.0.2.21}
"""


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory in which no daemon runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    Path("director.yaml").write_text(text)
    code = main(["--socket", "nobody.sock", "config", "check", "director.yaml"])
    return code, *capsys.readouterr()


@pytest.mark.usefixtures("nowhere")
def test_a_good_file_needs_no_daemon(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(GOOD, capsys) == (0, "director.yaml: the configuration is valid\n", "")


@pytest.mark.usefixtures("nowhere")
def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(GOOD))

    assert main(["config", "check", "-"]) == 0
    assert capsys.readouterr().out == "standard input: the configuration is valid\n"


def many(count: int) -> str:
    services = [f'  s{number}: {{listeners: ["192.0.2.{number}:80/tcp"]}}' for number in range(1, count + 1)]
    return "\n".join(["interfaces: [eth0]", "sizes: {services: 4}", "services:", *services])


BAD = {
    "no YAML": ("interfaces: [eth0\n", "director.yaml:2:1: "),
    "nothing": ("", "director.yaml:"),
    "an unknown key": (GOOD.replace("address:", "adress:"), "director.yaml:6:14: "),
    "two faults": (GOOD.replace("eth0", "' '").replace("192.0.2.21", "here"), "\ndirector.yaml:6:"),
    "a program that checks may not run": (
        GOOD + "    check: {type: exec, command: [/bin/true]}\n",
        "checks.allow_exec",
    ),
    "too many services": (many(5), "director.yaml:2:9: there is room for 4 services"),
    "too many listeners": (
        GOOD.replace("services:", "sizes: {listeners: 1}\nservices:").replace(
            '"192.0.2.10:80/tcp"', '"192.0.2.10:80/tcp", "192.0.2.10:81/tcp"'
        ),
        "raise sizes.listeners",
    ),
    "a range that takes several places": (
        GOOD.replace("services:", "sizes: {listeners: 4}\nservices:").replace(":80/tcp", ":1-1000/tcp"),
        "raise sizes.listeners",
    ),
    "no room for rings": (
        GOOD.replace("services:", "sizes: {ring_slots: 251}\nservices:") + "    scheduler: mh\n",
        "raise sizes.ring_slots",
    ),
    "no room for backends": (
        GOOD.replace("services:", "sizes: {backends: 1}\nservices:") + "      web2: {address: 192.0.2.22}\n",
        "raise sizes.backends",
    ),
    "no room for members": (
        GOOD.replace("services:", "sizes: {backends: 1000}\nservices:")
        + "".join(f"      b{n}: {{address: 198.18.{n >> 8}.{n & 255}}}\n" for n in range(300)),
        "there is room for 256 members, and 301 are wanted: raise sizes.members",
    ),
    "no authorities": (
        GOOD + "    check: {type: tls, server_name: a.example, verify: true, ca: /no/such/file.pem}\n",
        "director.yaml:7:62: check of service 'web': ca /no/such/file.pem cannot be read: No such file",
    ),
    "no certificate": (
        "api: {tls: {certificate: /no/such/file.pem, key: /no/such/key.pem}}\n" + GOOD,
        "director.yaml:1:7: api.tls: certificate /no/such/file.pem",
    ),
}


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(("text", "sentence"), [pytest.param(*row, id=name) for name, row in BAD.items()])
def test_a_bad_file_is_told_with_its_lines(
    text: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output, errors = check(text, capsys)

    assert (code, output) == (2, "")
    assert sentence in errors


def test_a_pipe_among_its_files_does_not_hang(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe")

    code, _, errors = check(
        GOOD + f"    check: {{type: tls, server_name: a.example, verify: true, ca: {nowhere}/pipe}}\n", capsys
    )

    assert code == 2
    assert "it is no regular file" in errors


@pytest.mark.usefixtures("nowhere")
def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check", "other.yaml"]) == 2
    assert "other.yaml: it cannot be read: No such file" in capsys.readouterr().err
