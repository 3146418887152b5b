"""The error log as evidence in a step: the new master's lines since `launch`, judged against what the running release writes.

The baseline was read just before `launch` and is kept with what later visits must know, so that verify, bake and commit
judge alike.
"""

from typing import Collection, Optional, Sequence, Tuple

from fleet.onhost.nginx.error_log import CRASHED, ENDED, Mark, bad_lines, lines_since, mark
from fleet.onhost.nginx.log.allowed_lines import ALLOW, patterns_in
from fleet.onhost.nginx.log.baseline import Judgement, Known, compared, judge
from fleet.onhost.nginx.log.kinds import kind_of, parsed, shortened, suggested_pattern
from fleet.onhost.observation import Master, Observation
from fleet.onhost.state.known_lines import Baseline, Writer
from fleet.onhost.steps.context import StepContext, StepFailed, find
from fleet.onhost.text import listed

MOST_QUOTED = 3
FLOOD = 10  # Crashes since launch. nginx restarts a worker that dies at its start thousands of times in a second.
WROTE = {
    Writer.RUNNING: "also written by the running release",
    Writer.REHEARSED: "also written by the running release in the rehearsal",
    Writer.BEFORE: "also written by this release before the upgrade",
}


def judgement(context: StepContext, seen: Observation, new: Master) -> Optional[Judgement]:
    """The judgement of this master's and its workers' lines since `launch`; `None` when there is no log to read."""
    lines = _bad_lines(context, seen, new)
    if lines is None:
        return None
    patterns = patterns_in(context.options.allow + context.record.allow)
    return judge(lines, context.own.serving.baseline, patterns)


def _bad_lines(context: StepContext, seen: Observation, new: Master) -> Optional[Tuple[str, ...]]:
    serving = context.own.serving
    start = Mark(serving.log_path, serving.log_inode, serving.log_offset)
    lines = lines_since(context.machine, start, [master.pid for master in seen.masters])
    if lines is None:
        return None
    now = find(seen, new.pid, new.start)
    return bad_lines(lines, [new.pid] + [worker.pid for worker in (now or new).workers])


def floods(context: StepContext, seen: Observation, new: Master) -> bool:
    """Whether its workers crash as fast as it starts them. Then it must end at once, or its log fills the disk.

    This holds whatever the running release does.
    """
    return sum(CRASHED in line for line in _bad_lines(context, seen, new) or ()) >= FLOOD


def must_be_clean(context: StepContext, seen: Observation, new: Master) -> Judgement:
    """The judgement, when nothing in the log counts against the new master. Raises `StepFailed` otherwise."""
    found = judgement(context, seen, new) or Judgement()
    if found.counted:
        raise failure_of(found.counted, context.own.serving.baseline)
    return found


def failure_of(lines: Sequence[str], baseline: Baseline) -> StepFailed:
    """The failure that the log lines show: its workers crash, they exit with a fatal code, or another bad line."""
    crashed = [line for line in lines if CRASHED in line]
    ended = [line for line in lines if ENDED in line]
    if crashed:
        return StepFailed("workers_crash", lines=_quoted(crashed), compared=compared(crashed, baseline))
    if ended:
        return StepFailed("workers_fatal", lines=_quoted(ended), compared=compared(ended, baseline))
    pattern = "%s='%s'" % (ALLOW, suggested_pattern(lines[-1]))
    return StepFailed("log_bad", lines=_quoted(lines), compared=compared(lines, baseline), pattern=pattern)


def _quoted(lines: Collection[str]) -> str:
    return listed([shortened(line) for line in lines], MOST_QUOTED, between=" / ")


def tell(context: StepContext, found: Judgement) -> Tuple[str, ...]:
    """Warn of the lines that are not counted, of each kind once in a rollout. Returns the kinds that were new."""
    said = context.own.serving.said
    known = [one for one in found.known if one.known.kind not in said]
    allowed = [one for one in found.allowed if kind_of(one.line) not in said]
    if known:
        context.warn("log_known", lines=_quoted([_both(one) for one in known]))
    if allowed:
        context.warn("log_allowed", lines=_quoted([one.words for one in allowed]))
    return tuple([one.known.kind for one in known] + [kind_of(one.line) for one in allowed])


def _both(one: Known) -> str:
    """The new release's line, and the running release's."""
    now, before = parsed(one.line), parsed(one.known.line)
    wording = "" if now.text == before.text else " as `%s`" % before.text
    return "%s (%s%s, last at %s: not counted)" % (shortened(one.line), WROTE[one.known.by], wording, before.at)


def remember_said(context: StepContext, kinds: Sequence[str]) -> None:
    """Note that the operator has been told of these kinds."""
    if kinds:
        context.remember(lambda serving: serving._replace(said=serving.said + tuple(kinds)))


def judge_afresh(context: StepContext, seen: Observation) -> None:
    """Warn once more of what the log has against the new release, and judge only later lines from now on.

    For a resume: fleet has shown those lines to the operator, and their cause (a person, the kernel) need not be the release.
    """
    new = seen.masters[-1] if seen.masters else None
    if new is None or new.sha256 != context.target:
        return
    found = judgement(context, seen, new)
    if found is None or not found.counted:
        return
    context.warn("log_passed_over", lines=_quoted(found.counted))
    now = mark(context.machine, new.pid)
    context.remember(lambda serving: serving._replace(log_path=now.path, log_inode=now.inode, log_offset=now.offset))
