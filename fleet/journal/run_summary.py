"""Runs and rollouts summed up, as `fleet history` lists them. Pure functions of the first and last event of each run.

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
"""A run on another machine that wrote no event for this long, and does not hold the lock, counts as interrupted.

During a long bake a live run may write no event either; it is then listed as interrupted until its next one.
"""


class RunState(Enum):
    """Whether a run still runs."""

    RUNNING = "running"
    ENDED = "ended"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its first event, the time of its last one, and its final event, `None` if it has none. `run` is its token."""

    run: str
    began: Event
    last_at: datetime
    ended: Event | None
    state: RunState

    @property
    def rollout(self) -> str:
        """The rollout that it belongs to."""
        return self.began.rollout

    @property
    def facts(self) -> Mapping[str, Any]:
        """The data of the first event: command, operator, release, policy, hosts."""
        return self.began.data

    @property
    def command(self) -> str:
        """`upgrade`, `commit`, `rollback`."""
        return str(self.facts.get("command", "run"))

    @property
    def took_s(self) -> float:
        """Seconds from the first event to the last known one."""
        return max((self.last_at - self.began.at).total_seconds(), 0.0)

    @property
    def hosts(self) -> int:
        """How many hosts it has."""
        return sum(len(batch) for batch in self.facts.get("batches", ()))

    @property
    def result(self) -> str | None:
        """The result, `None` without a final event."""
        return str(self.ended.data.get("result")) if self.ended else None

    @property
    def exit_code(self) -> int | None:
        """The exit code, `None` without a final event."""
        return int(self.ended.data.get("exit_code", 0)) if self.ended else None


@dataclass(frozen=True, slots=True)
class RolloutSummary:
    """A rollout: its runs in the order in which they began; at least one."""

    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """The first run of the rollout in this journal."""
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
        """The value of a fact in the earliest run that has it; `None` when no run has."""
        return next((run.facts[name] for run in self.runs if run.facts.get(name) is not None), None)


def run_state(
    began: Event, last_at: datetime, ended: Event | None, holds_lock: bool, now: datetime, me: Process
) -> RunState:
    """The state of a run. `holds_lock`: the run holds the journal's lock."""
    if ended is not None:
        return RunState.ENDED
    gone = is_gone(Process.from_plain(began.data.get("controller", {})), me)
    if gone is None:
        gone = not holds_lock and now - last_at > SILENT
    return RunState.INTERRUPTED if gone else RunState.RUNNING
