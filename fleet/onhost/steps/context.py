"""What every step needs: the instance, the goal and the options, and ways to warn, to remember and to turn back."""

import signal
from typing import Callable, Iterable, NamedTuple, Optional, Tuple

from fleet.onhost.instance import Instance
from fleet.onhost.observation import Master, Observation, Worker
from fleet.onhost.protocol import Finding, Options, Outcome, Record, Severity, State
from fleet.onhost.reasons.catalogue import finding, is_allowed
from fleet.onhost.state.known_package import file_words
from fleet.onhost.state.store import InstanceStore, Serving, Store
from fleet.onhost.system.machine import POLL_S, Machine
from fleet.onhost.system.process import Gone
from fleet.onhost.wire import Malformed

SLOWEST_POLL_S = 0.2


class StepError(Exception):
    """A step did not do what it should; `finding` says why."""

    outcome = Outcome.FAILED

    def __init__(self, word: str, **facts: object) -> None:
        self.finding = finding(word, **facts)
        super().__init__(self.finding.message)


class StepRefused(StepError):
    """The step did not begin: it changed nothing."""

    outcome = Outcome.REFUSED


class StepFailed(StepError):
    """The step acted, and its effect did not appear in time, or was wrong."""


class WinchPending(StepFailed):
    """WINCH was sent to the old master and its effect never showed: it may drain the workers at any later moment."""


class TurnedBack(StepError):
    """The operator turned back, the controller is gone, or another rollout has taken the host over."""


class StepContext(NamedTuple):
    """The instance, its record, the release to reach and the operator's options.

    `say` sends a finding to the controller. `go_on` raises `TurnedBack` when nothing new should begin.
    """

    instance: Instance
    record: Record
    target: str
    options: Options
    say: Callable[[Finding], None]
    go_on: Callable[[], None]

    @property
    def machine(self) -> Machine:
        return self.instance.machine

    @property
    def store(self) -> Store:
        return self.instance.store

    @property
    def own(self) -> InstanceStore:
        return self.instance.own

    def look(self) -> Observation:
        return self.instance.look()

    def warn(self, word: str, **facts: object) -> None:
        """Send the warning to the operator and write it into the host's journal."""
        found = finding(word, **facts)._replace(severity=Severity.WARNING)
        self.instance.note(warning=word, message=found.message)
        self.say(found)

    def wants(self, state: State, why: str = "") -> bool:
        """Write the state of the rollout, and its reason, into the record. Returns whether that worked."""
        return self.amend(lambda record: record._replace(state=state, why=why))

    def amend(self, change: Callable[[Record], Record]) -> bool:
        """Change the host's record as it is now: an earlier step may have changed it. Returns whether that worked."""
        try:
            self.own.write_record(change(self.own.record or self.record))
        except (OSError, Malformed):
            return False
        return True

    def remember(self, change: Callable[[Serving], Serving]) -> None:
        """Change what later visits know of the masters. A full disk is a warning: it must not stop a way back."""
        try:
            self.own.write_serving(change(self.own.serving))
        except (OSError, Malformed):
            self.warn("serving_unwritable", folder=self.own.folder)

    def send(self, master: Master, signum: int) -> None:
        """Note the signal in the host's journal and send it. Raises `Gone`."""
        self.send_to(master.pid, master.start, signum)

    def send_to(self, pid: int, start: int, signum: int) -> None:
        boot_s = round(self.machine.boottime_s(), 2)  # Unlike `at`, it can be compared with when a process began.
        self.instance.note(signal=signal.Signals(signum).name, pid=pid, start=start, boot_s=boot_s)
        self.machine.signal(pid, start, signum)

    def try_send(self, pid: int, start: int, signum: int) -> bool:
        """As `send_to`, but false when the process is gone."""
        try:
            self.send_to(pid, start, signum)
        except Gone:
            return False
        return True

    def wait(
        self, seen: Callable[[Observation], bool], deadline_s: float, may_turn: bool = False
    ) -> Tuple[bool, Observation]:
        """Look until `seen` is true or the deadline passes. Returns whether it was true, and the last look.

        Raises `TurnedBack` if `may_turn`.
        """
        until = self.machine.monotonic_s() + deadline_s
        pause_s = POLL_S
        while True:
            now = self.look()
            if seen(now):
                return True, now
            if self.machine.monotonic_s() >= until:
                return False, now
            if may_turn:
                self.go_on()
            self.machine.pause(pause_s)
            pause_s = min(pause_s * 1.3, SLOWEST_POLL_S)

    def belongs_at_path(self, seen: Observation) -> str:
        """The hash of the file that should lie at the path when the target serves: one that is not fleet's to replace stays."""
        if seen.path_sha256 is not None and self.must_leave(seen):
            return seen.path_sha256
        return self.record.before_file if self.target == self.record.before_process else self.target

    def must_leave(self, seen: Observation) -> bool:
        """Whether the file at the path is neither of this rollout nor from before it, and the operator has not given it up.

        A package manager has put it there, or a person: fleet would overwrite what it has never seen run.
        """
        record = self.record
        known = (None, record.before_file, record.before_process, record.target, self.target)
        return seen.path_sha256 not in known and not is_allowed("path_changed", self.options.allow)

    def file_words(self, seen: Observation) -> str:
        """What lies at the path, and the package that it is of."""
        return file_words(self.machine, self.own, seen.path, seen.path_sha256)


def find(seen: Observation, pid: int, start: int) -> Optional[Master]:
    """This master in a look, or `None` when it is gone."""
    for master in seen.masters:
        if (master.pid, master.start) == (pid, start):
            return master
    return None


def accepting(seen: Observation, master: Master) -> Tuple[Worker, ...]:
    """The workers of this master that accept now; none when it is gone."""
    now = find(seen, master.pid, master.start)
    return now.accepting if now else ()


def identities(workers: Iterable[Worker]) -> Tuple[Tuple[int, int], ...]:
    """The workers as (pid, start), by which later visits recognize them."""
    return tuple((worker.pid, worker.start) for worker in workers)


def pair(seen: Observation) -> Tuple[Master, Master]:
    """The old and the new master. Raises `StepRefused` when there are not exactly two."""
    if len(seen.masters) != 2:
        raise StepRefused("not_two_masters", found=len(seen.masters))
    return seen.masters[0], seen.masters[1]
