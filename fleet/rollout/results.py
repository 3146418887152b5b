"""How a rollout ended: the result, the exit code, and one line that says what is so and what to do now.

4 beats 3: a host that was changed and is not known to be at rest needs a person, whatever else became of the rollout.
"""

from collections.abc import Iterable

from fleet.events import Result
from fleet.onhost.protocol import Ask, Phase, State
from fleet.onhost.text import counted, listed
from fleet.rollout.actions import Finish
from fleet.rollout.host_status import HostStatus, KnownReason, Progress
from fleet.rollout.policy import OnFailure, Policy
from fleet.rollout.rollout_status import RolloutStatus, Stage

OK, REFUSED, HALTED, PERSON, ANOTHERS, INTERRUPTED = 0, 2, 3, 4, 5, 130


def names(hosts: Iterable[HostStatus], most: int = 5) -> str:
    """The hosts' names in one line; long lists are cut with their number."""
    return listed((host.name for host in hosts), most)


def _code(status: RolloutStatus, otherwise: int) -> int:
    return PERSON if any(host.needs_person for host in status.all) else otherwise


def _people(status: RolloutStatus) -> str:
    needing = [host for host in status.all if host.needs_person]
    if not needing:
        return ""
    return f" A person must look at {names(needing)}: run `fleet status` and see there."


def refused(status: RolloutStatus) -> Finish:
    """Preflight said no, or a host could not be asked: this run has changed nothing, whatever an earlier one had."""
    bad = [host for host in status.all if host.fault is not None]
    text = (
        f"Refused: {counted(len(bad))} of {len(status.hosts)} did not pass preflight ({names(bad)}). "
        "Nothing was changed. Cure what is said above, or leave the hosts out with --limit."
    )
    down = [host for host in bad if _was_left_down(host, status.rollout)]
    others = [host for host in bad if _holder(host)]
    if others and not down:
        return held_by_others(others)
    if down:
        text += f" This rollout had begun {names(down)}, where no nginx runs now: a person must start it, see `fleet status`."
    return Finish(Result.HALTED, PERSON if down else REFUSED, text)


def _was_left_down(host: HostStatus, rollout: str) -> bool:
    """Whether the host was changed by an earlier run of this rollout and no master lives there any more."""
    record = host.report.record if host.report else None
    begun = record is not None and record.rollout == rollout and record.state is State.BEGUN
    return begun and host.phase is Phase.DOWN


def _held_by_another(status: RolloutStatus) -> list[HostStatus]:
    """The hosts that another rollout has, where this one has changed none."""
    if any(host.begun for host in status.all):
        return []
    return [host for host in status.all if _holder(host)]


def _holder(host: HostStatus) -> str:
    """Who has a host that refused because it is in use; empty for two masters that no rollout left there."""
    record = host.report.record if host.report else None
    reason = host.fault.known_reason if host.fault else None
    if host.fault is not None and reason in (KnownReason.BUSY, KnownReason.CLAIMED):
        return host.fault.message
    if reason is not KnownReason.UPGRADE_IN_PROGRESS or record is None or record.state is not State.BEGUN:
        return ""
    return f"rollout {record.rollout} of {record.operator}"


def held_by_others(hosts: list[HostStatus]) -> Finish:
    """Somebody else is at work on these hosts, and is named."""
    who = ", ".join(sorted({_holder(host) for host in hosts}))
    text = (
        f"Refused: another rollout holds {names(hosts)}: {who}. Nothing was changed. "
        "Wait for it (--lock-wait 10m), or commit it or roll it back first; `fleet status` shows where it stands, "
        "`fleet unlock` who is at work."
    )
    return Finish(Result.HALTED, ANOTHERS, text)


def taken_back(status: RolloutStatus) -> Finish:
    """Every host was taken back from this rollout: there is nothing to go on with."""
    text = (
        f"Refused: rollout {status.rollout} was taken back on every host. Nothing was changed. "
        "Begin a new one: fleet upgrade RELEASE."
    )
    return Finish(Result.HALTED, REFUSED, text)


