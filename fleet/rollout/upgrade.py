"""Decides what `fleet upgrade` does next: stage every host, then upgrade, bake and judge each batch, then commit.

- No host is changed before every host has passed preflight; one refusal or one unreachable host ends the run with 2.
- A batch closes when each of its hosts is upgraded or has a fault. An unresolved visit is looked at first.
- A gate opens when every host upgraded so far passed a look at the end of the bake.
- If no host of a batch passed its bake, no further batch opens, even within the budget (except with `continue`).
- Once the budget is exceeded no new host is begun; then every begun host is rolled back, or the run halts.
- With `on_failure` rollback a faulty host within the budget is rolled back at once, so that its users do not stay on a
  bad release until the end.
- A host that went back by itself is never moved forward.

`decide` is pure and keeps no state outside the status. It may be called at any moment and gives the actions that are open
now; if there is none, the engine waits for a visit to end.
"""

from datetime import datetime, timedelta
from functools import cache
from statistics import median_low

from fleet.events import EventType, Note
from fleet.onhost.protocol import Ask, Phase
from fleet.onhost.text import counted, listed
from fleet.rollout import results
from fleet.rollout.actions import (
    Action,
    Emit,
    Finish,
    Wait,
    looks_at_unresolved,
    visits_to,
    within_parallel,
)
from fleet.rollout.going_back import needs_rollback, rollback_visits
from fleet.rollout.host_map import Question
from fleet.rollout.host_status import (
    MAX_TRIES,
    FaultKind,
    HostStatus,
    Progress,
    Verdict,
    is_unresolved,
    was_not_asked,
)
from fleet.rollout.policy import CommitWhen, OnFailure, Policy
from fleet.rollout.rollout_status import RolloutStatus, Stage, is_lost
from fleet.rollout.watching import bake_looks, is_looked_at, renewals, with_room_for_renewals

RETRY_LOCK_S = 5.0
MAX_EPOCH_LEAD = 1_000_000
"""By how much the epoch of one host may exceed the median of all hosts."""


