"""`fleet resume [ROLLOUT]`: go on with a rollout that was interrupted, wherever its hosts are by now.

The journal gives the plan, the policy and the release; without one, on another laptop, the hosts' own records do, as far
as they go. Every host is asked where it is before any is moved.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from pathlib import Path
from typing import Any

from fleet.commands import commit, rollback
from fleet.commands.engine_run import command_output, confirm, look_at, run_engine, selected_hosts
from fleet.commands.find_rollout import choose_rollout
from fleet.commands.recording import Recorder, journal_lock, run_data
from fleet.commands.upgrade import LEASE_S, check_lease, check_lease_renewal, show_result
from fleet.environment import CommandOptions, Environment
from fleet.errors import Refused
from fleet.host import Host
from fleet.journal.journal import Journal
from fleet.journal.run_summary import Run
from fleet.onhost.text import counted
from fleet.plan import DEFAULT_BATCHES, cut, make_plan, parse_budget
from fleet.release import Release, find_release
from fleet.rollout import results
from fleet.rollout.from_hosts import records
from fleet.rollout.host_status import HostStatus
from fleet.rollout.policy import CommitWhen, OnFailure, Policy
from fleet.rollout.resume import ResumeAs, passed_gate, resume_as, resumed_status
from fleet.rollout.rollout_status import RolloutStatus, fold
from fleet.rollout.tasks import Target, TaskBuilder
from fleet.rollout.upgrade import decide
from fleet.ui.output import Output


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the operator wants otherwise than the rollout began; `policy` holds fields of `Policy`."""

    release: str | None = None
    batches: str | None = None
    max_failures: str | None = None
    policy: Mapping[str, Any] = field(default_factory=dict)


