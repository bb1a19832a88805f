# SPDX-License-Identifier: Apache-2.0
"""Maps each check type to its probe: the one in the module of that name.

A module, and the library for its protocol, is imported at first use: a daemon with `http` checks only never
loads DNS or LDAP.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from xdpdirector.health.checks import (
    CheckImpossible,
    Dial,
    Probe,
    Target,
    trust_store,
)
from xdpdirector.model.checks import Checks, CheckSpec, Secured


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> float | None:
    """The Probe for any check."""
    if isinstance(spec, Secured) and spec.verify:
        await trust_store.trusted(spec)  # before the probe, so that its time limit excludes reading the file
    return await _probe_of(spec.type)(spec, target, dial)


def allowing(checks: Checks) -> Probe:
    """The Probe for checks that are permitted by this configuration."""

    async def guarded(spec: CheckSpec, target: Target, dial: Dial) -> float | None:
        if why := spec.refusal(checks):
            raise CheckImpossible(why)
        return await probe(spec, target, dial)

    return guarded


@cache
def _probe_of(kind: str) -> Probe:
    found: Probe = import_module(f"xdpdirector.health.checks.{kind}").probe
    return found
