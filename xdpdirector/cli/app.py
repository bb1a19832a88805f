# SPDX-License-Identifier: Apache-2.0
"""The command tree: global options, the commands that look at the whole director, and where the groups hang."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from xdpdirector import __version__
from xdpdirector.cli import (
    backend,
    backup,
    config,
    daemon,
    dashboard,
    dataplane,
    doctor,
    events,
    explain,
    fleet,
    guard,
    ha,
    importing,
    lan,
    lvs,
    readiness,
    replay,
    service,
    show,
    store,
    token,
    top,
    trace,
)
from xdpdirector.cli.context import (
    Format,
    Output,
    Target,
    Watch,
    example,
    target,
)
from xdpdirector.cli.ipvsadm import NAME, Order
from xdpdirector.cli.ipvsadm import run as run_ipvsadm
from xdpdirector.cli.lazy import LazyGroup
from xdpdirector.cli.render import answer, repeated
from xdpdirector.paths import DEFAULT_INSTANCE

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 ok, 1 differences or unhealthy, 2 usage, 3 daemon unreachable, 4 conflict, "
    "5 timed out, 6 not allowed.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"xdpdirector {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    instance: Annotated[
        str,
        typer.Option(
            "--instance",
            "-i",
            envvar="XDPDIRECTOR_INSTANCE",
            metavar="NAME",
            help="Which director on this host: its configuration is /etc/xdpdirector/NAME.yaml.",
        ),
    ] = DEFAULT_INSTANCE,
    socket: Annotated[
        Path | None,
        typer.Option(
            envvar="XDPDIRECTOR_SOCKET",
            metavar="PATH",
            show_default=False,
            help="The daemon's socket where it is not in the usual place, as when forwarded by ssh -L.",
        ),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="The version of this program, and no more.",
        ),
    ] = False,
) -> None:
    """Layer-2 direct routing at the XDP hook: runs a director, or talks to the one that runs."""
    context.obj = Target(instance, socket)


@app.command(epilog=example("xdpdirector status"))
def status(
    context: typer.Context,
    watch: Watch = False,
    ready: Annotated[
        bool, typer.Option("--ready", help="Only whether it is ready, by the exit code; for keepalived.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """The director at a glance.

    Exit code 1 when it is not ready, or a backend that is not in maintenance is down, also if for one VIP only.
    """
    if ready:
        raise typer.Exit(readiness.answer(target(context).instance))
    client = target(context).client()
    report: dict[str, Any] = {}

    def look() -> tuple[Any, Any]:
        report["readiness"] = client.get("/readyz")
        report["statistics"] = client.get("/v1/stats")
        report["services"] = client.pages("/v1/services")["items"]
        return report, lambda: show.status(target(context).instance, report)

    repeated(watch, look, output)
    backends = [each for one in report["services"] for each in one["backends"]]
    down = any(
        "down" in (each["operational"], *(vip["operational"] for vip in each["vips"]))
        for each in backends
        if each["admin"] != "maintenance"
    )
    if down or not report["readiness"]["ready"]:
        raise typer.Exit(1)


@app.command(epilog=example("xdpdirector connections --service web --client 198.51.100.7"))
def connections(
    context: typer.Context,
    service: Annotated[str | None, typer.Option(help="Only of this service.", show_default=False)] = None,
    backend: Annotated[str | None, typer.Option(help="Only to this backend.", show_default=False)] = None,
    client: Annotated[
        str | None, typer.Option(help="Only of this client address.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many.")] = 100,
    watch: Watch = False,
    output: Output = Format.TABLE,
) -> None:
    """The connections that the data plane remembers."""
    query = {"service": service, "backend": backend, "client": client}
    daemon_ = target(context).client()

    def look() -> tuple[Any, Any]:
        document = daemon_.pages("/v1/connections", query, most=limit)
        return document, lambda: show.connections(document["items"])

    repeated(watch, look, output)


@app.command(epilog=example("xdpdirector stats -o json"))
def stats(context: typer.Context, output: Output = Format.TABLE) -> None:
    """Packets by verdict; traffic by service and backend."""
    document = target(context).client().get("/v1/stats")
    answer(output, document, lambda: show.statistics(document))


def version(output: Output = Format.TABLE) -> None:
    """The version of this program."""
    answer(output, {"version": __version__}, lambda: [f"xdpdirector {__version__}"])


@app.command(
    NAME,
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    epilog=example("xdpdirector ipvsadm -L -n"),
)
def ipvsadm(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[OPTION]...", help="As ipvsadm's manual page has them.", show_default=False),
    ] = None,
) -> None:
    """As ipvsadm(8), for this director: its options, its output. `ipvsadm -h` lists them."""
    chosen = target(context)
    raise typer.Exit(run_ipvsadm(Order(chosen.instance, chosen.socket, words or [])))


app.command(epilog=example("xdpdirector top"))(top.top)
app.command(epilog=example("xdpdirector events -f --types backend,vip"))(events.events)
app.command(epilog=example("xdpdirector explain 198.51.100.7 192.0.2.10:80/tcp"))(explain.explain)
app.command(epilog=example("xdpdirector trace --service web --reason drop,reject"))(trace.trace)
app.command(epilog=example("xdpdirector replay capture.pcap --config director.yaml"))(replay.replay)
app.command(epilog=example("xdpdirector dashboard"))(dashboard.dashboard)
app.command(epilog=example("xdpdirector dataplane"))(dataplane.dataplane)
app.command(epilog=example("xdpdirector lan"))(lan.lan)
app.command(epilog=example("xdpdirector doctor --quiet"))(doctor.doctor)
app.command(epilog=example("xdpdirector keepalived-config --priority 250"))(ha.keepalived_config)
app.command(epilog=example("xdpdirector bird-config --as 65001 --router 192.0.2.254 ..."))(ha.bird_config)
app.command(epilog=example("xdpdirector frr-config --as 65001 --router 192.0.2.254 ..."))(ha.frr_config)
app.add_typer(service.app, name="service", no_args_is_help=True)
app.add_typer(backend.app, name="backend", no_args_is_help=True)
app.add_typer(config.app, name="config", no_args_is_help=True)
app.add_typer(config.revisions, name="revisions", no_args_is_help=True)
app.add_typer(guard.app, name="guard", no_args_is_help=True)
app.add_typer(importing.app, name="import", no_args_is_help=True)
app.add_typer(importing.exporting, name="export", no_args_is_help=True)
app.add_typer(fleet.app, name="fleet", no_args_is_help=True)
app.add_typer(lvs.app, name="lvs", no_args_is_help=True)
app.add_typer(store.app, name="store", no_args_is_help=True)
app.add_typer(token.app, name="token", no_args_is_help=True)
app.command(epilog=example("xdpdirector audit --author token:deploy"))(token.audit)
app.command(epilog=example("xdpdirector -i edge run     # by /etc/xdpdirector/edge.yaml"))(daemon.run)
app.command(epilog=example("xdpdirector load     # by /etc/xdpdirector/director.yaml"))(daemon.load)
app.command(epilog=example("xdpdirector -i edge unload"))(daemon.unload)
app.command(epilog=example("xdpdirector backup /root/director.backup"))(backup.backup)
app.command(epilog=example("xdpdirector restore /root/director.backup --list"))(backup.restore)
app.command(epilog=example("xdpdirector version"))(version)


def command() -> Any:
    """The whole tree, ready to be called with arguments."""
    tree: Any = typer.main.get_command(app)
    tree.add_command(
        LazyGroup("lab", "xdpdirector.lab.commands:app", help="A LAN of network namespaces to try things in.")
    )
    return tree