def overrides(release: str | None, batches: str | None, max_failures: str | None, **policy: Any) -> Overrides:
    """The options that were given, as what they change. Raises `Refused`."""
    given = {name: value for name, value in policy.items() if value is not None}
    kinds: dict[str, Callable[[Any], Any]] = {"on_failure": OnFailure, "commit": CommitWhen, "lease_s": check_lease}
    return Overrides(
        release, batches, max_failures, {name: kinds.get(name, _same)(value) for name, value in given.items()}
    )


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What is known of the rollout. `batches` are host names; `well` are those that passed a gate before."""

    rollout: str
    release: str
    release_path: str | None
    batches: tuple[tuple[str, ...], ...]
    policy: Policy
    well: frozenset[str]
    way: ResumeAs


def run(environment: Environment, options: CommandOptions, wanted: str | None, overrides: Overrides) -> int:
    """The rollout has come to its end, or further; the exit code."""
    output = command_output(options)
    # What the journal says is read under its lock: a run that was waited for may have taken everything back.
    with (
        Journal.open(options.journal) as journal,
        journal_lock(journal, output, options, environment.operator(), "resume", wanted or "") as recorder,
    ):
        told = _journaled(journal, wanted)
        if told is not None and not (options.limits and told.began_elsewhere):
            typed, options, found = bool(options.limits), told.asking(options), told.unfinished()
        else:
            typed = True
            looked = look_at(environment, output, selected_hosts(options), options)
            if looked.interrupted:
                output.say(looked.message)
                return looked.exit_code or results.INTERRUPTED
            found = _from_hosts(looked, output, wanted, bool(options.limits))
        if found.way is ResumeAs.UPGRADE:
            recorder.set_rollout(found.rollout)
            return _go_on(environment, options, output, recorder, found, _hosts(options, found, typed), overrides)
    if found.way is ResumeAs.NOTHING:
        raise Refused(
            f"rollout {found.rollout} was taken back: there is nothing to go on with.",
            "Begin a new one: fleet upgrade RELEASE.",
        )
    command = rollback.run if found.way is ResumeAs.ROLLBACK else commit.run
    output.say(f"Rollout {found.rollout} was interrupted in its {found.way.value}, which is gone on with.")
    policy = replace(found.policy, **overrides.policy)
    return command(environment, options, found.rollout, drain_timeout_s=policy.drain_timeout_s, cut=policy.cut)


# What is known


@dataclass(frozen=True, slots=True)
class _Told:
    """A rollout as the journal has it: its runs, in the order in which they began, and where each came to."""

    rollout: str
    runs: tuple[tuple[Run, RolloutStatus], ...]

    @property
    def upgrading(self) -> tuple[tuple[Run, RolloutStatus], ...]:
        return tuple((run, status) for run, status in self.runs if run.command in ("upgrade", "resume"))

    @property
    def began_elsewhere(self) -> bool:
        """Whether the plan is only what the hosts' records gave: then hosts that the operator names are added to it."""
        return bool(self.upgrading) and self.upgrading[0][0].command == "resume"

    @property
    def way(self) -> ResumeAs:
        planned = (self.upgrading or self.runs)[0][1].hosts
        return resume_as([(run.command, status) for run, status in self.runs], frozenset(planned))

    def asking(self, options: CommandOptions) -> CommandOptions:
        """What the operator gave, else what the run that is gone on with was begun with; for an upgrade, the first one."""
        run = self.upgrading[0][0] if self.way is ResumeAs.UPGRADE else self.runs[-1][0]
        inventories = options.inventories or tuple(Path(path) for path in run.facts["inventory"])
        return replace(options, inventories=inventories, limits=options.limits or tuple(run.facts["limit"]))

    def unfinished(self) -> Unfinished:
        first, last = (self.upgrading or self.runs)[0][0], (self.upgrading or self.runs)[-1][0]
        policy = last if self.way is ResumeAs.UPGRADE else self.runs[-1][0]
        paths = [run.facts["release_path"] for run, _ in self.upgrading if run.facts["release_path"]]
        return Unfinished(
            rollout=self.rollout,
            release=first.facts["release"],
            release_path=paths[-1] if paths else None,
            batches=tuple(tuple(batch) for batch in first.facts["batches"]),
            policy=Policy.from_plain(policy.facts["policy"]),
            well=passed_gate(status for _, status in self.upgrading),
            way=self.way,
        )


def _journaled(journal: Journal, wanted: str | None) -> _Told | None:
    """The rollout in the journal, or `None` when it has none of that name, or only runs that don't know the plan.

    Raises `Refused` when several begin so.
    """
    known = [story.rollout for story in journal.rollouts()]
    if not known or (wanted is not None and not any(rollout.startswith(wanted) for rollout in known)):
        return None
    rollout = journal.find(wanted)
    runs = [(run, reduce(fold, journal.events(rollout, run.run), RolloutStatus())) for run in journal.runs(rollout)]
    told = _Told(rollout, tuple(runs))
    return told if told.upgrading or told.way is not ResumeAs.UPGRADE else None


def _from_hosts(looked: RolloutStatus, output: Output, wanted: str | None, all_selected: bool) -> Unfinished:
    """The rollout as the hosts have it, in this laptop's default policy: those that know it, or, where the operator has
    said which (`--limit`), all that are selected. Raises `Refused`, `HostsDidNotAnswer`.
    """
    rollout = choose_rollout(looked, wanted)
    if rollout is None:
        raise Refused("neither this journal nor any host knows a rollout.", "Begin one: fleet upgrade RELEASE.")
    record = records(looked)[rollout]
    names = [host.name for host in looked.all if all_selected or _knows(host, rollout)]
    output.say(
        f"This journal did not begin rollout {rollout}: going by the hosts' own records, begun by {record.operator}, "
        f"release {record.target[:12]}, {counted(len(names))}. Batches and policy are the defaults, unless you "
        "give them. Hosts that it had not begun are left out, unless you name them by --limit."
    )
    return Unfinished(
        rollout,
        record.target,
        None,
        cut(names, DEFAULT_BATCHES),
        Policy(lease_s=LEASE_S),
        frozenset(),
        ResumeAs.UPGRADE,
    )


