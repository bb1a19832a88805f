# SPDX-License-Identifier: Apache-2.0
"""Merges the configuration file with what was changed at run time. Pure.

A three-way merge: the differences between the file that was merged last and the file now are applied to the desired
state; all else stays as it was changed at run time.

    the file before   the file now   what is wanted then
    a                 a              what was wanted
    a                 b              b
    there             gone           gone; while it has connections it drains first
    -                 there          there

Knows the model; nothing of files, storage or maps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from xdpdirector.config.messages import problems
from xdpdirector.errors import ConfigurationError, ConflictError
from xdpdirector.model import AdminState, BackendSpec, Frozen, Key, ServiceSpec
from xdpdirector.model.checks import STORED
from xdpdirector.state.edits import Services

_NOTHING = object()


def _nobody(_key: Key) -> str:
    return ""


@dataclass(frozen=True)
class MergeContext:
    """The state that a file is merged into. `before`: the services of the file that was merged last, None when only
    their `names` are known. `leaving`: backends that drain because that file no longer had them. `busy` describes
    the running connections of a backend; empty: none."""

    before: Services | None = None
    names: Collection[str] = ()
    leaving: Collection[Key] = ()
    busy: Callable[[Key], str] = _nobody


@dataclass(frozen=True)
class Merged:
    """What is wanted then, and the backends in it that drain because the file does not have them any more."""

    services: dict[str, ServiceSpec]
    leaving: frozenset[Key] = frozenset()


def merge_file(present: Services, file: Services, context: MergeContext) -> Merged:
    """ConfigurationError when the file contradicts what was changed at run time; ConflictError when it would end
    running connections that cannot drain."""
    return _Merge(present, file, context).merged()


def keep_admin(before: Services, after: Services) -> dict[str, ServiceSpec]:
    """`after`, with the admin state of `before` where `after` does not state one: a document written long before a
    backend was drained must not take it into service again."""
    return {name: _with_admin_of(before.get(name), service) for name, service in after.items()}


def _with_admin_of(before: ServiceSpec | None, service: ServiceSpec) -> ServiceSpec:
    if before is None:
        return service
    backends = {
        name: backend.model_copy(update={"admin": before.backends[name].admin})
        if name in before.backends and "admin" not in backend.model_fields_set
        else backend
        for name, backend in service.backends.items()
    }
    return service.model_copy(update={"backends": backends})


class _Merge:
    def __init__(self, present: Services, file: Services, context: MergeContext) -> None:
        self._present, self._file, self._context = present, file, context
        self._before: Services
        if context.before is not None:
            self._before = context.before
        else:  # all that a service of a former file has counts as that file's
            self._before = {name: present[name] for name in context.names if name in present}
        self._leaving: set[Key] = set()

    def merged(self) -> Merged:
        wanted: dict[str, ServiceSpec] = {}
        for name, spec in self._file.items():
            if name in self._present or not _says_the_same(self._before.get(name), spec):
                wanted[name] = self._service(name, spec)
        for name, spec in self._present.items():
            if name in self._file:
                continue
            if name not in self._before and not self._all_leave(name):
                wanted[name] = spec
            elif left := self._what_drains(name):
                wanted[name] = _remade(spec, {"fallback": None}, left)
        self._refuse_common_listeners(wanted)
        return Merged(wanted, frozenset(self._leaving))

    # Services

    def _service(self, name: str, spec: ServiceSpec) -> ServiceSpec:
        present, before = self._present.get(name), self._before.get(name)
        if present is None:
            return spec
        fields = {
            field: value
            for field, value in _merged(
                _document(before) if before else {}, _document(spec), _document(present)
            ).items()
            if field not in ("backends", "listeners")
        }
        listeners = self._listeners(name, before, spec, present)
        backends = self._backends(name, before, spec, present)
        fields["listeners"] = listeners
        merged = _remade(present, fields, backends)
        staying = {key: each for key, each in backends.items() if (name, key) not in self._leaving}
        _remade(present, fields, staying)  # what comes of it in the end must be sound, too
        return present if merged == present else merged

    def _listeners(
        self, name: str, before: ServiceSpec | None, spec: ServiceSpec, present: ServiceSpec
    ) -> list[str]:
        """Each for itself: one that was added at run time stays when the file gets another one."""
        lost = set(before.listeners if before else ()) - set(spec.listeners)
        added = [
            each
            for each in spec.listeners
            if each not in present.listeners and not (before and each in before.listeners)
        ]
        gone = [str(each) for each in present.listeners if each in lost]
        if gone and (busy := self._first_busy(name)):
            raise ConflictError(
                f"the file has no listener {', '.join(gone)} of service '{name}' any more, and {busy}: take it "
                f"away with `xdpdirector service set {name} --listen ...`, or drain the backends first"
            )
        return [str(each) for each in (*present.listeners, *added) if each not in lost]

    def _refuse_common_listeners(self, wanted: Services) -> None:
        owners = {
            listener: name for name in self._file if name in wanted for listener in wanted[name].listeners
        }
        for name in wanted.keys() - self._file.keys():
            for listener in wanted[name].listeners:
                if listener not in owners:
                    continue
                if name in {service for service, _ in self._leaving}:
                    raise ConflictError(
                        f"listener {listener} belongs to service '{owners[listener]}' of the file and to service "
                        f"'{name}', which the file does not have any more, and {self._first_busy(name)}: keep the "
                        "name, or remove that service first"
                    )
                raise ConfigurationError(
                    f"listener {listener} belongs to service '{owners[listener]}' of the file and to service "
                    f"'{name}' that was made through the API: remove one of the two"
                )

    # Backends

    def _backends(
        self, name: str, before: ServiceSpec | None, spec: ServiceSpec, present: ServiceSpec
    ) -> dict[str, BackendSpec]:
        earlier = before.backends if before else {}
        result: dict[str, BackendSpec] = {}
        for key, backend in present.backends.items():
            if key in spec.backends:
                result[key] = self._backend((name, key), earlier.get(key), spec.backends[key], backend)
            elif key in earlier or (name, key) in self._context.leaving:
                if left := self._drained((name, key), backend):
                    result[key] = left
            else:
                result[key] = backend
        for key, backend in spec.backends.items():
            if key not in present.backends and not _says_the_same(earlier.get(key), backend):
                result[key] = backend
        return result

    def _backend(
        self, key: Key, before: BackendSpec | None, spec: BackendSpec, present: BackendSpec
    ) -> BackendSpec:
        if key in self._context.leaving:  # it was the former file that drained it
            present = present.model_copy(update={"admin": AdminState.ENABLED})
        document = _merged(_document(before) if before else {}, _document(spec), _document(present))
        document["admin"] = _admin(before if self._context.before is not None else None, spec, present)
        try:
            merged = BackendSpec.model_validate(document)
        except ValidationError as error:
            sentence = problems(error, document, BackendSpec)[0].sentence
            raise _contradiction(f"backend '{'/'.join(key)}': {sentence}") from error
        if merged.address != present.address and (busy := self._context.busy(key)):
            raise ConflictError(
                f"the file moves backend '{'/'.join(key)}' to {merged.address}, and it {busy}: give the new server "
                "a name of its own, and leave the old one out; it goes when its connections have ended"
            )
        return merged

    def _what_drains(self, name: str) -> dict[str, BackendSpec]:
        """The backends of a service that the file has no more, as long as they have connections."""
        found = {key: self._drained((name, key), each) for key, each in self._present[name].backends.items()}
        return {key: each for key, each in found.items() if each}

    def _drained(self, key: Key, present: BackendSpec) -> BackendSpec | None:
        """None when nothing is lost with it."""
        if present.admin is AdminState.MAINTENANCE or not self._context.busy(key):
            return None
        self._leaving.add(key)
        return present.model_copy(update={"admin": AdminState.DRAIN})

    def _all_leave(self, name: str) -> bool:
        """Whether the service itself is on its way out: a former file had it."""
        backends = self._present[name].backends
        return bool(backends) and all((name, key) in self._context.leaving for key in backends)

    def _first_busy(self, name: str) -> str:
        found = ((key, self._context.busy((name, key))) for key in self._present[name].backends)
        return next((f"backend '{key}' {busy}" for key, busy in found if busy), "")


def _says_the_same(before: Frozen | None, now: Frozen) -> bool:
    return before is not None and before == now


def _admin(before: BackendSpec | None, spec: BackendSpec, present: BackendSpec) -> AdminState:
    """Drain and maintenance are for run time: a file that says nothing of them, or says what it said before, leaves
    them alone. Taken back with the file is what the file has brought."""
    said = before.admin if before and "admin" in before.model_fields_set else None
    says = spec.admin if "admin" in spec.model_fields_set else None
    if says == said:
        return present.admin
    if says is not None:
        return says
    return AdminState.ENABLED if present.admin is said else present.admin


def _document(spec: Frozen) -> dict[str, Any]:
    return spec.model_dump(mode="json")


def _merged(before: Mapping[str, Any], now: Mapping[str, Any], present: Mapping[str, Any]) -> dict[str, Any]:
    return {field: _value(before.get(field, _NOTHING), value, present[field]) for field, value in now.items()}


def _value(before: Any, now: Any, present: Any) -> Any:
    """Parts of a value are merged one by one where they are the same parts, as with two checks of one type."""
    if now == before:
        return present
    values = (before, now, present)
    if all(isinstance(value, dict) for value in values):
        same_parts = before.keys() == now.keys() == present.keys()
        if same_parts and before.get("type") == now.get("type") == present.get("type"):
            return _merged(before, now, present)
    return now


def _remade(present: ServiceSpec, fields: dict[str, Any], backends: Mapping[str, BackendSpec]) -> ServiceSpec:
    documents = {key: _document(each) for key, each in backends.items()}
    document = _document(present) | fields | {"backends": documents}
    try:
        return ServiceSpec.model_validate(document, context=STORED)
    except ValidationError as error:
        raise _contradiction(problems(error, document, ServiceSpec)[0].sentence) from error


def _contradiction(sentence: str) -> ConfigurationError:
    return ConfigurationError(f"the file does not go together with what was changed at run time: {sentence}")
