"""`fleet upgrade RELEASE`: the rollout. The plan is said in words and agreed on before anything is connected to."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from rich.console import RenderableType

from fleet.commands.allow_option import allowed
from fleet.commands.engine_run import agree, carry_out, hosts_of, output_of, unbegun
from fleet.commands.recording import holding, run_data
from fleet.commands.release_argument import named, target_of
from fleet.environment import Asked, World
from fleet.errors import Refused
from fleet.journal.journal import Journal
from fleet.onhost.text import counted, safe
from fleet.plan import DEFAULT_BATCHES, Plan, budget_in_words, duration_in_words, make_plan, parse_budget
from fleet.rollout import results
from fleet.rollout.policy import CommitWhen, OnFailure, Policy
from fleet.rollout.rollout_status import RolloutStatus
from fleet.rollout.tasks import Requests, Target
from fleet.rollout.upgrade import decide
from fleet.ui.console import alarms, summary, troubles
from fleet.ui.output import Mode, Output

LEASE_S, LEAST_LEASE_S = 600.0, 10.0
LOOK_S = 2.0
"""What a look at a host takes at most, as a rule: half a second on a good line."""
THEN = {
    OnFailure.ROLLBACK: "then every host that was begun goes back, committed or not",
    OnFailure.HALT: "then no further host is begun, and those that were stay as they are as long as their lease runs",
}
LEASE = "Lease: a host that nobody has visited or committed for %s goes back by itself."
NO_LEASE = "No lease: a host stays as it is until somebody commits it or rolls it back."
COMMITS = {
    CommitWhen.END: "the old masters are held until every batch has passed, then retired",
    CommitWhen.BATCH: "the old masters of a batch are retired when its bake has passed",
    CommitWhen.NEVER: "the old masters stay held until you commit or roll back",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The options of `upgrade`, as they were given."""

    batches: str = DEFAULT_BATCHES
    bake_s: float = 30.0
    settle_s: float = 2.0
    max_failures: str = "0"
    on_failure: str = "rollback"
    commit: str = "end"
    drain_timeout_s: float = 600.0
    cut: bool = False
    lease_s: float | None = None
    allow: tuple[str, ...] = ()
    dry_run: bool = False


def run(world: World, asked: Asked, release: str, choice: Choice) -> int:
    """The rollout has ended; its exit code."""
    output = output_of(asked)
    plan = make_plan(hosts_of(asked), choice.batches)
    policy = policy_of(choice, asked, len(plan.hosts))
    rollout, operator = world.rollout_id(world.clock()()), world.operator()
    if choice.dry_run:
        output.result(plan_in_words(plan, policy, choice.max_failures, named(release), rollout, operator))
        return results.OK
    with Journal.open(asked.journal) as journal:
        status = _roll_out(world, asked, output, release, choice, Rollout(rollout, operator, plan, policy, journal))
    return tell_end(output, status)


@dataclass(frozen=True, slots=True)
class Rollout:
    """What a rollout is made of, before its release is known."""

    id: str
    operator: str
    plan: Plan
    policy: Policy
    journal: Journal


def _roll_out(
    world: World, asked: Asked, output: Output, release: str, choice: Choice, rollout: Rollout
) -> RolloutStatus:
    """The status at the end, after the plan was told and agreed on."""
    plan, policy = rollout.plan, rollout.policy
    target, words = target_of(world, output, asked, plan.hosts, release)
    text = plan_in_words(plan, policy, choice.max_failures, words, rollout.id, rollout.operator)
    for line in text.splitlines():
        output.say(line)
    agree(world, output, asked, f"Upgrade {counted(len(plan.hosts))}?")
    requests = Requests(
        {host.name: host for host in plan.hosts},
        rollout.operator,
        policy,
        target,
        force=asked.force,
        connecting=asked.connecting,
    )
    start = unbegun(rollout.id, [batch.hosts for batch in plan.batches])
    data = rollout_data(asked, requests, target, choice)
    with holding(rollout.journal, output, asked, rollout.operator, "upgrade", rollout.id) as recorder:
        return carry_out(
            world,
            output,
            replace(requests, sender=recorder.sender),
            partial(decide, policy),
            start,
            message=f"upgrade to {words}",
            data=data,
            journal=recorder,
        )


