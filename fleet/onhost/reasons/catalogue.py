"""All words by which a host says why it can't, why it wonders, or what went wrong: one table, no word with two meanings.

Whoever raises, warns or ends names the word and gives the facts; what it means and what to do now stand in the tables:
`refusals` (preflight), `troubles` and `undoing` (the steps), `answers` (whole visits). `docs/reasons.md` is made from them.
"""

from collections import Counter
from typing import Dict, Tuple

from fleet.onhost.protocol import Finding, Severity
from fleet.onhost.reasons import back, forward, preflight, visit
from fleet.onhost.reasons.reason import Reason

PREFLIGHT = preflight.PREFLIGHT
GROUPS: Tuple[Tuple[str, Tuple[Reason, ...]], ...] = (
    ("Before anything is changed: the host", preflight.HOST),
    ("Before anything is changed: the running nginx", preflight.MASTER),
    ("Before anything is changed: the release", preflight.RELEASE),
    ("Before anything is changed: the configuration", preflight.CONFIGURATION),
    ("Before anything is changed: systemd and packages", preflight.SERVICE),
    ("Swap and launch", forward.LAUNCH),
    ("Verify and bake", forward.VERIFY),
    ("Drain and retire", forward.DRAIN),
    ("Going back", back.BACK),
    ("After going back", back.AFTER),
    ("What a visit found the host to be", visit.PLACE),
    ("What became of a request", visit.REQUEST),
)
EVERY = tuple(reason for _, group in GROUPS for reason in group)
MOST_OF_A_WORD = 20
REASONS: Dict[str, Reason] = {reason.word: reason for reason in EVERY}


def finding(word: str, **facts: object) -> Finding:
    """The finding for this word with the facts filled in."""
    reason = REASONS[word]
    return Finding(
        word, reason.severity, reason.meaning.format(**facts), reason.remedy.format(**facts), reason.overridable
    )


def judged(findings: Tuple[Finding, ...], allow: Tuple[str, ...]) -> Tuple[Finding, ...]:
    """The findings; those refusals that the operator allows are warnings that say so, the others say how to allow them."""
    allowed = {word.replace("-", "_") for word in allow}
    return tuple(_judged(one, one.reason in allowed) for one in findings)


def few(findings: Tuple[Finding, ...]) -> Tuple[Finding, ...]:
    """The findings, of one word not more than so many; the last of them says how many more there are. A configuration
    may have a thousand listeners, and the controller takes no more replies than a person would read."""
    counts = Counter(found.reason for found in findings)
    seen: Dict[str, int] = {}
    kept = []
    for found in findings:
        number = seen[found.reason] = seen.get(found.reason, 0) + 1
        left = counts[found.reason] - MOST_OF_A_WORD
        if number == MOST_OF_A_WORD and left > 0:
            found = found._replace(message="%s (And %d more of these.)" % (found.message, left))
        if number <= MOST_OF_A_WORD:
            kept.append(found)
    return tuple(kept)


def _judged(found: Finding, allowed: bool) -> Finding:
    if found.severity is not Severity.REFUSAL or not found.overridable:
        return found
    option = "--allow " + spelled(found.reason)
    if allowed:
        return found._replace(
            severity=Severity.WARNING, message="%s (Allowed by %s.)" % (found.message, option), remedy=""
        )
    return found._replace(remedy="%s Or take the risk: %s." % (found.remedy, option))


def spelled(word: str) -> str:
    """The word as the operator writes it after --allow."""
    return word.replace("_", "-")


def overridable() -> Tuple[str, ...]:
    """The words that `--allow` takes, as the operator writes them."""
    return tuple(sorted(spelled(reason.word) for reason in EVERY if reason.overridable))
