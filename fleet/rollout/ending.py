"""How a rollout ended: the result, the exit code, and one line that says what is so and what to do now.

4 beats 3: a host that was changed and is not known to be at rest needs a person, whatever else became of the rollout.
"""

from collections.abc import Iterable

from fleet.events import Result
from fleet.onhost.protocol import Ask
from fleet.rollout.host import Course, HostStatus
from fleet.rollout.moves import Finish
from fleet.rollout.policy import OnFailure, Policy
from fleet.rollout.status import RolloutStatus

OK, REFUSED, HALTED, PERSON, INTERRUPTED = 0, 2, 3, 4, 130


def names(hosts: Iterable[HostStatus], most: int = 5) -> str:
    """The hosts' names in one line; long lists are cut with their number."""
    found = [host.name for host in hosts]
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def several(count: int, noun: str = "host") -> str:
    """`1 host`, `2 hosts`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _code(status: RolloutStatus, otherwise: int) -> int:
    return PERSON if any(host.needs_person for host in status.all) else otherwise


def _people(status: RolloutStatus) -> str:
    needing = [host for host in status.all if host.needs_person]
    if not needing:
        return ""
    return f" A person must look at {names(needing)}: run `fleet status` and see there."


def refused(status: RolloutStatus) -> Finish:
    """Preflight said no, or a host could not be asked."""
    bad = [host for host in status.all if host.fault is not None]
    text = (
        f"Refused: {several(len(bad))} of {len(status.hosts)} did not pass preflight ({names(bad)}). "
        "Nothing was changed. Cure what is said above, or leave the hosts out with --limit."
    )
    return Finish(Result.HALTED, REFUSED, text)


def twins(pair: tuple[str, str]) -> Finish:
    """Two names, one nginx."""
    text = (
        f"Refused: {pair[0]} and {pair[1]} are the same nginx on the same machine. Nothing was changed. "
        "Take one of them out of the inventory, or give each its own nginx_pid_file."
    )
    return Finish(Result.HALTED, REFUSED, text)


def stopped(status: RolloutStatus) -> Finish:
    """The operator turned back, or another one took over."""
    if status.taken_over is not None:
        text = f"Halted: {status.taken_over}. No further host was begun.{_people(status)}"
        return Finish(Result.HALTED, _code(status, HALTED), text)
    begun = [host for host in status.all if _touched(host) and host.course is not Course.BACK]
    if not begun:
        back = [host for host in status.all if host.course is Course.BACK]
        so = f"{several(len(back))} went back ({names(back)}), no other was" if back else "No host was"
        return Finish(Result.INTERRUPTED, INTERRUPTED, f"Interrupted. {so} changed.")
    text = (
        f"Interrupted: {several(len(begun))} begun ({names(begun)}), "
        f"{_unknown(status) or 'each in its nearest resting phase.'} Go back with `fleet rollback {status.rollout}`, "
        f"or retire the held masters with `fleet commit {status.rollout}`."
    )
    return Finish(Result.INTERRUPTED, INTERRUPTED, text)


def _touched(host: HostStatus) -> bool:
    return host.begun or host.doing in (Ask.UPGRADE, Ask.COMMIT, Ask.ROLLBACK)


def _unknown(status: RolloutStatus) -> str:
    unknown = [host for host in status.all if host.needs_person or (host.doing and _touched(host))]
    return f"not known to be at rest: {names(unknown)} (`fleet status` asks them)." if unknown else ""


def rolled_back(policy: Policy, status: RolloutStatus) -> Finish:
    """The budget was exceeded and the hosts were taken back."""
    back = sum(host.course is Course.BACK for host in status.all)
    text = (
        f"Rolled back: {_faults(status)}, {policy.max_failures} allowed; {several(back)} taken back, "
        f"{several(status.counts['not_begun'])} not begun.{_people(status)}"
    )
    return Finish(Result.ROLLED_BACK, _code(status, HALTED), text)


def over_budget(policy: Policy, status: RolloutStatus) -> Finish:
    """The budget was exceeded and the policy says halt."""
    text = (
        f"Halted: {_faults(status)}, {policy.max_failures} allowed. No further host was begun. "
        f"Go back with `fleet rollback {status.rollout}`.{_people(status)}"
    )
    return Finish(Result.HALTED, _code(status, HALTED), text)


def inconclusive(status: RolloutStatus) -> Finish:
    """The gate could not tell."""
    text = (
        f"Halted: the bake of batch {status.batch} could not tell whether the release is well. "
        "No further host was begun. "
        f"Go back with `fleet rollback {status.rollout}`, or keep what is there with `fleet commit {status.rollout}`."
    )
    return Finish(Result.HALTED, _code(status, HALTED), text + _people(status))


def completed(policy: Policy, status: RolloutStatus) -> Finish:
    """Every batch was done: committed or held, whatever the policy said, less the hosts at fault inside the budget."""
    pending = [host for host in status.all if host.drain_pending]
    held = [host for host in status.all if host.held and not host.drain_pending]
    done = [host for host in status.all if host.fault is None]
    text = f"Completed: {several(len(done))} of {len(status.hosts)} run the new release."
    if status.faults:
        text += (
            f" {_faults(status)}: they were not upgraded or taken back."
            if _takes_back(policy)
            else f" {_faults(status)}."
        )
    if held:
        text += (
            f" {several(len(held))} held: `fleet commit {status.rollout}` retires the old masters, "
            f"`fleet rollback {status.rollout}` goes back in two signals."
        )
    if pending:
        text += (
            f" Old connections still drain on {names(pending)}, which stay held: "
            f"`fleet commit {status.rollout}` later, or with --cut."
        )
    well = not status.faults and not pending
    result = Result.HALTED if pending else Result.COMPLETED
    return Finish(result, _code(status, OK if well else HALTED), text + _people(status))


def _takes_back(policy: Policy) -> bool:
    return policy.on_failure is OnFailure.ROLLBACK


def _faults(status: RolloutStatus) -> str:
    counts = status.counts
    words = [f"{counts[word]} {word}" for word in ("failed", "refused", "unreachable", "unverified") if counts[word]]
    return ", ".join(words)
