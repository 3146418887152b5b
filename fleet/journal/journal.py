"""The journal: events are appended, never changed, and read back exactly as they were.

One thread appends the events of one run. When `append` returns, the event is on the disk. Other processes may read and
append at the same time.
"""

import secrets
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from types import TracebackType

from fleet.errors import JournalError, Refused
from fleet.events import Event, EventType, dump, load
from fleet.journal.database import Database
from fleet.journal.location import journal_location
from fleet.journal.lock import Holder, JournalLock
from fleet.journal.process_identity import this_process
from fleet.journal.run_summary import RolloutSummary, Run, run_state
from fleet.journal.schema import property_of
from fleet.journal.sql import NO_VALUES, Connection, Values, one_of
from fleet.onhost.text import listed, safe
from fleet.onhost.wire import Malformed

INSERT = "INSERT INTO events (rollout, run, at, type, host, body) VALUES (:rollout, :run, :at, :type, :host, :body)"


class Journal(AbstractContextManager["Journal"]):
    """An open journal."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.reading() as connection:
            self.id = str(property_of(connection, "id"))
            """The random id that the journal got when it was created."""

    @classmethod
    def open(cls, text: str | None = None) -> "Journal":
        """The journal that `--journal` names, created if it does not exist. Raises `JournalError`."""
        return cls(Database.open(journal_location(text)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    @property
    def display_name(self) -> str:
        """Its path or URL for messages, without a password."""
        return self._database.location.display_name

    def append(self, run: str, event: Event) -> None:
        """Writes the event to disk, after all others. Raises `JournalError`."""
        self.append_all(run, (event,))

    def append_all(self, run: str, events: Iterable[Event]) -> None:
        """Writes the events to disk in this order, all or none of them: one transaction. Raises `JournalError`."""
        rows = [_row(run, event) for event in events]
        if rows:
            with self._database.writing() as connection:
                connection.execute(INSERT, rows)

    def lock(self, operator: str, command: str, rollout: str = "", token: str | None = None) -> JournalLock:
        """The journal's lock, for this process; not acquired yet. `token` is the run that will hold it."""
        now = datetime.now(UTC)
        me = Holder(token or new_token(), operator, this_process(), command, rollout, since=now)
        return JournalLock(self._database, me)

    def events(self, rollout: str, run: str | None = None, types: Collection[EventType] = ()) -> tuple[Event, ...]:
        """The events of a rollout, or of one of its runs, in the order in which they were written; of these types only."""
        wanted = "rollout = :rollout"
        values: Values = {"rollout": rollout}
        if run is not None:
            wanted, values = f"{wanted} AND run = :run", {**values, "run": run}
        if types:
            of_types, names = one_of("type", [each.value for each in types])
            wanted, values = f"{wanted} AND {of_types}", {**values, **names}
        with self._database.reading() as connection:
            rows = connection.query(f"SELECT seq, body FROM events WHERE {wanted} ORDER BY seq", values)
        return tuple(_load(seq, body) for seq, body in rows)

    def runs(self, rollout: str) -> tuple[Run, ...]:
        """The runs of a rollout, in the order in which they began."""
        return next((summary.runs for summary in self._summaries([rollout])), ())

    def rollouts(self, most: int | None = None) -> tuple[RolloutSummary, ...]:
        """The rollouts of the journal, the latest first; at most `most`."""
        with self._database.reading() as connection:
            newest = _rollouts(connection, most)
        summaries = {summary.rollout: summary for summary in self._summaries(newest)}
        return tuple(summaries[rollout] for rollout in newest if rollout in summaries)

    def find(self, start: str | None = None) -> str:
        """The id of the rollout that `start` is a unique prefix of; of the latest one without it. Raises `Refused`."""
        with self._database.reading() as connection:
            known = _rollouts(connection)
        if not known:
            raise Refused(
                f"The journal {self.display_name} holds no rollout.", "`fleet status` asks the hosts themselves."
            )
        if start is None or start in known:
            return start or known[0]
        found = [rollout for rollout in known if rollout.startswith(start)]
        if len(found) == 1:
            return found[0]
        if found:
            raise Refused(f"{start} matches several rollouts: {listed(found)}.", "Give more characters of the id.")
        raise Refused(f"The journal {self.display_name} holds no rollout {start}.", f"It holds: {listed(known)}.")

    def _summaries(self, rollouts: Sequence[str]) -> list[RolloutSummary]:
        if not rollouts:
            return []
        wanted, values = one_of("rollout", rollouts)
        with self._database.reading() as connection:
            rows = connection.query(
                f"SELECT run, seq, body FROM events WHERE {wanted} AND type IN (:started, :ended) ORDER BY seq",
                {**values, "started": EventType.ROLLOUT_STARTED.value, "ended": EventType.ROLLOUT_ENDED.value},
            )
            times = connection.query(f"SELECT run, max(at) FROM events WHERE {wanted} GROUP BY run", values)
        last_at = {run: datetime.fromisoformat(at) for run, at in times}
        holder = self.lock("", "").holder()
        events: dict[str, list[Event]] = defaultdict(list)
        for run, seq, body in rows:
            events[run].append(_load(seq, body))
        runs: dict[str, list[Run]] = defaultdict(list)
        for run, run_events in events.items():
            made = _run(run, run_events, last_at[run], holder is not None and holder.token == run)
            runs[made.rollout].append(made)
        return [RolloutSummary(tuple(each)) for each in runs.values()]


def new_token() -> str:
    """A unique name for a run."""
    return secrets.token_hex(6)


def _row(run: str, event: Event) -> Values:
    return {
        "rollout": event.rollout,
        "run": run,
        "at": event.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "type": event.type.value,
        "host": None if event.host is None else safe(event.host),
        "body": dump(event),
    }


def _rollouts(connection: Connection, most: int | None = None) -> list[str]:
    """The ids of the rollouts, the latest first."""
    values: Values = {"started": EventType.ROLLOUT_STARTED.value, **(NO_VALUES if most is None else {"most": most})}
    rows = connection.query(
        "SELECT rollout FROM events WHERE type = :started GROUP BY rollout ORDER BY min(seq) DESC"
        + ("" if most is None else " LIMIT :most"),
        values,
    )
    return [rollout for (rollout,) in rows]


def _run(run: str, events: Sequence[Event], last_at: datetime, holds: bool) -> Run:
    ended = next((event for event in reversed(events) if event.type is EventType.ROLLOUT_ENDED), None)
    now, me = datetime.now(UTC), this_process()
    return Run(run, events[0], last_at, ended, run_state(events[0], last_at, ended, holds, now, me))


def _load(seq: int, body: str) -> Event:
    try:
        return load(body)
    except Malformed as error:
        raise JournalError(
            f"Event {seq} of the journal can't be read: {error}.",
            "A newer fleet may have written it: upgrade fleet on this machine.",
        ) from error
