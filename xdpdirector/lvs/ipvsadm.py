# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector ipvsadm ...`: from arguments to output and exit status, through the daemon's API.

The order of things is ipvsadm's: options first, then what they ask for, and what is wrong on standard error.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from xdpdirector.client import Client, service_path
from xdpdirector.errors import (
    ConflictError,
    DirectorError,
    InvalidRequestError,
    NotAllowedError,
    UnreachableError,
)
from xdpdirector.lvs import documents, listing, observed
from xdpdirector.lvs.changes import NO_SUCH, Changes, failed, refuse_elsewhere, timeouts_said
from xdpdirector.lvs.command import FAILED, PROGRAM, USAGE, Command, EndedError, parse, try_help
from xdpdirector.lvs.desired import CONFIG, Draft, Live, put
from xdpdirector.lvs.documents import Document, Marks
from xdpdirector.lvs.help import HELP, VERSION
from xdpdirector.lvs.listing import Format
from xdpdirector.lvs.memory import TIMEOUTS, Memory
from xdpdirector.lvs.names import Names, SystemNames
from xdpdirector.lvs.own import own_address
from xdpdirector.lvs.virtual import Virtual
from xdpdirector.model.lvs import LvsSyncSpec
from xdpdirector.net.mtu import mtu_of
from xdpdirector.system import sanitize

RATED = 1.0
"""Seconds between the two looks that rates are made of."""
CHANGING = (
    "add-service",
    "edit-service",
    "delete-service",
    "clear",
    "add-server",
    "edit-server",
    "delete-server",
)
SHOWN = ("stats", "rate", "thresholds", "persistent-conn", "tun-info", "exact")
"""Options that are fields of Format."""


def main(
    words: Sequence[str],
    client: Client,
    memory_at: Path,
    *,
    names: Names | None = None,
    output: TextIO | None = None,
    errors: TextIO | None = None,
    source: TextIO | None = None,
) -> int:
    """The exit status. Streams are the process's where none are given."""
    run = _Run(
        client,
        memory_at,
        names or SystemNames(),
        output or sys.stdout,
        errors or sys.stderr,
        source or sys.stdin,
    )
    try:
        run.words(words)
    except EndedError as end:
        run.complain(end.text)
        return end.status
    except (UnreachableError, NotAllowedError) as error:
        why = "Permission denied (you must be root)" if isinstance(error, NotAllowedError) else error.detail
        run.complain(f"Can't initialize ipvs: {why}\nAre you sure that the daemon of XDP Director runs?")
        return USAGE
    except DirectorError as error:
        run.complain(f"{PROGRAM}: {error.detail}")
        return FAILED
    return 0


