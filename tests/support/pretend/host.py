"""One pretend host: a model nginx, a store in memory, and the answers that a real step script gives.

What a real host decides by pure code it decides by the same code here: fence, claim, lease, procedure, report. Only what
`serve` and `visit` do with processes and files is played on the model; `visit/test_pretend_host.py` asks both the same.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from fleet.onhost.preflight.master import in_progress, left_swapped, the_master
from fleet.onhost.procedure import classify
from fleet.onhost.protocol import (
    MAY_DO,
    PROTOCOL,
    Ask,
    Goal,
    Layout,
    Observation,
    Outcome,
    Phase,
    Record,
    Report,
    Request,
    Rest,
    State,
)
from fleet.onhost.reasons.catalogue import finding
from fleet.onhost.state import lease
from fleet.onhost.state.fence import (
    CLAIM,
    FENCE,
    Claimed,
    Fence,
    TakenOver,
    claim,
    disclaim,
    fence_of,
    may_reopen,
    refuse_claimed,
    release,
)
from fleet.onhost.visit.report import report
from fleet.onhost.visit.upgrade import IN_BETWEEN
from fleet.onhost.visit.walk import WATCHED, End, ended, went_back
from tests.support.onhost.model import Model
from tests.support.pretend.script import WELL, Mishap, Script, Taken
from tests.support.pretend.store import PretendMachine, PretendStore

OLD, NEW, THIRD = "a" * 64, "b" * 64, "c" * 64
VERSIONS = {OLD: "1.26.2", NEW: "1.26.3", THIRD: "1.27.0"}
AT = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
ELSEWHERE = "20261123-0900-else"


class Pretend:
    """One host. `watch` is told each step when it is taken."""

    def __init__(self, name: str, clock: Callable[[], datetime] = lambda: AT) -> None:
        self.name = name
        self.model = Model(path=OLD, old=OLD, ids=(812, 0))
        self.machine = PretendMachine(name, clock, self._version)
        self.own = PretendStore(self.machine)
        self.watch: Callable[[Taken], None] = lambda taken: None

    def _version(self, program: str) -> str | None:
        pids = {f"/proc/{master.pid}/exe": master.sha256 for master in self.model.observe().masters}
        return VERSIONS.get(pids.get(program, self.model.path) or "")

    # What a test sees and sets

    @property
    def runs(self) -> str | None:
        """The release whose workers accept; to set it is somebody's work by hand."""
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
        self.own.kept["record.json"] = record

    @property
    def previous(self) -> Record | None:
        return self.own.previous

    @previous.setter
    def previous(self, record: Record | None) -> None:
        self.own.kept["previous.json"] = record

    @property
    def epoch(self) -> int:
        """The highest epoch that was seen here; to set it is somebody else's rollout."""
        return fence_of(self.own).epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.own.save(FENCE, Fence(epoch, ELSEWHERE, "bob@desk", self.machine.utc()))

    def phase(self) -> Phase:
        """As a real host would tell it, seen from its record's release."""
        return self.report().phase

    def report(self) -> Report:
        self.machine.name = self.name
        return report(self.machine, self.model.observe(), self.own, Layout())

    # What happens to it

    def boot(self) -> None:
        """The machine was switched off and on: what lies at the path is started, leases and claims are void."""
        self.machine.boots += 1
        self.start()

    def start(self) -> None:
        """One nginx runs what lies at the path, and nothing else is there."""
        self.model = Model(path=self.model.path, old=self.model.path, ids=(max(self.model.ids) + 100, 0))

    def mind_lease(self) -> End | None:
        """What the lease's watcher did, if its time has come."""
        found = lease.lease_of(self.own)
        if found is None or found.until_s > self.machine.boottime_s():
            return None
        record = self.record
        if record is None or record.rollout != found.rollout or record.state is not State.BEGUN:
            lease.end(self.own)
            return None
        request = Request(
            PROTOCOL,
            Ask.LEASE,
            found.rollout,
            found.epoch,
            found.operator,
            None,
            MAY_DO[Ask.LEASE],
            sender=found.sender,
        )
        end = self._rollback(Script(self, request, WELL))
        self._settle(request, end)
        return end

    # What it answers

    def answer(self, request: Request, mishap: Mishap = WELL) -> End:
        """What the step script does and says. Raises `Killed`."""
        if request.ask is Ask.LOOK:
            return End(Outcome.DONE)
        try:
            return self._among_others(request, mishap)
        except Claimed as error:
            return ended(Outcome.REFUSED, "claimed", by=error)
        except TakenOver as error:
            return ended(Outcome.REFUSED, "taken_over", by=error)

    def _among_others(self, request: Request, mishap: Mishap) -> End:
        if request.ask is Ask.STAGE:
            refuse_claimed(self.own, request)
            return self._stage(request)
        if request.ask is Ask.UNLOCK:
            release(self.own, request)
            return End(Outcome.DONE)
        epoch = claim(self.own, request)
        end = self._guarded(Script(self, request, mishap))
        if request.ask is not Ask.BAKE or epoch is not None:
            self._settle(request, end)
        return end

    def _settle(self, request: Request, end: End) -> None:
        record = self.record
        if record is None or record.rollout != request.rollout:
            disclaim(self.own, request)
            return
        is_open = record.state is State.BEGUN and classify(self.model.observe(), record.target) is not Phase.OLD
        committed = request.ask is Ask.COMMIT and end.outcome is Outcome.DONE
        if not is_open or committed:
            lease.end(self.own)
            self.own.remove(CLAIM)
        elif request.ask is Ask.UPGRADE or (request.ask is Ask.BAKE and lease.lease_of(self.own) is not None):
            lease.renew(self.own, request)

    def _stage(self, request: Request) -> End:
        assert request.goal is not None
        if classify(self.model.observe(), request.goal.target) is Phase.NEW:
            return ended(Outcome.DONE, "runs_it")
        return self._preflight(request)

    def _preflight(self, request: Request) -> End:
        """What can be against an upgrade of a model: who is there, and what lies at the path."""
        seen = self.model.observe()
        found, master = the_master(self.machine, request, seen, self.record)
        strange = master is not None and seen.path_sha256 != master.sha256
        if strange and not left_swapped(seen, self.record) and "path_differs" not in request.options.allow:
            facts = {"pid": master.pid if master else 0, "running": "?", "path": seen.path, "file": "?"}
            found.append(finding("path_differs", **facts))
        if found:
            return End(Outcome.REFUSED, found[0].reason, found[0].message, found[0].remedy)
        return End(Outcome.DONE)

    def _guarded(self, script: Script) -> End:
        request, seen, record = script.request, self.model.observe(), self.record
        if request.ask is Ask.ROLLBACK:
            return self._rollback(script)
        if request.ask is Ask.UPGRADE:
            return self._upgrade(script, seen, record)
        if record is None or record.rollout != request.rollout:
            return ended(Outcome.REFUSED, "other_rollout", whose="this host is in another rollout")
        behind = went_back(request, record, classify(seen, record.target), self.own.folder)
        if behind is not None:
            return behind
        if request.ask is Ask.BAKE:
            return self._bake(script, classify(seen, record.target))
        return script.act(Goal(record.target, Rest.FINAL))

    def _bake(self, script: Script, phase: Phase) -> End:
        if phase not in WATCHED:
            return script.blocked(phase, None)
        if script.mishap.answers_badly:
            return ended(Outcome.FAILED, "probe_failed", trouble="it answers 500")
        return End(Outcome.DONE)

    def _upgrade(self, script: Script, seen: Observation, record: Record | None) -> End:
        request = script.request
        assert request.goal is not None
        target = request.goal.target
        phase = classify(seen, target)
        ours = record is not None and record.rollout == request.rollout
        if request.reopen and may_reopen(record, request.rollout):
            ours = False
        elif behind := went_back(request, record, phase, self.own.folder):
            return behind
        if not ours:
            if phase is Phase.NEW:
                return ended(Outcome.DONE, "runs_it")
            if record is not None and record.state is State.BEGUN and classify(seen, record.target) in IN_BETWEEN:
                if record.target != target:
                    found = in_progress(record)
                    return End(Outcome.REFUSED, found.reason, found.message, found.remedy)
                self.own.write_record(self._record_for(request, record))
                ours = True
        if not ours:
            changed = self._may_still(request, seen, phase)
            if changed.outcome is not Outcome.DONE:
                return changed
            self.begin(request, seen)
        lease.renew(self.own, request)
        return script.act(request.goal)

    def _record_for(self, request: Request, record: Record) -> Record:
        return record._replace(
            rollout=request.rollout, epoch=request.epoch, operator=request.operator, at=self.machine.utc()
        )

    def _may_still(self, request: Request, seen: Observation, phase: Phase) -> End:
        if not seen.masters:
            return ended(Outcome.REFUSED, "no_master", named="")
        if phase is Phase.FOREIGN:
            return ended(Outcome.REFUSED, "foreign", who="somebody else has been at work on this nginx")
        return self._preflight(request) if phase in (Phase.OLD, Phase.SWAPPED) else End(Outcome.DONE)

    def begin(self, request: Request, seen: Observation) -> None:
        """What is wanted here is written down before the first change."""
        old = seen.masters[0].sha256 or OLD
        at_path = seen.path_sha256 if len(seen.masters) == 1 and seen.path_sha256 else old
        target = request.goal.target if request.goal else NEW
        record = Record(request.rollout, request.epoch, request.operator, target, old, at_path, self.machine.utc())
        self.own.begin(record)

    def _rollback(self, script: Script) -> End:
        record, seen, request = self.record, self.model.observe(), script.request
        if record is None and len(seen.masters) > 1:
            return ended(Outcome.REFUSED, "foreign", who="two run here, and fleet has no record of them")
        if record is None:
            return ended(Outcome.DONE, "nothing_to_undo")
        record = self._in_force(request, record, seen)
        if record.rollout != request.rollout:
            return ended(Outcome.DONE, "other_rollout", whose="this host is in another rollout")
        runs = {master.sha256 for master in seen.masters}
        if runs and not runs & {record.target, record.before_process}:
            return ended(Outcome.REFUSED, "foreign", who="this host has since been given another release")
        if not seen.masters and seen.path_sha256 == record.target:
            self.model = self.model.put(record.before_file)
        return script.act(Goal(record.before_process, Rest.FINAL))

    def _in_force(self, request: Request, record: Record, seen: Observation) -> Record:
        before = self.previous
        is_back = len(seen.masters) == 1 and classify(seen, record.target) is Phase.OLD
        if before is None or before.rollout != request.rollout or record.rollout == before.rollout or not is_back:
            return record
        self.own.write_record(before)
        return before
