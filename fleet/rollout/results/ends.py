"""The ends of an upgrade whose plan was done, or that stopped because too many hosts failed."""

from math import ceil

from fleet.events import Result
from fleet.onhost.text import counted
from fleet.plan import duration_in_words
from fleet.rollout.actions import Finish
from fleet.rollout.host_status import HostStatus, Progress
from fleet.rollout.policy import OnFailure, Policy
from fleet.rollout.results.codes import HALTED, OK, code, leases, line, names, needs_person, some_of
from fleet.rollout.results.refusals import held_by_others, holder
from fleet.rollout.rollout_status import RolloutStatus


def _halted(status: RolloutStatus, text: str) -> Finish:
    return Finish(Result.HALTED, code(status, HALTED), text + needs_person(status))


def _only_held_by_others(status: RolloutStatus) -> list[HostStatus]:
    """The hosts that another rollout has, if this one has changed none."""
    if any(host.begun for host in status.all):
        return []
    return [host for host in status.all if holder(host)]


def rolled_back(policy: Policy, status: RolloutStatus) -> Finish:
    """The budget was exceeded and every begun host was rolled back."""
    if others := _only_held_by_others(status):
        return held_by_others(status, others)
    back = sum(host.progress is Progress.ROLLED_BACK for host in status.all)
    text = (
        f"Rolled back: {_faults(status)}, {policy.max_failures} allowed; {counted(back)} rolled back, "
        f"{counted(status.counts['not_begun'])} not begun."
    )
    person = needs_person(status) or f" The events: {line(status, 'show')}."
    return Finish(Result.ROLLED_BACK, code(status, HALTED), text + person)


def over_budget(policy: Policy, status: RolloutStatus) -> Finish:
    """The budget was exceeded and the policy says halt."""
    if others := _only_held_by_others(status):
        return held_by_others(status, others)
    text = f"Halted: {_faults(status)}, {policy.max_failures} allowed. No further host was begun. {_way_back(status)}"
    return _halted(status, text)


def no_host_passed(status: RolloutStatus) -> Finish:
    """No host of the batch passed its bake, so the gate has no evidence for the release."""
    if others := _only_held_by_others(status):
        return held_by_others(status, others)
    why = f"no host of batch {status.batch} passed its bake, so the next batch was not begun"
    faults = _faults(status)  # None on a resume where another operator has rolled the whole batch back.
    return _halted(status, f"Halted: {f'{faults}; ' if faults else ''}{why}. {_way_back(status)}")


def _way_back(status: RolloutStatus) -> str:
    """How to continue, and how to roll back what was changed or that there is nothing to roll back."""
    resume = f"Once the cause is removed, continue with {line(status, 'resume')}."
    if not all(host.unchanged for host in status.all):
        return f"{leases(status)} {resume} To go back: {line(status, 'rollback')}.".lstrip()
    if any(host.begun for host in status.all):
        return f"Every begun host is OLD again: nothing to roll back. The events: {line(status, 'show')}. {resume}"
    return f"Nothing was changed. The events: {line(status, 'show')}. {resume}"


def completed(policy: Policy, status: RolloutStatus) -> Finish:
    """Every batch is done, committed or held as the policy says, except for the faults that the budget allows."""
    if others := _only_held_by_others(status):
        return held_by_others(status, others)
    pending = [host for host in status.all if host.drain_pending]
    done = status.counts["done"]
    is_done = done > 0 and not pending
    parts = [
        f"{'Completed' if is_done else 'Not finished'}: {some_of(done, status)} run the new release.",
        _faults_at_end(policy, status),
        _held_at_end(status),
        left_to_hosts(status),
        drain_pending(status, pending),
    ]
    well = not status.faults and not pending
    result = Result.COMPLETED if is_done else Result.HALTED
    text = " ".join(filter(None, parts)) + needs_person(status)
    return Finish(result, code(status, OK if well else HALTED), text)


def _faults_at_end(policy: Policy, status: RolloutStatus) -> str:
    if not status.faults:
        return ""
    was = " (not upgraded, or rolled back)" if policy.on_failure is OnFailure.ROLLBACK else ""
    return f"{_faults(status)}{was}. Once the cause is removed, continue with {line(status, 'resume')}."


def _held_at_end(status: RolloutStatus) -> str:
    held = [host for host in status.all if host.held and not host.drain_pending and not host.retires_itself]
    if not held:
        return ""
    return (
        f"{counted(len(held))} held.{leases(status)} To retire the old masters: {line(status, 'commit')}. "
        f"To go back: {line(status, 'rollback')}."
    )


def left_to_hosts(status: RolloutStatus) -> str:
    """The sentence that hosts retire their old masters by themselves, and by when; empty for none."""
    left = [host for host in status.all if host.retires_itself]
    reports = [host.report for host in left if host.report is not None]
    latest_s = max((report.retirement.left_s for report in reports if report.retirement is not None), default=0.0)
    if not left:
        return ""
    drains = [report.drain for report in reports if report.drain is not None]
    old = counted(sum(drain.workers for drain in drains), "old worker")
    open_now = f"{counted(sum(drain.connections for drain in drains), 'connection')} on {old}"
    it = "it retires its old master" if len(left) == 1 else "they retire their old masters"
    return (
        f"Left to {names(left)}: once the old connections have ended ({open_now} now), {it} without fleet, in "
        f"{duration_in_words(60.0 * ceil(latest_s / 60))} at the latest. Until then it costs two signals to go back: "
        f"{line(status, 'rollback')}."
    )


def drain_pending(status: RolloutStatus, hosts: list[HostStatus]) -> str:
    """The sentence that old connections keep these hosts held, and what to type; empty for no host."""
    if not hosts:
        return ""
    commit = status.typed.other("commit", status.rollout)
    return (
        f"Old connections still drain on {names(hosts)}, so these stay held. To wait again: {commit.quoted}. To close the "
        f"connections: {commit.having('cut', '--cut').quoted}."
    )


def _faults(status: RolloutStatus) -> str:
    counts = status.counts
    words = [f"{counts[word]} {word}" for word in ("failed", "refused", "unreachable", "unverified") if counts[word]]
    return ", ".join(words)
