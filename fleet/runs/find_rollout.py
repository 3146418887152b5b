"""Which rollout the argument ROLLOUT names, according to the records on the hosts."""

from fleet.errors import FleetError, Refused
from fleet.onhost.protocol import State
from fleet.rollout import results
from fleet.rollout.from_hosts import newest, records
from fleet.rollout.rollout_status import RolloutStatus


class HostsDidNotAnswer(FleetError):
    """The rollout can't be determined, because hosts that may know it did not answer."""

    exit_code = results.PERSON


def choose_rollout(look: RolloutStatus, prefix: str | None, newest_here: str | None = None) -> str | None:
    """The newest rollout, or the only one whose id starts with `prefix`; `None` if no host has a record.

    A host that does not answer may be in a newer rollout than those that do. So the newest record is not enough if the
    journal has a newer rollout (`newest_here`), or if that record's rollout is finished.

    Raises `Refused`, and `HostsDidNotAnswer`.
    """
    known = records(look)
    silent = [host for host in look.all if host.report is None]
    if prefix is None:
        found = newest(look)
        if found is None and silent:
            raise HostsDidNotAnswer(
                f"No host that answered has a record of a rollout, and {results.names(silent)} did not answer.",
                "See why: fleet status. Or leave those hosts out with --limit.",
            )
        if found is not None and silent and _may_be_older(look, found, newest_here):
            raise HostsDidNotAnswer(
                f"{results.names(silent)} did not answer, and may be in a newer rollout than {found}, which is the newest "
                "that the other hosts know.",
                f"Name the rollout: {found}" + (f", or {newest_here}." if newest_here else "."),
            )
        return found
    matches = sorted(rollout for rollout in known if rollout.startswith(prefix))
    if prefix in matches:
        return prefix
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise Refused(f"{prefix} matches several rollouts: {', '.join(matches)}.", "Type more characters of the id.")
    if silent:
        raise HostsDidNotAnswer(
            f"No host that answered knows a rollout {prefix}, and {results.names(silent)} did not answer.",
            "See why: fleet status.",
        )
    names = ", ".join(sorted(known)) or "none"
    raise Refused(f"No host knows a rollout {prefix}.", f"The hosts know: {names}.")


def _may_be_older(look: RolloutStatus, found: str, newest_here: str | None) -> bool:
    if newest_here is not None:
        return newest_here not in records(look) and newest_here > found
    return records(look)[found].state is not State.BEGUN
