"""Which rollout ROLLOUT names, by what the hosts say of themselves."""

from fleet.errors import FleetError, Refused
from fleet.onhost.protocol import State
from fleet.rollout import results
from fleet.rollout.from_hosts import newest, records
from fleet.rollout.rollout_status import RolloutStatus


class HostsDidNotAnswer(FleetError):
    """No host that answered has the rollout, and some did not answer."""

    exit_code = results.PERSON


def choose_rollout(looked: RolloutStatus, wanted: str | None, newest_here: str | None = None) -> str | None:
    """The rollout that is meant: the newest, or the only one that begins with `wanted`. `None`: the hosts know of none.

    With silent hosts the newest may be one that only they know: then the older one is not taken for it, where the
    journal knows a newer one (`newest_here`), or where all that answered are done with theirs.

    Raises `Refused`, or `HostsDidNotAnswer` when the hosts that could tell are silent.
    """
    known = records(looked)
    silent = [host for host in looked.all if host.report is None]
    if wanted is None:
        found = newest(looked)
        if found is None and silent:
            raise HostsDidNotAnswer(
                f"no host that answered has a record of a rollout, and {results.names(silent)} did not answer.",
                "Mend their connection, or name the rollout in full.",
            )
        if found is not None and silent and _may_be_older(looked, found, newest_here):
            raise HostsDidNotAnswer(
                f"{results.names(silent)} did not answer, and may be in a newer rollout than {found}, the newest that the "
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
        raise Refused(f"{wanted} matches several rollouts: {', '.join(matches)}.", "Give more characters of the id.")
    if silent:
        raise HostsDidNotAnswer(
            f"no host that answered knows a rollout {wanted}, and {results.names(silent)} did not answer.",
            "Mend their connection, and run it again.",
        )
    names = ", ".join(sorted(known)) or "none"
    raise Refused(f"no host knows a rollout {wanted}.", f"They know: {names}.")


def _may_be_older(looked: RolloutStatus, found: str, newest_here: str | None) -> bool:
    if newest_here is not None:
        return newest_here not in records(looked) and newest_here > found
    return records(looked)[found].state is not State.BEGUN
