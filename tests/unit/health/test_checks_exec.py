# SPDX-License-Identifier: Apache-2.0
"""The probes in which somebody of the operator's decides: exec and agent."""

import ast
import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.check_servers import (
    HERE,
    PATIENT,
    at,
    closing,
    serving,
    silent,
)
from xdpdirector.health import sandbox
from xdpdirector.health.checks import CheckFailed, CheckImpossible, direct, registry
from xdpdirector.health.checks import exec as exec_check
from xdpdirector.model.checks import AgentCheck, Checks, ExecCheck

SHELL = "/bin/sh"
PYTHON = "/usr/bin/python3"
SIGNALS_SCOPED = 6
"""Landlock's version, of Linux 6.12."""
SHORT = 2.0  # and enough for a program to start


def program(script: str, timeout: float = PATIENT) -> ExecCheck:
    return ExecCheck(type="exec", command=(SHELL, "-c", script), timeout=timeout, interval=PATIENT)


def run(spec: ExecCheck) -> None:
    asyncio.run(registry.allowing(Checks(allow_exec=(SHELL,)))(spec, at(0), direct))


def test_status_0_is_fine() -> None:
    run(program(f'test "$XDPDIRECTOR_ADDRESS" = {HERE} && test -z "$HOME"'))


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("echo the disk is full; echo more; exit 3", "/bin/sh ended with status 3: the disk is full"),
        ("echo oops >&2; exit 1", "/bin/sh ended with status 1: oops"),
        ("exit 1", "/bin/sh ended with status 1"),
        ("kill -9 $$", "/bin/sh was ended by SIGKILL"),
        ("sleep 300", "/bin/sh did not end within 2s, and was killed"),
        ("yes no; exit 1", "/bin/sh wrote more than 64 KiB of output, and was killed"),
        ("printf '%60000s' | tr ' ' x; exit 1", f"/bin/sh ended with status 1: {'x' * 160}"),
    ],
    ids=["words", "errors", "silence", "signal", "late", "endless", "much"],
)
def test_anything_else_is_not(script: str, sentence: str) -> None:
    with pytest.raises(CheckFailed) as failed:
        run(program(script, SHORT))

    assert str(failed.value) == sentence


def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    noted = tmp_path / "pid"

    with pytest.raises(CheckFailed, match="did not end within 2s"):
        run(program(f"sleep 300 & echo $! >{noted}; wait", SHORT))

    ends(int(noted.read_text()))


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        pytest.param("sleep 300 & exit 0", "", id="fine"),
        pytest.param("echo late >&2; sleep 300 & exit 1", "/bin/sh ended with status 1: late", id="not fine"),
        pytest.param("(trap '' TERM HUP; sleep 300) & exit 0", "", id="a stubborn one"),
    ],
)
def test_its_own_end_decides_whatever_it_left_behind(script: str, sentence: str, tmp_path: Path) -> None:
    """A child that has inherited the output: it is ended, and no descriptor stays."""
    noted = tmp_path / "pid"
    script = script.replace("& exit", f"& echo $! >{noted}; exit")

    async def main() -> str:
        allowed = registry.allowing(Checks(allow_exec=(SHELL,)))
        await allowed(program("exit 0"), at(0), direct)  # what asyncio opens for its first child stays
        before = descriptors()
        for _ in range(3):
            said = ""
            try:
                await allowed(program(script), at(0), direct)
            except CheckFailed as failure:
                said = str(failure)
            assert said == sentence
            ends(int(noted.read_text()))
        assert descriptors() == before
        return said

    asyncio.run(asyncio.wait_for(main(), PATIENT))


def test_what_leaves_its_session_ends_too(tmp_path: Path) -> None:
    """An orphan with a session of its own, when the program ends and when its time is up."""
    noted = tmp_path / "pid"
    orphan = f"setsid sh -c 'echo $$ >{noted}; trap \"\" TERM HUP; sleep 300' &"
    script = f"{orphan} while ! test -s {noted}; do sleep 0.01; done; "

    run(program(f"{script} exit 0"))
    ends(int(noted.read_text()))
    noted.unlink()
    with pytest.raises(CheckFailed, match="did not end"):
        run(program(f"{script} sleep 300", SHORT))
    ends(int(noted.read_text()))


CONFINED = """
import os, socket, sys
from pathlib import Path
def may(do, *arguments):
    try:
        do(*arguments)
    except OSError:
        return False
    return True
families = {socket.AF_INET: socket.SOCK_STREAM, socket.AF_INET6: socket.SOCK_DGRAM}
status = Path("/proc/self/status").read_text().splitlines()
Path(sys.argv[1]).write_text(repr({
    "unix": may(socket.socket, socket.AF_UNIX, socket.SOCK_STREAM),
    "packet": may(socket.socket, socket.AF_PACKET, socket.SOCK_RAW),
    "ip": all(may(socket.socket, *each) for each in families.items()),
    "capabilities": [line for line in status if line.startswith("Cap") and int(line.split()[1], 16)],
    "gains none": "NoNewPrivs:\t1" in status,
    "reads": may(open, "/etc/passwd") and may(os.listdir, "/usr"),
    "writes": may(open, "/usr/written", "w") or may(open, "/var/written", "w"),
    "hidden": [path for path in sys.argv[2:] if may(os.listdir, path)],
    "parent": may(os.kill, os.getppid(), 0),
}))
"""


