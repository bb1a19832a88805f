# SPDX-License-Identifier: Apache-2.0
"""What the services say of machines, after a change: the same as if it were worked out anew."""

from __future__ import annotations

from typing import Any

import pytest

from xdpdirector.lan.expected import Machines, machines_of
from xdpdirector.model import AdminState, ServiceSpec

SPEC = ServiceSpec.model_validate(
    {
        "listeners": ["192.0.2.10:80/tcp", "[2001:db8::10]:80/tcp"],
        "backends": {"web1": {"address": "192.0.2.21"}, "web2": {"address": "192.0.2.22"}},
    }
)
OTHER = ServiceSpec.model_validate(
    {"listeners": ["192.0.2.11:53/udp"], "backends": {"web1": {"address": "192.0.2.21"}}}
)
SERVICES = {"web": SPEC, "dns": OTHER}
TUNNELLED = {"forward": "ipip"}


def with_backend(**fields: Any) -> ServiceSpec:
    changed = SPEC.backends["web1"].model_copy(update=fields)
    return SPEC.model_copy(update={"backends": {**SPEC.backends, "web1": changed}})


def said(machines: Machines) -> tuple[object, ...]:
    by_address = {
        address: (sorted(each.names), each.vips, each.is_wanted, each.is_router)
        for address, each in machines.by_address.items()
    }
    return by_address, machines.vips


@pytest.mark.parametrize(
    "spec",
    [
        with_backend(weight=7),
        with_backend(admin=AdminState.DRAIN),
        with_backend(admin=AdminState.MAINTENANCE),
        with_backend(router=True),
        with_backend(address=OTHER.listeners[0].address),
        with_backend(**TUNNELLED),
        SPEC.model_copy(update=TUNNELLED),
        SPEC.model_copy(update={"listeners": SPEC.listeners[:1]}),
        SPEC.model_copy(update={"backends": {"web2": SPEC.backends["web2"]}}),
    ],
    ids=["weight", "drain", "maintenance", "router", "address", "tunnel", "tunnels", "listener", "backend"],
)
def test_a_change(spec: ServiceSpec) -> None:
    after = {**SERVICES, "web": spec}

    found = machines_of(after, machines_of(SERVICES))

    assert found.of is after
    assert said(found) == said(machines_of(after))


def test_a_service_more_or_less() -> None:
    less = {"web": SPEC}

    assert said(machines_of(less, machines_of(SERVICES))) == said(machines_of(less))
    assert said(machines_of(SERVICES, machines_of(less))) == said(machines_of(SERVICES))


def test_what_says_nothing_else_is_not_worked_out_anew() -> None:
    before = machines_of(SERVICES)

    assert machines_of({**SERVICES, "web": with_backend(weight=7)}, before).by_address is before.by_address
