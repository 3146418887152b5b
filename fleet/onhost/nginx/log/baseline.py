"""The judgement of a new release by its log: compared with what the running release writes on this host, not with silence.

A kind of line that the running release writes, too, is no evidence against the new one. Of a worker's exit the new release
may not show more than the running one ever did in a time as short: else a crash loop could hide behind one old crash.
"""

from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from fleet.onhost.nginx.error_log import speaks_against
from fleet.onhost.nginx.log.allowed_lines import ALLOW, named_by
from fleet.onhost.nginx.log.kinds import is_exit, kind_of, most_within, parsed, shortened
from fleet.onhost.nginx.log.own_lines import history
from fleet.onhost.observation import Master
from fleet.onhost.state.known_lines import WINDOWS_S, Baseline, KnownLine, Writer
from fleet.onhost.system.machine import Machine

MOST_KINDS = 50
MANY_LINES = 100
MANY_TIMES = 10
"""A known kind that is no exit counts only where there is a flood of it: more than both of these allow in any window."""


class Known(NamedTuple):
    """Lines of a known kind: the last of them, how many they are, and what is known."""

    line: str
    times: int
    known: KnownLine


class Allowed(NamedTuple):
    """A line that a pattern of the operator names."""

    line: str
    pattern: str

    @property
    def words(self) -> str:
        return "%s (%s='%s')" % (shortened(self.line), ALLOW, self.pattern)


class Judgement(NamedTuple):
    """The bad lines of a new release: those that count against it, and what the others are, one entry for each kind."""

    counted: Tuple[str, ...] = ()
    known: Tuple[Known, ...] = ()
    allowed: Tuple[Allowed, ...] = ()

    @property
    def known_exits(self) -> int:
        """How many exits of workers are not counted."""
        return sum(one.times for one in self.known if is_exit(one.line))


def baseline_of(machine: Machine, old: Master, more: Sequence[KnownLine] = ()) -> Baseline:
    """The baseline that the running master's log gives, with more known lines. An unreadable log is no error."""
    try:
        found = history(machine, old)
    except (OSError, ValueError):
        return Baseline(_each_kind_once(more))
    return Baseline(_each_kind_once([*known_lines(found.lines, Writer.RUNNING), *more]), found.read)


def known_lines(lines: Iterable[str], by: Writer) -> Tuple[KnownLine, ...]:
    """The kinds of these lines."""
    found = []
    for kind, group in _by_kind(lines).items():
        last = max(group, key=lambda line: parsed(line).at)
        found.append(KnownLine(kind, shortened(last), by, most_within(group)))
    return tuple(found)


def rehearsed_lines(lines: Iterable[str]) -> Tuple[KnownLine, ...]:
    """What the running release's binary wrote in a rehearsal, as far as it tells what it writes on the host itself.

    Exits are left out: a worker may die of the rehearsal. `lines` are those of this generation.
    """
    return known_lines([line for line in lines if speaks_against(line) and not is_exit(line)], Writer.REHEARSED)


def said_before(baseline: Baseline) -> Tuple[KnownLine, ...]:
    """The lines of the baseline as those of the release that ran before: for a rollback to it."""
    return tuple(one._replace(by=Writer.BEFORE) for one in baseline.lines)


def _each_kind_once(lines: Iterable[KnownLine]) -> Tuple[KnownLine, ...]:
    """One line of each kind, the earlier in the list before the later; the newest, where they are too many to keep."""
    found: Dict[str, KnownLine] = {}
    for one in lines:
        found.setdefault(one.kind, one)
    return tuple(sorted(found.values(), key=lambda one: parsed(one.line).at)[-MOST_KINDS:])


def judge(lines: Iterable[str], baseline: Baseline, patterns: Sequence[str] = ()) -> Judgement:
    """The judgement of these bad lines of a new release. `patterns` are those of `--allow log-line=PATTERN`."""
    kinds = {one.kind: one for one in baseline.lines}
    counted: List[str] = []
    known: List[Known] = []
    allowed: List[Allowed] = []
    for kind, group in _by_kind(lines).items():
        same, pattern = kinds.get(kind), named_by(patterns, group[-1])
        if same is not None and _exceeded(group, same) is None:
            known.append(Known(group[-1], len(group), same))
        elif pattern is not None:
            allowed.append(Allowed(group[-1], pattern))
        else:
            counted += group
    return Judgement(tuple(counted), tuple(known), tuple(allowed))


def _by_kind(lines: Iterable[str]) -> Dict[str, List[str]]:
    found: Dict[str, List[str]] = {}
    for line in lines:
        found.setdefault(kind_of(line), []).append(line)
    return found


def _exceeded(lines: Sequence[str], known: KnownLine) -> Optional[int]:
    """The index of the window in which there are more of these lines than the known ones excuse, or `None`."""
    for index, (now, before) in enumerate(zip(most_within(lines), known.most)):
        most = before if is_exit(lines[-1]) else max(MANY_LINES, MANY_TIMES * before)
        if now > most:
            return index
    return None


def compared(counted: Sequence[str], baseline: Baseline) -> str:
    """How the running release compares with the lines that count, in words: a sentence without its full stop."""
    kinds = {one.kind: one for one in baseline.lines}
    for kind, group in _by_kind(counted).items():
        index = _exceeded(group, kinds[kind]) if kind in kinds else None
        if index is not None:
            known = kinds[kind]
            return "The running release wrote such lines less often: at most %d within %d s, the last at %s" % (
                known.most[index],
                WINDOWS_S[index],
                parsed(known.line).at,
            )
    if not baseline.read:
        return "What the running release writes is not known: none of its log was read"
    return "The running release wrote none like them in %s" % baseline.read
