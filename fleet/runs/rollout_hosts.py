"""What a command says of the hosts of its rollout before it begins: which ones it leaves alone, and which ones are missing."""

from collections.abc import Collection, Iterable, Iterator

from fleet.errors import Refused
from fleet.onhost.protocol import State
from fleet.onhost.text import listed
from fleet.rollout.own_hosts import OwnHosts
from fleet.typed_command import TypedCommand


def host_notes(own: OwnHosts, rollout: str, is_limited: bool) -> Iterator[str]:
    """A sentence for each thing that the operator may not expect."""
    if is_limited and own.elsewhere:
        yield f"Not selected, and left as {_they(own.elsewhere, 'it is', 'they are')}: {listed(own.elsewhere)}."
    if is_limited and own.outside and own.is_whole:
        yield f"Never in rollout {rollout}, and left alone: {listed(own.outside)}."
    if is_limited and own.outside and not own.is_whole:
        yield f"No record of rollout {rollout}: {listed(own.outside)}."
    if own.silent:
        yield f"No answer from {listed(own.silent)}: never in rollout {rollout}, and left alone."
    if own.never_begun:
        yield f"No answer from {listed(sorted(own.never_begun))}: never begun by rollout {rollout}, and left alone."
    if own.added and own.is_journaled:
        yield f"In rollout {rollout} by their own records, and not in this journal's plan: {listed(own.added)}."
    for name, member in own.doubles:
        yield f"{name} is the same nginx as {member}, which is visited."


def _they(names: Collection[str], one: str, many: str) -> str:
    return one if len(names) == 1 else many


def lost_hosts(own: OwnHosts, settled: Collection[State], is_limited: bool) -> tuple[str, ...]:
    """The hosts of the rollout that the inventory does not have, and that are not known to need no visit."""
    if is_limited:
        return ()
    return tuple(name for name, state in own.elsewhere.items() if state not in settled)


def without_lost(typed: TypedCommand) -> str:
    """The command for the hosts of the rollout that the inventory has."""
    return typed.having("limit", "-l", "all").quoted


def refuse_lost(rollout: str, names: Iterable[str], typed: TypedCommand) -> None:
    """Raises `Refused` if there is a host of the rollout that the inventory does not have."""
    missing = tuple(names)
    if missing:
        raise Refused(
            f"Rollout {rollout} has hosts that the inventory does not have: {listed(missing)}.",
            f"Give the inventory that has them (-i), or {typed.command} only the others: {without_lost(typed)}.",
        )


def none_selected(rollout: str, typed: TypedCommand) -> Refused:
    """The refusal of a selection that leaves no host of the rollout."""
    return Refused(
        f"None of the selected hosts is in rollout {rollout}.",
        f"See its hosts: {typed.other('show', rollout).quoted}.",
    )
