# SPDX-License-Identifier: Apache-2.0
"""How a console session is read out of Markdown, what its output may be, and in which window it goes on."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.console import Command, File, NotRun, steps
from tests.support.terminals import Windows

SESSION = """
Words.

```console
$ sudo ./lab shell
client# curl http://192.0.2.10/who   # who?
backend1
client# curl --fail \\
     http://192.0.2.10/
```

<!-- not run: it takes two machines -->
```console
$ ssh elsewhere
```

```yaml
# file: own.yaml
interfaces: [eth0]
```

<!-- numbers vary -->
```console
director# xdpdirector status
3 connections
```

```
$ not a session
```
"""


def test_a_session_is_read_in_its_order() -> None:
    found = list(steps(SESSION))

    assert found == [
        Command("$", "sudo ./lab shell", (), 5),
        Command("client#", "curl http://192.0.2.10/who   # who?", ("backend1",), 6),
        Command("client#", "curl --fail \\\n     http://192.0.2.10/", (), 8),
        NotRun(14, "it takes two machines"),
        File("own.yaml", "# file: own.yaml\ninterfaces: [eth0]\n"),
        Command("director#", "xdpdirector status", ("3 connections",), 24, numbers_vary=True),
    ]


def test_a_block_without_a_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="line 2 begins with no prompt: output"):
        list(steps("```console\noutput\n```"))


@pytest.mark.parametrize(
    ("expected", "output", "varies", "explains"),
    [
        pytest.param("", "", False, True, id="nothing"),
        pytest.param("", "something\n", False, False, id="something-for-nothing"),
        pytest.param("backend1", "backend1\n", False, True, id="the-same"),
        pytest.param("backend1", "backend2\n", False, False, id="another"),
        pytest.param("a  b   c", "a b c  \n\n", False, True, id="blanks-and-ends"),
        pytest.param("a\n...\nd", "a\nb\nc\nd\n", False, True, id="any-lines"),
        pytest.param("a\n...\nd", "a\nd\n", False, True, id="no-lines"),
        pytest.param("a\n...\nd", "a\nb\nc\n", False, False, id="any-lines-but-the-last"),
        pytest.param("...", "", False, True, id="whatever"),
        pytest.param("revision ... of web", "revision 17 of web\n", False, True, id="any-text"),
        pytest.param("revision ... of web", "revision 17\nof web\n", False, False, id="not-over-lines"),
        pytest.param("3 packets", "4 packets\n", False, False, id="number"),
        pytest.param("3 packets", "4 packets\n", True, True, id="any-number"),
        pytest.param("took 3.25 s", "took 12 s\n", True, True, id="any-fraction"),
        pytest.param("192.0.2.10:80/tcp", "192.0.2.11:80/tcp\n", True, False, id="no-address"),
        pytest.param("backend1", "backend2\n", True, False, id="no-name"),
        pytest.param("2001:db8::10", "2001:db8::11\n", True, False, id="no-ipv6-address"),
        pytest.param("(revision 1).", "(revision 2).\n", True, True, id="in-brackets"),
        pytest.param("a+b", "aab\n", False, False, id="no-pattern"),
    ],
)
def test_output_is_compared(expected: str, output: str, varies: bool, explains: bool) -> None:
    command = Command("$", "true", tuple(expected.splitlines()), 1, varies)

    assert command.explains(output) is explains


@pytest.fixture
def windows(tmp_path: Path) -> Iterator[Windows]:
    with closing(Windows(tmp_path, {})) as windows:
        yield windows


@pytest.mark.root
def test_a_window_keeps_its_shell(windows: Windows) -> None:
    windows.run("$", "x=5; cd /usr")

    assert windows.run("$", "echo $x $PWD") == "5 /usr\n"


@pytest.mark.root
def test_a_new_prompt_is_in_the_window_used_last_until_it_ends(windows: Windows) -> None:
    windows.run("$", "host=client bash")
    shown = windows.run("client#", "echo $host")
    other = windows.run("$", "echo $host; host=other bash")
    again = windows.run("client#", "echo $host")
    windows.run("client#", "exit # and back")
    after = windows.run("$", "echo $host")

    assert (shown, other, again, after) == ("client\n", "\n", "client\n", "\n")


@pytest.mark.root
def test_windows_have_no_network(windows: Windows) -> None:
    assert windows.run("$", "ip -brief link | cut -d ' ' -f 1") == "lo\n"


@pytest.mark.root
def test_what_ends_the_shell_is_told(windows: Windows) -> None:
    with pytest.raises(RuntimeError, match="'exit 3' ended the shell"):
        windows.run("$", "exit 3")
