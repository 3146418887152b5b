"""`fleet resume [ROLLOUT]`: continue an interrupted rollout, whatever phase its hosts are in now.

The journal gives the plan, the policy and the release. Without one, on another laptop, the hosts' own records give what
they hold. Every host is asked for its phase before any is changed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from fleet.commands import commit, rollback
from fleet.environment import CommandOptions, Environment
from fleet.errors import Refused
from fleet.host import Host
from fleet.journal.journal import Journal
from fleet.onhost.text import counted
from fleet.plan import make_plan, parse_budget
from fleet.release import Release, find_release
from fleet.rollout import results
from fleet.rollout.policy import CommitWhen, OnFailure, Policy, Rehearse
from fleet.rollout.resume import ResumeAs, resumed_status
from fleet.rollout.tasks import Target, TaskBuilder
from fleet.rollout.upgrade import decide
from fleet.runs.allow_option import parse_allow
from fleet.runs.engine_run import (
    command_output,
    confirm,
    look_at,
    names_hosts,
    run_engine,
    selected_hosts,
    show_result,
)
from fleet.runs.interrupted_rollout import InterruptedRollout, from_hosts, from_journal
from fleet.runs.lease_option import check_lease, check_lease_renewal
from fleet.runs.recording import Recorder, journal_lock, run_data
from fleet.runs.rollout_hosts import none_selected, refuse_lost
from fleet.runs.within_option import check_within
from fleet.typed_command import TypedCommand
from fleet.ui.output import Output


@dataclass(frozen=True, slots=True)
class Overrides:
    """The settings that the operator gave anew; `policy` holds fields of `Policy`. `allow` adds to the rollout's own."""

    release: str | None = None
    batches: str | None = None
    max_failures: str | None = None
    allow: tuple[str, ...] = ()
    policy: Mapping[str, Any] = field(default_factory=dict)


def overrides(
    release: str | None, batches: str | None, max_failures: str | None, allow: tuple[str, ...], **policy: Any
) -> Overrides:
    """The overrides from the options of `resume`; `None` is an option that was not given. Raises `Refused`."""
    given = {name: value for name, value in policy.items() if value is not None}
    if "no_guard" in given:
        given["guard"] = not given.pop("no_guard")
    kinds: dict[str, Callable[[Any], Any]] = {
        "on_failure": OnFailure,
        "commit": CommitWhen,
        "lease_s": check_lease,
        "within_s": check_within,
        "rehearse": Rehearse,
    }
    values = {name: kinds.get(name, _same)(value) for name, value in given.items()}
    return Overrides(release, batches, max_failures, parse_allow(allow), values)


def _same(value: Any) -> Any:
    return value


def run(environment: Environment, options: CommandOptions, prefix: str | None, overrides: Overrides) -> int:
    """Continues the rollout as an upgrade, a commit or a rollback; returns the exit code."""
    output = command_output(options)
    # The journal is read under its lock, because the run that held it may have rolled everything back meanwhile.
    with (
        Journal.open(options.journal) as journal,
        journal_lock(journal, output, options, environment.operator(), "resume", prefix or "") as recorder,
    ):
        journaled = from_journal(journal, prefix)
        notes_to: Output | None = output
        if journaled is not None and not (options.limits and journaled.began_elsewhere):
            is_limited = bool(options.limits)
            options, found = journaled.options(options), journaled.interrupted()
        else:
            look = look_at(environment, output, selected_hosts(options, output), options, keeps=True)
            if look.interrupted:
                output.say(look.message)
                return look.exit_code or results.INTERRUPTED
            found = from_hosts(look, output, prefix, names_hosts(options))
            options = replace(options, typed=options.typed.of(found.rollout))
            is_limited, notes_to = True, None
        if found.resume_as is ResumeAs.UPGRADE:
            recorder.set_rollout(found.rollout)
            hosts = _hosts(options, notes_to, found, is_limited)
            return _resume_upgrade(environment, options, output, recorder, found, hosts, overrides)
    if found.resume_as is ResumeAs.NOTHING:
        raise Refused(
            f"Rollout {found.rollout} was rolled back. There is nothing to resume.",
            f"Start a new one: {options.typed.other('upgrade', 'RELEASE').quoted}.",
        )
    output.say(f"Resuming the interrupted {found.resume_as.value} of rollout {found.rollout}.")
    policy = replace(found.policy, **overrides.policy)
    timeout_s, cut = policy.drain_timeout_s, policy.cut
    if found.resume_as is ResumeAs.ROLLBACK:
        return rollback.run(environment, options, found.rollout, drain_timeout_s=timeout_s, cut=cut, allow=policy.allow)
    within_s = policy.within_s if policy.commit is CommitWhen.WHEN_DRAINED else None
    again = commit.policy_of(options, within_s, drain_timeout_s=timeout_s, cut=cut)
    return commit.run(environment, options, found.rollout, again)


