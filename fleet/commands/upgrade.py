"""`fleet upgrade RELEASE`: the rollout. The operator confirms the plan before a host is changed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fleet.environment import CommandOptions, Environment
from fleet.journal.journal import Journal
from fleet.onhost.text import counted
from fleet.plan import DEFAULT_BATCHES, Plan, make_plan, parse_budget
from fleet.rollout import results
from fleet.rollout.policy import WITHIN_S, CommitWhen, OnFailure, Policy, Rehearse
from fleet.rollout.rollout_status import RolloutStatus
from fleet.rollout.tasks import Target, TaskBuilder
from fleet.rollout.upgrade import decide
from fleet.runs.allow_option import parse_allow
from fleet.runs.engine_run import command_output, confirm, initial_status, run_engine, selected_hosts, show_result
from fleet.runs.lease_option import LEASE_S, check_lease, check_lease_renewal
from fleet.runs.plan_text import plan_text
from fleet.runs.recording import journal_lock, run_data
from fleet.runs.release_argument import describe_release, find_target
from fleet.runs.within_option import check_within
from fleet.ui.output import Output


@dataclass(frozen=True, slots=True)
class UpgradeOptions:
    """The options that only `upgrade` has, as the operator gave them. `lease_s` `None`: the default."""

    batches: str = DEFAULT_BATCHES
    bake_s: float = 30.0
    settle_s: float = 2.0
    max_failures: str = "0"
    on_failure: str = "rollback"
    commit: str = "end"
    drain_timeout_s: float = 600.0
    cut: bool = False
    within_s: float = WITHIN_S
    lease_s: float | None = None
    allow: tuple[str, ...] = ()
    rehearse: str = "auto"
    no_guard: bool = False
    hold_package: bool = False
    dry_run: bool = False


def run(environment: Environment, options: CommandOptions, release: str, given: UpgradeOptions) -> int:
    """Runs the rollout to its end; returns the exit code."""
    output = command_output(options)
    plan = make_plan(selected_hosts(options, output), given.batches, options.typed)
    policy = policy_of(given, options, len(plan.hosts))
    rollout, operator = environment.rollout_id(environment.clock()()), environment.operator()
    if given.dry_run:
        output.result(plan_text(plan, policy, given.max_failures, describe_release(release), rollout, operator))
        return results.OK
    with Journal.open(options.journal) as journal:
        status = _roll_out(
            environment, options, output, release, given, PlannedRollout(rollout, operator, plan, policy, journal)
        )
    return show_result(output, status)


@dataclass(frozen=True, slots=True)
class PlannedRollout:
    """A rollout before its release is known."""

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
    rollout: PlannedRollout,
) -> RolloutStatus:
    """Shows the plan, asks for confirmation, runs the rollout, and returns its last status."""
    plan, policy = rollout.plan, rollout.policy
    target, words = find_target(environment, output, options, plan.hosts, release)
    text = plan_text(plan, policy, given.max_failures, words, rollout.id, rollout.operator)
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
    start = replace(initial_status(rollout.id, [batch.hosts for batch in plan.batches]), typed=options.typed)
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
    """The options as a policy for so many hosts. Raises `Refused`."""
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
        within_s=check_within(given.within_s),
        allow=parse_allow(given.allow),
        rehearse=Rehearse(given.rehearse),
        guard=not given.no_guard,
        hold_package=given.hold_package,
        lease_s=check_lease(lease_s),
        lock_wait_s=options.lock_wait_s,
    )
    return check_lease_renewal(policy, hosts, options.typed)


def rollout_data(
    options: CommandOptions, tasks: TaskBuilder, target: Target, given: UpgradeOptions
) -> Mapping[str, Any]:
    """The data of an upgrade's first event: that of every run, and the options as they were written."""
    return {
        **run_data("upgrade", options, tasks, target.sha256),
        "max_failures": given.max_failures,
        "on_failure": given.on_failure,
        "commit": given.commit,
        "bake_s": given.bake_s,
        "allow": list(tasks.policy.allow),
    }
