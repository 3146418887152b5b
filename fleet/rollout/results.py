"""How a run ended: the result, the exit code, and one line that says what is so and which command comes next.

Exit code 4 beats 3: a host that was changed and is not known to be at rest needs a person, whatever else happened.
"""

from collections.abc import Iterable

from fleet.events import Result
from fleet.onhost.protocol import Ask, Phase, State
from fleet.onhost.text import counted, listed
from fleet.rollout.actions import Finish
from fleet.rollout.host_status import HostStatus, KnownReason, Progress
from fleet.rollout.policy import OnFailure, Policy
from fleet.rollout.rollout_status import RolloutStatus, Stage

OK, REFUSED, HALTED, PERSON, HELD_BY_OTHERS, INTERRUPTED = 0, 2, 3, 4, 5, 130


def names(hosts: Iterable[HostStatus], most: int = 5) -> str:
    """The hosts' names in one line: the first `most`, and how many more there are."""
    return listed((host.name for host in hosts), most)


def some_of(count: int, status: RolloutStatus) -> str:
    """`2 of 4 hosts`."""
    return f"{count} of {counted(len(status.hosts))}"


def needs_person(status: RolloutStatus) -> str:
    """A sentence that names the hosts that need a person, or nothing."""
    needing = [host for host in status.all if host.needs_person]
    return f" Needs a person: {names(needing)}. See `fleet status`." if needing else ""


def _code(status: RolloutStatus, otherwise: int) -> int:
    return PERSON if any(host.needs_person for host in status.all) else otherwise


def _halted(status: RolloutStatus, text: str) -> Finish:
    return Finish(Result.HALTED, _code(status, HALTED), text + needs_person(status))


# Before any host was changed


def refused(status: RolloutStatus) -> Finish:
    """Preflight refused a host or could not reach it. This run has changed nothing, though an earlier one may have."""
    bad = [host for host in status.all if host.fault is not None]
    down = [host for host in bad if _was_left_down(host, status.rollout)]
    in_use = [host for host in bad if _holder(host)]
    if in_use and not down:
        return held_by_others(in_use)
    text = f"Refused: {some_of(len(bad), status)} did not pass preflight ({names(bad)}). Nothing was changed."
    if down:
        text += (
            f" nginx does not run on {names(down)}, which this rollout had begun: `fleet status` shows how to start it."
        )
    text += f" Correct the reasons above and run the same command again, or leave these hosts out with {_limit(bad)}."
    return Finish(Result.HALTED, PERSON if down else REFUSED, text)


def _limit(hosts: list[HostStatus], most: int = 5) -> str:
    """The option that leaves these hosts out; an example of it where there are many."""
    without = ",".join(f"!{host.name}" for host in hosts[:most])
    return f"`--limit '{without}'`" if len(hosts) <= most else "`--limit '!HOST,!HOST'`"


def _was_left_down(host: HostStatus, rollout: str) -> bool:
    """Whether an earlier run of this rollout changed the host, and no master runs there now."""
    record = host.report.record if host.report else None
    begun = record is not None and record.rollout == rollout and record.state is State.BEGUN
    return begun and host.phase is Phase.DOWN


def _only_held_by_others(status: RolloutStatus) -> list[HostStatus]:
    """The hosts that another rollout has, if this one has changed none."""
    if any(host.begun for host in status.all):
        return []
    return [host for host in status.all if _holder(host)]


def _holder(host: HostStatus) -> str:
    """The run that has a host which refused because it is in use; empty for two masters that no rollout left there."""
    record = host.report.record if host.report else None
    reason = host.fault.known_reason if host.fault else None
    if host.fault is not None and reason in (KnownReason.BUSY, KnownReason.CLAIMED):
        return host.fault.message.rstrip(".")
    if reason is not KnownReason.UPGRADE_IN_PROGRESS or record is None or record.state is not State.BEGUN:
        return ""
    return f"rollout {record.rollout} of {record.operator}"


def held_by_others(hosts: list[HostStatus]) -> Finish:
    """Another run, which is named, works on these hosts."""
    holders = ", ".join(sorted({_holder(host) for host in hosts}))
    text = (
        f"Refused: another rollout holds {names(hosts)}: {holders}. Nothing was changed. Wait for it with "
        "`--lock-wait 10m`, or end it first with `fleet commit ROLLOUT` or `fleet rollback ROLLOUT`. `fleet status` and "
        "`fleet unlock` show which one it is."
    )
    return Finish(Result.HALTED, HELD_BY_OTHERS, text)


