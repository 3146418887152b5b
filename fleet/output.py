"""Where words go: results to stdout, progress and errors to stderr, every event to the log file.

One place knows the streams and whether they are terminals. Without a terminal there is one plain line per event and no
control code; NO_COLOR and FORCE_COLOR are honoured by rich.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.live import Live

from fleet.console import is_news, plain_line, safe
from fleet.engine import Heartbeat, Observer
from fleet.errors import Refused
from fleet.events import Event, EventType
from fleet.live import view
from fleet.rollout.status import RolloutStatus

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

    def document(self, value: Mapping[str, Any]) -> None:
        """One JSON document on stdout, ready to be read by people, too."""
        self.out.file.write(json.dumps(value, indent=1) + "\n")

    def say(self, text: str) -> None:
        """The line is on stderr."""
        self.err.print(safe(text), markup=False, highlight=False, soft_wrap=True)

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
                with _Screen(self.err) as screen:
                    yield [*observers, screen.observe], screen.beat
            else:
                yield [*observers, _Lines(self)], None

    def _json_line(self, event: Event, _: RolloutStatus) -> None:
        self.out.file.write(event.to_json() + "\n")
        self.out.file.flush()


class _Lines:
    """One plain line per event. Remembers what each host's last step said, so as not to say it twice."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._told: dict[str | None, str] = {}

    def __call__(self, event: Event, _: RolloutStatus) -> None:
        told = self._told.get(event.host, "") if event.type is EventType.VISIT_ENDED else ""
        if event.type is EventType.STEP_ENDED and event.message:
            self._told[event.host] = event.message
        line = plain_line(event, told)
        if line is not None and (self._output.verbose or is_news(event)):
            self._output.say(line)


def output_for(stdout: TextIO, stderr: TextIO, mode: str, verbose: int = 0, log_file: Path | None = None) -> Output:
    """The output of a command. Raises `Refused` when the log file can't be written."""
    out, err = Console(file=stdout), Console(file=stderr)
    chosen = Mode(mode)
    if chosen is Mode.AUTO:
        chosen = Mode.LIVE if err.is_terminal and not err.is_dumb_terminal and not verbose else Mode.PLAIN
    if log_file is not None and not os.access(log_file.parent, os.W_OK):
        raise Refused(f"--log-file {log_file}: the folder can't be written.", "Name a file in a folder that you own.")
    return Output(_wide(out), _wide(err), chosen, verbose, log_file)


def _wide(console: Console) -> Console:
    """A file or a pipe has no width: tables there are not cut to eighty columns."""
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 160
    return console


@contextmanager
def _log(path: Path | None) -> Iterator[Observer | None]:
    if path is None:
        yield None
        return
    with path.open("a", encoding="utf-8") as sink:

        def write(event: Event, _: RolloutStatus) -> None:
            sink.write(event.to_json() + "\n")
            sink.flush()

        yield write


class _Screen:
    """rich's Live on stderr, drawn by the engine's own heartbeat, so that no other thread touches the status."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False)
        self._drawn_s = 0.0

    def __enter__(self) -> "_Screen":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def observe(self, event: Event, _: RolloutStatus) -> None:
        """What is about the whole rollout stays above the live part."""
        line = plain_line(event) if event.host is None else None
        if line is not None and is_news(event):
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def beat(self, status: RolloutStatus, now: datetime) -> None:
        """At most four frames a second."""
        if time.monotonic() - self._drawn_s < FRAME_S:
            return
        self._drawn_s = time.monotonic()
        width, height = self._console.size
        self._live.update(view(status, now, width, max(height - 2, 4)), refresh=True)
