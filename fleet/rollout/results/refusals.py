"""The ends of a run before it changed a host."""

from collections.abc import Sequence

from fleet.events import Result
from fleet.onhost.protocol import Phase, State
from fleet.rollout.actions import Finish
from fleet.rollout.host_status import RESTING, HostStatus, KnownReason
from fleet.rollout.policy import OnFailure, Policy
from fleet.rollout.results.codes import HELD_BY_OTHERS, PERSON, REFUSED, line, names, see_status, some_of
from fleet.rollout.rollout_status import RolloutStatus
from fleet.typed_command import LONGEST_LINE


def refused(status: RolloutStatus, policy: Policy | None = None) -> Finish:
    """Preflight refused a host or could not reach it. This run has changed nothing, though an earlier one may have.

    `policy` is that of an upgrade; `None` for a check.
    """
    bad = [host for host in status.all if host.fault is not None]
    down = [host for host in bad if _was_left_down(host, status.rollout)]
    in_use = [host for host in bad if holder(host)]
    half_back = [host for host in bad if host.is_half_way_back(status.rollout) and host not in in_use]
    if in_use and not down and not half_back:
        return held_by_others(status, in_use)
    parts = [
        f"Refused: {some_of(len(bad), status)} did not pass preflight ({names(bad)}). Nothing was changed.",
        f"nginx does not run on {names(down)}, which this rollout had begun: {see_status(status)} shows how to start it."
        if down
        else "",
        f"A rollback of this rollout did not finish on {names(half_back)}. Finish it first: {line(status, 'rollback')}."
        if half_back
        else "",
        _why_the_budget_does_not_help(policy),
        _to_try_again(status, [host for host in bad if host not in half_back]),
    ]
    needs_person = down or any(host.phase not in RESTING for host in half_back)
    return Finish(Result.HALTED, PERSON if needs_person else REFUSED, " ".join(filter(None, parts)))


def _why_the_budget_does_not_help(policy: Policy | None) -> str:
    """Why a host that did not pass preflight is no failure that the operator has allowed."""
    if policy is None or (policy.max_failures == 0 and policy.on_failure is not OnFailure.CONTINUE):
        return ""
    option = "--on-failure continue" if policy.on_failure is OnFailure.CONTINUE else "--max-failures"
    return f"{option} does not cover preflight: no host is changed before every host has passed it."


def _to_try_again(status: RolloutStatus, bad: Sequence[HostStatus]) -> str:
    if not bad:
        return ""
    mended = "Correct the reasons above and run the same command again"
    without = leaving_out(status, [host.name for host in bad])
    return f"{mended}, or leave {'it' if len(bad) == 1 else 'them'} out: {without}." if without else f"{mended}."


def leaving_out(status: RolloutStatus, hosts: Sequence[str]) -> str:
    """The same command without these hosts; empty if no host would be left, or the line would be too long to copy."""
    found = status.typed.of(status.rollout).without(hosts).quoted
    return found if len(hosts) < len(status.hosts) and len(found) <= LONGEST_LINE else ""


def _was_left_down(host: HostStatus, rollout: str) -> bool:
    """Whether an earlier run of this rollout changed the host, and no master runs there now."""
    record = host.report.record if host.report else None
    begun = record is not None and record.rollout == rollout and record.state is State.BEGUN
    return begun and host.phase is Phase.DOWN


def holder(host: HostStatus) -> str:
    """The run that has a host which refused because it is in use; empty for two masters that no rollout left there."""
    record = host.report.record if host.report else None
    reason = host.fault.known_reason if host.fault else None
    if host.fault is not None and reason in (KnownReason.BUSY, KnownReason.CLAIMED):
        return host.fault.message.rstrip(".")
    if reason is not KnownReason.UPGRADE_IN_PROGRESS or record is None or record.state is not State.BEGUN:
        return ""
    return f"rollout {record.rollout} of {record.operator}"


def _rollout_of_holder(host: HostStatus) -> str | None:
    """The id of the rollout that has the host, where the host's report gives it."""
    if host.report is None:
        return None
    if host.report.claim is not None:
        return host.report.claim.rollout
    return host.report.record.rollout if host.report.record is not None else None


def held_by_others(status: RolloutStatus, hosts: Sequence[HostStatus]) -> Finish:
    """Another run, which is named, works on these hosts."""
    holders = ", ".join(sorted({holder(host) for host in hosts}))
    rollouts = {_rollout_of_holder(host) for host in hosts}
    other = next(iter(rollouts)) if len(rollouts) == 1 else None
    typed = status.typed.of(status.rollout)
    ways = " or ".join(
        typed.other(command, other or "ROLLOUT", of_another=True).quoted for command in ("commit", "rollback")
    )
    text = (
        f"Refused: another rollout holds {names(hosts)}: {holders}. Nothing was changed. Wait for it: "
        f"{typed.having('lock_wait', '--lock-wait', '10m').quoted}; or end it first: {ways}. {see_status(status)} and "
        f"{typed.other('unlock').quoted} show which one it is."
    )
    return Finish(Result.HALTED, HELD_BY_OTHERS, text)


def nothing_to_resume(status: RolloutStatus) -> Finish:
    """An operator rolled every host back from this rollout."""
    text = (
        f"Refused: rollout {status.rollout} was rolled back on every host. Nothing was changed. "
        f"Begin a new one: {status.typed.other('upgrade', 'RELEASE').quoted}."
    )
    return Finish(Result.HALTED, REFUSED, text)


def same_nginx(status: RolloutStatus, pair: tuple[str, str]) -> Finish:
    """Two names of the inventory are one nginx."""
    text = (
        f"Refused: {pair[0]} and {pair[1]} are the same nginx on the same machine. Nothing was changed. In the inventory, "
        f"give each its own nginx_pid_file; or leave one out: {leaving_out(status, [pair[1]])}."
    )
    return Finish(Result.HALTED, REFUSED, text)


def epoch_too_high(status: RolloutStatus, host: str, epoch: int) -> Finish:
    """One host reports an epoch that no number of rollouts led to. The next epoch would spread it to all hosts for good."""
    text = (
        f"Refused: {host} reports the epoch {epoch}, far above all other hosts. Nothing was changed. "
        "Only a broken or forged file says so: look at `ls -l /var/lib/fleet/instances/*/fence.json` on that host. Until "
        f"then leave it out: {leaving_out(status, [host])}."
    )
    return Finish(Result.HALTED, REFUSED, text)
