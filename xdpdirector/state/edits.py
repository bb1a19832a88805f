# SPDX-License-Identifier: Apache-2.0
"""Changes of the desired state: from the services that are to the services that shall be. Pure.

Each edit returns a new mapping and leaves the old one alone. What is wrong is an error with a JSON pointer into
the document that was handed in: the spec or patch of a service, or of a backend. Knows the model; nothing of live
state, storage or maps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import compress
from operator import is_not
from typing import Any, TypeVar

from pydantic import ValidationError

from xdpdirector.config.json_pointer import pointer
from xdpdirector.config.messages import Problem, problems
from xdpdirector.errors import ConflictError, InvalidRequestError, NotFoundError
from xdpdirector.model import AdminState, BackendSpec, Frozen, ServiceSpec, check_listeners, merged
from xdpdirector.model.checks import Checks
from xdpdirector.model.labels import Selector
from xdpdirector.state import check_ports

Services = Mapping[str, ServiceSpec]
Model = TypeVar("Model", bound=Frozen)


FEW = 64
"""So many differing services at most are remembered: the services of before live as long as what is remembered."""
_differing: tuple[Services, Services, tuple[str, ...]] = {}, {}, ()
"""What was compared last, and what differed: each part of a change asks for it."""


def touched(before: Services, after: Services) -> Sequence[str]:
    """The services that differ. Those that are removed come last, so that a listener passes to its new service
    without a moment in which it belongs to none. A spec that stays is the same object."""
    global _differing
    known_before, known_after, known = _differing
    if known_before is before and known_after is after:
        return known
    is_other = map(is_not, after.values(), map(before.get, after))
    changed = tuple(compress(after, is_other))
    stay = len(after) - sum(name not in before for name in changed)
    if stay < len(before):
        changed += tuple(name for name in before if name not in after)
    if len(changed) <= FEW:
        _differing = before, after, changed
    return changed


def refuse_programs(wanted: Services, before: Services, checks: Checks, document: str = "") -> None:
    """InvalidRequestError for a check, other than before, that runs what may not be run. `document`: the pointer to
    what the error's pointer leads into."""
    for name in touched(before, wanted):
        spec, earlier = wanted.get(name), before.get(name)
        if (
            spec
            and spec.check
            and not (earlier and earlier.check == spec.check)
            and (why := spec.check.refusal(checks))
        ):
            place = pointer("services", name, "check", "command", 0).removeprefix(document)
            raise InvalidRequestError(f"check of service '{name}': {why}", pointer=place)


def find_service(services: Services, name: str) -> ServiceSpec:
    """NotFoundError when there is none."""
    if name not in services:
        raise NotFoundError(f"there is no service '{name}'")
    return services[name]


def find_backend(services: Services, service: str, name: str) -> BackendSpec:
    """NotFoundError when service or backend do not exist."""
    backends = find_service(services, service).backends
    if name not in backends:
        raise NotFoundError(f"there is no backend '{name}' in service '{service}'")
    return backends[name]


def create_service(services: Services, name: str, spec: ServiceSpec) -> Services:
    """ConflictError when the name is taken."""
    if name in services:
        raise ConflictError(f"there is a service '{name}' already")
    return _consistent({**services, name: spec})


def replace_service(services: Services, name: str, spec: ServiceSpec) -> Services:
    """NotFoundError when there is none. ConflictError for another size or another hash of a ring that flows run on:
    it would have each of them in another slot. The check goes on asking the same port, unless it says another."""
    before = find_service(services, name)
    _keep_ring(name, before, spec)
    return _consistent({**services, name: check_ports.kept(before, spec)})


def put_service(services: Services, name: str, spec: ServiceSpec) -> Services:
    """Replaced, or created; `services` themselves when that changes nothing."""
    before = services.get(name)
    if before is None:
        return create_service(services, name, spec)
    return services if check_ports.kept(before, spec) == before else replace_service(services, name, spec)


def replace_all(services: Services, wanted: Services) -> Services:
    """Exactly those that are wanted; `services` themselves when that changes nothing. ConflictError as with each of
    them alone."""
    result = check_ports.all_kept(services, wanted)
    result = {name: spec if services.get(name) != spec else services[name] for name, spec in result.items()}
    if result.keys() == services.keys() and all(services[name] is spec for name, spec in result.items()):
        return services
    for name in result.keys() & services.keys():
        _keep_ring(name, services[name], result[name], pointer("services", name))
    return _consistent(result, "/services")


