# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector keepalived-config`, `bird-config` and `frr-config`: files for the daemons that move VIPs between
directors.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xdpdirector.cli.context import target
from xdpdirector.errors import InvalidRequestError

if TYPE_CHECKING:
    from xdpdirector.ha.bgp import Bgp

Interface = Annotated[
    str | None,
    typer.Option(
        help="Where the VIPs stand; by default the first interface, or that of `vips: {on: dummy}`."
    ),
]


def keepalived_config(
    context: typer.Context,
    interface: Interface = None,
    own: Annotated[
        list[str] | None,
        typer.Option(help="This director's address for advertisements; by default that of `sync`."),
    ] = None,
    peer: Annotated[
        list[str] | None, typer.Option(help="Another director's; by default those of `sync`.")
    ] = None,
    router_id: Annotated[
        int, typer.Option(min=1, max=254, help="The VRRP group, of no other on the LAN.")
    ] = 51,
    priority: Annotated[
        int, typer.Option(min=1, max=254, help="The highest that is ready gets the VIPs.")
    ] = 240,
    advert: Annotated[
        float, typer.Option(min=0.01, max=40.95, help="Seconds between two advertisements.")
    ] = 1.0,
    patience: Annotated[
        int,
        typer.Option(
            min=3, max=3600, help="Seconds that a director may be not ready before it gives the VIPs away."
        ),
    ] = 30,
) -> None:
    """Print a keepalived.conf for the VIPs of the running director."""
    from xdpdirector.ha.keepalived import Vrrp, render

    wanted = target(context).client().get("/v1/config")
    sync = wanted.get("sync") or {}
    instance = target(context).instance
    text = render(
        Vrrp(
            vips=_vips(wanted),
            interface=interface or wanted["interfaces"][0],
            ready=f"{_program()} -i {instance} status --ready",
            own=_addresses(own or [_host(sync["listen"])] if own or sync else []),
            peers=_addresses(peer or [_host(each) for each in sync.get("peers", [])]),
            router_id=router_id,
            priority=priority,
            advert=advert,
            patience=patience,
        )
    )
    sys.stdout.write(text)


def _program() -> str:
    """What keepalived can run, which knows no PATH. Behind `python -m`, as the Debian package's command has it, the
    name of the program is that of a file which nobody can run."""
    called = Path(sys.argv[0])
    if called.is_absolute() and os.access(called, os.X_OK):
        return str(called)
    return shutil.which("xdpdirector") or f"{sys.executable} -m xdpdirector"


RouterId = Annotated[str, typer.Option("--router-id", help="An IPv4 address of this director.")]
System = Annotated[int, typer.Option("--as", min=1, help="Its autonomous system.")]
Routers = Annotated[list[str], typer.Option("--router", help="A router to announce to.")]
TheirSystem = Annotated[int, typer.Option("--router-as", min=1, help="The routers' autonomous system.")]
WithBfd = Annotated[bool, typer.Option(help="Notice a dead director within a second.")]


def bird_config(
    context: typer.Context,
    own: RouterId,
    asn: System,
    router: Routers,
    router_asn: TheirSystem,
    interface: Interface = None,
    bfd: WithBfd = True,
) -> None:
    """Print a bird.conf that announces the VIPs of the running director."""
    from xdpdirector.ha.bird import render

    sys.stdout.write(render(_bgp(context, own, asn, router, router_asn, interface, bfd=bfd)))


def frr_config(
    context: typer.Context,
    own: RouterId,
    asn: System,
    router: Routers,
    router_asn: TheirSystem,
    interface: Interface = None,
    bfd: WithBfd = True,
) -> None:
    """Print a frr.conf that announces the VIPs of the running director."""
    from xdpdirector.ha.frr import render

    sys.stdout.write(render(_bgp(context, own, asn, router, router_asn, interface, bfd=bfd)))


def _bgp(
    context: typer.Context,
    own: str,
    asn: int,
    router: list[str],
    router_asn: int,
    interface: str | None,
    *,
    bfd: bool,
) -> Bgp:
    from xdpdirector.ha.bgp import Bgp

    wanted = target(context).client().get("/v1/config")
    [router_id] = _addresses([own])
    return Bgp(
        vips=_vips(wanted),
        interface=interface or _of_vips(wanted),
        router_id=router_id,
        asn=asn,
        routers=_addresses(router),
        router_asn=router_asn,
        bfd=bfd,
    )


def _of_vips(wanted: dict[str, Any]) -> str:
    """The interface where they stand."""
    vips = wanted.get("vips")
    return str(vips["interface"] if isinstance(vips, dict) else wanted["interfaces"][0])


def _vips(wanted: dict[str, Any]) -> list[Any]:
    listeners = (each for service in wanted["services"].values() for each in service["listeners"])
    return sorted(
        {*_addresses(_host(each.partition("/")[0]) for each in listeners)}, key=lambda ip: (ip.version, ip)
    )


def _host(text: str) -> str:
    """Of `192.0.2.1:8651` or `[2001:db8::1]:8651`; a listener may lack the port."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


def _addresses(texts: Any) -> list[Any]:
    from ipaddress import ip_address

    try:
        return [ip_address(text) for text in texts]
    except ValueError as error:
        raise InvalidRequestError(str(error)) from error
