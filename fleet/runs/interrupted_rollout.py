"""What is known of the rollout that `resume` continues: from the journal, or from the hosts' own records."""

from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

from fleet.environment import CommandOptions
from fleet.errors import Refused
from fleet.journal.journal import Journal
from fleet.journal.run_summary import Run
from fleet.onhost.text import counted
from fleet.plan import DEFAULT_BATCHES, split
from fleet.rollout.from_hosts import records
from fleet.rollout.host_status import HostStatus
from fleet.rollout.policy import Policy
from fleet.rollout.results import leaving_out, names, see_status
from fleet.rollout.resume import ResumeAs, passed_gate, resume_as
from fleet.rollout.rollout_status import RolloutStatus, fold
from fleet.runs.find_rollout import choose_rollout
from fleet.runs.lease_option import LEASE_S
from fleet.ui.output import Output


@dataclass(frozen=True, slots=True)
class InterruptedRollout:
    """The plan, the policy and how to continue. `batches` holds host names; `passed` are hosts that passed their gate."""

    rollout: str
    release: str
    release_path: str | None
    batches: tuple[tuple[str, ...], ...]
    policy: Policy
    passed: frozenset[str]
    resume_as: ResumeAs


@dataclass(frozen=True, slots=True)
class JournaledRollout:
    """A rollout's runs in the journal, in order, each with its last status."""

    rollout: str
    runs: tuple[tuple[Run, RolloutStatus], ...]

    @property
    def upgrades(self) -> tuple[tuple[Run, RolloutStatus], ...]:
        """The runs that go forward, and so know the plan."""
        return tuple((run, status) for run, status in self.runs if run.command in ("upgrade", "resume"))

    @property
    def began_elsewhere(self) -> bool:
        """Whether another journal began the rollout, so that the plan here has only the hosts that had a record."""
        return bool(self.upgrades) and self.upgrades[0][0].command == "resume"

    @property
    def resume_as(self) -> ResumeAs:
        """How the rollout continues."""
        planned = (self.upgrades or self.runs)[0][1].hosts
        return resume_as([(run.command, status) for run, status in self.runs], frozenset(planned))

    def options(self, given: CommandOptions) -> CommandOptions:
        """The options, with the inventory of the run that continues where the operator gave none.

        An upgrade continues on the hosts of its plan, whatever its limit would select now. A commit or rollback keeps its
        limit.
        """
        is_upgrade = self.resume_as is ResumeAs.UPGRADE
        run = self.upgrades[0][0] if is_upgrade else self.runs[-1][0]
        limits = given.limits or (() if is_upgrade else tuple(run.facts["limit"]))
        typed = replace(given.typed.of(self.rollout), limits=limits)
        if given.inventories:
            return replace(given, limits=limits, typed=typed)
        paths = tuple(run.facts["inventory"])
        typed = typed.having("inventory", *(word for path in paths for word in ("-i", path)))
        return replace(given, inventories=tuple(map(Path, paths)), limits=limits, typed=typed)

    def interrupted(self) -> InterruptedRollout:
        """The plan of the first run, the policy of the run that continues, and the newest path of the release."""
        first, last = (self.upgrades or self.runs)[0][0], (self.upgrades or self.runs)[-1][0]
        continued = last if self.resume_as is ResumeAs.UPGRADE else self.runs[-1][0]
        paths = [run.facts["release_path"] for run, _ in self.upgrades if run.facts["release_path"]]
        return InterruptedRollout(
            rollout=self.rollout,
            release=first.facts["release"],
            release_path=paths[-1] if paths else None,
            batches=tuple(tuple(batch) for batch in first.facts["batches"]),
            policy=Policy.from_plain(continued.facts["policy"]),
            passed=passed_gate(status for _, status in self.upgrades),
            resume_as=self.resume_as,
        )


def from_journal(journal: Journal, prefix: str | None) -> JournaledRollout | None:
    """The rollout in the journal; `None` if it is not there, or if none of its runs knows the plan.

    Raises `Refused` if `prefix` matches several.
    """
    known = [summary.rollout for summary in journal.rollouts()]
    if not known or (prefix is not None and not any(rollout.startswith(prefix) for rollout in known)):
        return None
    rollout = journal.find(prefix)
    runs = [(run, reduce(fold, journal.events(rollout, run.run), RolloutStatus())) for run in journal.runs(rollout)]
    found = JournaledRollout(rollout, tuple(runs))
    return found if found.upgrades or found.resume_as is not ResumeAs.UPGRADE else None


def from_hosts(look: RolloutStatus, output: Output, prefix: str | None, adds_hosts: bool) -> InterruptedRollout:
    """The rollout from the hosts' records, with the default batches and policy.

    Its hosts are those with a record of it; if `--limit` names hosts (`adds_hosts`), all selected ones. Raises `Refused`,
    `HostsDidNotAnswer`.
    """
    rollout = choose_rollout(look, prefix)
    record = records(look).get(rollout or "")
    if rollout is None or record is None:
        start = look.typed.other("upgrade", "RELEASE").quoted
        raise Refused("Neither this journal nor any host knows a rollout.", f"Start one: {start}.")
    if not adds_hosts:
        _refuse_silent(look, rollout)
    hosts = [host.name for host in look.all if adds_hosts or _has_record(host, rollout)]
    output.say(
        f"Rollout {rollout} is not in this journal. Resuming from the hosts' records: {counted(len(hosts))}, release "
        f"{record.target[:12]}, started by {record.operator}. Batches and policy are the defaults, unless you give them. "
        "Hosts that it had not started are left out, unless you name them with --limit."
    )
    return InterruptedRollout(
        rollout,
        record.target,
        None,
        split(hosts, DEFAULT_BATCHES),
        Policy(lease_s=LEASE_S),
        frozenset(),
        ResumeAs.UPGRADE,
    )


def _refuse_silent(look: RolloutStatus, rollout: str) -> None:
    """Raises `Refused` for hosts that did not answer: any of them may be in the rollout."""
    silent = [host for host in look.all if host.report is None]
    if silent:
        without = leaving_out(replace(look, rollout=rollout), [host.name for host in silent])
        raise Refused(
            f"{names(silent)} did not answer, and no journal here shows whether rollout {rollout} has begun "
            f"{'it' if len(silent) == 1 else 'them'}. Nothing was changed.",
            f"See why: {see_status(look)}. If not, leave {'it' if len(silent) == 1 else 'them'} out: {without}.",
        )


def _has_record(host: HostStatus, rollout: str) -> bool:
    record = host.report.record if host.report else None
    return record is not None and record.rollout == rollout
