"""What the journal knows of rollouts and their hosts, for the commands that begin with a look at the hosts.

A rollback needs no journal. So an error of the journal can be given to `on_error`; the answer is then that it knows nothing.
"""

from collections.abc import Callable, Collection
from functools import cached_property
from typing import TypeVar

from fleet.errors import JournalError
from fleet.events import EventType
from fleet.journal.journal import Journal
from fleet.journal.run_summary import RolloutSummary, RunState
from fleet.onhost.protocol import State
from fleet.rollout.own_hosts import (
    FORWARD,
    NOT_JOURNALED,
    READ,
    READ_TO_SEE_A_BEGINNING,
    JournaledHosts,
    journaled_hosts,
)

MOST = 50
"""How many of the newest rollouts are searched for one that began a host."""

T = TypeVar("T")


class KnownRollouts:
    """The rollouts of a journal; `None` is no journal, which knows none."""

    def __init__(self, journal: Journal | None, on_error: Callable[[JournalError], None] | None = None) -> None:
        self._journal = journal
        self._on_error = on_error

    def starting_with(self, prefix: str) -> tuple[str, ...]:
        """The rollouts whose id starts so, or the one whose id it is."""
        known = [summary.rollout for summary in self._read(lambda journal: journal.rollouts()) or ()]
        return (prefix,) if prefix in known else tuple(rollout for rollout in known if rollout.startswith(prefix))

    @cached_property
    def newest_begun(self) -> str | None:
        """The newest rollout that may have begun a host."""
        summaries = self._read(lambda journal: journal.rollouts(MOST)) or ()
        return next((each.rollout for each in summaries if self._may_have_begun(each.rollout)), None)

    def _may_have_begun(self, rollout: str) -> bool:
        found = self._read(lambda journal: _hosts(journal, rollout, READ_TO_SEE_A_BEGINNING)) or NOT_JOURNALED
        return bool(found.may_have_begun) or not found.is_whole

    def planned(self, prefix: str | None) -> frozenset[str] | None:
        """The hosts of the plan of the rollouts that `prefix` may mean, of the newest that began a host without it.

        `None` if the journal has no such plan.
        """
        rollouts = self.starting_with(prefix) if prefix is not None else filter(None, (self.newest_begun,))
        summaries = filter(None, map(self.summary, rollouts))
        runs = (run for summary in summaries for run in summary.runs if run.command in FORWARD)
        return frozenset(name for run in runs for batch in run.facts["batches"] for name in batch) or None

    def to_undo(self, named: str | None) -> tuple[str, JournaledHosts] | None:
        """The rollout that a rollback means, and its hosts, if the journal alone can tell; `None` if the hosts must be asked.

        The journal must have the rollout's whole plan. Without a name the rollout must be the newest that began a host, and
        be neither committed nor rolled back everywhere: else the hosts may be in a newer one of another journal.
        """
        if named is not None and named not in self.starting_with(named):
            return None
        rollout = named or self.newest_begun
        if rollout is None:
            return None
        hosts = self.hosts(rollout)
        is_open = any(hosts.states.get(name) in (None, State.BEGUN) for name in hosts.may_have_begun)
        return (rollout, hosts) if hosts.is_whole and (named is not None or is_open) else None

    def hosts(self, rollout: str) -> JournaledHosts:
        """What is known of the hosts of this rollout."""
        return self._read(lambda journal: _hosts(journal, rollout)) or NOT_JOURNALED

    def summary(self, rollout: str) -> RolloutSummary | None:
        """The runs of this rollout, summed up; `None` if there is none."""
        runs = self._read(lambda journal: journal.runs(rollout))
        return RolloutSummary(runs) if runs else None

    def _read(self, read: Callable[[Journal], T]) -> T | None:
        if self._journal is None:
            return None
        try:
            return read(self._journal)
        except JournalError as error:
            if self._on_error is None:
                raise
            self._journal = None
            self._on_error(error)
            return None


def _hosts(journal: Journal, rollout: str, types: Collection[EventType] = READ) -> JournaledHosts:
    is_running = any(run.state is RunState.RUNNING for run in journal.runs(rollout))
    return journaled_hosts(rollout, journal.events(rollout, types=types), is_running)


NOTHING_KNOWN = KnownRollouts(None)
