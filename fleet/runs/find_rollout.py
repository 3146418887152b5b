"""Which rollout the argument ROLLOUT names, according to the records on the hosts, and to the journal."""

from collections.abc import Iterable

from fleet.errors import FleetError, Refused
from fleet.onhost.protocol import State
from fleet.onhost.text import listed
from fleet.rollout import results
from fleet.rollout.from_hosts import newest, records
from fleet.rollout.rollout_status import RolloutStatus
from fleet.runs.known_rollouts import NOTHING_KNOWN, KnownRollouts


class HostsDidNotAnswer(FleetError):
    """The rollout can't be determined, because hosts that may know it did not answer."""

    exit_code = results.PERSON


def choose_rollout(look: RolloutStatus, prefix: str | None, known: KnownRollouts = NOTHING_KNOWN) -> str | None:
    """The newest rollout, or the only one whose id starts with `prefix`; `None` if no host has a record of one.

    Raises `Refused`, and `HostsDidNotAnswer`.
    """
    return _newest(look, known) if prefix is None else _named(look, prefix, known)


def _newest(look: RolloutStatus, known: KnownRollouts) -> str | None:
    """The rollout that began last.

    A host that does not answer may be in a newer rollout than those that do. So the newest record is not enough if the
    journal has a newer rollout that may have begun such a host, or if that record's rollout is finished and not in the journal.
    """
    found, here = newest(look), known.newest_begun
    silent = {host.name for host in look.all if host.report is None}
    if not silent:
        return found
    hidden = here if here is not None and _may_be_hidden(look, here, known) else None
    if found is None:
        raise HostsDidNotAnswer(
            f"No host that answered has a record of a rollout, and {listed(sorted(silent))} did not answer.",
            _ways(look, filter(None, (hidden,))),
        )
    if (hidden is not None and hidden > found) or (here is None and records(look)[found].state is not State.BEGUN):
        raise HostsDidNotAnswer(
            f"{listed(sorted(silent))} did not answer, and may be in a newer rollout than {found}, which is the newest that "
            "the other hosts know.",
            _ways(look, filter(None, (found, hidden))),
        )
    return found


def _may_be_hidden(look: RolloutStatus, rollout: str, known: KnownRollouts) -> bool:
    """Whether only hosts that do not answer may have a record of this rollout of the journal."""
    if rollout in records(look):
        return False
    hosts = known.hosts(rollout)
    silent = {host.name for host in look.all if host.report is None}
    return not hosts.is_whole or bool(silent & hosts.may_have_begun)


def _ways(look: RolloutStatus, rollouts: Iterable[str]) -> str:
    """What to type: the command with the rollout's id, or without the hosts that do not answer."""
    named = " or ".join(look.typed.of(rollout).quoted for rollout in rollouts)
    silent = [host.name for host in look.all if host.report is None]
    without = look.typed.without(silent).quoted if len(silent) < len(look.hosts) else ""
    parts = (
        f"Name the rollout: {named}." if named else "",
        f"Leave those hosts out: {without}." if without else "",
        f"See why they do not answer: {results.see_status(look)}.",
    )
    return " ".join(filter(None, parts))


def _named(look: RolloutStatus, prefix: str, known: KnownRollouts) -> str:
    on_hosts = sorted(rollout for rollout in records(look) if rollout.startswith(prefix))
    in_journal = [rollout for rollout in known.starting_with(prefix) if rollout not in on_hosts]
    if prefix in (*on_hosts, *in_journal):
        return prefix
    hidden = [rollout for rollout in in_journal if not on_hosts or _may_be_hidden(look, rollout, known)]
    found = sorted((*on_hosts, *hidden))
    if len(found) == 1:
        return found[0]
    if found:
        lines = listed((look.typed.of(rollout).quoted for rollout in reversed(found)), between=" or ")
        raise Refused(f"{prefix} matches several rollouts: {', '.join(found)}.", f"Type more of the id: {lines}.")
    silent = [host for host in look.all if host.report is None]
    if silent:
        raise HostsDidNotAnswer(
            f"Neither the journal nor a host that answered knows a rollout {prefix}, and {results.names(silent)} did not "
            "answer.",
            f"See why: {look.typed.other('status').quoted}.",
        )
    names = ", ".join(sorted(records(look))) or "none"
    raise Refused(f"No host knows a rollout {prefix}.", f"The hosts know: {names}.")
