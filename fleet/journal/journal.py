"""The journal: events are appended and never changed, and read back as they were.

One run appends from one thread. What `append` has returned from is on the disk. Another process may read, or append a
run of its own, at the same time.
"""

import secrets
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from types import TracebackType

from sqlalchemy import ColumnElement, Connection, func, select

from fleet.errors import JournalError, Refused
from fleet.events import Event, EventType, dump, load
from fleet.journal.database import Database
from fleet.journal.location import place_of
from fleet.journal.lock import Holder, JournalLock
from fleet.journal.process_identity import this_process
from fleet.journal.run_summary import Run, Story, stands
from fleet.journal.schema import BOOK, EVENTS
from fleet.onhost.text import listed
from fleet.onhost.wire import Malformed


class Journal(AbstractContextManager["Journal"]):
    """An open journal."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.reading() as connection:
            self.id = str(connection.scalar(select(BOOK.c.value).where(BOOK.c.name == "id")))
            """Drawn when the journal was made; no other one has it."""

    @classmethod
    def open(cls, text: str | None = None) -> "Journal":
        """The journal that `--journal` names, made if it isn't there. Raises `JournalError`."""
        return cls(Database.open(place_of(text)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    @property
    def shown(self) -> str:
        """What it is called towards people."""
        return self._database.place.shown

    def append(self, run: str, event: Event) -> None:
        """The event is on the disk, after all others. Raises `JournalError`."""
        values = {
            "rollout": event.rollout,
            "run": run,
            "at": event.at.astimezone(UTC).isoformat(timespec="microseconds"),
            "type": event.type.value,
            "host": _ascii(event.host),
            "body": dump(event),
        }
        with self._database.writing() as connection:
            connection.execute(EVENTS.insert(), values)

    def lock(self, operator: str, command: str, rollout: str = "", token: str | None = None) -> JournalLock:
        """The journal's lock, for this process. `token` is the run that will hold it."""
        now = datetime.now(UTC)
        me = Holder(token or new_token(), operator, this_process(), command, rollout, since=now)
        return JournalLock(self._database, me)

    def events(self, rollout: str, run: str | None = None) -> tuple[Event, ...]:
        """All events of a rollout, or of one of its runs, in the order in which they were written."""
        wanted = EVENTS.c.rollout == rollout
        if run is not None:
            wanted &= EVENTS.c.run == run
        with self._database.reading() as connection:
            rows = connection.execute(select(EVENTS.c.seq, EVENTS.c.body).where(wanted).order_by(EVENTS.c.seq)).all()
        return tuple(_load(seq, body) for seq, body in rows)

    def runs(self, rollout: str) -> tuple[Run, ...]:
        """The runs of a rollout, in the order in which they began."""
        return next((story.runs for story in self._stories(EVENTS.c.rollout == rollout)), ())

    def rollouts(self, most: int | None = None) -> tuple[Story, ...]:
        """The rollouts of the journal, the one that began last first; at most so many."""
        with self._database.reading() as connection:
            newest = _rollouts(connection, most)
        stories = {story.rollout: story for story in self._stories(EVENTS.c.rollout.in_(newest))}
        return tuple(stories[rollout] for rollout in newest if rollout in stories)

    def find(self, start: str | None = None) -> str:
        """The id of the one rollout that begins so; of the newest one without a start. Raises `Refused`."""
        with self._database.reading() as connection:
            known = _rollouts(connection)
        if not known:
            raise Refused(f"the journal {self.shown} knows no rollout.", "`fleet status` asks the hosts themselves.")
        if start is None or start in known:
            return start or known[0]
        found = [rollout for rollout in known if rollout.startswith(start)]
        if len(found) == 1:
            return found[0]
        if found:
            raise Refused(f"{start} is the start of several rollouts: {listed(found)}.", "Give more of its id.")
        raise Refused(f"the journal {self.shown} knows no rollout {start}.", f"It knows: {listed(known)}.")

    def _stories(self, wanted: ColumnElement[bool]) -> list[Story]:
        ends = EVENTS.c.type.in_([EventType.ROLLOUT_STARTED.value, EventType.ROLLOUT_ENDED.value])
        chosen = select(EVENTS.c.run, EVENTS.c.seq, EVENTS.c.body).where(wanted & ends).order_by(EVENTS.c.seq)
        with self._database.reading() as connection:
            rows = connection.execute(chosen).all()
            times = select(EVENTS.c.run, func.max(EVENTS.c.at)).where(wanted).group_by(EVENTS.c.run)
            last_at = {run: datetime.fromisoformat(at) for run, at in connection.execute(times)}
        holder = self.lock("", "").holder()
        events: dict[str, list[Event]] = defaultdict(list)
        for run, seq, body in rows:
            events[run].append(_load(seq, body))
        runs: dict[str, list[Run]] = defaultdict(list)
        for run, told in events.items():
            made = _run(run, told, last_at[run], holder is not None and holder.token == run)
            runs[made.rollout].append(made)
        return [Story(tuple(each)) for each in runs.values()]


def new_token() -> str:
    """The name of a run, that no other one has."""
    return secrets.token_hex(6)


def _rollouts(connection: Connection, most: int | None = None) -> list[str]:
    """The ids, the one that began last first."""
    began = func.min(EVENTS.c.seq)
    started = select(EVENTS.c.rollout).where(EVENTS.c.type == EventType.ROLLOUT_STARTED.value)
    return list(connection.scalars(started.group_by(EVENTS.c.rollout).order_by(began.desc()).limit(most)))


def _run(run: str, told: Sequence[Event], last_at: datetime, holds: bool) -> Run:
    ended = next((event for event in reversed(told) if event.type is EventType.ROLLOUT_ENDED), None)
    now, me = datetime.now(UTC), this_process()
    return Run(run, told[0], last_at, ended, stands(told[0], last_at, ended, holds, now, me))


def _load(seq: int, body: str) -> Event:
    try:
        return load(body)
    except Malformed as error:
        raise JournalError(
            f"event {seq} of the journal can't be read: {error}.", "A newer fleet may have written it: use that one."
        ) from error


def _ascii(word: str | None) -> str | None:
    """A host's name as every database takes it; the event itself has it as it is."""
    return None if word is None else word.encode("ascii", "backslashreplace").decode()
