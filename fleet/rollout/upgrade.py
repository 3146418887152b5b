"""What `fleet upgrade` does next: stage everywhere, then batch by batch upgrade, bake, judge, and at the end commit.

    no host is changed before every host has passed preflight     a refusal or a silent host there ends it: exit 2
    a batch closes when each of its hosts is settled              upgraded or at fault; one in doubt is asked first
    a gate opens when the hosts upgraded so far were seen well    at the end of the bake, at the earliest
    a batch of which no host was seen well is the last one        within the budget, too (but for `continue`)
    the budget is looked at before anything new begins            exceeded: nobody new; then back, or halt
    a host at fault inside the budget is taken back alone         at once, when `on_failure` is rollback: its users
                                                                  would else meet a bad release until the end
    a host that went back by itself is never moved forward

`decide` is pure and has no memory: all of it is in the status. It may be asked at any moment and gives the actions that
are open now; when it gives none, the engine waits for a visit to end.
"""

from datetime import datetime, timedelta
from statistics import median_low

from fleet.events import EventType, Note
from fleet.onhost.protocol import Ask, Phase
from fleet.onhost.text import counted
from fleet.rollout import results
from fleet.rollout.actions import Action, Emit, Finish, Visit, Wait, looks_at_unresolved, visits_to, within_parallel
from fleet.rollout.gate import Verdict
from fleet.rollout.host_status import GIVE_UP_AFTER, MAX_TRIES, FaultKind, HostStatus, Progress
from fleet.rollout.lease_renewal import renewals, with_room_for_renewals
from fleet.rollout.policy import CommitWhen, OnFailure, Policy
from fleet.rollout.rollout_status import RolloutStatus, Stage, is_lost

RETRY_BAKE_S = 2.0
RETRY_LOCK_S = 5.0
MOST_AHEAD = 1_000_000
"""By how many rollouts a host may be ahead of most others."""


