"""What the new release does in the rehearsal that the running one does not: answers, log lines, modules, pid file.

A generation that did not come up shows none of it (`coming_up`). What the running release writes to its log is known
without its generation, too.
"""

import os
import re
from typing import List, Optional, Sequence, Tuple

from fleet.onhost.nginx.error_log import CRASHED, ENDED
from fleet.onhost.nginx.log.allowed_lines import ALLOW, patterns_in
from fleet.onhost.nginx.log.baseline import baseline_of, compared, judge, known_lines
from fleet.onhost.nginx.log.kinds import kind_of, suggested_pattern
from fleet.onhost.preflight.subject import Subject
from fleet.onhost.protocol import Finding
from fleet.onhost.reasons.catalogue import finding, seen_in_rehearsal
from fleet.onhost.rehearsal.evidence import Answered, Generation, Rehearsal
from fleet.onhost.state.known_lines import Baseline, Writer
from fleet.onhost.text import listed

MOST_QUOTED = 3
OWN_WORDS = "fleet: "  # What fleet itself says in the rehearsal.
STATUS = re.compile(r"^(\d)\d\d\b(.*)$")


def differences(subject: Subject, rehearsal: Rehearsal) -> List[Finding]:
    """What speaks against a new release that came up."""
    new, old = came_up(rehearsal.new), came_up(rehearsal.old)
    if new is None:
        return []
    found = _log(subject, new, old) + _pid_file(subject, new, old)
    if old is not None:
        found += _answers(new, old)
    return found


def came_up(shown: Optional[Generation]) -> Optional[Generation]:
    """The generation, if it came up."""
    return shown if shown is not None and shown.fault is None else None


def _pid_file(subject: Subject, new: Generation, old: Optional[Generation]) -> List[Finding]:
    """Whether the configuration names another pid file by now. One that only the new build names is `release.differs`'s."""
    seen = subject.seen
    is_named = seen.pid_file is not None and seen.pid_file_pid == subject.old.pid
    if not is_named or new.pid_file is not None or (old is not None and old.pid_file is not None):
        return []
    return [finding("pid_file_moved", path=seen.pid_file)]


def _answers(new: Generation, old: Generation) -> List[Finding]:
    before = {one.question: one for one in old.answers if one.good}
    different = [
        _compared(now, before[now.question])
        for now in new.answers
        if now.question in before and not _are_alike(now, before[now.question])
    ]
    return [finding("answers_differ", answers=quoted(different))] if different else []


def _are_alike(now: Answered, was: Answered) -> bool:
    """Whether both answers are good and of one class: 200 is like 204, and 404 is like 403."""
    return now.good and _class_of(now.answer) == _class_of(was.answer)


def _class_of(answer: str) -> Tuple[str, ...]:
    found = STATUS.match(answer)
    return found.groups() if found else (answer,)


def _compared(now: Answered, was: Answered) -> str:
    if now.question in now.answer:  # A probe's answer says all by itself.
        return now.answer
    return "`GET /` on %s gives %s instead of %s" % (now.question, now.answer, was.answer)


def _log(subject: Subject, new: Generation, old: Optional[Generation]) -> List[Finding]:
    """The new generation's lines, judged as verify will judge them, against the running release's log and its rehearsal."""
    bad = [line for line in new.lines if not line.startswith(OWN_WORDS)]
    if not bad:
        return []
    baseline = _baseline(subject, old)
    judged = judge(bad, baseline, patterns_in(subject.request.options.allow))
    lines = judged.counted
    crashed = [line for line in lines if CRASHED in line]
    ended = [line for line in lines if ENDED in line]
    rest = [line for line in lines if line not in crashed and line not in ended]
    found = []
    if crashed:
        facts = {"lines": quoted(crashed), "compared": compared(crashed, baseline)}
        found.append(seen_in_rehearsal(finding("workers_crash", **facts)))
    if ended:
        facts = {"lines": quoted(ended), "compared": compared(ended, baseline)}
        found.append(seen_in_rehearsal(finding("workers_fatal", **facts)))
    if rest:
        pattern = "%s='%s'" % (ALLOW, suggested_pattern(rest[-1]))
        found.append(finding("rehearsal_log", lines=quoted(rest), compared=compared(rest, baseline), pattern=pattern))
    if judged.allowed:
        found.append(finding("log_allowed", lines=quoted([one.words for one in judged.allowed])))
    return found


def _baseline(subject: Subject, old: Optional[Generation]) -> Baseline:
    """What the running release writes, to its log and in this very rehearsal."""
    shown = known_lines(old.lines, Writer.REHEARSED) if old is not None else ()
    found = baseline_of(subject.machine, subject.old, shown)
    if old is None:
        return found
    return found._replace(read="the rehearsal" + (" and in %s" % found.read if found.read else ""))


def new_lines(new: Generation, old: Optional[Generation]) -> Tuple[str, ...]:
    """The lines of the new generation that the old one did not write."""
    before = {kind_of(line) for line in (old.lines if old is not None else ())}
    return tuple(line for line in new.lines if kind_of(line) not in before and not line.startswith(OWN_WORDS))


def quoted(lines: Sequence[str]) -> str:
    return listed(lines, MOST_QUOTED, between=" / ")


def modules_gone(rehearsal: Optional[Rehearsal]) -> List[str]:
    """The file names of modules that the running release loads and the new one does not."""
    new, old = (came_up(one) for one in (rehearsal.new, rehearsal.old)) if rehearsal is not None else (None, None)
    if new is None or old is None:
        return []
    names = {os.path.basename(path) for path in new.modules}
    return sorted({os.path.basename(path) for path in old.modules} - names)
