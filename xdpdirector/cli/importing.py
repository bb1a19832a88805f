# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector import ...` and `xdpdirector export ...`: from and to the configurations of Linux Virtual Server.

An import needs no daemon, and changes nothing: what it prints is a configuration file to be read and applied.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xdpdirector.cli.context import example, target
from xdpdirector.cli.render import write
from xdpdirector.errors import ConfigurationError

if TYPE_CHECKING:
    from xdpdirector.lvs.imported import Imported

app = typer.Typer(help="Configurations of keepalived, ldirectord and ipvsadm, as ours.")
exporting = typer.Typer(help="The configuration, as keepalived's or ipvsadm's.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="- is standard input.", show_default=False)]
Strict = Annotated[bool, typer.Option("--strict", help="Exit code 1 if something was not imported.")]
Interface = Annotated[str, typer.Option(metavar="NAME", help="The interface that the director has.")]
Marks = Annotated[
    list[str] | None,
    typer.Option(
        "--fwmark",
        metavar="MARK=LISTENER",
        help="What a firewall mark stands for. Several times.",
        show_default=False,
    ),
]
Other = Annotated[
    Path | None,
    typer.Option(
        "--diff",
        metavar="FILE",
        help="Show the difference to the import of another file.",
        show_default=False,
    ),
]


@app.command(epilog=example("xdpdirector import keepalived /etc/keepalived/keepalived.conf > director.yaml"))
def keepalived(
    file: File,
    config_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Whose lines with @ID hold.", show_default=False)
    ] = None,
    fwmark: Marks = None,
    strict: Strict = False,
    interface: Interface = "eth0",
    diff: Other = None,
) -> None:
    """The virtual servers of keepalived.conf; what it includes is read, too."""
    from xdpdirector.lvs import keepalived

    def read(path: Path) -> Imported:
        return keepalived.read(_text(path), str(path), _included, config_id=config_id, fwmarks=_marks(fwmark))

    _answer(read, file, diff, strict=strict, interface=interface)


@app.command(epilog=example("xdpdirector import ldirectord /etc/ha.d/ldirectord.cf > director.yaml"))
def ldirectord(
    file: File,
    fwmark: Marks = None,
    strict: Strict = False,
    interface: Interface = "eth0",
    diff: Other = None,
) -> None:
    """The virtual services of ldirectord.cf."""
    from xdpdirector.lvs import ldirectord
    from xdpdirector.lvs.names import SystemNames

    def read(path: Path) -> Imported:
        return ldirectord.read(_text(path), str(path), SystemNames(), fwmarks=_marks(fwmark))

    _answer(read, file, diff, strict=strict, interface=interface)


@app.command("ipvsadm", epilog=example("ipvsadm -S -n | xdpdirector import ipvsadm -"))
def saved(
    file: File,
    fwmark: Marks = None,
    strict: Strict = False,
    interface: Interface = "eth0",
    diff: Other = None,
) -> None:
    """What `ipvsadm -S -n` wrote."""
    from xdpdirector.lvs import saved
    from xdpdirector.lvs.names import SystemNames

    def read(path: Path) -> Imported:
        return saved.read(_text(path), str(path), SystemNames(), fwmarks=_marks(fwmark))

    _answer(read, file, diff, strict=strict, interface=interface)


@exporting.command("keepalived", epilog=example("xdpdirector export keepalived > keepalived.conf"))
def to_keepalived(context: typer.Context) -> None:
    """The virtual servers, for keepalived; VRRP is not in it."""
    from xdpdirector.lvs import export

    text, without = export.keepalived(target(context).client().get("/v1/config"))
    for each in without:
        print(f"xdpdirector: not in it: {each}", file=sys.stderr)
    write(text)


@exporting.command("ipvsadm", epilog=example("xdpdirector export ipvsadm | ipvsadm -R"))
def to_ipvsadm(context: typer.Context) -> None:
    """As `ipvsadm -S -n` writes it."""
    from xdpdirector.cli.ipvsadm import Order, run

    chosen = target(context)
    raise typer.Exit(run(Order(chosen.instance, chosen.socket, ["-S", "-n"])))


def _answer(
    read: Callable[[Path], Imported], file: Path, other: Path | None, *, strict: bool, interface: str
) -> None:
    """Write the imported configuration, or with `other` the difference between the two."""
    imported = read(file)
    text = imported.yaml(interface)
    if other is not None:
        before, after = (_without_comments(each) for each in (text, read(other).yaml(interface)))
        write(
            "".join(f"{line}\n" for line in difflib.unified_diff(before, after, "this", "other", lineterm=""))
        )
        raise typer.Exit(int(before != after))
    write(text)
    for left in imported.left:
        print(f"not taken over: {left}", file=sys.stderr)
    if strict and imported.left:
        raise typer.Exit(1)


def _without_comments(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


def _marks(said: Sequence[str] | None) -> dict[str, list[str]]:
    marks: dict[str, list[str]] = {}
    for each in said or ():
        mark, sign, listener = each.partition("=")
        if not sign or not mark.isdigit():
            raise typer.BadParameter(f"'{each}' is no mark: write --fwmark 1=192.0.2.10:80/tcp")
        marks.setdefault(mark, []).append(listener)
    return marks


def _text(path: Path) -> str:
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(errors="replace")
    except OSError as error:
        raise ConfigurationError(f"it cannot be read: {error.strerror}", source=str(path)) from error


def _included(pattern: str, file: str) -> list[tuple[str, str]] | None:
    """What a file includes, from where it stands."""
    base = Path.cwd() if file == "-" else Path(file).parent
    whole = base / pattern
    root = Path(whole.anchor or ".")
    found = sorted(
        root.glob(str(whole.relative_to(root))) if whole.is_absolute() else Path().glob(str(whole))
    )
    return [(str(each), _text(each)) for each in found if each.is_file()] or None
