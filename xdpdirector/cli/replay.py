# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector replay`: what a director would do with a capture, and what another configuration would change."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from xdpdirector.cli import replay_changes
from xdpdirector.cli.context import ConfigurationFile, Format, Output, target
from xdpdirector.cli.progress import with_progress
from xdpdirector.cli.render import Parts, answer, entry, number, paint, plural, table
from xdpdirector.errors import CaptureError
from xdpdirector.system import files

if TYPE_CHECKING:
    from xdpdirector.replay.packet import Packet
    from xdpdirector.replay.replay import Judged
    from xdpdirector.replay.results_log import Comparison
    from xdpdirector.replay.summary import Summary

_COLOURS = {"forward": "", "pass": "cyan", "reject": "yellow", "drop": "bold red", "unread": "magenta"}

CaptureFile = Annotated[
    Path,
    typer.Argument(
        metavar="CAPTURE", help="pcap or pcapng, also gzipped; - is standard input.", show_default=False
    ),
]
Down = Annotated[
    list[str] | None, typer.Option(metavar="SERVICE/BACKEND", help="Its check failed; may be repeated.")
]
Mac = Annotated[
    list[str] | None,
    typer.Option(help="Only frames to this MAC are the director's; may be repeated.", show_default="any"),
]
Packets = Annotated[bool, typer.Option("--packets", "-p", help="Also each packet, line by line.")]
Reason = Annotated[
    str | None, typer.Option(help="Only packets with these reasons, like drop,forward_new; commas between.")
]
Record = Annotated[Path | None, typer.Option(metavar="FILE", help="Write what became of each packet there.")]
Expect = Annotated[Path | None, typer.Option(metavar="FILE", help="Compare with what was recorded there.")]
Write = Annotated[
    Path | None,
    typer.Option(metavar="FILE.pcapng", help="Write the frames, with what became of each as a comment."),
]

Diff = Annotated[
    Path | None,
    typer.Option(
        metavar="OTHER.yaml",
        help="How many flows of the capture would go elsewhere, and where, with that configuration instead.",
    ),
]
At = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0,
        help="With --diff: apply it then, to a director that runs, after so much of the capture.",
        show_default="from the begin",
    ),
]


def replay(
    context: typer.Context,
    capture: CaptureFile,
    config: ConfigurationFile = None,
    down: Down = None,
    mac: Mac = None,
    packets: Packets = False,
    reason: Reason = None,
    record: Record = None,
    expect: Expect = None,
    write: Write = None,
    diff: Diff = None,
    at: At = None,
    output: Output = Format.TABLE,
) -> None:
    """What a director would do with a capture.

    The packet program itself is asked, in a copy of its own: nothing of this machine is touched. All backends are
    up, with made-up MAC addresses. Time passes as in the capture. Exit code 1 when it is not as was expected, or
    when another configuration would change something.
    """
    file = target(context).configuration(config)
    if diff:
        _refuse_with_diff(packets=packets, record=record, expect=expect, write=write)
        replay_changes.show(capture, file, diff, down=down or (), macs=mac or (), at=at, output=output)
        return
    _require_diff(at)
    from xdpdirector.replay import Replay
    from xdpdirector.replay.annotate import AnnotatedCapture
    from xdpdirector.replay.capture import Capture
    from xdpdirector.replay.summary import Summary

    summary = Summary()
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(Capture(capture))
        sinks, comparison = _sinks(stack, _Shown(output, reason) if packets else None, record, expect)
        annotated = AnnotatedCapture(stack.enter_context(_new(write, text=False))) if write else None
        replaying = stack.enter_context(Replay(file, down=down or (), macs=mac or ()))
        try:
            for piece in with_progress(opened, replaying.judge(opened)):
                _hand_on(piece, sinks)
                summary.add(*piece)
                if annotated:
                    annotated.add(piece.batch, piece.decisions)
        except CaptureError:  # what was good before it is worth to be known
            _finish(output, summary, comparison, lines=packets)
            raise
        if comparison:
            comparison.finish()
    _finish(output, summary, comparison, lines=packets)
    if comparison and comparison.differing:
        raise typer.Exit(1)


