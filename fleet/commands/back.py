"""`fleet commit [ROLLOUT]` and `fleet rollback [ROLLOUT]`: the hosts themselves say which rollout is meant."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from fleet.commands.journaled import Recorder, holding, journal_if_any, run_data, sender, taking_over
from fleet.commands.run import agree, carry_out, hosts_of, look_at, output_of
from fleet.commands.upgrade import LEASE_S, tell_end
from fleet.errors import FleetError, Refused
from fleet.journal.store import Journal
from fleet.onhost.protocol import State
from fleet.output import Output
from fleet.rollout import ending
from fleet.rollout.errands import committing, decide_commit, decide_rollback, newest, records, undoing
from fleet.rollout.moves import Decide
from fleet.rollout.policy import Policy
from fleet.rollout.requests import Requests
from fleet.rollout.status import RolloutStatus
from fleet.world import Asked, World

VERBS = {"rollback": "Roll back", "commit": "Commit"}


class NobodyKnows(FleetError):
    """No host that answered has the rollout, and some did not answer."""

    exit_code = ending.PERSON


Recording = Callable[[str], AbstractContextManager[Recorder | None]]
"""Given the rollout that is meant: what the run writes to while it is entered."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What makes a commit a commit, and a rollback a rollback."""

    command: str
    policy: Policy
    begin: Callable[[RolloutStatus, str], RolloutStatus]
    decide: Decide


def rollback(world: World, asked: Asked, wanted: str | None, *, drain_timeout_s: float, cut: bool) -> int:
    """Every host is back at what it ran before the rollout; the exit code. Works with no journal at all."""
    policy = Policy(parallel=asked.parallel, drain_timeout_s=drain_timeout_s, cut=cut)
    errand = Errand("rollback", policy, undoing, partial(decide_rollback, asked.parallel))
    output = output_of(asked)
    with journal_if_any(output, asked) as journal:
        recording = partial(taking_over, journal, output, world.operator())
        newest_here = journal.rollouts(most=1) if journal is not None else ()
        known = newest_here[0].rollout if newest_here else None
        return _run(world, asked, output, wanted, errand, recording, known)


def commit(world: World, asked: Asked, wanted: str | None, *, drain_timeout_s: float, cut: bool) -> int:
    """No host of the rollout holds an old master any more; the exit code."""
    policy = Policy(parallel=asked.parallel, drain_timeout_s=drain_timeout_s, cut=cut, lease_s=LEASE_S)
    errand = Errand("commit", policy, committing, partial(decide_commit, policy))
    output = output_of(asked)
    # The hosts are looked at under the lock: what was seen while another run was at work would be out of date.
    with (
        Journal.open(asked.journal) as journal,
        holding(journal, output, asked, world.operator(), "commit", wanted or "") as recorder,
    ):
        return _run(world, asked, output, wanted, errand, partial(_named, recorder))


@contextmanager
def _named(recorder: Recorder, rollout: str) -> Iterator[Recorder]:
    recorder.name(rollout)
    yield recorder


def _run(
    world: World,
    asked: Asked,
    output: Output,
    wanted: str | None,
    errand: Errand,
    recording: Recording,
    newest_here: str | None = None,
) -> int:
    hosts = hosts_of(asked)
    looked = look_at(world, output, hosts, asked)
    if looked.interrupted:
        output.say(looked.message)
        return looked.exit_code or ending.INTERRUPTED
    rollout = choose(looked, wanted, newest_here)
    if rollout is None:
        output.say("No host has a record of any rollout: there is nothing to do.")
        return ending.OK
    record = records(looked)[rollout]
    verb = VERBS[errand.command]
    output.say(f"{verb} rollout {rollout} of {record.operator}, which brought release {record.target[:12]}.")
    agree(world, output, asked, f"{verb} rollout {rollout} on {ending.several(len(hosts))}?")
    start = replace(errand.begin(looked, rollout), batches=(tuple(host.name for host in hosts),))
    requests = Requests(
        {host.name: host for host in hosts},
        world.operator(),
        errand.policy,
        force=asked.force,
        connecting=asked.connecting,
    )
    with recording(rollout) as recorder:
        status = carry_out(
            world,
            output,
            replace(requests, sender=recorder.sender if recorder else sender()),
            errand.decide,
            start,
            message=f"{verb.lower()} {rollout}",
            data=run_data(errand.command, asked, requests, record.target),
            journal=recorder,
            needs_journal=errand.command != "rollback",
        )
    return tell_end(output, status)


def choose(looked: RolloutStatus, wanted: str | None, newest_here: str | None = None) -> str | None:
    """The rollout that is meant: the newest, or the only one that begins with `wanted`. `None`: the hosts know of none.

    With silent hosts the newest may be one that only they know: then the older one is not taken for it, where the
    journal knows a newer one (`newest_here`), or where all that answered are done with theirs.

    Raises `Refused`, or `NobodyKnows` when the hosts that could tell are silent.
    """
    known = records(looked)
    silent = [host for host in looked.all if host.report is None]
    if wanted is None:
        found = newest(looked)
        if found is None and silent:
            raise NobodyKnows(
                f"no host that answered has a record of a rollout, and {ending.names(silent)} did not answer.",
                "Mend their connection, or name the rollout in full.",
            )
        if found is not None and silent and _may_be_older(looked, found, newest_here):
            raise NobodyKnows(
                f"{ending.names(silent)} did not answer, and may be in a newer rollout than {found}, the newest that the "
                "others know.",
                f"Name the rollout that is meant: {found}" + (f", or {newest_here}." if newest_here else "."),
            )
        return found
    matches = sorted(rollout for rollout in known if rollout.startswith(wanted))
    if wanted in matches:
        return wanted
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise Refused(f"{wanted} is the start of several rollouts: {', '.join(matches)}.", "Give more of its id.")
    if silent:
        raise NobodyKnows(
            f"no host that answered knows a rollout {wanted}, and {ending.names(silent)} did not answer.",
            "Mend their connection, and run it again.",
        )
    names = ", ".join(sorted(known)) or "none"
    raise Refused(f"no host knows a rollout {wanted}.", f"They know: {names}.")


def _may_be_older(looked: RolloutStatus, found: str, newest_here: str | None) -> bool:
    if newest_here is not None:
        return newest_here not in records(looked) and newest_here > found
    return records(looked)[found].state is not State.BEGUN