def decide(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    """The actions that are open now."""
    if status.stopping:
        return () if status.busy else (results.stopped(status, resumable=True),)
    if status.stage is Stage.ROLLING_BACK:
        return _roll_back(policy, status, now)
    return within_parallel(_actions(policy, status, now), status, policy.parallel)


def _actions(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    if status.stage is Stage.STARTING:
        return (Emit(EventType.STAGE_STARTED, message=f"preflight on {counted(len(status.hosts))}"),)
    if status.stage is Stage.STAGING:
        return _stage(policy, status, now)
    if over_budget(policy, status):
        return _stop_over_budget(policy, status, now)
    rollbacks = _roll_back_faulty(policy, status, now)
    forward = _next_in_stage(policy, status, now)
    if any(isinstance(action, Finish) for action in forward):
        return rollbacks or forward
    return (*rollbacks, *renewals(policy, status, now), *with_room_for_renewals(policy, status, forward))


def over_budget(policy: Policy, status: RolloutStatus) -> bool:
    """Whether more hosts have a fault than the operator allowed."""
    return policy.on_failure is not OnFailure.CONTINUE and status.faults > policy.max_failures


def _stage(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    remaining = was_not_asked(Ask.STAGE)
    if status.busy or status.host_map.count(remaining):
        return visits_to([remaining], Ask.STAGE, status, now, policy.parallel)
    if wait := _wait_for_others(policy, status, now):
        return (wait,)
    if status.faults:
        return (results.refused(status, policy),)
    if all(host.progress is Progress.LEFT_ALONE for host in status.all):
        return (results.nothing_to_resume(status),)
    if pair := same_instance(status):
        return (results.same_nginx(status, pair),)
    highest = max(status.all, key=_epoch_of)
    epoch = _epoch_of(highest)
    if epoch > median_low(map(_epoch_of, status.all)) + MAX_EPOCH_LEAD:
        return (results.epoch_too_high(status, highest.name, epoch),)
    return (Emit(EventType.STAGE_ENDED, message="every host passed preflight", data={"epoch": 1 + epoch}),)


def _epoch_of(host: HostStatus) -> int:
    return host.report.epoch if host.report else 0


def _wait_for_others(policy: Policy, status: RolloutStatus, now: datetime) -> Action | None:
    """The next try at hosts that another run has, if nothing else is wrong and `--lock-wait` is not over."""
    held = [host for host in status.all if host.in_use]
    until = (status.started_at or now) + timedelta(seconds=policy.lock_wait_s)
    if not held or len(held) < status.faults or now >= until:
        return None
    again_at = max(host.last.started_at or now for host in held) + timedelta(seconds=RETRY_LOCK_S)
    if now < again_at:
        return Wait(min(again_at, until))
    text = f"waiting for {results.names(held)}: {held[0].last.message}"
    return Emit(EventType.NOTE, note=Note.LOCK_WAIT, message=text)


def same_instance(status: RolloutStatus) -> tuple[str, str] | None:
    """Two names of the inventory that are the same nginx on the same machine."""
    seen: dict[tuple[str, str], str] = {}
    for host in status.all:
        if host.report is None or host.report.machine_id is None or host.report.instance is None:
            continue
        key = host.report.machine_id, host.report.instance
        if key in seen:
            return seen[key], host.name
        seen[key] = host.name
    return None


def _next_in_stage(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    match status.stage:
        case Stage.UPGRADING:
            return _upgrade(policy, status, now)
        case Stage.BAKING:
            return _bake(policy, status, now)
        case Stage.CLOSING:
            return _end(policy, status, now)
        case Stage.JUDGED if _halts_after_batch(policy, status):
            return _end(policy, status, now)
        case Stage.JUDGED if policy.commit is CommitWhen.BATCH:
            return (Emit(EventType.COMMIT_STARTED, batch=status.batch, message=f"commit batch {status.batch}"),)
        case Stage.COMMITTING if status.host_map.count(_to_commit(status.committed_batch)):
            free = policy.parallel - status.busy
            return visits_to([_to_commit(status.committed_batch)], Ask.COMMIT, status, now, free + 1)
        case Stage.COMMITTING if status.busy:
            return ()
        case _:
            return _next(policy, status, now)


def _next(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    """The next batch; after the last batch the commit; after the commit the end."""
    if status.batch < len(status.batches):
        number = status.batch + 1
        names = status.batches[number - 1]
        text = f"batch {number} of {len(status.batches)}: {listed(names)}"
        return (Emit(EventType.BATCH_OPENED, batch=number, message=text, data={"hosts": list(names)}),)
    if policy.commit in (CommitWhen.END, CommitWhen.WHEN_DRAINED) and status.committed_batch < len(status.batches):
        left = ", or leave that to the hosts" if policy.retire_within_s else ""
        return (Emit(EventType.COMMIT_STARTED, message=f"commit: retire the held old masters{left}"),)
    return _end(policy, status, now)


def _upgrade(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    pending = _to_upgrade(status.batch)
    if status.host_map.count(pending) or status.host_map.count(_runs_in(status.batch)):
        return visits_to([pending], Ask.UPGRADE, status, now, policy.parallel)
    batch = status.of_batch(status.batch)
    done = sum(host.progress in (Progress.UPGRADED, Progress.RAN_ALREADY) for host in batch)
    text = f"batch {status.batch}: {done} of {counted(len(batch))} upgraded"
    return (Emit(EventType.BATCH_CLOSED, batch=status.batch, message=text),)


@cache
def _to_upgrade(batch: int) -> Question:
    def is_to_upgrade(host: HostStatus) -> bool:
        is_open = host.progress in (Progress.STAGED, Progress.BEGUN)
        return host.batch == batch and host.fault is None and is_open

    return is_to_upgrade


@cache
def _runs_in(batch: int) -> Question:
    return lambda host: host.batch == batch and host.running is not None


def _bake(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    """Looks at every host that this rollout upgraded, until each was looked at once after the end of the bake."""
    bake_s = 0.0 if _nothing_to_watch(status) else policy.bake_s
    end = (status.closed_at or now) + timedelta(seconds=bake_s)
    looks = bake_looks(policy, status, end, now)
    if looks or status.host_map.count(is_looked_at):
        return looks
    return (_judge(policy, status),)


def _judge(policy: Policy, status: RolloutStatus) -> Action:
    """The gate's verdict. A host that gave no answer makes it an `ERROR`, unless the budget has room for that host."""
    failed = [host for host in status.all if _verdict(host) is Verdict.FAILED]
    unanswered = [host for host in status.all if _verdict(host) is Verdict.ERROR]
    none_passed = _no_host_passed(status)
    room = policy.on_failure is OnFailure.CONTINUE or status.faults + len(unanswered) <= policy.max_failures
    verdict = Verdict.PASSED
    if failed:
        verdict = Verdict.FAILED
    elif none_passed or (unanswered and not room):
        verdict = Verdict.ERROR
    why = [
        f"failed: {results.names(failed)}" if failed else "",
        f"no answer: {results.names(unanswered)}" if unanswered else "",
        "no host of it passed" if none_passed else "",
        "nothing to watch: its hosts ran the release already or had passed this gate"
        if _nothing_to_watch(status)
        else "",
    ]
    reasons = "; ".join(filter(None, why))
    text = f"bake of batch {status.batch}: {verdict.value}" + (f" ({reasons})" if reasons else "")
    return Emit(EventType.GATE_JUDGED, batch=status.batch, message=text, data={"verdict": verdict.value})


def _verdict(host: HostStatus) -> Verdict | None:
    return host.bake.verdict if host.bake else None


def _no_host_passed(status: RolloutStatus) -> bool:
    """Whether the open batch had hosts to watch and none of them passed its bake."""
    passed = any(_verdict(host) is Verdict.PASSED for host in status.of_batch(status.batch))
    return not passed and not _nothing_to_watch(status)


def _nothing_to_watch(status: RolloutStatus) -> bool:
    """Whether each host of the open batch ran the release already, or had passed this gate before an interruption."""
    return not status.host_map.count(_to_watch(status.batch))


@cache
def _to_watch(batch: int) -> Question:
    return lambda host: host.batch == batch and host.progress is not Progress.RAN_ALREADY and not _had_passed_gate(host)


def _had_passed_gate(host: HostStatus) -> bool:
    found = host.first_report.phase if host.first_report else None
    return host.passed_gate and host.fault is None and found in (Phase.TRIAL, Phase.NEW)


def _halts_after_batch(policy: Policy, status: RolloutStatus) -> bool:
    """Whether no further batch may open after this one."""
    goes_on = policy.on_failure is OnFailure.CONTINUE or status.batch == len(status.batches)
    return _no_host_passed(status) and not goes_on


@cache
def _to_commit(batch: int) -> Question:
    """Whether a host is still to be committed, in the batches up to this one."""
    return lambda host: (host.batch or 0) <= batch and needs_commit(host)


def needs_commit(host: HostStatus) -> bool:
    """Whether the host is still to be committed. A host whose old connections still drain is not asked again at once."""
    if host.fault is not None or host.progress is not Progress.UPGRADED:
        return False
    return host.unresolved is not None or (host.last.ask is not Ask.COMMIT and host.visited(Ask.COMMIT) < MAX_TRIES)


def _roll_back_faulty(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    """A rollback of each faulty host within the budget, at once: its users must not stay on a release that failed."""
    if policy.on_failure is not OnFailure.ROLLBACK:
        return ()
    return visits_to([_is_bad], Ask.ROLLBACK, status, now, policy.parallel)


def _is_bad(host: HostStatus) -> bool:
    if host.fault is None or host.fault.kind not in (FaultKind.FAILED, FaultKind.UNVERIFIED):
        return False
    return host.phase not in (None, Phase.OLD) and needs_rollback(host)


def _stop_over_budget(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    if policy.on_failure is OnFailure.ROLLBACK and status.host_map.count(_may_be_begun):
        return (Emit(EventType.ROLLBACK_STARTED, reason="budget", message=_why(policy, status)),)
    return _end(policy, status, now)


def _may_be_begun(host: HostStatus) -> bool:
    return host.begun or host.running is not None


def _why(policy: Policy, status: RolloutStatus) -> str:
    bad = results.names(host for host in status.all if host.fault is not None)
    return f"{counted(status.faults)} failed ({bad}), {policy.max_failures} allowed: roll back every begun host"


def _roll_back(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    if status.busy or status.host_map.count(needs_rollback):
        return rollback_visits(needs_rollback, status, policy.parallel, now)
    return (results.rolled_back(policy, status),)


def _end(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    """The end, after a last look at the hosts that were changed and then gave no answer."""
    if status.busy or status.host_map.count(is_unresolved):
        return looks_at_unresolved(status, now, policy.parallel)
    if status.stage is not Stage.CLOSING and status.host_map.count(is_lost):
        return (Emit(EventType.NOTE, note=Note.LAST_LOOK, message="a last look at the hosts that do not answer"),)
    if over_budget(policy, status):
        return (results.over_budget(policy, status),)
    if status.batch and status.gate is not None and _halts_after_batch(policy, status):
        return (results.no_host_passed(status),)
    return (results.completed(policy, status),)