class _Run:
    """One call of the program."""

    def __init__(
        self, client: Client, memory_at: Path, names: Names, output: TextIO, errors: TextIO, source: TextIO
    ) -> None:
        self.client, self._memory_at, self._names = client, memory_at, names
        self._output, self._errors, self._source = output, errors, source

    def complain(self, text: str) -> None:
        """Behind what was written: ldirectord reads both as one, and passes over the title's lines."""
        if text:
            self._output.flush()
            print(sanitize.lines(text), file=self._errors, flush=True)

    def words(self, words: Sequence[str]) -> None:
        self._run(parse(words, self._names) if words else Command("list"))

    def _run(self, command: Command) -> None:
        match command.name:
            case "help":
                self._write(HELP.format(program=PROGRAM).splitlines())
            case "version":
                self._write([VERSION])
            case "list":
                self._list(command)
            case "save":
                self._save(command)
            case "restore":
                self._restore()
            case "zero":
                self._zero(command)
            case "set":
                self._set(command)
            case _:
                self.change(command)

    def _write(self, lines: Iterable[str]) -> None:
        self._output.writelines(f"{sanitize.line(line)}\n" for line in lines)

    def change(self, command: Command) -> None:
        refuse_elsewhere(command)
        changes, memory = self.changes(Live(self.client))
        changes.run(command)
        if memory.is_old:
            memory.save()

    # Lists

    def _list(self, command: Command) -> None:
        if "daemon" in command.options:
            self._daemons()
            return
        if "timeout" in command.options:
            now = self._timeouts()
            self._write([f"Timeout (tcp tcpfin udp): {' '.join(map(_whole_seconds, now.values()))}"])
            return
        configuration = self.client.get(CONFIG)
        names = None if "numeric" in command.options else self._names
        if "connection" in command.options:
            self._connections(names, persistent="persistent-conn" in command.options)
            return
        said = {name.replace("-", "_"): name in command.options for name in SHOWN}
        shown = Format(names, sort="nosort" not in command.options, **said)
        marks = Marks((configuration.get("lvs") or {}).get("fwmarks") or {})
        services, found = self._virtuals(marks, shown)
        wanted = command.service
        if wanted:
            found = [each for each in found if each.key == wanted]
            services = [each for each in services if each["name"] in {one.name for one in found}]
            if not found:
                raise EndedError(NO_SUCH, 1)
        else:
            self._write([listing.HEADING.format(size=_room(configuration))])
        self._write(listing.table(found, shown))
        for remark in observed.remarks(services, marks, shown):
            self.complain(f"{PROGRAM}: {remark}")

    def _daemons(self) -> None:
        """`lvs.sync` as the kernel's sync daemons; one whose socket cannot be opened is none."""
        spec = (self.client.get(CONFIG).get("lvs") or {}).get("sync")
        view = self.client.get("/v1/fleet").get("lvs")
        if not spec or not view:
            return
        for state, part in (("master", view.get("outgoing")), ("backup", view.get("incoming"))):
            if part and part["why"]:
                self.complain(f"{PROGRAM}: the {state} of lvs.sync does not run: {part['why']}")
            elif part:
                self._write(
                    [listing.sync_daemon(state, LvsSyncSpec.model_validate(spec), mtu_of(spec["interface"]))]
                )

    def _virtuals(self, marks: Marks, shown: Format) -> tuple[list[Document], list[Virtual]]:
        """Services, and their virtual services."""
        base = Memory.at(self._memory_at).base
        services = self._services()
        found = observed.virtuals(services, marks, base)
        if shown.rate:
            began = time.monotonic()
            time.sleep(RATED)
            later = observed.virtuals(self._services(), marks, base)
            found = observed.with_rates(found, later, time.monotonic() - began)
        return services, found

    def _services(self) -> list[Any]:
        items: list[Any] = self.client.pages("/v1/services")["items"]
        return items

    def _connections(self, names: Names | None, *, persistent: bool) -> None:
        services = {each["name"]: each for each in self._services()}
        items = self.client.pages("/v1/connections")["items"]
        found = list(observed.connections(items, services))
        self._write(listing.connections(found, names, persistent=persistent))

    def _save(self, command: Command) -> None:
        configuration = self.client.get(CONFIG)
        marks = Marks((configuration.get("lvs") or {}).get("fwmarks") or {})
        found = []
        for name, document in configuration.get("services", {}).items():
            keys = documents.keys_of(document, marks)
            found += [documents.virtual_of(name, document, key) for key in keys.keys]
            for listener in keys.without:
                self.complain(f"{PROGRAM}: not saved, as IPVS has no form for it: {listener} of '{name}'")
        names = None if "numeric" in command.options else self._names
        self._write(listing.rules(found, names))

    # What is remembered here

    def _timeouts(self) -> dict[str, str]:
        """Those that were set; else those that all services have; else IPVS's own."""
        said = Memory.at(self._memory_at).timeouts
        if said:
            return said
        found = [{name: str(each["timeouts"][name]) for name in TIMEOUTS} for each in self._services()]
        return found[0] if found and all(each == found[0] for each in found) else dict(TIMEOUTS)

    def _set(self, command: Command) -> None:
        wanted = timeouts_said(command.timeouts, self._timeouts())
        for service in self._services():
            self.client.patch(service_path(service["name"]), {"timeouts": wanted})
        memory = Memory.at(self._memory_at)
        memory.timeouts = wanted
        memory.save()

    def _zero(self, command: Command) -> None:
        configuration = self.client.get(CONFIG)
        marks = Marks((configuration.get("lvs") or {}).get("fwmarks") or {})
        memory, services = Memory.at(self._memory_at), self._services()
        key = command.service
        if key and (key.fwmark or key.port or int(key.address)):
            services = [each for each in services if key in documents.keys_of(each, marks).keys]
            if not services:
                raise failed(NO_SUCH)
        for service in services:
            memory.zeroed[service["name"], ""] = observed.counters_of(service)
            for backend in service["backends"]:
                memory.zeroed[service["name"], backend["name"]] = observed.counters_of(backend)
        memory.save()

    # Many commands

    def _restore(self) -> None:
        """Changes wait, to be made as one. A line that IPVS would refuse is told and passed over, as there; the
        exit status is that of the last line, or of one that can mean nothing here."""
        waiting = _Waiting(self)
        status = refused = 0
        for line in self._source:
            words = [word for word in line.split() if word != PROGRAM]
            if not words:
                continue
            try:
                command = parse(words, self._names)
                if command.name == "restore":
                    raise try_help()
                if command.name in CHANGING:
                    waiting.take(command)
                else:
                    waiting.put()
                    self._run(command)
                status = 0
            except EndedError as end:
                if end.lasting:
                    waiting.put()
                    raise
                self.complain(end.text)
                status = end.status
                refused = USAGE if status == USAGE else refused
        status = waiting.put() or status
        if refused or status:
            raise EndedError("", refused or status)

    def changes(self, desired: Live | Draft) -> tuple[Changes, Memory]:
        memory, interfaces = Memory.at(self._memory_at), desired.rest["interfaces"]
        own = partial(own_address, interfaces)
        return Changes(desired, own, memory), memory


class _Waiting:
    """Changes of a file that is restored."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._start()

    def _start(self) -> None:
        self._draft = Draft(self._run.client.get(CONFIG))
        self._changes, self._memory = self._run.changes(self._draft)
        self._commands: list[Command] = []

    def take(self, command: Command) -> None:
        self._changes.run(command)
        self._commands.append(command)

    def put(self) -> int:
        """Make them. Where the daemon refuses them together each is asked for by itself, so that those before the
        one at fault hold, and that one is told. The exit status of the last."""
        if not self._commands:
            return 0
        commands, status = self._commands, 0
        try:
            put(self._run.client, self._draft.document)
            if self._memory.is_old:
                self._memory.save()
        except (InvalidRequestError, ConflictError):
            for command in commands:
                status = self._alone(command)
        self._start()
        return status

    def _alone(self, command: Command) -> int:
        try:
            self._run.change(command)
        except EndedError as end:
            self._run.complain(end.text)
            return end.status
        except DirectorError as error:
            self._run.complain(f"{PROGRAM}: {error.detail}")
            return FAILED
        return 0


def _whole_seconds(text: str) -> str:
    return str(round(documents.seconds(text)))


def _room(configuration: Document) -> int:
    """How many connections there is room for: IPVS shows the size of its table, too."""
    return int((configuration.get("sizes") or {}).get("connections", 1 << 18))
