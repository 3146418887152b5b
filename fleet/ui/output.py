"""Where words go: results to stdout, progress and errors to stderr, every event to the log file.

One place knows the streams and whether they are terminals. Without a terminal there is one plain line per event and no
control code that moves a cursor; NO_COLOR and FORCE_COLOR say whether there is colour, and are honoured by rich.
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

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from fleet.engine import Heartbeat, Observer
from fleet.errors import Refused
from fleet.events import Event, EventType
from fleet.onhost.protocol import Outcome
from fleet.onhost.text import safe
from fleet.rollout.rollout_status import RolloutStatus
from fleet.ui.broken_pipe import lasting
from fleet.ui.console import BAR, is_alarming, is_news, plain_line
from fleet.ui.live import view

FRAME_S = 0.25


class Mode(Enum):
    """How events are told."""

    AUTO = "auto"
    LIVE = "live"
    PLAIN = "plain"
    JSONL = "jsonl"


@dataclass(frozen=True, slots=True)
class Output:
    """The two streams of a command, and how it tells its events."""

    out: Console
    err: Console
    mode: Mode = Mode.PLAIN
    verbose: int = 0
    log_file: Path | None = None

    def result(self, what: RenderableType) -> None:
        """The result is on stdout; while stdout is for JSON lines, on stderr."""
        (self.err if self.mode is Mode.JSONL else self.out).print(what)

    def line(self, text: str) -> None:
        """The line is on stdout, however long it is."""
        self.out.print(safe(text), soft_wrap=True)

    def document(self, value: Mapping[str, Any]) -> None:
        """One JSON document on stdout, ready to be read by people, too."""
        self.out.file.write(json.dumps(value, indent=1) + "\n")
        self.out.file.flush()

    def say(self, text: str) -> None:
        """The line is on stderr."""
        self.err.print(safe(text), soft_wrap=True)

    def shout(self, what: RenderableType | None) -> None:
        """What must not be missed is on stderr, if there is something."""
        if what is not None:
            self.err.print(what, soft_wrap=True)

    def shout_line(self, line: str) -> None:
        """The line is on stderr, in a frame."""
        self.shout(Text("\n".join((BAR, safe(line), BAR)), style="bold red"))

    @contextmanager
    def telling(self, quiet: bool = False) -> Iterator[tuple[list[Observer], Heartbeat | None]]:
        """The observers that tell a run, and the heartbeat of the live view. `quiet` tells the log only."""
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
        """Each event is one line of JSON on stdout."""
        for event in events:
            self.out.file.write(event.to_json() + "\n")
        self.out.file.flush()

    def _json_line(self, event: Event, _: RolloutStatus) -> None:
        self.events((event,))


class _Lines:
    """One plain line per event, but for the end, which comes after the table.

    Remembers what each host was refused for, so that the end of the visit doesn't say it again.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._refused: dict[str | None, set[str | None]] = {}
        self._alarms = _Alarms(output)

    def __call__(self, event: Event, _: RolloutStatus) -> None:
        if event.type is EventType.ROLLOUT_ENDED or self._is_told(event):
            return
        if self._alarms.tell(event):
            return
        line = plain_line(event)
        if line is not None and (self._output.verbose or is_news(event)):
            self._output.say(line)

    def _is_told(self, event: Event) -> bool:
        if event.type is EventType.VISIT_STARTED:
            self._refused.pop(event.host, None)
        if event.type is EventType.FINDING:
            self._refused.setdefault(event.host, set()).add(event.reason)
        is_end = event.type is EventType.VISIT_ENDED and event.outcome is Outcome.REFUSED
        return is_end and event.reason in self._refused.get(event.host, ())


class _Alarms:
    """What must not be missed, framed the first time that it is said: a bastion's key concerns all hosts behind it."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._told: set[str] = set()

    def tell(self, event: Event) -> bool:
        """Whether the event was told here."""
        line = plain_line(event)
        if line is None or not is_alarming(event) or event.message in self._told:
            return False
        self._told.add(event.message)
        self._output.shout_line(line)
        return True


def output_for(stdout: TextIO, stderr: TextIO, mode: str, verbose: int = 0, log_file: Path | None = None) -> Output:
    """The output of a command. Raises `Refused` when the log file can't be written."""
    out, err = _console(stdout), _console(stderr)
    chosen = Mode(mode)
    if chosen is Mode.AUTO and verbose:
        chosen = Mode.PLAIN
    if chosen in (Mode.AUTO, Mode.LIVE):
        chosen = Mode.LIVE if stderr.isatty() and not err.is_dumb_terminal else Mode.PLAIN
    if log_file is not None and not os.access(log_file.parent, os.W_OK):
        raise Refused(f"--log-file {log_file}: the folder can't be written.", "Name a file in a folder that you own.")
    return Output(out, err, chosen, verbose, log_file)


def _console(stream: TextIO) -> Console:
    """No word is read as markup. A file or a pipe has no width: tables there are not cut to eighty columns."""
    console = Console(file=lasting(stream), markup=False, emoji=False, highlight=False)
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
    """The file without a buffer, so that nothing is left to fail when it is closed. Raises `Refused`."""
    try:
        return path.open("ab", buffering=0)
    except OSError as error:
        raise Refused(f"--log-file {path}: {error.strerror}.", "Name a file that you may write to.") from error


class _Screen:
    """rich's Live on stderr, drawn by the engine's own heartbeat, so that no other thread touches the status."""

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
        """What is about the whole rollout, or must not be missed, stays above the live part."""
        if self._alarms.tell(event):
            return
        line = plain_line(event) if event.host is None else None
        if line is not None and is_news(event):
            self._console.print(line, soft_wrap=True)

    def beat(self, status: RolloutStatus, now: datetime) -> None:
        """At most four frames a second."""
        if time.monotonic() - self._drawn_s < FRAME_S:
            return
        self._drawn_s = time.monotonic()
        width, height = self._console.size
        self._live.update(view(status, now, width, max(height - 2, 4)), refresh=True)