def nothing_to_resume(status: RolloutStatus) -> Finish:
    """An operator rolled every host back from this rollout."""
    text = (
        f"Refused: rollout {status.rollout} was rolled back on every host. Nothing was changed. "
        "Begin a new one: `fleet upgrade RELEASE`."
    )
    return Finish(Result.HALTED, REFUSED, text)


def same_nginx(pair: tuple[str, str]) -> Finish:
    """Two names of the inventory are one nginx."""
    text = (
        f"Refused: {pair[0]} and {pair[1]} are the same nginx on the same machine. Nothing was changed. "
        f"In the inventory, give each its own nginx_pid_file; or leave one out with `--limit '!{pair[1]}'`."
    )
    return Finish(Result.HALTED, REFUSED, text)


def epoch_too_high(host: str, epoch: int) -> Finish:
    """One host reports an epoch that no number of rollouts led to. The next epoch would spread it to all hosts for good."""
    text = (
        f"Refused: {host} reports the epoch {epoch}, far above all other hosts. Nothing was changed. "
        "Only a broken or forged file says so: look at `ls -l /var/lib/fleet/instances/*/fence.json` on that host. Until "
        f"then leave it out with `--limit '!{host}'`."
    )
    return Finish(Result.HALTED, REFUSED, text)


# Before the plan was done


def stopped(status: RolloutStatus, resumable: bool = False) -> Finish:
    """The run was interrupted, taken over or lost its journal. `resumable`: the journal knows what is still to do."""
    if status.taken_over is not None:
        text = f"Halted: {status.taken_over.rstrip('.')}. No further host was begun.{_leases(status)}"
        person = needs_person(status) or " See where the hosts are: `fleet status`."
        return Finish(Result.HALTED, _code(status, HALTED), text + person)
    if status.journal_lost is not None:
        return _journal_lost(status, status.journal_lost)
    begun = _begun_and_not_back(status)
    if begun:
        text = f"Interrupted: {_begun_words(begun, status)}{_leases(status)} {_next_commands(status)}"
        return Finish(Result.INTERRUPTED, INTERRUPTED, text)
    back = [host for host in status.all if host.progress is Progress.ROLLED_BACK]
    changed = f"{counted(len(back))} rolled back ({names(back)}), no other host" if back else "No host"
    resume = f" To continue: `fleet resume {status.rollout}`." if resumable else ""
    return Finish(Result.INTERRUPTED, INTERRUPTED, f"Interrupted. {changed} was changed.{resume}")


def _begun_and_not_back(status: RolloutStatus) -> list[HostStatus]:
    return [host for host in status.all if _may_have_moved(host) and host.progress is not Progress.ROLLED_BACK]


def _journal_lost(status: RolloutStatus, why: str) -> Finish:
    """The journal can no longer be written. The hosts' own records still name their rollout."""
    repair = "Repair the journal, or name another one with `--journal FILE`."
    begun = _begun_and_not_back(status)
    if not begun:
        return Finish(Result.HALTED, _code(status, HALTED), f"Halted: {why} No host was changed. {repair}")
    text = (
        f"Halted: {why} {_begun_words(begun, status)}{_leases(status)} {repair} {_next_commands(status)} "
        "A rollback needs no journal."
    )
    return Finish(Result.HALTED, _code(status, HALTED), text)


def _begun_words(begun: list[HostStatus], status: RolloutStatus) -> str:
    """`2 hosts begun (web-01, web-02), each in a resting phase.`"""
    unknown = [host for host in status.all if host.needs_person or (host.running and _may_have_moved(host))]
    rest = f"not known to be at rest: {names(unknown)} (see `fleet status`)" if unknown else "each in a resting phase"
    return f"{counted(len(begun))} begun ({names(begun)}), {rest}."


def _may_have_moved(host: HostStatus) -> bool:
    return host.begun or host.doing in (Ask.UPGRADE, Ask.COMMIT, Ask.ROLLBACK)


def _next_commands(status: RolloutStatus) -> str:
    """What to type after an interruption: it depends on the command that was interrupted."""
    rollback, commit, resume = (f"`fleet {command} {status.rollout}`" for command in ("rollback", "commit", "resume"))
    if status.stage is Stage.ROLLING_BACK:
        return f"To continue: {rollback}."
    if status.stage is Stage.COMMITTING and not any(host.progress is Progress.STAGED for host in status.all):
        return f"To continue: {resume if status.batch else commit}. To go back: {rollback}."
    held = any(host.held and not host.last.unanswered and host.running is None for host in status.all)
    keep = f" To commit the held hosts: {commit}." if held else ""
    return f"To continue: {resume}. To go back: {rollback}.{keep}"