def patch_service(services: Services, name: str, patch: dict[str, Any]) -> Services:
    """`patch`: RFC 7396."""
    spec = find_service(services, name)
    return replace_service(services, name, _validated(ServiceSpec, merged(spec, patch)))


def delete_service(services: Services, name: str) -> Services:
    """NotFoundError when there is none."""
    find_service(services, name)
    return {other: spec for other, spec in services.items() if other != name}


def create_backend(services: Services, service: str, name: str, spec: BackendSpec) -> Services:
    """ConflictError when the name is taken."""
    if name in find_service(services, service).backends:
        raise ConflictError(f"there is a backend '{name}' in service '{service}' already")
    return _with_backends(services, service, lambda backends: backends | {name: spec})


def put_backend(services: Services, service: str, name: str, spec: BackendSpec) -> Services:
    """Replaced, or created; `services` themselves when that changes nothing."""
    if find_service(services, service).backends.get(name) == spec:
        return services
    return _with_backends(services, service, lambda backends: backends | {name: spec})


def patch_backend(services: Services, service: str, name: str, patch: dict[str, Any]) -> Services:
    """`patch`: RFC 7396."""
    spec = _validated(BackendSpec, merged(find_backend(services, service, name), patch))
    return _with_backends(services, service, lambda backends: backends | {name: spec})


def labelled(services: Services, selector: Selector) -> list[tuple[str, str]]:
    """The backends with these labels; NotFoundError when there is none."""
    found = [
        (service, name)
        for service, spec in services.items()
        for name, backend in spec.backends.items()
        if selector.matches(backend.labels)
    ]
    if not found:
        raise NotFoundError("no backend has these labels")
    return found


def set_admin(services: Services, keys: Collection[tuple[str, str]], admin: AdminState) -> Services:
    """Of all of these, which exist."""
    chosen: dict[str, set[str]] = {}
    for service, name in keys:
        if services[service].backends[name].admin is not admin:
            chosen.setdefault(service, set()).add(name)
    changed = {}
    for service, names in chosen.items():
        spec = services[service]
        backends = {
            name: each.model_copy(update={"admin": admin}) if name in names else each
            for name, each in spec.backends.items()
        }
        changed[service] = spec.model_copy(update={"backends": backends})
    return {**services, **changed}


def delete_backend(services: Services, service: str, name: str) -> Services:
    """NotFoundError when there is none."""
    find_backend(services, service, name)
    return _with_backends(
        services, service, lambda backends: {key: spec for key, spec in backends.items() if key != name}
    )


def _with_backends(
    services: Services, service: str, change: Callable[[dict[str, BackendSpec]], dict[str, BackendSpec]]
) -> Services:
    spec = services[service]
    document = spec.model_dump() | {"backends": change(dict(spec.backends))}
    return {**services, service: _validated(ServiceSpec, document, _of_one_backend)}


def _of_one_backend(problem: Problem) -> str:
    """What one backend does to a sound service: its address is not free, or it is one too many."""
    return "/address" if problem.of_whole else ""


def _keep_ring(name: str, before: ServiceSpec, after: ServiceSpec, place: str = "") -> None:
    if not (before.scheduler.is_ring and after.scheduler.is_ring):
        return
    if before.ring_slots != after.ring_slots:
        field, is_so = "ring_slots", f"has {before.ring_slots} slots"
        change, remedy = "another size", f"leave ring_slots at {before.ring_slots}"
    elif before.hashes_port != after.hashes_port:
        field = "hash" if after.hash or before.scheduler is after.scheduler else "scheduler"
        is_so = f"hashes clients' {'addresses and ports' if before.hashes_port else 'addresses alone'}"
        change, remedy = "another hash", f"say `hash: {'flow' if before.hashes_port else 'address'}`"
    else:
        return
    raise ConflictError(
        f"the ring of service '{name}' {is_so}, and its flows would lose their backends with {change}: {remedy}, "
        "or go by way of a scheduler without a ring, such as wlc, which gives each running flow a record (have "
        "room for them in sizes.connections)",
        pointer=f"{place}/{field}",
    )


def _consistent(services: Services, place: str = "/listeners") -> Services:
    try:
        check_listeners(dict(services))
    except ValueError as error:
        raise ConflictError(str(error), pointer=place) from error
    return services


def _validated(
    model: type[Model], document: object, place: Callable[[Problem], str] = lambda problem: problem.pointer
) -> Model:
    """InvalidRequestError that names the first field at fault."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = problems(error, document, model)[0]
        raise InvalidRequestError(first.sentence, pointer=place(first)) from error