def _knows(host: HostStatus, rollout: str) -> bool:
    record = host.report.record if host.report else None
    return record is not None and record.rollout == rollout


# Going on


def _go_on(
    environment: Environment,
    options: CommandOptions,
    output: Output,
    recorder: Recorder,
    found: Unfinished,
    hosts: tuple[Host, ...],
    overrides: Overrides,
) -> int:
    target = _target(found, overrides)
    batches = _batches(found, hosts, overrides)
    policy = check_lease_renewal(_policy(found, overrides, options, len(hosts)), len(hosts))
    count = counted(len(hosts))
    output.say(f"Resume rollout {found.rollout}: release {target.sha256[:12]}, {count}, each asked first where it is.")
    confirm(environment, output, options, f"Go on with {count}?")
    names = {host.name: host for host in hosts}
    tasks = TaskBuilder(
        names, environment.operator(), policy, target, reopen=True, force=options.force, connecting=options.connecting
    )
    status = run_engine(
        environment,
        output,
        replace(tasks, sender=recorder.sender),
        partial(decide, policy),
        resumed_status(found.rollout, batches, found.well),
        message=f"resume {found.rollout}",
        data=run_data("resume", options, tasks, target.sha256),
        journal=recorder,
    )
    return show_result(output, status)


def _hosts(options: CommandOptions, found: Unfinished, typed: bool) -> tuple[Host, ...]:
    """The plan's hosts that are selected. Raises `Refused` for one that the inventory has no more."""
    selected = {host.name: host for host in selected_hosts(options)}
    planned = [name for batch in found.batches for name in batch]
    missing = [name for name in planned if name not in selected]
    if missing and not typed:
        raise Refused(
            f"rollout {found.rollout} has hosts that the inventory does not have: {', '.join(missing)}.",
            "Give the inventory that has them (-i), or name by --limit the hosts to go on with.",
        )
    kept = tuple(selected[name] for name in planned if name in selected)
    if not kept:
        raise Refused(f"none of the selected hosts is in rollout {found.rollout}.", "See `fleet show` for its hosts.")
    return kept


def _target(found: Unfinished, overrides: Overrides) -> Target:
    """The release, which must be the rollout's own. Raises `Refused`, `ReleaseError`."""
    given = overrides.release
    path = given or found.release_path
    if path is None or (given is None and not Path(path).is_file()):
        return Target(found.release)  # the hosts that were staged have it
    release = find_release(path)
    sha256 = release.sha256 if isinstance(release, Release) else release.prefix
    if not found.release.startswith(sha256):
        raise Refused(
            f"{path} is not the release of rollout {found.rollout}: its hash is {sha256[:12]}, that of the rollout "
            f"{found.release[:12]}.",
            "Give the rollout's own file: --release FILE; or roll back, and upgrade to this one.",
        )
    if not isinstance(release, Release):
        return Target(found.release)
    return Target(release.sha256, release.size_bytes, release.path, release.version)


def _batches(found: Unfinished, hosts: Sequence[Host], overrides: Overrides) -> tuple[tuple[str, ...], ...]:
    if overrides.batches is not None:
        return tuple(tuple(host.name for host in batch.hosts) for batch in make_plan(hosts, overrides.batches).batches)
    kept = {host.name for host in hosts}
    return tuple(filter(None, (tuple(name for name in batch if name in kept) for batch in found.batches)))


def _policy(found: Unfinished, overrides: Overrides, options: CommandOptions, hosts: int) -> Policy:
    given = dict(overrides.policy)
    if overrides.max_failures is not None:
        given["max_failures"] = parse_budget(overrides.max_failures, hosts)
    return replace(found.policy, parallel=options.parallel, lock_wait_s=options.lock_wait_s, **given)