def test_it_has_nothing_but_what_it_needs(tmp_path: Path) -> None:
    """Not the daemon's socket, databases, pins and capabilities."""
    hidden = [path for path in sandbox.HIDDEN if Path(path).is_dir()]
    spec = ExecCheck(
        type="exec",
        command=(PYTHON, "-I", "-c", CONFINED, str(tmp_path / "said"), *hidden),
        timeout=PATIENT,
        interval=PATIENT,
    )

    asyncio.run(registry.allowing(Checks(allow_exec=(PYTHON,)))(spec, at(0), direct))

    said = ast.literal_eval((tmp_path / "said").read_text())
    assert said.pop("parent") is (sandbox.landlock() < SIGNALS_SCOPED)
    files = {"reads": True, "writes": False, "hidden": []}
    nothing = {"unix": False, "packet": False, "ip": True, "capabilities": [], "gains none": True}
    assert said == nothing | (files if sandbox.landlock() else {each: said[each] for each in files})


def test_a_kernel_may_not_say_whose_children_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    child = os.posix_spawn("/bin/sleep", ["sleep", "300"], {})
    listed = sandbox._children()
    text = sandbox._text

    def without(path: str) -> str:
        if path.endswith("/children"):
            raise FileNotFoundError
        return text(path)

    monkeypatch.setattr(sandbox, "_text", without)
    searched = sandbox._children()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

    assert child in listed
    assert child in searched


@pytest.mark.parametrize(("version", "notes"), [(0, 1), (1, 0)])
def test_what_the_kernel_cannot_hide_is_told(
    monkeypatch: pytest.MonkeyPatch, version: int, notes: int
) -> None:
    monkeypatch.setattr(sandbox, "landlock", lambda: version)

    assert len(exec_check.notes(Checks(allow_exec=(SHELL,)))) == notes
    assert exec_check.notes(Checks()) == []


@pytest.mark.parametrize(
    ("content", "mode", "sentence"),
    [
        ("exit 0", 0o644, "it may not be executed"),
        ("\x7fELF", 0o755, "Exec format error"),
    ],
    ids=["no permission", "no program"],
)
def test_a_program_that_cannot_be_run_is_no_failure_of_the_backend(
    tmp_path: Path, content: str, mode: int, sentence: str
) -> None:
    path = tmp_path / "check"
    path.write_text(content)
    path.chmod(mode)
    spec = ExecCheck(type="exec", command=(str(path),), timeout=PATIENT, interval=PATIENT)

    with pytest.raises(CheckImpossible, match=f"check cannot be run: {sentence}"):
        asyncio.run(registry.allowing(Checks(allow_exec=(str(path),)))(spec, at(0), direct))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def ends(process: int) -> None:
    until = time.monotonic() + PATIENT
    while (status := Path(f"/proc/{process}/status")).exists():
        with suppress(FileNotFoundError):
            if "State:\tZ" in status.read_text():
                break
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_program_that_is_not_allowed() -> None:
    with pytest.raises(
        CheckImpossible, match=r"'/bin/sh' may not be run by a check: add it to checks.allow_exec"
    ):
        asyncio.run(registry.allowing(Checks(allow_exec=("/bin/true",)))(program("exit 0"), at(0), direct))


def test_a_program_that_is_not_there() -> None:
    spec = ExecCheck(type="exec", command=("/no/such",), timeout=PATIENT, interval=PATIENT)

    with pytest.raises(CheckImpossible, match="/no/such cannot be run: No such file or directory"):
        asyncio.run(registry.allowing(Checks(allow_exec=("/no/such",)))(spec, at(0), direct))


def agent(**options: str) -> AgentCheck:
    return AgentCheck.model_validate({"type": "agent", "timeout": PATIENT, "interval": PATIENT, **options})


@pytest.mark.parametrize(
    ("line", "share"),
    [
        (b"up\n", None),
        (b"75%\r\n", 0.75),
        (b"ready 50%\n", 0.5),
        (b"up,120%\n", 1.2),
        (b"drain\n", 0.0),
        (b"maint # lunch\n", 0.0),
        (b"0%\n", 0.0),
    ],
)
def test_an_agent_that_is_fine(line: bytes, share: float | None) -> None:
    async def main() -> float | None:
        async with serving(silent(line)) as port:
            return await registry.probe(agent(), at(port), direct)

    assert asyncio.run(main()) == share


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"down # no database\n", "the agent on HOST says 'down': no database"),
        (b"failed\n", "the agent on HOST says 'failed'"),
        (b"SSH-2.0\n", "the agent on HOST says 'SSH-2.0', expected 'up', 'down' or like '75%'"),
        (b"99999%\n", "the agent on HOST says '99999%', expected 'up', 'down' or like '75%'"),
        (b"\n", "the agent on HOST says nothing, expected 'up', 'down' or like '75%'"),
        (b"up", "HOST closed the connection without its state"),
    ],
)
def test_an_agent_that_is_not(line: bytes, sentence: str) -> None:
    async def main() -> str:
        async with serving(closing(line)) as port:
            with pytest.raises(CheckFailed) as failed:
                await registry.probe(agent(), at(port), direct)
        return str(failed.value).replace(f"port {port} of {HERE}", "HOST")

    assert asyncio.run(main()) == sentence


def test_an_agent_is_told_what_it_wants_to_hear() -> None:
    heard = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readline())
        writer.write(b"up\n")
        await reader.read()

    async def main() -> None:
        async with serving(answer) as port:
            await registry.probe(agent(send="web1"), at(port), direct)

    asyncio.run(main())

    assert heard == [b"web1\n"]
