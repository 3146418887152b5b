"""The catalogue: every reason that a host can give, each word with one meaning.

The code names a word and gives the facts; message and remedy stand in the tables `preflight`, `forward`, `back` and
`visit`. `docs/reasons.md` is made from them, so no other text may be sent with a word.
"""

from collections import Counter
from typing import Dict, Tuple

from fleet.onhost.protocol import Finding, Severity
from fleet.onhost.reasons import (
    back,
    drain,
    forward,
    leases,
    packages,
    preflight,
    rehearsal,
    running_nginx,
    systemd_unit,
    visit,
)
from fleet.onhost.reasons.reason import Kind, Reason

PREFLIGHT = preflight.PREFLIGHT
GROUPS: Tuple[Tuple[str, Tuple[Reason, ...]], ...] = (
    ("Preflight: the host", preflight.HOST),
    ("Preflight: the running nginx", running_nginx.MASTER),
    ("Preflight: the release", preflight.RELEASE),
    ("Preflight: the configuration", preflight.CONFIGURATION),
    ("Preflight: the rehearsal", rehearsal.REHEARSAL),
    ("Preflight: systemd and packages", preflight.SERVICE),
    ("Swap and launch", forward.LAUNCH),
    ("Verify and bake", forward.VERIFY),
    ("Drain and retire", forward.DRAIN),
    ("Commit and walk away", drain.DRAIN),
    ("Rollback", back.BACK),
    ("After a rollback", back.AFTER),
    ("The systemd unit", systemd_unit.CARE),
    ("The file at the path", packages.PATH),
    ("The state of a host", visit.PLACE),
    ("How a request ended", visit.REQUEST),
    ("The lease", leases.LEASE),
)
EVERY = tuple(reason for _, group in GROUPS for reason in group)
REASONS: Dict[str, Reason] = {reason.word: reason for reason in EVERY}
SEEN = " Seen in the rehearsal; no user met it."
MOST_PER_WORD = 20


def finding(word: str, **facts: object) -> Finding:
    """The finding for this word with the facts filled in. Raises `KeyError` for an unknown word or a missing fact."""
    reason = REASONS[word]
    given = {name: _in_words(fact) for name, fact in facts.items()}
    return Finding(
        word, reason.severity, reason.meaning.format(**given), reason.remedy.format(**given), reason.overridable
    )


def seen_in_rehearsal(found: Finding) -> Finding:
    """A failure of the launch or of verify that the rehearsal shows: nothing has happened to the host."""
    is_of_preflight = REASONS[found.reason].kind is Kind.REFUSAL
    remedy = found.remedy if is_of_preflight else rehearsal.OTHER_RELEASE
    return found._replace(message=found.message + SEEN, remedy=remedy)


def _in_words(fact: object) -> object:
    """The fact as a message takes it: without a full stop at its end, because the template sets its own.

    Numbers stay numbers, for `{waited:.0f}`.
    """
    if isinstance(fact, (int, float)):
        return fact
    if isinstance(fact, OSError) and fact.strerror:
        return "%s (%s)" % (fact.strerror, fact.filename) if fact.filename else fact.strerror
    return str(fact).rstrip(". ")


def apply_allowed(findings: Tuple[Finding, ...], allow: Tuple[str, ...]) -> Tuple[Finding, ...]:
    """The findings, with allowed refusals as warnings; a refusal that could be allowed says by which option."""
    return tuple(_apply_allowed(one, is_allowed(one.reason, allow)) for one in findings)


def is_allowed(word: str, allow: Tuple[str, ...]) -> bool:
    """Whether the operator said `--allow` for this reason, with either spelling."""
    return option_word(word) in [option_word(one) for one in allow]


def _apply_allowed(found: Finding, allowed: bool) -> Finding:
    if found.severity is not Severity.REFUSAL or not found.overridable:
        return found
    option = "`--allow %s`" % option_word(found.reason)
    if allowed:
        return found._replace(
            severity=Severity.WARNING, message="%s Allowed by %s." % (found.message, option), remedy=""
        )
    return found._replace(remedy="%s Or accept the risk with %s." % (found.remedy, option))


def limit_per_word(findings: Tuple[Finding, ...]) -> Tuple[Finding, ...]:
    """At most `MOST_PER_WORD` findings of one word; the last of them says how many more there are.

    A configuration may have a thousand listeners, and the controller limits how many replies it reads.
    """
    counts = Counter(found.reason for found in findings)
    seen: Dict[str, int] = {}
    kept = []
    for found in findings:
        number = seen[found.reason] = seen.get(found.reason, 0) + 1
        left = counts[found.reason] - MOST_PER_WORD
        if number == MOST_PER_WORD and left > 0:
            found = found._replace(message="%s And %d more of these." % (found.message, left))
        if number <= MOST_PER_WORD:
            kept.append(found)
    return tuple(kept)


def option_word(word: str) -> str:
    """The word as `--allow` takes it: `pending_config` is `pending-config`."""
    return word.replace("_", "-")


def overridable_words() -> Tuple[str, ...]:
    """The words that `--allow` takes."""
    return tuple(sorted(option_word(reason.word) for reason in EVERY if reason.overridable))
