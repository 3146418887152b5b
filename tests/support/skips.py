"""Which skips the suite accepts: those of `allowed-skips.txt`, each with its reason. Any other one is a failure.

A skipped test looks like a green one, and is overlooked in the output of a long run.
"""

from pathlib import Path

ALLOWED = Path(__file__).parent / "allowed-skips.txt"


def allowed_skips(text: str) -> dict[str, str]:
    """Node id -> reason. Raises ValueError for a line without a reason."""
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        node_id, mark, reason = line.partition("  # ")
        if not mark or not reason.strip():
            raise ValueError(f"allowed-skips.txt:{number}: a skip needs a reason: NODE ID  # REASON")
        found[node_id.strip()] = reason.strip()
    return found


def objection(node_id: str, reason: str, allowed: dict[str, str]) -> str | None:
    """What to say of this skip (or expected failure); `None` when it is accepted."""
    if node_id in allowed:
        return None
    return f"{node_id} was skipped, and tests/support/allowed-skips.txt doesn't name it ({reason}). Make it run, or list it."
