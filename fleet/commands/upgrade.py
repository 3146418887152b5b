"""`fleet upgrade RELEASE`: the rollout. The plan is said in words and agreed on before anything is connected to."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from rich.console import RenderableType

from fleet.commands.allow_option import parse_allow
from fleet.commands.engine_run import command_output, confirm, initial_status, run_engine, selected_hosts
from fleet.commands.recording import journal_lock, run_data
from fleet.commands.release_argument import describe_release, find_target
from fleet.environment import CommandOptions, Environment
from fleet.errors import Refused
from fleet.journal.journal import Journal
from fleet.onhost.text import counted, safe
from fleet.plan import DEFAULT_BATCHES, Plan, budget_in_words, duration_in_words, make_plan, parse_budget
from fleet.rollout import results
from fleet.rollout.policy import CommitWhen, OnFailure, Policy
from fleet.rollout.rollout_status import RolloutStatus
from fleet.rollout.tasks import Target, TaskBuilder
from fleet.rollout.upgrade import decide
from fleet.ui.alarms import alarms
from fleet.ui.output import Mode, Output
from fleet.ui.result_tables import host_errors, summary_table

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
class UpgradeOptions:
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


def run(environment: Environment, options: CommandOptions, release: str, given: UpgradeOptions) -> int:
    """The rollout has ended; its exit code."""
    output = command_output(options)
    plan = make_plan(selected_hosts(options), given.batches)
    policy = policy_of(given, options, len(plan.hosts))
    rollout, operator = environment.rollout_id(environment.clock()()), environment.operator()
    if given.dry_run:
        output.result(plan_in_words(plan, policy, given.max_failures, describe_release(release), rollout, operator))
        return results.OK
    with Journal.open(options.journal) as journal:
        status = _roll_out(
            environment, options, output, release, given, Rollout(rollout, operator, plan, policy, journal)
        )
    return show_result(output, status)


@dataclass(frozen=True, slots=True)
class Rollout:
    """What a rollout is made of, before its release is known."""

    id: str
    operator: str
    plan: Plan
    policy: Policy
    journal: Journal


def _roll_out(
    environment: Environment,
    options: CommandOptions,
    output: Output,
    release: str,
    given: UpgradeOptions,
    rollout: Rollout,
) -> RolloutStatus:
    """The status at the end, after the plan was told and agreed on."""
    plan, policy = rollout.plan, rollout.policy
    target, words = find_target(environment, output, options, plan.hosts, release)
    text = plan_in_words(plan, policy, given.max_failures, words, rollout.id, rollout.operator)
    for line in text.splitlines():
        output.say(line)
    confirm(environment, output, options, f"Upgrade {counted(len(plan.hosts))}?")
    tasks = TaskBuilder(
        {host.name: host for host in plan.hosts},
        rollout.operator,
        policy,
        target,
        force=options.force,
        connecting=options.connecting,
    )
    start = initial_status(rollout.id, [batch.hosts for batch in plan.batches])
    data = rollout_data(options, tasks, target, given)
    with journal_lock(rollout.journal, output, options, rollout.operator, "upgrade", rollout.id) as recorder:
        return run_engine(
            environment,
            output,
            replace(tasks, sender=recorder.sender),
            partial(decide, policy),
            start,
            message=f"upgrade to {words}",
            data=data,
            journal=recorder,
        )


def policy_of(given: UpgradeOptions, options: CommandOptions, hosts: int) -> Policy:
    """The options as numbers. Raises `Refused`."""
    commit = CommitWhen(given.commit)
    lease_s = given.lease_s
    if lease_s is None:
        lease_s = 0.0 if commit is CommitWhen.NEVER else LEASE_S
    policy = Policy(
        bake_s=given.bake_s,
        settle_s=given.settle_s,
        max_failures=parse_budget(given.max_failures, hosts),
        on_failure=OnFailure(given.on_failure),
        commit=commit,
        parallel=options.parallel,
        drain_timeout_s=given.drain_timeout_s,
        cut=given.cut,
        allow=parse_allow(given.allow),
        lease_s=check_lease(lease_s),
        lock_wait_s=options.lock_wait_s,
    )
    return check_lease_renewal(policy, hosts)


def check_lease_renewal(policy: Policy, hosts: int) -> Policy:
    """The policy, if so few visits at a time can keep the leases of so many hosts alive. Raises `Refused`."""
    if policy.lease_s and hosts * LOOK_S / policy.parallel > policy.renew_every_s:
        raise Refused(
            f"--parallel {policy.parallel} can't keep {hosts} leases of {policy.lease_s:g} s alive: hosts would go back "
            "while others are visited.",
            "Allow more visits at a time (--parallel) or a longer --lease, or go without: --lease off.",
        )
    return policy


def check_lease(lease_s: float) -> float:
    """The lease, if a rollout can keep it alive at all. Raises `Refused`."""
    if 0.0 < lease_s < LEAST_LEASE_S:
        raise Refused(
            f"--lease {lease_s:g}s is too short: hosts would go back between two visits.",
            f"Allowed: {LEAST_LEASE_S:g}s and more, or off.",
        )
    return lease_s


def rollout_data(
    options: CommandOptions, tasks: TaskBuilder, target: Target, given: UpgradeOptions
) -> Mapping[str, Any]:
    """What the first event of an upgrade holds: what that of every run does, and the options as they were written."""
    return {
        **run_data("upgrade", options, tasks, target.sha256),
        "max_failures": given.max_failures,
        "on_failure": given.on_failure,
        "commit": given.commit,
        "bake_s": given.bake_s,
        "allow": list(tasks.policy.allow),
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


def show_result(output: Output, status: RolloutStatus) -> int:
    """The table of hosts, what is wrong with whom, and the line that says what to do now. The exit code."""
    parts: list[RenderableType] = [summary_table(status), host_errors(status)]
    if output.mode is not Mode.JSONL:
        for part in parts:
            output.result(part)
    output.say(status.message)
    output.alarm(alarms(status))
    return status.exit_code or results.OK
