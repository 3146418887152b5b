"""`fleet commit [ROLLOUT]` and `fleet rollback [ROLLOUT]`: the hosts themselves say which rollout is meant."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from fleet.commands.run import agree, carry_out, hosts_of, look_at, output_of
from fleet.commands.upgrade import tell_end
from fleet.errors import FleetError, Refused
from fleet.host import Host
from fleet.output import Output
from fleet.rollout import ending
from fleet.rollout.errands import committing, decide_commit, decide_rollback, newest, records, undoing
from fleet.rollout.moves import Decide
from fleet.rollout.policy import Policy
from fleet.rollout.requests import Requests
from fleet.rollout.status import RolloutStatus
from fleet.world import Asked, World


class NobodyKnows(FleetError):
    """No host that answered has the rollout, and some did not answer."""

    exit_code = ending.PERSON


def rollback(world: World, asked: Asked, wanted: str | None, *, drain_timeout_s: float, cut: bool) -> int:
    """Every host is back at what it ran before the rollout; the exit code."""
    policy = Policy(parallel=asked.parallel, drain_timeout_s=drain_timeout_s, cut=cut)
    return _errand(world, asked, wanted, policy, "Roll back", undoing, partial(decide_rollback, asked.parallel))


def commit(world: World, asked: Asked, wanted: str | None, *, drain_timeout_s: float, cut: bool) -> int:
    """No host of the rollout holds an old master any more; the exit code."""
    policy = Policy(parallel=asked.parallel, drain_timeout_s=drain_timeout_s, cut=cut)
    return _errand(world, asked, wanted, policy, "Commit", committing, partial(decide_commit, asked.parallel))


def _errand(
    world: World,
    asked: Asked,
    wanted: str | None,
    policy: Policy,
    verb: str,
    begin: Callable[[RolloutStatus, str], RolloutStatus],
    decide: Decide,
) -> int:
    output = output_of(asked)
    hosts = hosts_of(asked)
    looked = look_at(world, output, hosts, asked)
    if looked.interrupted:
        output.say(looked.message)
        return looked.exit_code or ending.INTERRUPTED
    rollout = choose(looked, wanted)
    if rollout is None:
        output.say("No host has a record of any rollout: there is nothing to do.")
        return ending.OK
    start = begin(looked, rollout)
    _say_plan(output, verb, rollout, looked)
    agree(world, output, asked, f"{verb} rollout {rollout} on {ending.several(len(hosts))}?")
    return tell_end(output, _carry_out(world, output, hosts, policy, decide, start, f"{verb.lower()} {rollout}"))


def _carry_out(
    world: World,
    output: Output,
    hosts: tuple[Host, ...],
    policy: Policy,
    decide: Decide,
    start: RolloutStatus,
    message: str,
) -> RolloutStatus:
    start = replace(start, batches=(tuple(host.name for host in hosts),))
    requests = Requests({host.name: host for host in hosts}, world.operator(), policy)
    return carry_out(world, output, requests, decide, start, message=message)


def choose(looked: RolloutStatus, wanted: str | None) -> str | None:
    """The rollout that is meant: the newest, or the only one that begins with `wanted`. `None`: the hosts know of none.

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


def _say_plan(output: Output, verb: str, rollout: str, looked: RolloutStatus) -> None:
    record = records(looked)[rollout]
    output.say(f"{verb} rollout {rollout} of {record.operator}, which brought release {record.target[:12]}.")