def twins(pair: tuple[str, str]) -> Finish:
    """Two names, one nginx."""
    text = (
        f"Refused: {pair[0]} and {pair[1]} are the same nginx on the same machine. Nothing was changed. "
        "Take one of them out of the inventory, or give each its own nginx_pid_file."
    )
    return Finish(Result.HALTED, REFUSED, text)


def far_ahead(host: str, epoch: int) -> Finish:
    """A host claims an epoch that no rollouts led to. With the next one all hosts would keep it, and never go below."""
    text = (
        f"Refused: {host} says that its last rollout had the epoch {epoch}, far above all others. Nothing was changed. "
        "Look at fence.json in its state folder, and at who may write there; leave the host out meanwhile: --limit."
    )
    return Finish(Result.HALTED, REFUSED, text)


def stopped(status: RolloutStatus, resumable: bool = False) -> Finish:
    """The operator turned back, or another one took over. `resumable`: the journal knows what is still to do."""
    if status.taken_over is not None:
        text = (
            f"Halted: {status.taken_over}. No further host was begun. See where the hosts are: `fleet status`."
            f"{_leases(status)}{_people(status)}"
        )
        return Finish(Result.HALTED, _code(status, HALTED), text)
    if status.journal_lost is not None:
        return _unwritten(status, status.journal_lost)
    begun = [host for host in status.all if _touched(host) and host.progress is not Progress.ROLLED_BACK]
    if not begun:
        back = [host for host in status.all if host.progress is Progress.ROLLED_BACK]
        so = f"{counted(len(back))} went back ({names(back)}), no other was" if back else "No host was"
        onward = f" Go on with `fleet resume {status.rollout}`." if resumable else ""
        return Finish(Result.INTERRUPTED, INTERRUPTED, f"Interrupted. {so} changed.{onward}")
    text = (
        f"Interrupted: {counted(len(begun))} begun ({names(begun)}), "
        f"{_unknown(status) or 'each in its nearest resting phase.'} {_ways_on(status)}"
    )
    return Finish(Result.INTERRUPTED, INTERRUPTED, text)


def _unwritten(status: RolloutStatus, why: str) -> Finish:
    """The journal can't be written any more. The hosts know their rollout; nothing is lost but the story."""
    begun = [host for host in status.all if _touched(host) and host.progress is not Progress.ROLLED_BACK]
    if not begun:
        text = f"Halted: {why} No host was changed. Mend the journal, or name another one with --journal."
        return Finish(Result.HALTED, _code(status, HALTED), text)
    rest = _unknown(status) or "each in its nearest resting phase."
    text = (
        f"Halted: {why} {counted(len(begun))} begun ({names(begun)}), {rest} Mend the journal, or name another one with "
        f"--journal. Then: {_ways_on(status)} A rollback needs no journal."
    )
    return Finish(Result.HALTED, _code(status, HALTED), text)


def _ways_on(status: RolloutStatus) -> str:
    """What to type after an interruption, by what it interrupted."""
    back, commit = f"`fleet rollback {status.rollout}`", f"`fleet commit {status.rollout}`"
    onward = f"`fleet resume {status.rollout}`"
    if status.stage is Stage.ROLLING_BACK:
        return f"Go on with {back}."
    if status.stage is Stage.COMMITTING and not any(host.progress is Progress.STAGED for host in status.all):
        return f"Go on with {onward if status.batch else commit}, or go back with {back}.{_leases(status)}"
    held = any(host.held and not host.last.unanswered and host.doing is None for host in status.all)
    keep = f", or retire the held masters with {commit}" if held else ""
    return f"Go on with {onward}, go back with {back}{keep}.{_leases(status)}"


def _leases(status: RolloutStatus) -> str:
    """That held hosts go back by themselves, and how soon, where they have a lease."""
    left_s = [host.report.lease_left_s for host in status.all if host.held and host.report]
    soonest_s = min((each for each in left_s if each is not None), default=None)
    if soonest_s is None:
        return ""
    return (
        f" Until then each held host goes back by itself when its lease runs out, the first one in {soonest_s:.0f} s."
    )