def _sinks(
    stack: contextlib.ExitStack, shown: _Shown | None, record: Path | None, expect: Path | None
) -> tuple[list[Any], Comparison | None]:
    """Who wants to see each packet."""
    from xdpdirector.replay.results_log import Comparison, Recorder, read

    recorder = Recorder(stack.enter_context(_new(record))) if record else None
    expected = read(stack.enter_context(_existing(expect)), str(expect)) if expect else None
    comparison = Comparison(expected) if expected else None
    return [sink for sink in (shown, recorder, comparison) if sink], comparison


def _refuse_with_diff(**others: object) -> None:
    for name, value in others.items():
        if value:
            raise typer.BadParameter(
                f"--{name} is of one configuration, and --diff compares two: use one of them"
            )


def _require_diff(at: float | None) -> None:
    if at is not None:
        raise typer.BadParameter("--at says when the configuration of --diff is applied: name one")


def _hand_on(piece: Judged, sinks: Collection[Any]) -> None:
    """To those who want to see each packet."""
    from xdpdirector.replay.replay import packets_of

    if sinks:
        packets = list(packets_of(piece))
        for sink in sinks:
            sink.add(packets)


class _Shown:
    """Packets as lines on standard output."""

    def __init__(self, output: Format, reasons: str | None) -> None:
        self._output = output
        self._reasons = [reason.strip() for reason in (reasons or "").split(",") if reason.strip()]

    def add(self, packets: Iterable[Packet]) -> None:
        from xdpdirector.replay.results_log import document

        for packet in packets:
            if not self._reasons or _is_one_of(packet, self._reasons):
                entry(self._output, document(packet), lambda: _line(packet))  # noqa: B023 called at once


def _is_one_of(packet: Packet, reasons: Collection[str]) -> bool:
    return packet.decision.reason in reasons or packet.decision.verdict in reasons


def _line(packet: Packet) -> str:
    outcome = paint(str(packet.decision), _COLOURS[packet.decision.verdict])
    return f"{packet.number:>7} {packet.seconds:>13.6f}  {packet.flow:<50} {outcome}"


@contextlib.contextmanager
def _new(path: Path, *, text: bool = True) -> Iterator[IO[Any]]:
    """A file that has its name when it is complete, and not before."""
    try:
        with files.replacing(path) as file:
            if not text:
                yield file
                return
            written = io.TextIOWrapper(file, encoding="utf-8")
            yield written
            written.detach()  # with a flush; who opened the file closes it
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}") from error


def _existing(path: Path) -> IO[str]:
    try:
        return path.open()
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}") from error


def _finish(output: Format, summary: Summary, comparison: Comparison | None, *, lines: bool) -> None:
    document = summary.document()
    if comparison:
        document["differing"] = comparison.differing
        document["differences"] = [str(difference) for difference in comparison.first]
    if lines and output is not Format.TABLE:
        entry(output, {"summary": document}, str)
        return
    answer(output, document, lambda: _parts(summary, comparison, gap=lines))


def _parts(summary: Summary, comparison: Comparison | None, *, gap: bool) -> Parts:
    if gap:
        yield ""
    yield f"{plural(summary.frames, 'frame')} in {summary.seconds:,.3f} s of the capture"
    if summary.cut:
        yield f"{plural(summary.cut, 'frame')} cut by the capture: what is missing counted as zeros"
    if summary.shortened:
        yield f"{plural(summary.shortened, 'frame')} longer than the kernel's test-run takes: replayed shortened"
    if summary.frames:
        yield ""
        yield _reasons(summary)
    if summary.backends:
        yield ""
        yield _backends(summary)
    if comparison:
        yield ""
        yield from _compared(comparison)


def _reasons(summary: Summary) -> Any:
    rows = table("VERDICT REASON >FRAMES")
    for reason, count in summary.reasons.most_common():
        rows.add_row(reason.partition("_")[0], reason, number(count))
    return rows


def _backends(summary: Summary) -> Any:
    rows = table("SERVICE BACKEND >FRAMES >CONNECTIONS")
    for (service, backend), count in sorted(summary.backends.items()):
        opened = summary.opened[service, backend]
        rows.add_row(service, backend, number(count), number(opened) if opened else "")
    return rows


def _compared(comparison: Comparison) -> Parts:
    if not comparison.differing:
        yield "all is as it was expected"
        return
    yield f"{plural(comparison.differing, 'packet')} not as expected:"
    for difference in comparison.first:
        yield f"  {difference}"
    if comparison.differing > len(comparison.first):
        yield f"  and {comparison.differing - len(comparison.first):,} more"
