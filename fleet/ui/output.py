"""The output of a command: results on stdout, progress and errors on stderr, every event in the log file.

Only this module knows whether a stream is a terminal. Without a terminal, progress is one plain line per event and holds
no cursor movement. rich honours NO_COLOR and FORCE_COLOR.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from io import RawIOBase
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from fleet.engine import Heartbeat, Observer
from fleet.errors import Refused
from fleet.events import Event, EventType
from fleet.onhost.protocol import Outcome
from fleet.onhost.text import safe
from fleet.rollout.rollout_status import RolloutStatus
from fleet.ui.alarms import framed
from fleet.ui.broken_pipe import tolerant
from fleet.ui.event_lines import is_shown_by_default, plain_line
from fleet.ui.live import view

FRAME_S = 0.25


class Mode(Enum):
    """How the events of a run are shown, as `--output` names it."""

    AUTO = "auto"
    LIVE = "live"
    PLAIN = "plain"
    JSONL = "jsonl"


@dataclass(frozen=True, slots=True)
class Output:
    """The two streams of a command and the mode in which it shows events."""

    out: Console
    err: Console
    mode: Mode = Mode.PLAIN
    verbose: int = 0
    log_file: Path | None = None

    def result(self, what: RenderableType) -> None:
        """Prints the result on stdout, or on stderr while stdout carries JSON lines.

        Tables fit the width; a line of text is never wrapped, so that a command in it can be copied.
        """
        _print(self.err if self.mode is Mode.JSONL else self.out, what)

    def line(self, text: str) -> None:
        """Prints one line on stdout, without wrapping it."""
        self.out.print(safe(text), soft_wrap=True)

    def document(self, value: Mapping[str, Any]) -> None:
        """Prints one indented JSON document on stdout."""
        self.out.file.write(json.dumps(value, indent=1) + "\n")
        self.out.file.flush()

    def say(self, text: str) -> None:
        """Prints one line on stderr, without wrapping it."""
        self.err.print(safe(text), soft_wrap=True)

    def alarm(self, what: RenderableType | None) -> None:
        """Prints a framed alarm on stderr; nothing for `None`."""
        if what is not None:
            self.err.print(what, soft_wrap=True)

    @contextmanager
    def progress(self, quiet: bool = False) -> Iterator[tuple[list[Observer], Heartbeat | None]]:
        """The observers that show the events of a run, and the live view's heartbeat. `quiet`: the log file only."""
        with _log(self.log_file) as log:
            observers: list[Observer] = [log] if log else []
            if quiet:
                yield observers, None
            elif self.mode is Mode.JSONL:
                yield [*observers, self._json_line], None
            elif self.mode is Mode.LIVE:
                with _Screen(self) as screen:
                    yield [*observers, screen.observe], screen.beat
            else:
                yield [*observers, _Lines(self)], None

    def events(self, events: Iterable[Event]) -> None:
        """Prints each event as one line of JSON on stdout."""
        for event in events:
            self.out.file.write(event.to_json() + "\n")
        self.out.file.flush()

    def _json_line(self, event: Event, _: RolloutStatus) -> None:
        self.events((event,))


class _Lines:
    """Prints one plain line per event, except for the end of the rollout, which the command prints after its table.

    A refusal that was shown as a finding is not shown again when the visit ends.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._refused: dict[str | None, set[str | None]] = {}
        self._alarms = _Alarms(output)

    def __call__(self, event: Event, _: RolloutStatus) -> None:
        if event.type is EventType.ROLLOUT_ENDED or self._is_repeated(event):
            return
        if self._alarms.show(event):
            return
        line = plain_line(event)
        if line is not None and (self._output.verbose or is_shown_by_default(event)):
            self._output.say(line)

    def _is_repeated(self, event: Event) -> bool:
        if event.type is EventType.VISIT_STARTED:
            self._refused.pop(event.host, None)
        if event.type is EventType.FINDING:
            self._refused.setdefault(event.host, set()).add(event.reason)
        is_end = event.type is EventType.VISIT_ENDED and event.outcome is Outcome.REFUSED
        return is_end and event.reason in self._refused.get(event.host, ())


class _Alarms:
    """Prints each alarm once, in a frame: the changed key of a bastion concerns every host behind it."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._shown: set[str] = set()

    def show(self, event: Event) -> bool:
        """Prints the event if it is a new alarm, and returns whether it was."""
        line = plain_line(event)
        if line is None or event.alarm is None or event.message in self._shown:
            return False
        self._shown.add(event.message)
        self._output.alarm(framed([line]))
        return True


def output_for(stdout: TextIO, stderr: TextIO, mode: str, verbose: int = 0, log_file: Path | None = None) -> Output:
    """The output of a command. Raises `Refused` when the log file can't be created."""
    out, err = _console(stdout), _console(stderr)
    chosen = Mode(mode)
    if chosen is Mode.AUTO and verbose:
        chosen = Mode.PLAIN
    if chosen in (Mode.AUTO, Mode.LIVE):
        chosen = Mode.LIVE if stderr.isatty() and not err.is_dumb_terminal else Mode.PLAIN
    if log_file is not None and not os.access(log_file.parent, os.W_OK):
        raise Refused(
            f"--log-file {log_file}: its folder is not writable.", "Name a file in a folder that you can write to."
        )
    return Output(out, err, chosen, verbose, log_file)


def _print(console: Console, what: RenderableType) -> None:
    if isinstance(what, Group):
        for part in what.renderables:
            _print(console, part)
    else:
        console.print(what, soft_wrap=isinstance(what, Text))


def _console(stream: TextIO) -> Console:
    """The stream as a rich console without markup. A file or pipe has no width: its tables are 160 columns wide."""
    console = Console(file=tolerant(stream), markup=False, emoji=False, highlight=False)
    if not stream.isatty() and "COLUMNS" not in os.environ:
        console.width = 160
    return console


@contextmanager
def _log(path: Path | None) -> Iterator[Observer | None]:
    if path is None:
        yield None
        return
    with _opened(path) as sink:

        def write(event: Event, _: RolloutStatus) -> None:
            sink.write((event.to_json() + "\n").encode())

        yield write


def _opened(path: Path) -> RawIOBase:
    """The file, opened unbuffered, so that closing it can't fail. Raises `Refused`."""
    try:
        return path.open("ab", buffering=0)
    except OSError as error:
        raise Refused(f"--log-file {path}: {error.strerror}.", "Name a file that you can write to.") from error


class _Screen:
    """The live view on stderr. The engine's heartbeat draws it, so that no other thread reads the status."""

    def __init__(self, output: Output) -> None:
        self._console = output.err
        self._alarms = _Alarms(output)
        self._live = Live(console=output.err, auto_refresh=False, transient=True, redirect_stdout=False)
        self._drawn_s = 0.0

    def __enter__(self) -> "_Screen":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def observe(self, event: Event, _: RolloutStatus) -> None:
        """Prints alarms and events of the whole rollout above the live view."""
        if self._alarms.show(event):
            return
        line = plain_line(event) if event.host is None else None
        if line is not None and is_shown_by_default(event):
            self._console.print(line, soft_wrap=True)

    def beat(self, status: RolloutStatus, now: datetime) -> None:
        """Draws the view, at most once in `FRAME_S`."""
        if time.monotonic() - self._drawn_s < FRAME_S:
            return
        self._drawn_s = time.monotonic()
        width, height = self._console.size
        self._live.update(view(status, now, width, max(height - 2, 4)), refresh=True)