def _resume_upgrade(
    environment: Environment,
    options: CommandOptions,
    output: Output,
    recorder: Recorder,
    found: InterruptedRollout,
    hosts: tuple[Host, ...],
    overrides: Overrides,
) -> int:
    target = _target(found, overrides, options.typed)
    batches = _batches(found, hosts, overrides)
    policy = check_lease_renewal(_policy(found, overrides, options, len(hosts)), len(hosts), options.typed)
    count = counted(len(hosts))
    output.say(
        f"Resuming the interrupted upgrade of rollout {found.rollout}: release {target.sha256[:12]}, {count}. Every host "
        "is asked for its phase first."
    )
    confirm(environment, output, options, f"Resume on {count}?")
    names = {host.name: host for host in hosts}
    tasks = TaskBuilder(
        names, environment.operator(), policy, target, reopen=True, force=options.force, connecting=options.connecting
    )
    status = run_engine(
        environment,
        output,
        replace(tasks, sender=recorder.sender),
        partial(decide, policy),
        replace(resumed_status(found.rollout, batches, found.passed), typed=options.typed),
        message=f"resume {found.rollout}",
        data=run_data("resume", options, tasks, target.sha256),
        journal=recorder,
    )
    return show_result(output, status)


def _hosts(
    options: CommandOptions, output: Output | None, found: InterruptedRollout, is_limited: bool
) -> tuple[Host, ...]:
    """The selected hosts of the plan, in its order. Raises `Refused` if one is missing and the operator set no limit."""
    planned = [name for batch in found.batches for name in batch]
    selected = {host.name: host for host in selected_hosts(options, output, needed=planned)}
    if not is_limited:
        refuse_lost(found.rollout, (name for name in planned if name not in selected), options.typed)
    kept = tuple(selected[name] for name in planned if name in selected)
    if not kept:
        raise none_selected(found.rollout, options.typed)
    return kept


def _target(found: InterruptedRollout, overrides: Overrides, typed: TypedCommand) -> Target:
    """The rollout's own release. Raises `Refused` for another one, and `ReleaseError`."""
    given = overrides.release
    path = given or found.release_path
    if path is None or (given is None and not Path(path).is_file()):
        return Target(found.release)  # hosts that were staged have it
    release = find_release(path)
    sha256 = release.sha256 if isinstance(release, Release) else release.prefix
    if not found.release.startswith(sha256):
        raise Refused(
            f"{path} is not the release of rollout {found.rollout}: its hash is {sha256[:12]}, the rollout's is "
            f"{found.release[:12]}.",
            f"Give the rollout's own file: {typed.having('release', '--release', 'FILE').quoted}; or roll back first: "
            f"{typed.other('rollback', found.rollout).quoted}.",
        )
    if not isinstance(release, Release):
        return Target(found.release)
    return Target(release.sha256, release.size_bytes, release.path, release.version)


def _batches(found: InterruptedRollout, hosts: Sequence[Host], overrides: Overrides) -> tuple[tuple[str, ...], ...]:
    if overrides.batches is not None:
        return tuple(tuple(host.name for host in batch.hosts) for batch in make_plan(hosts, overrides.batches).batches)
    kept = {host.name for host in hosts}
    return tuple(filter(None, (tuple(name for name in batch if name in kept) for batch in found.batches)))


def _policy(found: InterruptedRollout, overrides: Overrides, options: CommandOptions, hosts: int) -> Policy:
    given = dict(overrides.policy)
    if overrides.max_failures is not None:
        given["max_failures"] = parse_budget(overrides.max_failures, hosts)
    given["allow"] = tuple(dict.fromkeys(found.policy.allow + overrides.allow))
    return replace(found.policy, parallel=options.parallel, lock_wait_s=options.lock_wait_s, **given)