def decide(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    """The actions that are open now."""
    return within_parallel(_actions(policy, status, now), status, policy.parallel)


def _actions(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    if status.stopping:
        return () if status.busy else (results.stopped(status, resumable=True),)
    if status.stage is Stage.STARTING:
        return (Emit(EventType.STAGE_STARTED, message=f"preflight on {counted(len(status.hosts))}"),)
    if status.stage is Stage.STAGING:
        return _stage(policy, status, now)
    if status.stage is Stage.ROLLING_BACK:
        return _go_back(policy, status, now)
    if over_budget(policy, status):
        return _break_off(policy, status, now)
    back = _take_back_alone(policy, status, now)
    on = _go_on(policy, status, now)
    if any(isinstance(action, Finish) for action in on):
        return back or on
    return (*back, *renewals(policy, status, now), *with_room_for_renewals(policy, status, on))


def over_budget(policy: Policy, status: RolloutStatus) -> bool:
    """Whether more hosts are at fault than the operator allowed."""
    return policy.on_failure is not OnFailure.CONTINUE and status.faults > policy.max_failures


def _stage(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    unasked = [host for host in status.all if not host.visited(Ask.STAGE)]
    if unasked or status.busy:
        return visits_to(unasked, Ask.STAGE, now)
    if wait := _wait_for_others(policy, status, now):
        return (wait,)
    if status.faults:
        return (results.refused(status),)
    if all(host.progress is Progress.LEFT_ALONE for host in status.all):
        return (results.taken_back(status),)
    if twins := same_instance(status):
        return (results.twins(twins),)
    highest = max(status.all, key=_epoch_of)
    epoch = _epoch_of(highest)
    if epoch > median_low(map(_epoch_of, status.all)) + MOST_AHEAD:
        return (results.far_ahead(highest.name, epoch),)
    return (Emit(EventType.STAGE_ENDED, message="every host passed preflight", data={"epoch": 1 + epoch}),)


def _epoch_of(host: HostStatus) -> int:
    return host.report.epoch if host.report else 0


def _wait_for_others(policy: Policy, status: RolloutStatus, now: datetime) -> Action | None:
    """The next try at hosts that somebody else is at work on, when nothing else is wrong and the operator would wait."""
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
    """Two names of the inventory that turned out to be the same nginx on the same machine."""
    seen: dict[tuple[str, str], str] = {}
    for host in status.all:
        if host.report is None or host.report.machine_id is None or host.report.instance is None:
            continue
        key = host.report.machine_id, host.report.instance
        if key in seen:
            return seen[key], host.name
        seen[key] = host.name
    return None


def _go_on(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    match status.stage:
        case Stage.UPGRADING:
            return _upgrade(status, now)
        case Stage.BAKING:
            return _bake(policy, status, now)
        case Stage.CLOSING:
            return _close(policy, status, now)
        case Stage.JUDGED if _halts_here(policy, status):
            return _close(policy, status, now)
        case Stage.JUDGED if policy.commit is CommitWhen.BATCH:
            return (Emit(EventType.COMMIT_STARTED, batch=status.batch, message=f"commit batch {status.batch}"),)
        case Stage.COMMITTING if pending := _to_commit(status):
            return visits_to(pending, Ask.COMMIT, now)
        case Stage.COMMITTING if status.busy:
            return ()
        case _:
            return _next(policy, status, now)


def _next(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    """The next batch, or after the last one the commit, or after that the end."""
    if status.batch < len(status.batches):
        number = status.batch + 1
        names = status.batches[number - 1]
        text = f"batch {number} of {len(status.batches)}: {', '.join(names)}"
        return (Emit(EventType.BATCH_OPENED, batch=number, message=text, data={"hosts": list(names)}),)
    if policy.commit is CommitWhen.END and status.committed_batch < len(status.batches):
        return (Emit(EventType.COMMIT_STARTED, message="commit: the held old masters are retired"),)
    return _close(policy, status, now)


def _upgrade(status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    batch = status.of_batch(status.batch)
    pending = [host for host in batch if host.fault is None and host.progress in (Progress.STAGED, Progress.BEGUN)]
    if pending or any(host.running for host in batch):
        return visits_to(pending, Ask.UPGRADE, now)
    done = sum(host.progress in (Progress.UPGRADED, Progress.RAN_ALREADY) for host in batch)
    text = f"batch {status.batch}: {done} of {counted(len(batch))} upgraded"
    return (Emit(EventType.BATCH_CLOSED, batch=status.batch, message=text),)


def _bake(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    """Looks at every host that runs the new release by this rollout, until each was seen at the end of the bake."""
    bake_s = 0.0 if _nothing_to_watch(status) else policy.bake_s
    end = (status.closed_at or now) + timedelta(seconds=bake_s)
    watched = [host for host in status.all if _watched(host)]
    open_hosts = [host for host in watched if not _seen_to_the_end(host, end, now)]
    if not open_hosts:
        return () if any(host.doing is Ask.BAKE for host in status.all) else (_judge(policy, status),)
    actions: list[Action] = []
    for host in open_hosts:
        due = _next_look(policy, host, end, now)
        if host.running is None:
            actions.append(Visit(host.name, Ask.BAKE, host.batch) if due <= now else Wait(due))
    return tuple(actions)


def _watched(host: HostStatus) -> bool:
    return host.fault is None and host.progress in (Progress.UPGRADED, Progress.COMMITTED)


def _seen_to_the_end(host: HostStatus, end: datetime, now: datetime) -> bool:
    bake = host.bake
    if bake is None or bake.looked_at < end or host.running is not None:
        return False
    return bake.unanswered_since is None or now - bake.unanswered_since >= GIVE_UP_AFTER


def _next_look(policy: Policy, host: HostStatus, end: datetime, now: datetime) -> datetime:
    if host.bake is None:
        return now
    if host.bake.unanswered_since is not None:
        return host.bake.looked_at + timedelta(seconds=RETRY_BAKE_S)
    return min(host.bake.looked_at + timedelta(seconds=policy.look_every_s), end)


def _judge(policy: Policy, status: RolloutStatus) -> Action:
    """The gate's verdict. A host that could not be asked makes it an error, unless the budget has room for it."""
    failed = [host for host in status.all if _verdict(host) is Verdict.FAILED]
    silent = [host for host in status.all if _verdict(host) is Verdict.ERROR]
    unproven = _unproven(status)
    room = policy.on_failure is OnFailure.CONTINUE or status.faults + len(silent) <= policy.max_failures
    verdict = Verdict.PASSED
    if failed:
        verdict = Verdict.FAILED
    elif unproven or (silent and not room):
        verdict = Verdict.ERROR
    why = [
        f"failed: {results.names(failed)}" if failed else "",
        f"no answer: {results.names(silent)}" if silent else "",
        "none of its hosts was seen well" if unproven else "",
        "its hosts ran the release already, and were watched before" if _nothing_to_watch(status) else "",
    ]
    told = "; ".join(filter(None, why))
    text = f"bake of batch {status.batch}: {verdict.value}" + (f" ({told})" if told else "")
    return Emit(EventType.GATE_JUDGED, batch=status.batch, message=text, data={"verdict": verdict.value})


def _verdict(host: HostStatus) -> Verdict | None:
    return host.bake.verdict if host.bake else None


def _unproven(status: RolloutStatus) -> bool:
    """Whether the open batch had hosts to upgrade and none of them was seen well."""
    well = any(_verdict(host) is Verdict.PASSED for host in status.of_batch(status.batch))
    return not well and not _nothing_to_watch(status)


def _nothing_to_watch(status: RolloutStatus) -> bool:
    """Whether the open batch has no host that came to the release just now: they ran it already, or had passed this
    gate before the run was interrupted.
    """
    return all(host.progress is Progress.RAN_ALREADY or _was_proven(host) for host in status.of_batch(status.batch))


def _was_proven(host: HostStatus) -> bool:
    found = host.first_report.phase if host.first_report else None
    return host.passed_gate and host.fault is None and found in (Phase.TRIAL, Phase.NEW)


def _halts_here(policy: Policy, status: RolloutStatus) -> bool:
    """Whether no further batch may open after the one that was judged."""
    goes_on = policy.on_failure is OnFailure.CONTINUE or status.batch == len(status.batches)
    return _unproven(status) and not goes_on


def _to_commit(status: RolloutStatus) -> list[HostStatus]:
    """The hosts that are still to be committed. One that waits for its old connections is not asked at once again."""
    return [host for host in status.all if (host.batch or 0) <= status.committed_batch and wants_commit(host)]


def wants_commit(host: HostStatus) -> bool:
    """Whether the host holds its old master, and was not just asked to retire it."""
    if host.fault is not None or host.progress is not Progress.UPGRADED:
        return False
    return host.unresolved is not None or (host.last.ask is not Ask.COMMIT and host.visited(Ask.COMMIT) < MAX_TRIES)


def wants_back(host: HostStatus) -> bool:
    """Whether the host is still to be taken back. One that said that it failed to go back is not told so again."""
    if not host.begun or host.progress is Progress.ROLLED_BACK or host.gave_up_on(Ask.ROLLBACK):
        return False
    return host.last.ask is not Ask.ROLLBACK or host.unresolved is not None


def _take_back_alone(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    """A host at fault inside the budget goes back at once: its users would be left with a release that nobody trusts."""
    if policy.on_failure is not OnFailure.ROLLBACK:
        return ()
    kinds = (FaultKind.FAILED, FaultKind.UNVERIFIED)
    untrusted = [host for host in status.all if host.fault and host.fault.kind in kinds]
    bad = [host for host in untrusted if host.phase not in (None, Phase.OLD) and wants_back(host)]
    return visits_to(bad, Ask.ROLLBACK, now)


def _break_off(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    if policy.on_failure is OnFailure.ROLLBACK and any(host.begun or host.running for host in status.all):
        return (Emit(EventType.ROLLBACK_STARTED, reason="budget", message=_why(policy, status)),)
    doubted = [host for host in status.all if host.unresolved is not None]
    if doubted or status.busy:
        return looks_at_unresolved(doubted, now)
    return _close(policy, status, now)


def _why(policy: Policy, status: RolloutStatus) -> str:
    bad = results.names(host for host in status.all if host.fault is not None)
    return f"{counted(status.faults)} at fault ({bad}), {policy.max_failures} allowed: every begun host goes back"


def _go_back(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    pending = [host for host in status.all if wants_back(host)]
    if pending or status.busy:
        return visits_to(pending, Ask.ROLLBACK, now)
    return (results.rolled_back(policy, status),)


def _close(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    """The end, after a last look at the hosts that were changed and then fell silent."""
    doubted = [host for host in status.all if host.unresolved is not None]
    if status.busy or doubted:
        return looks_at_unresolved(doubted, now)
    if status.stage is not Stage.CLOSING and any(is_lost(host) for host in status.all):
        return (Emit(EventType.NOTE, note=Note.LAST_LOOK, message="a last look at the hosts that don't answer"),)
    if over_budget(policy, status):
        return (results.over_budget(policy, status),)
    if status.batch and status.gate is not None and _halts_here(policy, status):
        return (results.unproven(status),)
    return (results.completed(policy, status),)