def _leases(status: RolloutStatus) -> str:
    """The sentence that held hosts with a lease roll themselves back, and how soon."""
    left_s = [host.report.lease_left_s for host in status.all if host.held and host.report]
    soonest_s = min((each for each in left_s if each is not None), default=None)
    if soonest_s is None:
        return ""
    return f" Each held host rolls itself back when its lease expires, the first in {soonest_s:.0f} s."


# At the end of an upgrade


def rolled_back(policy: Policy, status: RolloutStatus) -> Finish:
    """The budget was exceeded and every begun host was rolled back."""
    if others := _only_held_by_others(status):
        return held_by_others(others)
    back = sum(host.progress is Progress.ROLLED_BACK for host in status.all)
    text = (
        f"Rolled back: {_faults(status)}, {policy.max_failures} allowed; {counted(back)} rolled back, "
        f"{counted(status.counts['not_begun'])} not begun."
    )
    person = needs_person(status) or f" The events: `fleet show {status.rollout}`."
    return Finish(Result.ROLLED_BACK, _code(status, HALTED), text + person)


def over_budget(policy: Policy, status: RolloutStatus) -> Finish:
    """The budget was exceeded and the policy says halt."""
    if others := _only_held_by_others(status):
        return held_by_others(others)
    text = f"Halted: {_faults(status)}, {policy.max_failures} allowed. No further host was begun. {_way_back(status)}"
    return _halted(status, text)


def no_host_passed(status: RolloutStatus) -> Finish:
    """No host of the batch passed its bake, so the gate has no evidence for the release."""
    if others := _only_held_by_others(status):
        return held_by_others(others)
    why = f"no host of batch {status.batch} passed its bake, so the next batch was not begun"
    faults = _faults(status)  # None on a resume where another operator has rolled the whole batch back.
    return _halted(status, f"Halted: {f'{faults}; ' if faults else ''}{why}. {_way_back(status)}")


def _way_back(status: RolloutStatus) -> str:
    """How to continue, and how to roll back what was changed or that there is nothing to roll back."""
    rollout = status.rollout
    resume = f"Once the cause is removed, continue with `fleet resume {rollout}`."
    if not all(host.unchanged for host in status.all):
        return f"{_leases(status)} {resume} To go back: `fleet rollback {rollout}`.".lstrip()
    if any(host.begun for host in status.all):
        return f"Every begun host is OLD again: nothing to roll back. The events: `fleet show {rollout}`. {resume}"
    return f"Nothing was changed. The events: `fleet show {rollout}`. {resume}"


def completed(policy: Policy, status: RolloutStatus) -> Finish:
    """Every batch is done, committed or held as the policy says, except for the faults that the budget allows."""
    if others := _only_held_by_others(status):
        return held_by_others(others)
    pending = [host for host in status.all if host.drain_pending]
    done = status.counts["done"]
    is_done = done > 0 and not pending
    parts = [
        f"{'Completed' if is_done else 'Not finished'}: {some_of(done, status)} run the new release.",
        _faults_at_end(policy, status),
        _held_at_end(status),
        drain_pending(pending, status.rollout),
    ]
    well = not status.faults and not pending
    result = Result.COMPLETED if is_done else Result.HALTED
    text = " ".join(filter(None, parts)) + needs_person(status)
    return Finish(result, _code(status, OK if well else HALTED), text)


def _faults_at_end(policy: Policy, status: RolloutStatus) -> str:
    if not status.faults:
        return ""
    was = " (not upgraded, or rolled back)" if policy.on_failure is OnFailure.ROLLBACK else ""
    return f"{_faults(status)}{was}. Once the cause is removed, continue with `fleet resume {status.rollout}`."


def _held_at_end(status: RolloutStatus) -> str:
    held = [host for host in status.all if host.held and not host.drain_pending]
    if not held:
        return ""
    rollout = status.rollout
    return (
        f"{counted(len(held))} held.{_leases(status)} To retire the old masters: `fleet commit {rollout}`. "
        f"To go back: `fleet rollback {rollout}`."
    )


def drain_pending(hosts: list[HostStatus], rollout: str) -> str:
    """The sentence that old connections keep these hosts held, and what to type; empty for no host."""
    if not hosts:
        return ""
    return (
        f"Old connections still drain on {names(hosts)}, so these stay held. To wait again: `fleet commit {rollout}`. "
        f"To close the connections: `fleet commit --cut {rollout}`."
    )


def _faults(status: RolloutStatus) -> str:
    counts = status.counts
    words = [f"{counts[word]} {word}" for word in ("failed", "refused", "unreachable", "unverified") if counts[word]]
    return ", ".join(words)
