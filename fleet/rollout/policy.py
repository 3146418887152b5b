"""What the operator chose for a rollout, as one frozen value."""

from dataclasses import dataclass
from enum import Enum

CLAIM_S = 600.0
"""How long a host is kept for a run that is not heard of any more; a rollback never waits for it."""


class OnFailure(Enum):
    """What happens when the budget is exceeded."""

    ROLLBACK = "rollback"
    HALT = "halt"
    CONTINUE = "continue"


class CommitWhen(Enum):
    """When the held old masters are retired."""

    END = "end"
    BATCH = "batch"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Policy:
    """`max_failures` is a number of hosts: the rollout stops as soon as it is exceeded. `lease_s` 0 is no lease;
    `lock_wait_s` is how long hosts are waited for that somebody else is at work on.
    """

    bake_s: float = 30.0
    settle_s: float = 2.0
    max_failures: int = 0
    on_failure: OnFailure = OnFailure.ROLLBACK
    commit: CommitWhen = CommitWhen.END
    parallel: int = 50
    drain_timeout_s: float = 600.0
    cut: bool = False
    allow: tuple[str, ...] = ()
    lease_s: float = 0.0
    lock_wait_s: float = 0.0

    @property
    def renew_every_s(self) -> float:
        """How long a host in the rollout's hands goes without a visit that renews its lease and claim."""
        return min(self.lease_s or CLAIM_S, CLAIM_S) / 2

    @property
    def look_every_s(self) -> float:
        """How long a host is left alone between two looks of a bake."""
        return min(max(self.bake_s / 6, 1.0), 10.0, self.renew_every_s)
