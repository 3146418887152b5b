"""The plan of a rollout as text, shown before the confirmation and by `--dry-run`."""

from fleet.onhost.text import counted, safe
from fleet.plan import Plan, budget_in_words, duration_in_words
from fleet.rollout.policy import CommitWhen, OnFailure, Policy, Rehearse

THEN = {
    OnFailure.ROLLBACK: "every host that was begun is then rolled back, committed or not",
    OnFailure.HALT: "no further host is started, and the others stay as they are until their lease expires",
}
LEASE = "Lease: a host rolls itself back if fleet neither visits nor commits it for %s."
NO_LEASE = "No lease: every host stays as it is until you commit or roll back."
PREFLIGHT = {
    Rehearse.AUTO: "the release is staged, checked and rehearsed",
    Rehearse.OFF: "the release is staged and checked, but not rehearsed (--rehearse off),",
}
COMMITS = {
    CommitWhen.END: "old masters are held until every batch has passed, then retired",
    CommitWhen.BATCH: "the old masters of a batch are retired after its bake",
    CommitWhen.WHEN_DRAINED: "old masters are held until every batch has passed; then each host retires its own, once its "
    "old connections have ended",
    CommitWhen.NEVER: "old masters stay held until you run fleet commit or fleet rollback",
}


def plan_text(plan: Plan, policy: Policy, max_failures: str, release: str, rollout: str, operator: str) -> str:
    """What is upgraded, in which order, when the rollout stops and what happens then. Safe for a terminal."""
    count = len(plan.hosts)
    lines = [
        f"Rollout {rollout} by {operator}: {release}",
        f"{counted(count)} in {counted(len(plan.batches), 'batch', 'batches')}, {policy.parallel} at a time:",
    ]
    for batch in plan.batches:
        names = ", ".join(host.name for host in batch.hosts)
        canary = "  (canary)" if batch.number == 1 and len(plan.batches) > 1 else ""
        lines.append(f"  {batch.number}. {names}{canary}")
    lines += [
        f"Preflight: {PREFLIGHT[policy.rehearse]} on every host first. One refusal, and no host is changed.",
        f"Bake: each batch is watched for {policy.bake_s:g} s before the next one starts.",
        f"Failures: {_failures(policy, budget_in_words(max_failures, count), count)}.",
        f"Commit: {COMMITS[policy.commit]}.",
        LEASE % duration_in_words(policy.lease_s) if policy.lease_s else NO_LEASE,
    ]
    if not policy.guard:
        lines.append("Not guarded (--no-guard): a restart by hand, needrestart or a package ends a held nginx.")
    if policy.hold_package:
        lines.append("Package: each host's package of nginx is held before the first change, until commit or rollback.")
    if policy.allow:
        lines.append(f"Allowed, and recorded: {', '.join(policy.allow)}.")
    return "\n".join(safe(line) for line in lines)


def _failures(policy: Policy, stops: str, count: int) -> str:
    if policy.on_failure is OnFailure.CONTINUE:
        return "the rollout continues to the last host, whatever fails"
    return f"the rollout {stops}" + (f"; {THEN[policy.on_failure]}" if policy.max_failures < count else "")
