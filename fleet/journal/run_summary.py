"""What became of a run and of a rollout, as the journal knows it. Pure: from the events that begin and end a run.

A run is one command that changes hosts; an upgrade, its commit and its rollback are three runs of one rollout.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from fleet.events import Event
from fleet.journal.process_identity import Process, is_gone

SILENT = timedelta(seconds=60)
"""A run on another machine of which nothing was heard for so long is taken to have ended; no run that works is so quiet
by chance, but a long bake may be: then it is told as interrupted for a while, and nothing is done about it."""


class Stands(Enum):
    """How a run stands."""

    RUNNING = "running"
    ENDED = "ended"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its first event, its last one that is known, and its end, if it came to one. `run` is its token."""

    run: str
    began: Event
    last_at: datetime
    ended: Event | None
    stands: Stands

    @property
    def rollout(self) -> str:
        """The rollout that it belongs to."""
        return self.began.rollout

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the first event holds: command, operator, release, policy, hosts."""
        return self.began.data

    @property
    def command(self) -> str:
        """`upgrade`, `commit`, `rollback`."""
        return str(self.facts.get("command", "run"))

    @property
    def took_s(self) -> float:
        """Seconds from the first event to the last that is known."""
        return max((self.last_at - self.began.at).total_seconds(), 0.0)

    @property
    def hosts(self) -> int:
        """How many hosts it is about."""
        return sum(len(batch) for batch in self.facts.get("batches", ()))

    @property
    def result(self) -> str | None:
        """How it ended, `None` without an end."""
        return str(self.ended.data.get("result")) if self.ended else None

    @property
    def exit_code(self) -> int | None:
        """Its exit code, `None` without an end."""
        return int(self.ended.data.get("exit_code", 0)) if self.ended else None


@dataclass(frozen=True, slots=True)
class Story:
    """A rollout: its runs in the order in which they began, at least one."""

    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """The run that began the rollout, as far as this journal knows."""
        return self.runs[0]

    @property
    def last(self) -> Run:
        """The run that began last."""
        return self.runs[-1]

    @property
    def rollout(self) -> str:
        """The rollout's id."""
        return self.first.rollout

    def fact(self, name: str) -> Any:
        """What the earliest run that knows it says; `None` when none does."""
        return next((run.facts[name] for run in self.runs if run.facts.get(name) is not None), None)


def stands(began: Event, last_at: datetime, ended: Event | None, holds: bool, now: datetime, me: Process) -> Stands:
    """How a run stands. `holds` says that the journal's lock is its own."""
    if ended is not None:
        return Stands.ENDED
    gone = is_gone(Process.from_plain(began.data.get("controller", {})), me)
    if gone is None:
        gone = not holds and now - last_at > SILENT
    return Stands.INTERRUPTED if gone else Stands.RUNNING
