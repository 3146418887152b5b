"""One pretend host: the step script of a real one, on a machine whose nginx is a model.

Everything from a request's arrival on is the host's own code, but for preflight, of which only the checks that a model can
fail are asked. `tests/onhost/visit/test_pretend_host.py` asks it and a host with a real nginx the same.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from fleet.onhost.instance import Instance
from fleet.onhost.observation import Observation
from fleet.onhost.preflight.master import at_its_path, the_master
from fleet.onhost.preflight.result import PreflightResult
from fleet.onhost.preflight.subject import Subject
from fleet.onhost.protocol import Outcome, Phase, Record, Report, Request
from fleet.onhost.reasons.catalogue import apply_allowed
from fleet.onhost.rehearsal.evidence import Answered, Generation, Opened, Rehearsal
from fleet.onhost.report.report import report
from fleet.onhost.state import lease, retirement
from fleet.onhost.state.fence import FENCE, Fence, fence_of
from fleet.onhost.state.store import InstanceStore
from fleet.onhost.visit.answer import answer, go_back_by_lease
from fleet.onhost.visit.end import End
from fleet.onhost.visit.request import Visit
from fleet.onhost.visit.retire import retire_if_due
from fleet.onhost.visit.upgrade import new_record
from tests.support.onhost.model import Model
from tests.support.onhost.model_machine import Fault, ModelMachine, instance_on
from tests.support.pretend.visit import WELL, Controller, Mishap, Taken

OLD, NEW, THIRD = "a" * 64, "b" * 64, "c" * 64
VERSIONS = {OLD: "1.26.2", NEW: "1.26.3", THIRD: "1.27.0"}
AT = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
ELSEWHERE = "20261123-0900-else"


_GENERATION = Generation(
    0.1,
    workers=4,
    listeners=(Opened("tcp", "0.0.0.0:80", 1),),
    answers=(Answered("tcp 0.0.0.0:80", "200", True), Answered("http://127.0.0.1/health", "as expected", True)),
)
REHEARSAL = Rehearsal(_GENERATION, _GENERATION, wall_s=0.7, cpu_s=0.13, memory_kb=9040)


class Pretend:
    """One host. `watch` is called with each step when it begins. `rehearsal` is what preflight gives of one."""

    def __init__(self, name: str, clock: Callable[[], datetime] = lambda: AT) -> None:
        self.machine = ModelMachine(name, Model(path=OLD, old=OLD, ids=(812, 0)), clock, VERSIONS)
        self.instance = instance_on(self.machine)
        self.watch: Callable[[Taken], None] = lambda taken: None
        self.rehearsal: Rehearsal | None = REHEARSAL
        self.drains_on = False

    # What a test sees and sets

    @property
    def name(self) -> str:
        return self.machine.name

    @name.setter
    def name(self, name: str) -> None:
        self.machine.name = name

    @property
    def model(self) -> Model:
        return self.machine.model

    @model.setter
    def model(self, model: Model) -> None:
        self.machine.model = model

    @property
    def drains_on(self) -> bool:
        """Whether old connections don't end. Setting it is what clients do."""
        return self._drains_on

    @drains_on.setter
    def drains_on(self, so: bool) -> None:
        self._drains_on = so
        self.machine.fault = Fault(drains_on=so)

    @property
    def own(self) -> InstanceStore:
        return self.instance.own

    @property
    def runs(self) -> str | None:
        """The release whose workers accept. Setting it is an operator's work by hand."""
        return self.model.new if self.model.new_accepting else self.model.old

    @runs.setter
    def runs(self, sha256: str) -> None:
        put = self.model.put(sha256)
        self.model = replace(put, old=sha256) if put.new is None else replace(put, new=sha256)

    @property
    def held(self) -> str | None:
        """The release of the held old master."""
        return self.model.old if self.phase() is Phase.TRIAL else None

    @held.setter
    def held(self, sha256: str | None) -> None:
        runs = self.runs or OLD
        alone = Model(path=runs, old=runs, ids=(self.model.ids[0], 0))
        two = replace(alone.usr2_old().winch_old(), old=sha256)
        self.model = alone if sha256 is None else two

    @property
    def record(self) -> Record | None:
        return self.own.record

    @record.setter
    def record(self, record: Record | None) -> None:
        self.own.save("record.json", record)

    @property
    def previous(self) -> Record | None:
        return self.own.previous

    @previous.setter
    def previous(self, record: Record | None) -> None:
        self.own.save("previous.json", record)

    @property
    def epoch(self) -> int:
        """The highest epoch that was seen here. Setting it is another rollout."""
        return fence_of(self.own).epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.own.save(FENCE, Fence(epoch, ELSEWHERE, "bob@desk", self.machine.utc()))

    def phase(self) -> Phase:
        """As the host tells it, seen from its record's release."""
        return self.report().phase

    def report(self) -> Report:
        return report(self.instance)

    # What happens to it

    def boot(self) -> None:
        """The machine was switched off and on: what lies at the path is started, leases and claims are void."""
        self.machine.boots += 1
        self.start()

    def start(self) -> None:
        """One nginx runs what lies at the path, and nothing else is there."""
        self.model = Model(path=self.model.path, old=self.model.path, ids=(max(self.model.ids) + 100, 0))

    def begin(self, request: Request) -> None:
        """The rollout of this upgrade has begun here."""
        assert request.goal is not None
        self.own.begin(new_record(request, self.model.observe(), request.goal.target, self.machine.utc()))

    def mind_lease(self) -> None:
        """What the lease's watcher does, if the time has run out."""

        def go_back(found: lease.Lease) -> bool:
            assert self.record is not None
            return _no_bug(go_back_by_lease(self.instance, self.record, found)).outcome is not Outcome.DONE

        lease.act_if_out(self.own, go_back, is_last=False)

    def mind_retirement(self, is_last: bool = False) -> None:
        """What the watcher does of a commit that was left to the host, if the old workers are gone or the time is over."""
        if retirement.due_in_s(self.own) == 0.0:
            retire_if_due(self.instance, is_last)

    # What it answers

    def answer(self, request: Request, mishap: Mishap = WELL, controller: Controller | None = None) -> End:
        """What the step script does, and says to the controller. Raises `Killed`."""
        controller = controller or Controller(request, mishap, self.watch)
        target = request.goal.target if request.goal else self.record and self.record.target
        self.machine.fault = Fault(target if mishap.answers_badly else None, mishap.drains_on or self.drains_on)
        try:
            return _no_bug(answer(Visit(self.instance, request, controller.say, controller.go_on, self._preflight)))
        finally:
            self.drains_on = self.drains_on

    def _preflight(
        self, instance: Instance, request: Request, seen: Observation, staged: str | None
    ) -> PreflightResult:
        """What can be against an upgrade of a model: which masters there are, and what lies at the path."""
        found, old = the_master(instance.machine, request, seen, instance.record)
        if old is not None:
            found += at_its_path(Subject(instance, request, seen, old, staged))
        rehearsal = self.rehearsal if request.options.rehearse and staged else None
        return PreflightResult(apply_allowed(tuple(found), request.options.allow), rehearsal)


def _no_bug(end: End) -> End:
    assert end.reason != "bug", end.message
    return end
