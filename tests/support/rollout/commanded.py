"""The commands of a laptop, started as `fleet.commands` starts them, over the hosts that all laptops share.

Each gives the `Run` that it started, or `None` where the command is refused before any host is visited.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from fleet.onhost.protocol import Ask, Sender
from fleet.rollout.actions import Decide
from fleet.rollout.commit import commit_status, decide_commit
from fleet.rollout.from_hosts import newest, records
from fleet.rollout.host_status import HostStatus
from fleet.rollout.own_hosts import OwnHosts, own_hosts
from fleet.rollout.policy import Policy
from fleet.rollout.resume import ResumeAs, passed_gate, resume_as, resumed_status
from fleet.rollout.rollback import decide_rollback, rollback_status
from fleet.rollout.rollout_status import RolloutStatus
from fleet.rollout.single_visit import decide_single_visit
from fleet.rollout.tasks import Target, TaskBuilder
from fleet.rollout.upgrade import decide
from fleet.task import HostTask
from tests.support.pretend.visits import a_host
from tests.support.rollout.laptops import Book, Ground, Recorder, Run, Written

PARALLEL = 50
Watch = Callable[[Run, HostTask], None]


@dataclass
class Laptop:
    """One operator's laptop with its journal. `runs` are the runs that it has started."""

    name: str
    ground: Ground
    watch: Watch
    book: Book = field(init=False)
    runs: list[Run] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.book = Book(f"journal of {self.name}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.ground.hosts)

    def is_free(self) -> bool:
        """Whether the journal's lock is free."""
        return self.book.holder is None

    def let_go(self, run: Run) -> None:
        """Frees the lock of a run that ended or was killed."""
        if self.book.holder is run.recorder:
            self.book.holder = None

    # The commands

    def upgrade(self, rollout: str, target: str, policy: Policy, sizes: Sequence[int]) -> Run | None:
        """`fleet upgrade`."""
        batches = batches_of(self.names, sizes)
        start = RolloutStatus(rollout, {name: HostStatus(name) for name in self.names}, batches)
        return self._roll_out("upgrade", start, target, policy, reopen=False)

    def resume(self, wanted: str | None = None) -> Run | None:
        """`fleet resume` of the newest rollout in this journal, else of the newest that the hosts know."""
        known = [written.rollout for written in self.book.runs if written.command == "upgrade"]
        rollout = wanted or (known[-1] if known else None)
        runs = [written for written in self.book.runs if written.rollout == rollout]
        upgrades = [written for written in runs if written.command in ("upgrade", "resume")]
        if not upgrades:
            return self._resume_from_hosts(wanted)
        facts = upgrades[-1]
        match resume_as([(run.command, run.status()) for run in runs], frozenset(self.names)):
            case ResumeAs.NOTHING:
                return None
            case ResumeAs.COMMIT:
                return self.commit(facts.rollout)
            case ResumeAs.ROLLBACK:
                return self.rollback(facts.rollout)
        well = passed_gate(written.status() for written in upgrades)
        start = resumed_status(facts.rollout, facts.batches, well)
        return self._roll_out("resume", start, facts.target, facts.policy, reopen=True)

    def _resume_from_hosts(self, wanted: str | None) -> Run | None:
        looked = self.look()
        rollout = wanted or newest(looked)
        if rollout is None or rollout not in records(looked):
            return None
        here = [written for written in self.book.runs if written.rollout == rollout]
        match resume_as([(run.command, run.status()) for run in here]):
            case ResumeAs.NOTHING:
                return None
            case ResumeAs.COMMIT:
                return self.commit(rollout)
            case ResumeAs.ROLLBACK:
                return self.rollback(rollout)
        batches = batches_of(self.names, (1, 2))
        start = resumed_status(rollout, batches, frozenset())
        return self._roll_out("resume", start, records(looked)[rollout].target, Policy(), reopen=True)

    def commit(self, wanted: str | None = None) -> Run | None:
        """`fleet commit`."""
        if not self.is_free():
            return None
        looked = self.look()
        rollout = wanted or newest(looked)
        if rollout is None or rollout not in records(looked):
            return None
        start = commit_status(looked, rollout, self._own(looked, rollout))
        return self._run_on_all("commit", start, partial(decide_commit, Policy()), takes_lock=True)

    def rollback(self, wanted: str | None = None) -> Run | None:
        """`fleet rollback`."""
        looked = self.look()
        rollout = wanted or newest(looked)
        if rollout is None or rollout not in records(looked):
            return None
        holder = self.book.holder
        takes_lock = holder is None or holder.written.rollout == rollout
        start = rollback_status(looked, rollout, self._own(looked, rollout))
        return self._run_on_all("rollback", start, partial(decide_rollback, PARALLEL), takes_lock)

    def _own(self, looked: RolloutStatus, rollout: str) -> OwnHosts:
        """The rollout's own hosts, as this laptop's journal and the look show them."""
        return own_hosts(looked, rollout, self.book.hosts(rollout))

    # What they share

    def look(self) -> RolloutStatus:
        """The status after one look at every host."""
        start = RolloutStatus("look", {name: HostStatus(name) for name in self.names}, (self.names,))
        run = Run(self.ground, self._tasks(Policy()), partial(decide_single_visit, Ask.LOOK, PARALLEL), start)
        run.to_the_end()
        return run.status

    def _roll_out(
        self, command: str, start: RolloutStatus, target: str | None, policy: Policy, reopen: bool
    ) -> Run | None:
        if not self.is_free() or self.book.is_full or target is None:
            return None
        tasks = replace(self._tasks(policy), target=Target(target, 1000, "/nginx"), reopen=reopen)
        written = Written(start.rollout, command, policy, target, start.batches)
        recorder = Recorder(self.book, written)
        recorder.take_lock()
        return self._begun(Run(self.ground, tasks, partial(decide, policy), start, recorder, watch=self.watch))

    def _run_on_all(
        self,
        command: str,
        start: RolloutStatus,
        chosen: Decide,
        takes_lock: bool,
    ) -> Run | None:
        if self.book.is_full and command == "commit":
            return None
        recorder = None
        if not self.book.is_full:
            recorder = Recorder(self.book, Written(start.rollout, command, Policy(), None, start.batches))
            if takes_lock:
                recorder.take_lock()
        needs = command == "commit"
        return self._begun(
            Run(self.ground, self._tasks(Policy()), chosen, start, recorder, needs_journal=needs, watch=self.watch)
        )

    def _begun(self, run: Run) -> Run:
        self.runs.append(run)
        return run

    def _tasks(self, policy: Policy) -> TaskBuilder:
        hosts = {name: a_host(name) for name in self.names}
        return TaskBuilder(hosts, f"{self.name}@desk", policy, sender=Sender(self.book.id, self.name, 71))


def batches_of(names: Iterable[str], sizes: Sequence[int]) -> tuple[tuple[str, ...], ...]:
    """The hosts in batches of these sizes; the remaining hosts are the last batch."""
    left = list(names)
    found = []
    for size in (*sizes, len(left)):
        found.append(tuple(left[:size]))
        left = left[size:]
    return tuple(filter(None, found))
