"""The hosts of a run as one frozen map, which answers a question about all of them without asking each one again.

A question is a pure function of one host, such as `needs_rollback`. The hosts lie in blocks, the blocks in larger blocks, and
each block remembers its answers. A map with one host changed shares all blocks but the few that lead to that host, so its
answer costs a few blocks, however many hosts there are. Answers are kept by the identity of the question: one that has
arguments is made once for each (`functools.cache`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from fleet.rollout.host_status import HostStatus

Question = Callable[[HostStatus], bool]
Moment = Callable[[HostStatus], datetime | None]
"""When something is due on the host; `None` for never. It is fixed until the host changes, and is not counted from now."""

BITS = 4
WIDTH = 1 << BITS
"""How many hosts or blocks a block has."""
MOST_ANSWERS = 64
"""A block that remembers more forgets them: a rollout with many batches asks new questions in each."""


class _Block:
    """At most `WIDTH` hosts, or blocks of the next smaller size."""

    __slots__ = ("answers", "parts")

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self.parts = parts
        self.answers: dict[Any, Any] = {}

    def remember(self, question: Any, answer: Any) -> Any:
        if len(self.answers) >= MOST_ANSWERS:
            self.answers.clear()
        self.answers[question] = answer
        return answer


class HostMap(Mapping[str, HostStatus]):
    """The status of each host by its name, in the order of the plan."""

    __slots__ = ("_positions", "_root", "_shift")

    def __init__(self, hosts: Iterable[HostStatus] = ()) -> None:
        parts: list[Any] = list(hosts)
        self._positions = {host.name: position for position, host in enumerate(parts)}
        self._shift = 0
        while len(parts) > WIDTH:
            parts = [_Block(tuple(parts[begin : begin + WIDTH])) for begin in range(0, len(parts), WIDTH)]
            self._shift += BITS
        self._root = _Block(tuple(parts))

    def __getitem__(self, name: str) -> HostStatus:
        position, block = self._positions[name], self._root
        for shift in range(self._shift, 0, -BITS):
            block = block.parts[position >> shift & WIDTH - 1]
        found: HostStatus = block.parts[position & WIDTH - 1]
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)

    def __repr__(self) -> str:
        return repr(dict(self))

    def all(self) -> tuple[HostStatus, ...]:
        """Every host, in the order of the plan."""
        blocks = [self._root]
        for _ in range(0, self._shift, BITS):
            blocks = [part for block in blocks for part in block.parts]
        return tuple(host for block in blocks for host in block.parts)

    def having(self, host: HostStatus) -> "HostMap":
        """The map in which this host's status is the given one."""
        return self._of(_put(self._root, self._shift, self._positions[host.name], host))

    def changed(self, question: Question, change: Callable[[HostStatus], HostStatus]) -> "HostMap":
        """The map in which each host for which the answer is yes has been changed."""
        found = self
        for host in self.where(question):
            found = found.having(change(host))
        return found

    def count(self, question: Question) -> int:
        """For how many hosts the answer is yes."""
        return _count(self._root, self._shift, question)

    def where(self, question: Question) -> Iterator[HostStatus]:
        """The hosts for which the answer is yes, in the order of the plan."""
        return _where(self._root, self._shift, question)

    def earliest(self, moment: Moment) -> datetime | None:
        """The first moment at which something is due on a host."""
        return _earliest(self._root, self._shift, moment)

    def due(self, moment: Moment, now: datetime) -> Iterator[HostStatus]:
        """The hosts on which something is due by now, in the order of the plan."""
        return _due(self._root, self._shift, moment, now)

    def _of(self, root: _Block) -> "HostMap":
        made = HostMap.__new__(HostMap)
        made._positions, made._root, made._shift = self._positions, root, self._shift
        return made


def _put(block: _Block, shift: int, position: int, host: HostStatus) -> _Block:
    place, parts = position >> shift & WIDTH - 1, block.parts
    part = _put(parts[place], shift - BITS, position, host) if shift else host
    return _Block((*parts[:place], part, *parts[place + 1 :]))


def _count(block: _Block, shift: int, question: Question) -> int:
    known: int | None = block.answers.get(question)
    if known is not None:
        return known
    if shift:
        found = sum([_count(part, shift - BITS, question) for part in block.parts])
    else:
        found = sum([1 for host in block.parts if question(host)])
    block.remember(question, found)
    return found


def _where(block: _Block, shift: int, question: Question) -> Iterator[HostStatus]:
    for part in block.parts:
        if not shift:
            if question(part):
                yield part
        elif _count(part, shift - BITS, question):
            yield from _where(part, shift - BITS, question)


def _earliest(block: _Block, shift: int, moment: Moment) -> datetime | None:
    if moment in block.answers:
        known: datetime | None = block.answers[moment]
        return known
    if shift:
        moments = [_earliest(part, shift - BITS, moment) for part in block.parts]
    else:
        moments = [moment(host) for host in block.parts]
    found = min([at for at in moments if at is not None], default=None)
    block.remember(moment, found)
    return found


def _due(block: _Block, shift: int, moment: Moment, now: datetime) -> Iterator[HostStatus]:
    for part in block.parts:
        at = _earliest(part, shift - BITS, moment) if shift else moment(part)
        if at is None or at > now:
            continue
        if shift:
            yield from _due(part, shift - BITS, moment, now)
        else:
            yield part