def _touched(host: HostStatus) -> bool:
    return host.begun or host.doing in (Ask.UPGRADE, Ask.COMMIT, Ask.ROLLBACK)


def _unknown(status: RolloutStatus) -> str:
    unknown = [host for host in status.all if host.needs_person or (host.doing and _touched(host))]
    return f"not known to be at rest: {names(unknown)} (`fleet status` asks them)." if unknown else ""


def rolled_back(policy: Policy, status: RolloutStatus) -> Finish:
    """The budget was exceeded and the hosts were taken back."""
    if others := _held_by_another(status):
        return held_by_others(others)
    back = sum(host.progress is Progress.ROLLED_BACK for host in status.all)
    text = (
        f"Rolled back: {_faults(status)}, {policy.max_failures} allowed; {counted(back)} taken back, "
        f"{counted(status.counts['not_begun'])} not begun.{_people(status)}"
    )
    return Finish(Result.ROLLED_BACK, _code(status, HALTED), text)


def over_budget(policy: Policy, status: RolloutStatus) -> Finish:
    """The budget was exceeded and the policy says halt."""
    if others := _held_by_another(status):
        return held_by_others(others)
    text = f"Halted: {_faults(status)}, {policy.max_failures} allowed. No further host was begun. {_way_back(status)}"
    return Finish(Result.HALTED, _code(status, HALTED), text + _people(status))


def unproven(status: RolloutStatus) -> Finish:
    """The gate has nothing to go by."""
    if others := _held_by_another(status):
        return held_by_others(others)
    text = (
        f"Halted: {_faults(status)}; no host of batch {status.batch} was seen well with the release, so the next "
        f"batch was not begun. {_way_back(status)}"
    )
    return Finish(Result.HALTED, _code(status, HALTED), text + _people(status))


def _way_back(status: RolloutStatus) -> str:
    """How to take back what was changed, or that there is nothing to take back."""
    if not all(host.unchanged for host in status.all):
        return f"Go back with `fleet rollback {status.rollout}`.{_leases(status)}"
    if any(host.begun for host in status.all):
        return "Every host that was begun is OLD again: there is nothing to take back."
    return "Nothing was changed."


def completed(policy: Policy, status: RolloutStatus) -> Finish:
    """Every batch was done: committed or held, whatever the policy said, less the hosts at fault inside the budget."""
    if others := _held_by_another(status):
        return held_by_others(others)
    pending = [host for host in status.all if host.drain_pending]
    held = [host for host in status.all if host.held and not host.drain_pending]
    done = status.counts["done"]
    is_done = done > 0 and not pending
    word = "Completed" if is_done else "Not finished"
    text = f"{word}: {counted(done)} of {len(status.hosts)} run the new release."
    if status.faults:
        text += (
            f" {_faults(status)}: they were not upgraded or taken back."
            if _takes_back(policy)
            else f" {_faults(status)}."
        )
    if held:
        text += (
            f" {counted(len(held))} held: `fleet commit {status.rollout}` retires the old masters, "
            f"`fleet rollback {status.rollout}` goes back in two signals.{_leases(status)}"
        )
    if pending:
        text += (
            f" Old connections still drain on {names(pending)}, which stay held: "
            f"`fleet commit {status.rollout}` later, or with --cut."
        )
    well = not status.faults and not pending
    result = Result.COMPLETED if is_done else Result.HALTED
    return Finish(result, _code(status, OK if well else HALTED), text + _people(status))


def _takes_back(policy: Policy) -> bool:
    return policy.on_failure is OnFailure.ROLLBACK


def _faults(status: RolloutStatus) -> str:
    counts = status.counts
    words = [f"{counts[word]} {word}" for word in ("failed", "refused", "unreachable", "unverified") if counts[word]]
    return ", ".join(words)