def policy_of(choice: Choice, asked: Asked, hosts: int) -> Policy:
    """The options as numbers. Raises `Refused`."""
    commit = CommitWhen(choice.commit)
    lease_s = choice.lease_s
    if lease_s is None:
        lease_s = 0.0 if commit is CommitWhen.NEVER else LEASE_S
    policy = Policy(
        bake_s=choice.bake_s,
        settle_s=choice.settle_s,
        max_failures=parse_budget(choice.max_failures, hosts),
        on_failure=OnFailure(choice.on_failure),
        commit=commit,
        parallel=asked.parallel,
        drain_timeout_s=choice.drain_timeout_s,
        cut=choice.cut,
        allow=allowed(choice.allow),
        lease_s=long_enough(lease_s),
        lock_wait_s=asked.lock_wait_s,
    )
    return keeps_alive(policy, hosts)


def keeps_alive(policy: Policy, hosts: int) -> Policy:
    """The policy, if so few visits at a time can keep the leases of so many hosts alive. Raises `Refused`."""
    if policy.lease_s and hosts * LOOK_S / policy.parallel > policy.renew_every_s:
        raise Refused(
            f"--parallel {policy.parallel} can't keep {hosts} leases of {policy.lease_s:g} s alive: hosts would go back "
            "while others are visited.",
            "Allow more visits at a time (--parallel) or a longer --lease, or go without: --lease off.",
        )
    return policy


def long_enough(lease_s: float) -> float:
    """The lease, if a rollout can keep it alive at all. Raises `Refused`."""
    if 0.0 < lease_s < LEAST_LEASE_S:
        raise Refused(
            f"--lease {lease_s:g}s is too short: hosts would go back between two visits.",
            f"Allowed: {LEAST_LEASE_S:g}s and more, or off.",
        )
    return lease_s


def rollout_data(asked: Asked, requests: Requests, target: Target, choice: Choice) -> Mapping[str, Any]:
    """What the first event of an upgrade holds: what that of every run does, and the options as they were written."""
    return {
        **run_data("upgrade", asked, requests, target.sha256),
        "max_failures": choice.max_failures,
        "on_failure": choice.on_failure,
        "commit": choice.commit,
        "bake_s": choice.bake_s,
        "allow": list(requests.policy.allow),
    }


def plan_in_words(plan: Plan, policy: Policy, max_failures: str, release: str, rollout: str, operator: str) -> str:
    """The plan: what, where, in which order, when it stops and what happens then."""
    count = len(plan.hosts)
    lines = [
        f"Rollout {rollout} by {operator}: {release}",
        f"{counted(count)} in {counted(len(plan.batches), 'batch', 'batches')}, {policy.parallel} at a time:",
    ]
    for batch in plan.batches:
        names = ", ".join(host.name for host in batch.hosts)
        canary = "  (canary)" if batch.number == 1 and len(plan.batches) > 1 else ""
        lines.append(f"  {batch.number}. {names}{canary}")
    stops = budget_in_words(max_failures, count)
    lines += [
        "First every host is staged and checked; one refusal there, and nothing is changed anywhere.",
        f"Each batch is watched for {policy.bake_s:g} s before the next one opens.",
        _stops(policy, stops, count),
        f"Commit: {COMMITS[policy.commit]}.",
        LEASE % duration_in_words(policy.lease_s) if policy.lease_s else NO_LEASE,
    ]
    if policy.allow:
        lines.append(f"Allowed, and recorded: {', '.join(policy.allow)}.")
    return "\n".join(safe(line) for line in lines)


def _stops(policy: Policy, stops: str, count: int) -> str:
    if policy.on_failure is OnFailure.CONTINUE:
        return "Whatever fails, it goes on to the last host."
    return f"It {stops}, {THEN[policy.on_failure]}." if policy.max_failures < count else f"It {stops}."


def tell_end(output: Output, status: RolloutStatus) -> int:
    """The table of hosts, what is wrong with whom, and the line that says what to do now. The exit code."""
    parts: list[RenderableType] = [summary(status), troubles(status)]
    if output.mode is not Mode.JSONL:
        for part in parts:
            output.result(part)
    output.say(status.message)
    output.shout(alarms(status))
    return status.exit_code or results.OK
